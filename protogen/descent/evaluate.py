"""Loss and gradient of a set over all pairs, by tiles of the upper triangle."""

import math
from dataclasses import dataclass
from itertools import product
from typing import Protocol

import torch
from torch import Tensor

from protogen.measuring.tiles import blocks, gram_tile, tile_edge, upper_tiles
from protogen.run import Run

from .checkpoint import State, Stateful

# Below this share of weights that are not zero a sparse product beats a dense one (measured on CPUs,
# d = 1000: equal at 8%); for short rows the conversion alone costs as much as the product.
SPARSE_SHARE = 0.05


SPARSE_MIN_D = 128


class Objective(Stateful, Protocol):
    """A loss made of a sum over pairs of a function of their cosine."""

    diagonal: float
    """What a vector's cosine with itself is set to, so that it weighs nothing."""

    def weigh(self, cosines: Tensor) -> tuple[Tensor, Tensor]:
        """Return a tile's part of the sum, (...,) for cosines (..., b, c), and its derivatives by them."""
        ...

    def close(self, total: Tensor, gradient: Tensor) -> Tensor:
        """Turn the sums over all pairs (...,) into losses, and their gradient (..., n, d), in place, likewise."""
        ...

    def settled(self, at: "Evaluation") -> bool:
        """Whether the evaluation holds; if not, the objective has adapted and wants another."""
        ...


@dataclass(frozen=True)
class Evaluation:
    """One or more sets at once: losses (...,), largest cos and |cos| over all pairs, gradient (..., n, d).

    `loss` is the sum over the sets; the three figures by set are on the device.
    """

    loss: float
    losses: Tensor
    max_cos: Tensor
    coherence: Tensor
    gradient: Tensor


class Evaluator(Stateful, Protocol):
    """Whatever evaluates unit rows (n, d), or (k, n, d)."""

    def __call__(self, rows: Tensor) -> Evaluation: ...


def evaluate(objective: Objective, rows: Tensor, edge: int, fixed: Tensor | None = None) -> Evaluation:
    """Sum loss and gradient over all pairs of unit rows (..., n, d), by tiles of the upper triangle.

    With `fixed` rows (m, d), which do not move, also over the pairs of a row with one of these. The
    gradient is that of the loss by free rows, not projected. The host waits once, at the end; on a
    CPU also at each tile, to count its weights. Memory: one tile beside the gradient.
    """
    sets, (n, d) = rows.shape[:-2], rows.shape[-2:]
    edge = min(max(1, int(edge / math.sqrt(math.prod(sets)))), n)  # one buffer's size, however many sets
    gradient = torch.zeros_like(rows)
    total = rows.new_zeros(sets, dtype=torch.float64)
    low, high = rows.new_full(sets, math.inf), rows.new_full(sets, -math.inf)
    buffer = rows.new_empty(rows[..., 0, 0].numel() * edge * edge)
    may_be_sparse = rows.device.type == "cpu" and rows.dim() == 2 and d >= SPARSE_MIN_D
    for i0, i1, j0, j1 in upper_tiles(n, edge):
        left, right = rows[..., i0:i1, :], rows[..., j0:j1, :]
        tile = gram_tile(left, right, buffer)
        on_diagonal = i0 == j0
        if on_diagonal:
            # Symmetric: each pair stands in it twice, so one product carries both halves.
            diagonal = tile.diagonal(dim1=-2, dim2=-1)
            diagonal.fill_(math.inf)
            low = torch.minimum(low, tile.amin((-2, -1)))
            diagonal.fill_(-math.inf)
            high = torch.maximum(high, tile.amax((-2, -1)))
            diagonal.fill_(objective.diagonal)
        else:
            low = torch.minimum(low, tile.amin((-2, -1)))
            high = torch.maximum(high, tile.amax((-2, -1)))
        part, weights = objective.weigh(tile)
        total += part * (0.5 if on_diagonal else 1.0)
        if may_be_sparse and weights.count_nonzero() < SPARSE_SHARE * weights.numel():
            weights = weights.to_sparse()
        gradient[..., i0:i1, :] += weights @ right
        if not on_diagonal:
            gradient[..., j0:j1, :] += weights.mT @ left
    for (i0, i1), (j0, j1) in product(blocks(n, edge), blocks(0 if fixed is None else len(fixed), edge)):
        assert fixed is not None
        right = fixed[j0:j1]
        tile = gram_tile(rows[..., i0:i1, :], right, buffer)
        low, high = torch.minimum(low, tile.amin((-2, -1))), torch.maximum(high, tile.amax((-2, -1)))
        part, weights = objective.weigh(tile)
        total += part
        gradient[..., i0:i1, :] += weights @ right
    losses = objective.close(total, gradient)
    return Evaluation(float(losses.sum()), losses, high, torch.maximum(high, -low), gradient)


class Sliced:
    """The evaluator of an objective by tiles, as large as the run asks or the device likes, beside `fixed` rows."""

    def __init__(self, objective: Objective, run: Run, fixed: Tensor | None = None) -> None:
        self._objective, self._fixed = objective, fixed
        self._edge = tile_edge(torch.device(run.device), run.tile)

    def __call__(self, rows: Tensor) -> Evaluation:
        beside = None if self._fixed is None else self._fixed.to(rows)
        while True:
            at = evaluate(self._objective, rows, self._edge, beside)
            if self._objective.settled(at):
                return at

    def state(self) -> State:
        return self._objective.state()

    def restore(self, state: State) -> None:
        self._objective.restore(state)
