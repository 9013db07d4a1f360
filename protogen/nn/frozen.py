"""Prototypes that a network carries and never learns."""

import copy
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from protogen.errors import BadRequest
from protogen.files.digests import BlockHasher, content_digest
from protogen.files.header import read_header
from protogen.files.prototypes import Prototypes
from protogen.files.tensors import NORM_TOLERANCE

PART = 1 << 22  # inner products that `topk` has in memory at a time
NAME = 96  # bytes of a name in a checkpoint
DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class Fingerprint:
    """Which prototypes these are: the sha256, in hex, of an artifact's content, and what messages call it.

    The name is no part of the identity: a tensor has the fingerprint of the file that holds it.
    """

    digest: str
    name: str = field(compare=False)

    @classmethod
    def of_tensor(cls, rows: Tensor) -> Self:
        """Digest the float32 rows as a file does its data section, whatever device they are on."""
        hasher = BlockHasher()
        hasher.update(rows.detach().cpu().float().contiguous().numpy().data.cast("B"))
        return cls(content_digest(hasher.digests()), f"a tensor {tuple(rows.shape)}")

    @classmethod
    def of_file(cls, path: str | Path, digest: str) -> Self:
        """Take the digest of a file's header and the end of its path."""
        return cls(digest, "/".join(Path(path).parts[-3:]))

    @classmethod
    def of_record(cls, record: Prototypes) -> Self | None:
        """That of the file that a record lies in; None where it lies in none, or is only a part of one."""
        if record.part is None and record.path and record.digest:
            return cls.of_file(record.path, record.digest)
        return None

    @classmethod
    def of_label(cls, label: str, n: int, d: int) -> Self:
        """Digest the label of a closed form and its size: its rows may be too many to be built."""
        name = f"{label} as ({n}, {d})"
        return cls(hashlib.sha256(name.encode()).hexdigest(), name)

    def pack(self) -> Tensor:
        """Write the 32 bytes and the name as a uint8 tensor, always of the same size."""
        raw = bytes.fromhex(self.digest) + self.name.encode()[:NAME].ljust(NAME, b"\0")
        return torch.tensor(list(raw), dtype=torch.uint8, device="cpu")

    @classmethod
    def unpack(cls, packed: Tensor) -> Self | None:
        """Read what `pack` wrote; None where the tensor is empty or its values are not there."""
        if packed.is_meta or not packed.numel():
            return None
        raw = bytes(packed.tolist())
        return cls(raw[:32].hex(), raw[32:].rstrip(b"\0").decode(errors="ignore"))

    def __str__(self) -> str:
        return f"{self.name} (sha256 {self.digest[:12]})"


class FixedPrototypes(nn.Module, ABC):
    """What a head asks of n prototypes in R^d that training never changes.

    Buffers move with the module (`.to(device)`, `.cuda()`) and keep their type: `.half()`, `.bfloat16()`,
    `.double()` and `.to(dtype)` on this module or one around it leave them float32, because the angles that
    were measured are those of the float32 rows. Copies made by `copy.deepcopy` share the buffers.

    So does `torch.optim.swa_utils.AveragedModel`, which leaves them as they are, with `use_buffers=True` too
    where `multi_avg_fn` averages; its `avg_fn` would round them anew at each step.

    `state_dict` holds the fingerprint of the prototypes, also where it does not hold the prototypes, as the
    uint8 tensor `_extra_state`: 32 bytes of digest, then the name. `load_state_dict` raises BadRequest with
    both names where the checkpoint's is another than this module's. A checkpoint without one loads unchecked,
    under `strict` too, and a module without one (of a tensor without values, on "meta") takes the checkpoint's.
    """

    fingerprint: Fingerprint | None = None

    @property
    @abstractmethod
    def n(self) -> int:
        """The number of prototypes, one a class."""

    @property
    @abstractmethod
    def d(self) -> int:
        """The dimension, which is the width of the features."""

    @abstractmethod
    def rows(self, start: int, stop: int) -> Tensor:
        """Return the prototypes of classes start to stop - 1, (stop - start, d), in the type they are held in."""

    @abstractmethod
    def vectors(self, classes: Tensor) -> Tensor:
        """Return the prototypes of some classes (...), (..., d), in the type they are held in."""

    @abstractmethod
    def _product(self, features: Tensor, start: int, stop: int) -> Tensor: ...

    @property
    def _block(self) -> int:
        """How many classes at least are computed together."""
        return 1

    def product(self, features: Tensor, start: int = 0, stop: int | None = None) -> Tensor:
        """Return the inner products of features (..., d) with the prototypes of classes start to stop - 1.

        (..., stop - start), float64 where the features are, else float32 or what autocast makes of it; in the
        prototypes' type where they are held in half precision. The gradient reaches `features` alone. Raises
        BadRequest where `features` has another width than d or is not of a floating type, and where the range
        is not within 0 to n.
        """
        stop = self.n if stop is None else stop
        if not 0 <= start <= stop <= self.n:
            raise BadRequest(f"classes are {start} to {stop}; allowed is a range within 0 to n; n is {self.n}")
        check_features(features, self.d)
        return self._product(features.to(torch.promote_types(features.dtype, torch.float32)), start, stop)

    def topk(self, features: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Return the k largest inner products of features (..., d), the largest first, and their classes.

        Both (..., k), as `product(features).topk(k)` does, computed by parts of the classes: never more than
        a part of (..., n) is in memory. Raises BadRequest as `product` does, and where k is not 1 to n.
        """
        if not 1 <= k <= self.n:
            raise BadRequest(f"k is {k}; allowed is 1 to n; n is {self.n}")
        check_features(features, self.d)
        step = max(1, PART // max(1, features[..., 0].numel()) // self._block) * self._block
        values: list[Tensor] = []
        classes: list[Tensor] = []
        for start in range(0, self.n, step):
            part = self.product(features, start, min(start + step, self.n))
            best = part.topk(min(k, part.shape[-1]))
            values, classes = [*values, best.values], [*classes, best.indices + start]
            best = torch.cat(values, -1).topk(min(k, start + step))
            values, classes = [best.values], [torch.cat(classes, -1).gather(-1, best.indices)]
        return values[0], classes[0]

    def as_linear(self) -> nn.Linear:
        """Return a frozen nn.Linear without bias that gives `product`, for tools that know no other layer.

        Its weight (n, d) is a copy.
        """
        linear = nn.Linear(self.d, self.n, bias=False, device="meta")
        linear.weight = nn.Parameter(self.rows(0, self.n).clone(), requires_grad=False)
        return linear

    def as_columns(self) -> nn.Parameter:
        """Return a frozen parameter (d, n), a copy, as the classifier losses of pytorch-metric-learning hold it.

            loss = losses.ArcFaceLoss(n, d); loss.W = prototypes.as_columns()

        So do NormalizedSoftmax, CosFace, LargeMarginSoftmax and SphereFace; the proxies of ProxyNCA and
        ProxyAnchor are (n, d): `loss.proxies = prototypes.as_linear().weight`.
        """
        return nn.Parameter(self.rows(0, self.n).T.clone(memory_format=torch.contiguous_format), requires_grad=False)

    def extra_repr(self) -> str:
        """Show n and d where the module is printed."""
        return f"n={self.n}, d={self.d}"

    def get_extra_state(self) -> Tensor:
        """Give `state_dict` the fingerprint, empty where there is none."""
        return self.fingerprint.pack() if self.fingerprint else torch.empty(0, dtype=torch.uint8, device="cpu")

    def set_extra_state(self, state: Tensor) -> None:
        """Hold a checkpoint's fingerprint to this module's. Raises BadRequest where they differ."""
        saved = Fingerprint.unpack(state)
        if saved and self.fingerprint and saved != self.fingerprint:
            raise BadRequest(
                f"the checkpoint was trained with {saved}, this model has {self.fingerprint}: "
                "build the model with the checkpoint's prototypes"
            )
        self.fingerprint = self.fingerprint or saved

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        *args: Any,
    ) -> None:
        """Compare the fingerprints before any row is loaded, and do not ask for one of an older checkpoint."""
        key = f"{prefix}_extra_state"
        if key in state_dict:
            self.set_extra_state(state_dict[key])
        super()._load_from_state_dict(state_dict, prefix, local_metadata, strict, missing_keys, *args)
        if key in missing_keys:
            missing_keys.remove(key)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Follow `fn` to another device, never to another type."""

        def keep_dtype(tensor: Tensor) -> Tensor:
            applied = fn(tensor)
            return applied if applied.dtype == tensor.dtype else tensor.to(applied.device)

        super()._apply(keep_dtype, recurse)
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Copy the module and share its buffers: an average model or a teacher costs no second (n, d)."""
        memo.update((id(buffer), buffer) for buffer in self.buffers())
        copied = type(self).__new__(type(self))
        memo[id(self)] = copied
        copied.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return copied


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
        rows = self.prototypes[start:stop]
        dtype = rows.dtype if rows.dtype.itemsize < 4 else torch.promote_types(features.dtype, rows.dtype)
        return F.linear(features.to(dtype), rows.to(dtype))

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


def check_features(features: Tensor, d: int) -> None:
    """Raise BadRequest unless `features` are (..., d) and of a floating type."""
    if features.dim() == 0 or features.shape[-1] != d:
        raise BadRequest(
            f"features have shape {tuple(features.shape)}, the prototypes need (..., {d}): "
            f"end the network in a layer of width {d}, or make prototypes with the width of the features"
        )
    if not features.is_floating_point():
        raise BadRequest(f"features must be floating, got {features.dtype}: convert them first, with .float()")


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
