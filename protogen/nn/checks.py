"""What heads and losses ask of features, labels and settings, and the steps that they share."""

import math
from collections.abc import Collection

import torch
from torch import Tensor

from protogen.errors import BadRequest

from .fixed import FixedPrototypes, check_features

REDUCTIONS = ("mean", "sum", "none")
INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


def directions(features: Tensor, d: int) -> Tensor:
    """Return features (..., d) divided by their norms, in float32 or float64; a zero feature stays zero."""
    check_features(features, d)
    features = features.to(torch.promote_types(features.dtype, torch.float32))
    norms = torch.linalg.vector_norm(features, dim=-1, keepdim=True)
    # Dividing a zero feature by infinity makes its gradient 0; dividing by a small number would make it huge.
    divided: Tensor = features / norms.masked_fill(norms == 0, math.inf)
    return divided


def own_prototypes(prototypes: Tensor | FixedPrototypes, labels: Tensor) -> Tensor:
    """Return the prototype of each label (...), (..., d)."""
    labels = labels.long()
    return prototypes.vectors(labels) if isinstance(prototypes, FixedPrototypes) else prototypes.detach()[labels]


def reduced(losses: Tensor, reduction: str) -> Tensor:
    """Return the mean or the sum of losses, or the losses as they are."""
    check_one_of("reduction", reduction, REDUCTIONS)
    if reduction == "none":
        return losses
    return losses.mean() if reduction == "mean" else losses.sum()


def check_prototypes(head: str, prototypes: object) -> None:
    """Raise BadRequest unless `prototypes` are FixedPrototypes, which the named head takes."""
    if not isinstance(prototypes, FixedPrototypes):
        raise BadRequest(
            f"{head} takes FrozenPrototypes, got {type(prototypes).__name__}: wrap it first, with FrozenPrototypes(...)"
        )


def check_labels(
    labels: Tensor, features: Tensor, n: int, ignore_index: int | None = None, *, debug: bool = False
) -> None:
    """Raise BadRequest unless `labels` are integers, one a feature (..., d), from 0 to n - 1 or `ignore_index`.

    Their values are read where that waits for no device, hence on the CPU and not while torch.compile or
    torch.export look on, and wherever `debug` is True.
    """
    if labels.dtype not in INTEGERS:
        raise BadRequest(f"labels are {labels.dtype}; allowed are integers: convert them first, with .long()")
    if labels.shape != features.shape[:-1]:
        allowed = tuple(features.shape[:-1])
        raise BadRequest(f"labels have shape {tuple(labels.shape)}; allowed is one a feature, {allowed}")
    if not (debug or (labels.device.type == "cpu" and not torch.compiler.is_compiling())):
        return
    labels = labels.long()
    wrong = (labels < 0) | (labels >= n)
    if ignore_index is not None:
        wrong &= labels != ignore_index
    if wrong.any():
        raise BadRequest(f"labels hold {int(labels[wrong][0])}; allowed is 0 to {n - 1}: count the classes again")


def check_finite(features: Tensor) -> None:
    """Raise BadRequest where a feature is not finite. Waits for the device."""
    wrong = ~features.isfinite().all(-1)
    if wrong.any():
        raise BadRequest(
            f"{int(wrong.sum())} of {wrong.numel()} features are not finite; allowed are finite ones: "
            "look for an overflow or a division by zero before the head"
        )


def check_positive(name: str, value: float) -> None:
    """Raise BadRequest unless `value` is positive and finite."""
    if not 0 < value < math.inf:
        raise BadRequest(f"{name} is {value}; allowed is a positive and finite number")


def check_one_of(name: str, value: str, allowed: Collection[str]) -> None:
    """Raise BadRequest unless `value` is one of those allowed."""
    if value not in allowed:
        raise BadRequest(f"{name} is {value!r}; allowed is {', '.join(map(repr, allowed))}")
