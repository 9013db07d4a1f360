"""Prototypes that a network carries and never learns."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn import functional as F

from protogen.errors import BadRequest
from protogen.files.header import Header, read_header
from protogen.files.prototypes import Prototypes
from protogen.files.tensors import NORM_TOLERANCE
from protogen.rows import InMemory

from .fingerprint import Fingerprint
from .fixed import FixedPrototypes, near

CHECKED = 1 << 18  # numbers whose norms are looked at together: few, for a copy of them is made
DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


class FrozenPrototypes(FixedPrototypes):
    """Hold prototypes (n, d) in memory, float32 unless `dtype` says otherwise: no parameter, no gradient.

    `source` is a float32 tensor of unit rows, a `Prototypes` record, or the path of a file in a store. Their memory
    is shared, not copied, until somebody writes to it: what is written to a source does not reach this module, nor
    the other way round. The rows are the buffer `prototypes` as well, and `state_dict` has a copy of them where
    `persistent` is True. Checkpoints with and without rows load into either.

    `dtype` is the type that the rows are rounded to and that their products have at least. Half precision
    (torch.bfloat16, torch.float16) takes half the memory, without a conversion in each forward under autocast.

    Under `torch.device("meta")` a path is read for its header alone; the rows are read when the module comes to a
    device, by `to_empty`, `load_state_dict(..., assign=True)` or a first forward. They are held to the digest.

    DistributedDataParallel sends every buffer from rank 0 at each forward, unless `protogen.nn.ddp_ignore`
    has named the prototypes in the model before: `DistributedDataParallel(ddp_ignore(model))`.

    Raises BadRequest where the tensor is not (n, d), not float32, or has a row that is not of norm 1.
    Source: Equiangular Basis Vectors, Section 3.3: W "will not be changed in the following training stage".

    >>> import torch
    >>> from protogen.nn import FrozenPrototypes
    >>> prototypes = FrozenPrototypes(torch.eye(3))
    >>> prototypes.n, prototypes.d, list(prototypes.parameters())
    (3, 3, [])
    """

    prototypes: Tensor

    def __init__(
        self,
        source: Tensor | Prototypes | str | Path,
        *,
        persistent: bool = False,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        if dtype not in DTYPES:
            raise BadRequest(f"dtype is {dtype}; allowed are {', '.join(map(str, DTYPES))}")
        self._path: Path | None = None
        self._part = slice(None)
        if isinstance(source, (str, Path)) and torch.get_default_device().type == "meta":
            self._promise(Path(source), dtype, persistent)
            return
        rows = self.checked(_rows_of(source))
        known = not rows.is_meta
        self.identify(self._fingerprint_of(source, rows) if known else None)
        # A path's rows go where other modules are made now, those in memory stay where they are.
        moved = rows.to(torch.get_default_device()) if isinstance(source, (str, Path)) else rows
        self.hold("prototypes", moved.detach().contiguous().to(dtype), known=known, persistent=persistent)

    @property
    def n(self) -> int:
        return self.prototypes.shape[0]

    @property
    def d(self) -> int:
        return self.prototypes.shape[-1]

    def rows(self, start: int, stop: int) -> Tensor:
        return self.constant("prototypes")[start:stop]

    def vectors(self, classes: Tensor) -> Tensor:
        return self.constant("prototypes", classes.device)[classes]

    @classmethod
    def of_rank(
        cls, path: str | Path, rank: int, world: int, *, dtype: torch.dtype = torch.float32
    ) -> tuple[Self, int]:
        """Return what `slice` gives of a file's prototypes, reading and checking the blocks of that share alone.

        Raises BadRequest as `slice` and the class do, NotFound, DiskError and IntegrityError.
        """
        device = torch.get_default_device()
        with torch.device("meta"):
            part = cls(path, dtype=dtype)  # the header alone: size and fingerprint
        start, stop = share(part.n, rank, world)
        part._cut(start, stop)
        if device.type != "meta":
            for name in part._constants:
                part._placed(name, device)
        return part, start

    def slice(self, rank: int, world: int) -> tuple["FrozenPrototypes", int]:
        """Return the prototypes of rank `rank`'s share of the classes, and the first of them.

        The shares are those of torch.chunk and DTensor: of ceil(n / world) classes each, the last ones of fewer,
        even of none. They are copies and in no `state_dict`; the fingerprint is that of all rows, so that any
        rank's checkpoint loads on any other, whatever `world`. Raises BadRequest where there is no such rank or
        there are more ranks than classes.
        """
        start, stop = share(self.n, rank, world)
        part = FrozenPrototypes.__new__(type(self))
        FixedPrototypes.__init__(part)
        part._path, part._part = self._path, self._part
        part.identify(self.fingerprint)
        known = self.is_known("prototypes")
        rows = self.constant("prototypes") if known else self.prototypes
        part.hold("prototypes", rows[start:stop].clone(), known=known)
        part._part = slice((self._part.start or 0) + start, (self._part.start or 0) + stop)
        part.train(self.training)
        return part, start

    def firsts(self, n: int) -> list[Fingerprint]:
        if self._part != slice(None):
            return []
        if self.prototypes.dtype == torch.float32 and self.is_known("prototypes"):
            return [Fingerprint.of_tensor(self.values("prototypes")[:n])]
        # Rows that were rounded have no digest of their own: those of the file have.
        return [Fingerprint.of_tensor(_read(self._path, slice(0, n)))] if self._path else []

    def _product(self, features: Tensor, start: int, stop: int) -> Tensor:
        return _linear(features, self._range(start, stop, features.device))

    def _combine(self, weights: Tensor, start: int, stop: int) -> Tensor:
        return _linear(weights, self._range(start, stop, weights.device).T)

    def _range(self, start: int, stop: int, device: torch.device) -> Tensor:
        rows = self.constant("prototypes", device)
        # The constant itself where all are asked for: torch.fx knows it by its name.
        return rows if (start, stop) == (0, self.n) else rows[start:stop]

    @staticmethod
    def checked(rows: Tensor) -> Tensor:
        """Return `rows` if they are (n, d), float32 and, where there are values, of norm 1, or raise BadRequest."""
        if rows.dim() != 2 or rows.numel() == 0:
            raise BadRequest(f"prototypes must be (n, d), got {tuple(rows.shape)}: give one row a class")
        if rows.dtype != torch.float32:
            raise BadRequest(f"prototypes must be float32, got {rows.dtype}: convert first, with .float()")
        if rows.is_meta:
            return rows
        # A copy of each piece: the norm of what is shared until it is written to would part it.
        parts = (part.clone() for part in rows.detach().split(max(1, CHECKED // rows.shape[1])))
        # Numbers, not tensors: a small tensor that lives on keeps the memory of the piece before it from use.
        deviations = [(torch.linalg.vector_norm(part, dim=1) - 1).abs().max().item() for part in parts]
        deviation = max(deviations, key=lambda value: math.inf if math.isnan(value) else value)
        if not deviation <= NORM_TOLERANCE:
            raise BadRequest(
                f"prototypes must have norm 1 within {NORM_TOLERANCE:g}, got a row that is off by {deviation:g}: "
                "normalise first, with torch.nn.functional.normalize"
            )
        return rows

    def _fingerprint_of(self, source: object, rows: Tensor) -> Fingerprint:
        """Identify rows; those of a file with further tensors are not known by the digest of all of it."""
        if isinstance(source, (str, Path)):
            self._path = Path(source).absolute()
            header = read_header(source)
            filed: Fingerprint | None = Fingerprint.of_file(source, header.digest, header.spec.n)
            alone = len(header.entries) == 1
        else:
            filed = Fingerprint.of_record(source) if isinstance(source, Prototypes) else None
            if filed and isinstance(source, Prototypes) and source.path:
                self._path = Path(source.path).absolute()
            alone = not (isinstance(source, Prototypes) and source.tensors)
        if filed and alone:
            return filed
        self.also = (filed,) if filed else ()
        found = Fingerprint.of_tensor(rows)
        return Fingerprint(found.digest, filed.name, found.n) if filed else found

    def _promise(self, path: Path, dtype: torch.dtype, persistent: bool) -> None:
        """Take the size and the fingerprint of a file, whose rows are read when they are needed."""
        header = read_header(path)
        (shape,) = (entry.shape for entry in header.entries if entry.name == "prototypes")
        rows = self.checked(torch.empty(shape, dtype=torch.float32, device="meta"))
        self._path = path.absolute()
        if len(header.entries) == 1:
            self.identify(Fingerprint.of_file(path, header.digest, header.spec.n))
        else:
            self.identify(self._fingerprint_of(path, _read(path)))
        self.hold("prototypes", rows.to(dtype), known=False, persistent=persistent)

    def _cut(self, start: int, stop: int) -> None:
        """Keep a range of the rows that a file has for these."""
        self._part = slice(start, stop)
        self.hold("prototypes", self.prototypes[start:stop], known=False)

    def _can_make(self, name: str) -> bool:
        return name == "prototypes" and self._path is not None

    def _made(self, name: str) -> Tensor:
        """Read the rows from their file. Raises BadRequest where there is none, or another by now."""
        if not self._can_make(name) or self._path is None:
            raise BadRequest(
                f"the prototypes ({self.n}, {self.d}) were made on 'meta' from a tensor without values; "
                "load a checkpoint that has their rows, or build the model from a path"
            )
        header = read_header(self._path)
        self._hold_to(header)
        rows = _read(self._path, self._part)
        return self.checked(rows).to(self.prototypes.dtype) if len(rows) else rows.to(self.prototypes.dtype)

    def _hold_to(self, header: Header) -> None:
        known = (self.fingerprint, *self.also)
        if not any(one and one.digest == header.digest for one in known):
            raise BadRequest(
                f"{self._path} has sha256 {header.digest[:12]} now, the model was built with {self.fingerprint}: "
                "bring that file back"
            )

    def _agrees(self, saved: Fingerprint | None, rows: Tensor) -> bool:
        if not self.is_known("prototypes") and (saved or not self._can_make("prototypes")):
            return True  # those of the file are taken, or `_adopt` takes these
        if self._part != slice(None):
            return True  # a rank's share takes none of them
        ours = self.values("prototypes")
        return rows.shape[1:] == ours.shape[1:] and len(rows) <= len(ours) and near(InMemory(ours).rows, rows)

    def _adopt(self, saved: Fingerprint | None, loaded: Mapping[str, Any]) -> None:
        """Take a checkpoint's rows and fingerprint where there are none. Raises BadRequest where these disagree."""
        rows = loaded.get("prototypes")
        if rows is None or self.is_known("prototypes") or self._can_make("prototypes"):
            self.identify(saved)
            return
        found = Fingerprint.of_tensor(rows)
        if saved and not saved.matches(found):
            raise BadRequest(
                f"the checkpoint's rows are not those of its fingerprint, {saved}, any more (cast or averaged?): "
                "build the model from the file with these prototypes"
            )
        rows = self.checked(rows.to(torch.float32))
        self.identify(saved or found)
        persistent = "prototypes" not in self._non_persistent_buffers_set
        self.hold("prototypes", rows.to(self.prototypes.dtype), persistent=persistent)


@torch.fx.wrap
def _linear(features: Tensor, rows: Tensor) -> Tensor:
    """Return features (..., d) times rows (n, d), in the rows' type where they are held in half precision."""
    dtype = rows.dtype if rows.dtype.itemsize < 4 else torch.promote_types(features.dtype, rows.dtype)
    return F.linear(features.to(dtype), rows.to(dtype))


def _rows_of(source: Tensor | Prototypes | str | Path) -> Tensor:
    """Return the rows that a source stands for, on the CPU where it is a path."""
    if isinstance(source, (str, Path)):
        return _read(Path(source))
    if isinstance(source, Prototypes):
        return source.tensor
    if isinstance(source, Tensor):
        return source
    raise BadRequest(f"prototypes come from a tensor, a Prototypes record or a path, got {type(source).__name__}")


def _read(path: Path, part: slice = slice(None)) -> Tensor:
    """Read the rows of a file, or a range of them, to the CPU."""
    from protogen.store.loading import load

    if part.start is not None and part.start == part.stop:
        return load(path, rows=slice(0, 1)).tensor[:0]
    return load(path, rows=None if part == slice(None) else part).tensor


def share(n: int, rank: int, world: int) -> tuple[int, int]:
    """Return the first class of a rank's share of n, and the first after it, as torch.chunk and DTensor cut.

    Raises BadRequest where there is no such rank, or there are more ranks than classes.
    """
    if {type(rank), type(world)} != {int} or not 0 <= rank < world <= n:
        raise BadRequest(
            f"rank, world is {rank!r}, {world!r}; allowed is world from 1 to n and rank from 0 below it, "
            f"whole numbers; n is {n}"
        )
    size = -(-n // world)
    return min(n, rank * size), min(n, (rank + 1) * size)
