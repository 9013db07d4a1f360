"""A head over ranks: each holds its share of the classes, and no rank the logits of all.

The features and labels of all ranks are gathered. Three all-reduces of (batch,) tensors make the log-sum-exp and the
logits at the classes; in the backward pass one sum of (batch, d) over the ranks makes the gradient of the features.
"""

from copy import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed
from torch.autograd.function import once_differentiable
from torch.distributed import ProcessGroup, ReduceOp
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Shard
from torch.nn import functional as F

from protogen.errors import BadRequest
from protogen.ranks.group import cut

from .chunked import CPU_LOGITS, gradient_of_others
from .fixed import FixedPrototypes
from .frozen import FrozenPrototypes
from .structured import StructuredPrototypes
from .targets import Losses, Wanted
from .window import Window

Group = ProcessGroup | DeviceMesh


@dataclass(frozen=True)
class Share:
    """A rank's share of n classes: those from `start` to `stop` - 1, as torch.chunk and DTensor cut.

    `prototypes` are the rank's own rows, the first of which is that of class `start` - `before`: rows that are held
    are those of the share (`before` is 0), a formula gives those of all classes (`before` is `start`). With
    `replicated` all ranks of the group have the same features; else each has its own.
    """

    group: ProcessGroup
    n: int
    start: int
    stop: int
    before: int
    replicated: bool
    window: Window = field(repr=False)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Share":
        return copy(self)  # a process group has no copy

    @property
    def world(self) -> int:
        """The number of ranks."""
        return distributed.get_world_size(self.group)

    @property
    def rank(self) -> int:
        """The number of this rank."""
        return distributed.get_rank(self.group)

    def gather(self, own: Tensor) -> Tensor:
        """Return the rows (N, ...) of all ranks; each has as many as the longest, filled up with zeros."""
        if self.replicated:
            return own
        most = own.new_tensor([len(own)], dtype=torch.int64)
        distributed.all_reduce(most, ReduceOp.MAX, self.group)
        padded = F.pad(own, (*(0, 0) * (own.dim() - 1), 0, int(most) - len(own)))
        parts = [torch.empty_like(padded) for _ in range(self.world)]
        distributed.all_gather(parts, padded.contiguous(), self.group)
        return torch.cat(parts)

    def own(self, gathered: Tensor, count: int) -> Tensor:
        """Return this rank's `count` rows of gathered ones."""
        if self.replicated:
            return gathered
        first = self.rank * (len(gathered) // self.world)
        return gathered[first : first + count]

    def add(self, tensor: Tensor) -> Tensor:
        """Put the sum over the ranks in the place of a tensor, and return it."""
        distributed.all_reduce(tensor, ReduceOp.SUM, self.group)
        return tensor

    def add_rows(self, gathered: Tensor, count: int) -> Tensor:
        """Return this rank's `count` rows of the sum over the ranks; overwrites what it is given."""
        if self.replicated or distributed.get_backend(self.group) != "nccl":
            return self.own(self.add(gathered), count)
        own = torch.empty_like(gathered[: len(gathered) // self.world])
        distributed.reduce_scatter(own, list(gathered.chunk(self.world)), ReduceOp.SUM, self.group)
        return own[:count]

    def columns(self, whole: Tensor) -> Tensor:
        """Return the columns of this rank's classes (features of all ranks, own), of matrices (N, n) on each rank.

        Each rank sends to every other that one's columns of its features alone.
        """
        if self.replicated:
            return whole[:, self.start : self.stop]
        most = whole.new_tensor([len(whole)], dtype=torch.int64)
        distributed.all_reduce(most, ReduceOp.MAX, self.group)
        padded = F.pad(whole, (0, 0, 0, int(most) - len(whole)))
        ours: list[Tensor] = []
        for rank in range(self.world):
            start, stop = cut(self.n, rank, self.world)
            part = padded[:, start:stop].contiguous()
            parts = [torch.empty_like(part) for _ in range(self.world)] if rank == self.rank else None
            distributed.gather(part, parts, distributed.get_global_rank(self.group, rank), self.group)
            ours = parts or ours
        return torch.cat(ours)

    def here(self, classes: Tensor) -> Tensor:
        """Return the number in the share of each class (N,), -1 where it is another rank's."""
        return (classes - self.start).where((classes >= self.start) & (classes < self.stop), -1)

    def rows_of(self, classes: Tensor) -> Tensor:
        """Return the prototypes of classes (N,) in this rank's share, (N, d), zeros for others."""
        places = self.here(classes)
        rows = self.window.vectors(places.clamp(min=0)) if self.stop > self.start else self.window.zeros(classes)
        return rows.where(places[:, None] >= 0, 0)

    def vectors(self, classes: Tensor) -> Tensor:
        """Return prototypes (..., d) of this rank's classes (...): by formula, or from the ranks that have them."""
        if not isinstance(self.window.prototypes, FrozenPrototypes):
            return self.window.prototypes.vectors(classes)
        flat = classes.reshape(-1)
        rows = self.rows_of(self.gather(flat + 1) - 1)  # what fills up is no class
        return self.add_rows(rows, len(flat)).view(*classes.shape, rows.shape[1])

    def topk(self, features: Tensor, k: int, allowed: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the k largest inner products of features (..., d) with all prototypes, and their classes.

        With `allowed` (n,) of the prototypes that it is True for.
        """
        flat = features.reshape(-1, features.shape[-1])
        every = self.gather(flat)
        kept = min(k, self.stop - self.start)
        values = every.new_full((len(every), k), -torch.inf)
        classes = torch.zeros(len(every), k, dtype=torch.int64, device=every.device)
        if kept:
            found = self.window.topk(every, kept) if allowed is None else self._topk_among(every, kept, allowed)
            values[:, :kept], classes[:, :kept] = found[0], found[1] + self.start
        ours = [torch.cat(self._of_all(part, len(flat)), 1) for part in (values, classes)]
        best = ours[0].topk(k)
        return best.values.view(*features.shape[:-1], k), ours[1].gather(1, best.indices).view(*features.shape[:-1], k)

    def _topk_among(self, features: Tensor, k: int, allowed: Tensor) -> tuple[Tensor, Tensor]:
        """Return the k largest inner products with this rank's prototypes that are allowed, -inf for others."""
        step = max(k, CPU_LOGITS // max(1, len(features)))
        values, places = features.new_zeros(len(features), 0), allowed.new_zeros(len(features), 0, dtype=torch.int64)
        for start in range(0, self.window.n, step):
            stop = min(start + step, self.window.n)
            refused = ~allowed[self.start + start : self.start + stop]
            cosines = self.window.product(features, start, stop).to(values.dtype).masked_fill(refused, -torch.inf)
            values = torch.cat((values, cosines), 1)
            places = torch.cat((places, torch.arange(start, stop, device=places.device).expand(len(features), -1)), 1)
            best = values.topk(min(k, values.shape[1]))
            values, places = best.values, places.gather(1, best.indices)
        return values, places

    def _of_all(self, part: Tensor, count: int) -> list[Tensor]:
        """Return what each rank has found for this rank's features."""
        parts = [torch.empty_like(part) for _ in range(self.world)]
        distributed.all_gather(parts, part, self.group)
        return [self.own(each, count) for each in parts]

    def as_dtensor(self, mesh: DeviceMesh) -> DTensor:
        """Return the prototypes (n, d) as a DTensor cut by classes over a mesh of one dimension, frozen.

        For `torch.distributed.tensor.parallel.loss_parallel`.
        """
        rows = self.window.rows(0, self.window.n)
        return DTensor.from_local(
            rows, mesh, [Shard(0)], shape=torch.Size((self.n, rows.shape[1])), stride=rows.stride()
        )


def shared_out(source: FixedPrototypes | str | Path, group: Group, replicated: bool) -> tuple[FixedPrototypes, Share]:
    """Return what this rank holds of prototypes, and its share of the classes.

    Of a file whose rows no formula gives, the rows of the share alone are read. Raises BadRequest where the group is
    none of this process.
    """
    if isinstance(group, DeviceMesh):
        group = group.get_group()  # which says where the mesh has two dimensions: mesh["model"]
    if not isinstance(group, ProcessGroup):
        raise BadRequest(f"group is {group!r}; allowed is a process group of this process, or a mesh of one dimension")
    rank, world = distributed.get_rank(group), distributed.get_world_size(group)
    if isinstance(source, FixedPrototypes) and not isinstance(source, FrozenPrototypes):
        n, (start, stop) = source.n, cut(source.n, rank, world)
        held: FixedPrototypes = source.part(start, stop) if isinstance(source, StructuredPrototypes) else source
        before = start
    else:
        if isinstance(source, FrozenPrototypes):
            n = source.n
            held, start = source.slice(rank, world)
        else:
            with torch.device("meta"):
                n = FrozenPrototypes(source).n
            held, start = FrozenPrototypes.of_rank(source, rank, world)
        stop, before = start + held.n, 0
    window = Window(held, before, stop - start)
    return held, Share(group, n, start, stop, before, replicated, window)


class _Logits(torch.autograd.Function):
    """The log-sum-exp over all classes but the own one, and the logit at the own one, of this rank's features.

    Both (N,) from features (N, d) and classes (N,), -1 for a feature that has none: its own logit is 0.
    """

    @staticmethod
    def forward(ctx: Any, features: Tensor, classes: Tensor, share: Share) -> tuple[Tensor, Tensor]:
        every, labels = share.gather(features.detach()), share.gather(classes + 1) - 1
        places = share.here(labels)
        wanted = ctx.needs_input_grad[0]
        if share.stop > share.start:
            others, gradient = gradient_of_others(every, share.window, places, wanted=wanted)
        else:
            others, gradient = every.new_full((len(every),), -torch.inf), torch.zeros_like(every)
        rows = share.rows_of(labels).to(every.dtype)
        top = others.clone()
        distributed.all_reduce(top, ReduceOp.MAX, share.group)
        part = (others - top.masked_fill(top == -torch.inf, 0)).exp()
        total = share.add(part.clone())
        own = share.add((every * rows).sum(1))
        ctx.share, ctx.count = share, len(features)
        if wanted:
            weights = part / total.masked_fill(total == 0, 1)
            ctx.save_for_backward(gradient * weights[:, None], rows)
        return share.own(top + total.log(), len(features)).clone(), share.own(own, len(features)).clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_others: Tensor, of_own: Tensor) -> tuple[Tensor, None, None]:
        gradient, rows = ctx.saved_tensors
        share: Share = ctx.share
        wanted = share.gather(torch.stack((of_others, of_own), 1))
        found = gradient * wanted[:, :1] + rows * wanted[:, 1:]
        return share.add_rows(found, ctx.count), None, None


def sharded_entropies(share: Share, features: Tensor, wanted: Wanted, own: Tensor | None = None) -> Losses:
    """Return what `entropies` does of this rank's features (N, d), by all ranks; each of them makes this call."""
    if wanted.classes is None:
        assert wanted.shares is not None, "there are classes or shares"
        nowhere = torch.full((len(features),), -1, dtype=torch.int64, device=features.device)
        whole, _ = _logits(features, nowhere, share)
        columns = share.columns(wanted.shares)
        means = share.window.combine(columns).to(features.dtype)
        return None, whole * wanted.shares.sum(1) - (features * share.add_rows(means, len(features))).sum(1)
    others, plain = _logits(features, wanted.classes, share)
    own = plain if own is None else own
    losses = -F.logsigmoid(own - others)  # log(1 + exp(others - own))
    if wanted.shares is None:
        return losses, None
    # The mistake of Megatron's issue 7452, its mean over the logits of one rank: the sum is over all classes here.
    mine = wanted.shares[share.start : share.stop]
    mean = share.window.combine(mine) if len(mine) else share.window.zeros(wanted.classes[:1])[0]
    shared = features @ share.add(mean.to(features.dtype))
    shared = shared + wanted.shares[wanted.classes] * (own - plain)
    return losses, (losses + own) * wanted.shares.sum() - shared


def losses_by_index(share: Share | None, prototypes: FixedPrototypes, features: Tensor, classes: Tensor) -> Tensor:
    """Return -log softmax of features (N, d) at some classes of each, (N, m): (N, m)."""
    if share is None:
        logits = prototypes.product(features)
        logs = logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(1)
        return -logs.gather(1, classes)
    others, own = _logits(features, classes[:, 0], share)
    rows = torch.stack([share.vectors(column) for column in classes[:, 1:].T], 1) if classes.shape[1] > 1 else None
    whole = torch.logaddexp(others, own)[:, None]
    first = -F.logsigmoid(own - others)[:, None]
    if rows is None:
        return first
    return torch.cat((first, whole - (features[:, None] * rows.to(features.dtype)).sum(-1)), 1)


def _logits(features: Tensor, classes: Tensor, share: Share) -> tuple[Tensor, Tensor]:
    with torch.autocast(features.device.type, enabled=False):
        found: tuple[Tensor, Tensor] = _Logits.apply(features, classes, share)
    return found
