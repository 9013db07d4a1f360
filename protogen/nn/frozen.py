"""Prototypes that a network carries and never learns."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from ..errors import BadRequest
from ..prototypes import NORM_TOLERANCE, Prototypes

PART = 1 << 22  # inner products that `topk` has in memory at a time


class FixedPrototypes(nn.Module, ABC):
    """What a head asks of n prototypes in R^d that training never changes.

    Buffers move with the module (`.to(device)`, `.cuda()`) and keep their type: `.half()`, `.bfloat16()`,
    `.double()` and `.to(dtype)` on this module or one around it leave them float32, because the angles that
    were measured are those of the float32 rows. Copies made by `copy.deepcopy` share the buffers.
    """

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
        """Return the prototypes of classes start to stop - 1, (stop - start, d) float32."""

    @abstractmethod
    def vectors(self, classes: Tensor) -> Tensor:
        """Return the prototypes of some classes (...), (..., d) float32."""

    @abstractmethod
    def _product(self, features: Tensor, start: int, stop: int) -> Tensor: ...

    @property
    def _block(self) -> int:
        """How many classes at least are computed together."""
        return 1

    def product(self, features: Tensor, start: int = 0, stop: int | None = None) -> Tensor:
        """Return the inner products of features (..., d) with the prototypes of classes start to stop - 1.

        (..., stop - start), float64 where the features are, else float32 or what autocast makes of it. The
        gradient reaches `features` alone. Raises BadRequest where `features` has another width than d or
        is not of a floating type, and where the range is not within 0 to n.
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

    def extra_repr(self) -> str:
        """Show n and d where the module is printed."""
        return f"n={self.n}, d={self.d}"

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
    """Hold prototypes (n, d) as a float32 buffer: no parameter, no gradient.

    `source` is a float32 tensor of unit rows, a `Prototypes` record, or the path of a file in a store.
    A tensor is shared, not copied; this module never writes to it. The buffer is part of `state_dict`
    where `persistent` is True; where it is False, checkpoints are smaller and the same file is needed again.
    Loading a `state_dict` gives the module that loads a tensor of its own.

    DistributedDataParallel sends every buffer from rank 0 at each forward. Where no other buffer of the
    model needs that, wrap it with `forward_sync_buffers=False` (older torch: `broadcast_buffers=False`);
    where one does, such as the running statistics of BatchNorm, call `exclude_from_ddp(model)` first.

    Raises BadRequest where the tensor is not (n, d), not float32, or has a row that is not of norm 1.
    Source: Equiangular Basis Vectors, Section 3.3: W "will not be changed in the following training stage".
    """

    prototypes: Tensor

    def __init__(self, source: Tensor | Prototypes | str | Path, *, persistent: bool = True) -> None:
        super().__init__()
        self.register_buffer("prototypes", _rows(source).detach().contiguous(), persistent=persistent)

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

    def _product(self, features: Tensor, start: int, stop: int) -> Tensor:
        return F.linear(features, self.prototypes[start:stop].to(features.dtype))

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Load into a fresh tensor, since the present one may be shared with copies and with the source."""
        if f"{prefix}prototypes" in state_dict:
            self.prototypes = self.prototypes.clone()
        super()._load_from_state_dict(state_dict, prefix, *args)
        # load_state_dict(assign=True) takes the type of the checkpoint over.
        self.prototypes = self.prototypes.to(torch.float32)


def exclude_from_ddp(model: nn.Module) -> None:
    """Keep the buffers of all FixedPrototypes in `model` out of what DistributedDataParallel sends.

    Call it before `DistributedDataParallel(model)`. Neither the construction nor a forward sends the
    prototypes then, so every rank must have the same ones: make them from the same file. Replaces what
    torch was told before to ignore in this model.
    """
    fixed = [(name, module) for name, module in model.named_modules() if isinstance(module, FixedPrototypes)]
    names = [f"{name}.{buffer}" for name, module in fixed for buffer, _ in module.named_buffers()]
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(model, names)


def check_features(features: Tensor, d: int) -> None:
    """Raise BadRequest unless `features` are (..., d) and of a floating type."""
    if features.dim() == 0 or features.shape[-1] != d:
        raise BadRequest(
            f"features have shape {tuple(features.shape)}, the prototypes need (..., {d}): "
            f"end the network in a layer of width {d}, or make prototypes with the width of the features"
        )
    if not features.is_floating_point():
        raise BadRequest(f"features must be floating, got {features.dtype}: convert them first, with .float()")


def _rows(source: Tensor | Prototypes | str | Path) -> Tensor:
    """Return the prototypes (n, d) that `source` stands for, or raise BadRequest."""
    if isinstance(source, (str, Path)):
        from ..access import load

        return _checked(load(Path(source)).tensor)
    if isinstance(source, Prototypes):
        return _checked(source.tensor)
    if isinstance(source, Tensor):
        return _checked(source)
    raise BadRequest(f"prototypes come from a tensor, a Prototypes record or a path, got {type(source).__name__}")


def _checked(rows: Tensor) -> Tensor:
    """Return `rows` if they are (n, d), float32 and of norm 1, or raise BadRequest."""
    if rows.dim() != 2 or rows.numel() == 0:
        raise BadRequest(f"prototypes must be (n, d), got {tuple(rows.shape)}: give one row a class")
    if rows.dtype != torch.float32:
        raise BadRequest(f"prototypes must be float32, got {rows.dtype}: convert first, with .float()")
    deviation = (torch.linalg.vector_norm(rows.detach(), dim=1) - 1).abs().max().item()
    if not deviation <= NORM_TOLERANCE:
        raise BadRequest(
            f"prototypes must have norm 1 within {NORM_TOLERANCE:g}, got a row that is off by {deviation:g}: "
            "normalise first, with torch.nn.functional.normalize"
        )
    return rows
