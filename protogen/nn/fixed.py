"""What heads ask of prototypes that training never changes, and which prototypes those are."""

import copy
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from protogen.errors import BadRequest
from protogen.files.digests import BlockHasher, content_digest
from protogen.files.prototypes import Prototypes

PART = 1 << 22  # inner products that `topk` has in memory at a time
NAME = 96  # bytes of a name in a checkpoint


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

    @abstractmethod
    def _combine(self, weights: Tensor, start: int, stop: int) -> Tensor: ...

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
        stop = self._stop(start, stop)
        return self._product(at_least_float32(features, self.d), start, stop)

    def combine(self, weights: Tensor, start: int = 0, stop: int | None = None) -> Tensor:
        """Return the sums of the prototypes of classes start to stop - 1 with weights (..., stop - start): (..., d).

        The transpose of `product`, in the same types. Raises BadRequest where the range is not within 0 to n.
        """
        stop = self._stop(start, stop)
        return self._combine(weights.to(torch.promote_types(weights.dtype, torch.float32)), start, stop)

    def _stop(self, start: int, stop: int | None) -> int:
        """Return the end of a range of classes, or raise BadRequest."""
        stop = self.n if stop is None else stop
        if not 0 <= start <= stop <= self.n:
            raise BadRequest(f"classes are {start} to {stop}; allowed is a range within 0 to n; n is {self.n}")
        return stop

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


@torch.fx.wrap
def at_least_float32(features: Tensor, d: int) -> Tensor:
    """Return features (..., d) in float32, in float64 where they are, or raise BadRequest."""
    check_features(features, d)
    return features.to(torch.promote_types(features.dtype, torch.float32))


def check_features(features: Tensor, d: int) -> None:
    """Raise BadRequest unless `features` are (..., d) and of a floating type."""
    shape = tuple(features.shape)
    if len(shape) == 4 and shape[1] == shape[-1] == d:
        raise BadRequest(
            f"features have shape {shape}, and the prototypes need (..., {d}): which axis is it? "
            "Give features.movedim(1, -1).flatten(0, -2) of an image's (B, d, H, W), else features.flatten(0, -2)"
        )
    if len(shape) > 2 and shape[1] == d != shape[-1]:
        raise BadRequest(
            f"features have shape {shape}, the prototypes need (..., {d}): put the axis last, with "
            "features.movedim(1, -1)"
        )
    if not shape or shape[-1] != d:
        raise BadRequest(
            f"features have shape {shape}, the prototypes need (..., {d}): "
            f"end the network in a layer of width {d}, or make prototypes with the width of the features"
        )
    if not features.is_floating_point():
        raise BadRequest(f"features must be floating, got {features.dtype}: convert them first, with .float()")
