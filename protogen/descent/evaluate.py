"""Loss and gradient of a set over all pairs, by tiles of the upper triangle."""

import math
from dataclasses import dataclass
from itertools import product
from typing import Protocol

import torch
from torch import Tensor

from protogen.measuring.tiles import blocks, gram_tile, tile_edge, upper_tiles
from protogen.run import Run

from .checkpoint import Stateful
from .states import State

# Below this share of weights that are not zero a sparse product beats a dense one (measured on CPUs,
# d = 1000: equal at 8%). For rows shorter than SPARSE_MIN_D the conversion alone costs as much as the product.
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

    def adapt(self, at: "Evaluation") -> bool:
        """Change where an evaluation came out beyond what can be told; return whether another one is due."""
        ...


@dataclass(frozen=True)
class Evaluation:
    """What was evaluated of one set (n, d) or of several at once (..., n, d).

    `loss` is the sum of `losses` (...,) over the sets. `max_cos` and `coherence` (...,) are the largest cos and
    |cos| over all pairs of each set. `gradient` (..., n, d) is not projected. All tensors are on the device.
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

    With `fixed` rows (m, d), which do not move, the pairs of a row with one of these are summed as well. The
    gradient is that of the loss by the rows that move, as if they were free; it is not projected. The host
    waits once, at the end; on a CPU also at each tile, to count its weights. Memory: one tile beside the
    gradient.
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
        lowest, highest = _range(tile, on_diagonal)
        low, high = torch.minimum(low, lowest), torch.maximum(high, highest)
        if on_diagonal:
            tile.diagonal(dim1=-2, dim2=-1).fill_(objective.diagonal)
        part, weights = objective.weigh(tile)
        # A tile on the diagonal is symmetric: each of its pairs stands in it twice, so that its loss counts
        # half, and one product carries the gradient of both ends.
        total += part * (0.5 if on_diagonal else 1.0)
        if may_be_sparse and weights.count_nonzero() < SPARSE_SHARE * weights.numel():
            weights = weights.to_sparse()
        gradient[..., i0:i1, :] += weights @ right
        if not on_diagonal:
            gradient[..., j0:j1, :] += weights.mT @ left
    for (i0, i1), (j0, j1) in product(blocks(n, edge), blocks(0 if fixed is None else len(fixed), edge)):
        assert fixed is not None, "there are no blocks of none"
        right = fixed[j0:j1]
        tile = gram_tile(rows[..., i0:i1, :], right, buffer)
        lowest, highest = _range(tile)
        low, high = torch.minimum(low, lowest), torch.maximum(high, highest)
        part, weights = objective.weigh(tile)
        total += part
        gradient[..., i0:i1, :] += weights @ right
    losses = objective.close(total, gradient)
    return Evaluation(float(losses.sum()), losses, high, torch.maximum(high, -low), gradient)


def _range(tile: Tensor, on_diagonal: bool = False) -> tuple[Tensor, Tensor]:
    """Return the smallest and the largest cosine of tiles (..., b, c); `on_diagonal` overwrites the diagonal."""
    if not on_diagonal:
        return tile.amin((-2, -1)), tile.amax((-2, -1))
    diagonal = tile.diagonal(dim1=-2, dim2=-1)
    diagonal.fill_(math.inf)
    lowest = tile.amin((-2, -1))
    diagonal.fill_(-math.inf)
    return lowest, tile.amax((-2, -1))


class Sliced:
    """Evaluate an objective by tiles, whose edge the run gives or the device, beside `fixed` rows."""

    def __init__(self, objective: Objective, run: Run, fixed: Tensor | None = None) -> None:
        self._objective, self._fixed = objective, fixed
        self._edge = tile_edge(torch.device(run.device), run.tile)

    def __call__(self, rows: Tensor) -> Evaluation:
        beside = None if self._fixed is None else self._fixed.to(rows)
        while True:
            at = evaluate(self._objective, rows, self._edge, beside)
            if not self._objective.adapt(at):
                return at

    def state(self) -> State:
        return self._objective.state()

    def restore(self, state: State) -> None:
        self._objective.restore(state)
