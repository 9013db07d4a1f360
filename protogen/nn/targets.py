"""From the loss of each feature at each class to the loss of a batch: what torch.nn.CrossEntropyLoss does."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from protogen.errors import BadRequest

from .checks import (
    IGNORED,
    REDUCTIONS,
    as_classes,
    check_finite,
    check_label_shape,
    check_one_of,
    is_readable,
    whole,
    within,
)
from .fixed import check_features

SUM_TOLERANCE = 1e-2  # in bfloat16 a probability is good to 4e-3 of its value


@dataclass(frozen=True)
class Wanted:
    """What N features are trained towards.

    `classes` (N,) is the class of each, 0 where it is left out. `shares`, (n,) for all or (N, n), is how much
    the loss at each class counts. Either may be None. `count` is the number of features that are not left out.
    """

    classes: Tensor | None
    shares: Tensor | None
    count: Tensor | int


# The losses (N,) at the classes, and those at all classes times their shares; None where it was not asked for.
Losses = tuple[Tensor | None, Tensor | None]


def weighted_loss(
    losses_of: Callable[[Wanted], Losses],
    features: Tensor,
    targets: Tensor,
    n: int,
    d: int,
    *,
    ignore_index: int = IGNORED,
    weight: Tensor | None = None,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
    debug: bool = False,
) -> Tensor:
    """Return the loss of features (..., d) with labels (...) or soft targets (..., n).

    A label is the target 1 at its class. Label smoothing s makes (1 - s) target + s/n of either; a class's
    loss counts `weight` (n,) times. The mean is over the weights of the labels that are not `ignore_index`, 0
    where all are, or over all soft targets. In float32, or in float64 where the features are.

    Raises BadRequest where features, targets or settings are not allowed. What cannot be read without waiting
    for a device, a label that is no class or a row that is no distribution, makes a loss of NaN instead.
    """
    check_features(features, d)
    if debug:
        check_finite(features)
    check_one_of("reduction", reduction, REDUCTIONS)
    smoothing = within("label_smoothing", label_smoothing, 0, 1)
    dtype = torch.promote_types(features.dtype, torch.float32)
    weight = _weight(weight, n, features.device, dtype)
    if not targets.is_floating_point() or targets.shape == features.shape[:-1]:
        ignored = whole("ignore_index", ignore_index, -(2**63))
        losses, counts = _of_labels(losses_of, targets, features, n, ignored, weight, smoothing, debug)
    else:
        if ignore_index != IGNORED:
            raise BadRequest(f"ignore_index is {ignore_index} with soft targets; allowed is {IGNORED}: none is ignored")
        losses, counts = _of_soft(losses_of, targets.to(dtype), features, n, weight, smoothing, debug)
    if reduction == "none":
        return losses.reshape(features.shape[:-1])
    total = losses.sum()
    if reduction == "sum":
        return total
    count = counts.sum()
    return total / count.where(count != 0, 1)


def _of_labels(
    losses_of: Callable[[Wanted], Losses],
    labels: Tensor,
    features: Tensor,
    n: int,
    ignored: int,
    weight: Tensor | None,
    smoothing: float,
    debug: bool,
) -> tuple[Tensor, Tensor]:
    """Return the losses (N,), and how much each counts in a mean."""
    if labels.dim() == features.dim() and labels.shape[-1] == n and n > 1:
        raise BadRequest(
            f"targets are {tuple(labels.shape)} of {labels.dtype}; allowed are labels, or soft targets of a floating "
            "type with sum 1: one class a feature is targets.argmax(-1); for several at once train with "
            "torch.nn.functional.binary_cross_entropy_with_logits(head(features), targets.float())"
        )
    classes, known = as_classes(labels, n, ignored, debug=debug)
    check_label_shape(labels, features)
    classes, known = classes.reshape(-1), known.reshape(-1)
    kept = labels.reshape(-1).long() != ignored
    if n > ignored >= 0:
        classes = classes.where(kept, 0)
    dtype = torch.promote_types(features.dtype, torch.float32)
    counts = kept.to(dtype) if weight is None else weight[classes] * kept
    shares = None
    if smoothing:
        shares = torch.ones(n, dtype=dtype, device=features.device) if weight is None else weight
        shares = shares * (smoothing / n)
    own, spread = losses_of(Wanted(classes, shares, kept.sum()))
    assert own is not None
    losses = own if weight is None else own * weight[classes]
    if spread is not None:
        losses = losses * (1 - smoothing) + spread
    losses = losses.where(kept, 0)
    if not (debug or is_readable(labels)):
        losses = _nan_unless(known | ~kept, losses)
    return losses, counts


def _of_soft(
    losses_of: Callable[[Wanted], Losses],
    targets: Tensor,
    features: Tensor,
    n: int,
    weight: Tensor | None,
    smoothing: float,
    debug: bool,
) -> tuple[Tensor, Tensor]:
    """Return the losses (N,), and how much each counts in a mean."""
    if targets.shape != (*features.shape[:-1], n):
        allowed = (*features.shape[:-1], n)
        raise BadRequest(f"soft targets have shape {tuple(targets.shape)}; allowed is that of the logits, {allowed}")
    shares = targets.reshape(-1, n)
    right = (shares >= 0).all(1) & ((shares.sum(1) - 1).abs() <= SUM_TOLERANCE)
    read = debug or is_readable(targets)
    if read and not right.all():
        raise BadRequest(
            f"soft targets are no probabilities: a row has sum {shares[~right][0].sum().item():g}; allowed is 0 and "
            "above with sum 1 over the classes: divide by targets.sum(-1, keepdim=True), or train for several classes "
            "at once with torch.nn.functional.binary_cross_entropy_with_logits(head(features), targets)"
        )
    if smoothing:
        shares = shares * (1 - smoothing) + smoothing / n
    if weight is not None:
        shares = shares * weight
    _, losses = losses_of(Wanted(None, shares, len(shares)))
    assert losses is not None
    return losses if read else _nan_unless(right, losses), torch.ones_like(losses)


def _nan_unless(right: Tensor, losses: Tensor) -> Tensor:
    return losses * torch.ones_like(losses).masked_fill(~right, torch.nan)


def _weight(weight: Tensor | None, n: int, device: torch.device, dtype: torch.dtype) -> Tensor | None:
    if weight is None:
        return None
    if not isinstance(weight, Tensor) or tuple(weight.shape) != (n,) or not weight.is_floating_point():
        got = f"{tuple(weight.shape)} of {weight.dtype}" if isinstance(weight, Tensor) else repr(weight)
        raise BadRequest(f"weight is {got}; allowed is a floating tensor with one number a class, ({n},)")
    return weight.to(device, dtype)
