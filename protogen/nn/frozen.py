"""Prototypes that a network carries and never learns."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ..errors import BadRequest
from ..prototypes import NORM_TOLERANCE, Prototypes


class FrozenPrototypes(nn.Module):
    """Hold prototypes (n, d) as a float32 buffer: no parameter, no gradient.

    `source` is a float32 tensor of unit rows, a `Prototypes` record, or the path of a file in a store.
    A tensor is shared, not copied; this module never writes to it. The buffer is part of `state_dict`
    where `persistent` is True; where it is False, checkpoints are smaller and the same file is needed again.

    The buffer moves with the module (`.to(device)`, `.cuda()`) and keeps its type: `.half()`, `.bfloat16()`,
    `.double()` and `.to(dtype)` on this module or one around it leave it float32, because the angles that
    were measured are those of the float32 rows. Copies made by `copy.deepcopy` share the tensor; loading a
    `state_dict` gives the module that loads a tensor of its own.

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
        """The number of prototypes, one a class."""
        return self.prototypes.shape[0]

    @property
    def d(self) -> int:
        """The dimension, which is the width of the features."""
        return self.prototypes.shape[1]

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

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Load into a fresh tensor, since the present one may be shared with copies and with the source."""
        if f"{prefix}prototypes" in state_dict:
            self.prototypes = self.prototypes.clone()
        super()._load_from_state_dict(state_dict, prefix, *args)
        # load_state_dict(assign=True) takes the type of the checkpoint over.
        self.prototypes = self.prototypes.to(torch.float32)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Copy the module and share the tensor: an average model or a teacher costs no second (n, d)."""
        memo[id(self.prototypes)] = self.prototypes
        copied = type(self).__new__(type(self))
        memo[id(self)] = copied
        copied.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return copied


def exclude_from_ddp(model: nn.Module) -> None:
    """Keep every FrozenPrototypes in `model` out of what DistributedDataParallel sends.

    Call it before `DistributedDataParallel(model)`. Neither the construction nor a forward sends the
    prototypes then, so every rank must have the same ones: make them from the same file. Replaces what
    torch was told before to ignore in this model.
    """
    modules = model.named_modules()
    names = [f"{name}.prototypes" for name, module in modules if isinstance(module, FrozenPrototypes)]
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(model, names)


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
