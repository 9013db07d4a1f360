"""An AssignmentHead over ranks: each has its share of the prototypes, and the means of its share of the classes.

All know which prototype a class has. Losses are summed over the ranks; prototypes are assigned by rank 0 among the
candidates that the ranks find for the classes whose means they have.
"""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from protogen.ranks.group import cut

from .assigning import PART
from .chunked import CPU_LOGITS
from .sharded import Share


def means_range(share: Share, classes: int) -> tuple[int, int]:
    """The classes (start, stop) whose means are this rank's."""
    return cut(classes, share.rank, share.world)


def shared_spread(share: Share, ahead: Tensor, shares: Tensor, class_of: Tensor) -> Tensor:
    """Return the sum over classes of share times 1/2 (z . w - 1)^2 for unit features z (N, d), by all ranks: (N,).

    `shares` are (classes,) or (N, classes), `class_of` (n,) the class of each prototype, -1 where it has none.
    """
    if shares.dim() == 1:
        class_of = class_of[share.start : share.stop]
    weights = (shares[..., class_of.clamp(min=0)] * (class_of >= 0)).to(ahead.dtype)
    found: Tensor = _Spread.apply(ahead, weights if shares.dim() == 1 else share.columns(weights), share)
    return found


class _Spread(torch.autograd.Function):
    """Sum weight times 1/2 (z . w - 1)^2 over the prototypes w of all ranks, (N,) for unit features z (N, d).

    The weights are those of this rank's prototypes, (own,) or (features of all ranks, own).
    """

    @staticmethod
    def forward(ctx: Any, ahead: Tensor, weights: Tensor, share: Share) -> Tensor:
        every = share.gather(ahead.detach())
        total, gradient = every.new_zeros(len(every)), torch.zeros_like(every)
        step = max(1, CPU_LOGITS // max(1, len(every)))
        for start in range(0, share.window.n, step):
            stop = min(start + step, share.window.n)
            off = share.window.product(every, start, stop).to(every.dtype) - 1
            pull = off * weights[..., start:stop]
            total += (off * pull).sum(1) / 2
            gradient += share.window.combine(pull, start, stop).to(every.dtype)
        ctx.share, ctx.count = share, len(ahead)
        ctx.save_for_backward(gradient)
        return share.own(share.add(total), len(ahead)).clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_losses: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        wanted = ctx.share.gather(of_losses[:, None].contiguous())
        return ctx.share.add_rows(gradient * wanted, ctx.count), None, None


def nearest_of_means(share: Share, means: Tensor, current: Tensor, candidates: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the candidates of all classes: their cosines (c, k), their prototypes, and the cosines now (c, 1).

    `means` are those of this rank's classes, `current` (c,) the present prototypes of all. Each rank makes this call.
    """
    apart = replace(share, replicated=False)  # each rank has means of its own, whatever the features
    classes = len(current)
    start, stop = means_range(share, classes)
    own = (means * apart.vectors(current[start:stop]).to(means.dtype)).sum(1, keepdim=True)
    k = min(candidates, share.n)
    parts = []
    for first in range(0, -(-classes // share.world), PART):  # as often on every rank
        parts.append(apart.topk(means[first : first + PART], k))
    cosines, nearest = (torch.cat(part) for part in zip(*parts, strict=True))
    return apart.gather(cosines)[:classes], apart.gather(nearest)[:classes], apart.gather(own)[:classes]


def seen_of_all(share: Share, seen: Tensor, classes: int) -> Tensor:
    """Return whether each class was seen, (c,), from those of each rank's classes."""
    return replace(share, replicated=False).gather(seen)[:classes] > 0
