"""Prototypes that a network carries and never learns."""

import copy
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn import functional as F

from protogen.errors import BadRequest
from protogen.files.header import read_header
from protogen.files.prototypes import Prototypes
from protogen.files.tensors import NORM_TOLERANCE

from .fixed import Fingerprint, FixedPrototypes

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


class FrozenPrototypes(FixedPrototypes):
    """Hold prototypes (n, d) as a buffer, float32 unless `dtype` says otherwise: no parameter, no gradient.

    `source` is a float32 tensor of unit rows, a `Prototypes` record, or the path of a file in a store.
    A float32 tensor is shared, not copied; this module never writes to it. The buffer is part of `state_dict`
    where `persistent` is True; where it is False, checkpoints are smaller and the same file is needed again.
    Loading a `state_dict` gives the module that loads a tensor of its own, in this module's type; where the
    checkpoint has rows and no fingerprint, theirs becomes this module's.

    `dtype` is the type that the rows are rounded to and that their products have at least. Half precision
    (torch.bfloat16, torch.float16) takes half the memory, without a conversion in each forward under autocast.

    Under `torch.device("meta")` a path is read for its header alone, and the rows come with
    `load_state_dict(..., assign=True)`; with `persistent=False` they are read. `to_empty()` restores none.

    DistributedDataParallel sends every buffer from rank 0 at each forward, unless `protogen.nn.ddp_ignore`
    has named the prototypes in the model before: `DistributedDataParallel(ddp_ignore(model))`.

    Raises BadRequest where the tensor is not (n, d), not float32, or has a row that is not of norm 1.
    Source: Equiangular Basis Vectors, Section 3.3: W "will not be changed in the following training stage".
    """

    prototypes: Tensor

    def __init__(
        self,
        source: Tensor | Prototypes | str | Path,
        *,
        persistent: bool = True,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        if dtype not in DTYPES:
            raise BadRequest(f"dtype is {dtype}; allowed are {', '.join(map(str, DTYPES))}")
        rows, self.fingerprint = _read(source, persistent)
        self.register_buffer("prototypes", rows.detach().contiguous().to(dtype), persistent=persistent)

    @property
    def n(self) -> int:
        return self.prototypes.shape[0]

    @property
    def d(self) -> int:
        return self.prototypes.shape[1]

    def rows(self, start: int, stop: int) -> Tensor:
        return self.prototypes[start:stop]

    def vectors(self, classes: Tensor) -> Tensor:
        return self.prototypes[classes]

    @classmethod
    def of_rank(
        cls, path: str | Path, rank: int, world: int, *, dtype: torch.dtype = torch.float32
    ) -> tuple[Self, int]:
        """Return what `slice` gives of a file's prototypes, reading and checking the blocks of that share alone.

        Raises BadRequest as `slice` and the class do, NotFound, DiskError and IntegrityError.
        """
        with torch.device("meta"):
            part = cls(path, dtype=dtype)  # the header alone: size and fingerprint
        start, stop = _share(part.n, rank, world)
        rows, _ = _read_file(path, False, slice(start, stop))
        part.register_buffer("prototypes", rows.to(dtype), persistent=False)
        return part, start

    def slice(self, rank: int, world: int) -> tuple["FrozenPrototypes", int]:
        """Return the prototypes of rank `rank`'s share of the classes, and the first of them.

        The shares of ranks 0 to world - 1 are ranges one after the other, of equal size or one less. They are
        copies and in no `state_dict`; the fingerprint is that of all rows, so that any rank's checkpoint loads
        on any other, whatever `world`. Raises BadRequest where there is no such rank or no class for each.
        """
        start, stop = _share(self.n, rank, world)
        part = copy.deepcopy(self)
        part.register_buffer("prototypes", self.prototypes[start:stop].clone(), persistent=False)
        return part, start

    def _product(self, features: Tensor, start: int, stop: int) -> Tensor:
        return _linear(features, self._range(start, stop))

    def _combine(self, weights: Tensor, start: int, stop: int) -> Tensor:
        return _linear(weights, self._range(start, stop).T)

    def _range(self, start: int, stop: int) -> Tensor:
        # The buffer itself where all are asked for: torch.fx knows it by its name.
        return self.prototypes if (start, stop) == (0, self.n) else self.prototypes[start:stop]

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Load into a fresh tensor, since the present one may be shared with copies and with the source."""
        held, dtype = self.prototypes, self.prototypes.dtype
        loads = f"{prefix}prototypes" in state_dict and "prototypes" not in self._non_persistent_buffers_set
        if loads:
            self.prototypes = held.clone()
        super()._load_from_state_dict(state_dict, prefix, *args)
        # load_state_dict(assign=True) takes the type of the checkpoint over.
        self.prototypes = self.prototypes.to(dtype)
        if loads and f"{prefix}_extra_state" not in state_dict:
            found = None if self.prototypes.is_meta else Fingerprint.of_tensor(self.prototypes)
            self.fingerprint = self.fingerprint if found == self.fingerprint else found


@torch.fx.wrap
def _linear(features: Tensor, rows: Tensor) -> Tensor:
    """Return features (..., d) times rows (n, d), in the rows' type where they are held in half precision."""
    dtype = rows.dtype if rows.dtype.itemsize < 4 else torch.promote_types(features.dtype, rows.dtype)
    return F.linear(features.to(dtype), rows.to(dtype))


def _read(source: Tensor | Prototypes | str | Path, persistent: bool) -> tuple[Tensor, Fingerprint | None]:
    """Return the prototypes (n, d) that `source` stands for and their fingerprint, or raise BadRequest."""
    if isinstance(source, (str, Path)):
        return _read_file(source, persistent)
    if isinstance(source, Prototypes):
        rows = _checked(source.tensor)
        return rows, Fingerprint.of_record(source) or Fingerprint.of_tensor(rows)
    if isinstance(source, Tensor):
        rows = _checked(source)
        return rows, None if rows.is_meta else Fingerprint.of_tensor(rows)
    raise BadRequest(f"prototypes come from a tensor, a Prototypes record or a path, got {type(source).__name__}")


def _read_file(path: str | Path, persistent: bool, part: slice | None = None) -> tuple[Tensor, Fingerprint | None]:
    """Read a file to the default device; on "meta", where a checkpoint can bring the rows, its header alone."""
    device = torch.get_default_device()
    if device.type == "meta" and persistent:
        header = read_header(path)
        (shape,) = (entry.shape for entry in header.entries if entry.name == "prototypes")
        return _checked(torch.empty(shape)), Fingerprint.of_file(path, header.digest)
    from protogen.store.loading import load

    record = load(Path(path), rows=part)
    rows = _checked(record.tensor)
    return rows if device.type == "meta" else rows.to(device), Fingerprint.of_record(record)


def _share(n: int, rank: int, world: int) -> tuple[int, int]:
    """Return the first class of a rank's share of n, and that of the next rank's, or raise BadRequest."""
    if {type(rank), type(world)} != {int} or not 0 <= rank < world <= n:
        raise BadRequest(
            f"rank, world is {rank!r}, {world!r}; allowed is world from 1 to n and rank from 0 below it, "
            f"whole numbers; n is {n}"
        )
    return n * rank // world, n * (rank + 1) // world


def _checked(rows: Tensor) -> Tensor:
    """Return `rows` if they are (n, d), float32 and, where there are values, of norm 1, or raise BadRequest."""
    if rows.dim() != 2 or rows.numel() == 0:
        raise BadRequest(f"prototypes must be (n, d), got {tuple(rows.shape)}: give one row a class")
    if rows.dtype != torch.float32:
        raise BadRequest(f"prototypes must be float32, got {rows.dtype}: convert first, with .float()")
    if rows.is_meta:
        return rows
    deviation = (torch.linalg.vector_norm(rows.detach(), dim=1) - 1).abs().max().item()
    if not deviation <= NORM_TOLERANCE:
        raise BadRequest(
            f"prototypes must have norm 1 within {NORM_TOLERANCE:g}, got a row that is off by {deviation:g}: "
            "normalise first, with torch.nn.functional.normalize"
        )
    return rows
