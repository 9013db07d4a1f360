"""Loss and gradient of a set over all pairs, by tiles of the upper triangle."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product
from typing import Protocol, Self

import torch
from torch import Tensor

from protogen.measuring.tiles import blocks, gram_tile, tile_edge, upper_tiles
from protogen.ranks.lead import ranks_of
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

    def of_sets(self, start: int, stop: int) -> Self:
        """Return the loss of sets start to stop - 1 of several alone."""
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


Tile = tuple[int, int, int, int]  # rows i0 to i1 - 1 against rows j0 to j1 - 1


def evaluate(objective: Objective, rows: Tensor, edge: int, fixed: Tensor | None = None) -> Evaluation:
    """Sum loss and gradient over all pairs of unit rows (..., n, d), by tiles of the upper triangle.

    With `fixed` rows (m, d), which do not move, the pairs of a row with one of these are summed as well. The
    gradient is that of the loss by the rows that move, as if they were free; it is not projected. The host
    waits once, at the end; on a CPU also at each tile, to count its weights. Memory: one tile beside the
    gradient.
    """
    n = rows.shape[-2]
    edge = min(max(1, int(edge / math.sqrt(math.prod(rows.shape[:-2])))), n)  # one buffer's size, however many sets
    sums = PairSums(objective, rows, edge, fixed)
    sums.add(upper_tiles(n, edge))
    sums.add_fixed(fixed_tiles(n, edge, fixed))
    return sums.close()


def fixed_tiles(n: int, edge: int, fixed: Tensor | None) -> Iterable[Tile]:
    """The tiles of n rows against the fixed ones; none where there are none."""
    sides = product(blocks(n, edge), blocks(0 if fixed is None else len(fixed), edge))
    return ((*rows, *others) for rows, others in sides)


class PairSums:
    """Add up the loss and its gradient over pairs of unit rows (..., n, d), tile by tile.

    `total` (...,) is the sum so far, `gradient` (..., n, d) its derivative, `low` and `high` (...,) are the smallest
    and the largest cosine.
    """

    def __init__(self, objective: Objective, rows: Tensor, edge: int, fixed: Tensor | None) -> None:
        sets, d = rows.shape[:-2], rows.shape[-1]
        self._objective, self._rows, self._fixed = objective, rows, fixed
        self.gradient = torch.zeros_like(rows)
        self.total = rows.new_zeros(sets, dtype=torch.float64)
        self.low, self.high = rows.new_full(sets, math.inf), rows.new_full(sets, -math.inf)
        self._buffer = rows.new_empty(math.prod(sets) * edge * edge)
        self._may_be_sparse = rows.device.type == "cpu" and rows.dim() == 2 and d >= SPARSE_MIN_D

    def add(self, tiles: Iterable[Tile]) -> None:
        """Take in tiles of the upper triangle."""
        for i0, i1, j0, j1 in tiles:
            left, right = self._rows[..., i0:i1, :], self._rows[..., j0:j1, :]
            tile = gram_tile(left, right, self._buffer)
            on_diagonal = i0 == j0
            self._note(tile, on_diagonal)
            if on_diagonal:
                tile.diagonal(dim1=-2, dim2=-1).fill_(self._objective.diagonal)
            part, weights = self._weigh(tile)
            # A tile on the diagonal is symmetric: each of its pairs stands in it twice, so that its loss counts
            # half, and one product carries the gradient of both ends.
            self.total += part * (0.5 if on_diagonal else 1.0)
            self.gradient[..., i0:i1, :] += weights @ right
            if not on_diagonal:
                self.gradient[..., j0:j1, :] += weights.mT @ left

    def add_fixed(self, tiles: Iterable[Tile]) -> None:
        """Take in tiles of rows against fixed ones."""
        if self._fixed is not None:
            self.add_across(tiles, self._fixed)

    def add_across(self, tiles: Iterable[Tile], others: Tensor, gradient: Tensor | None = None) -> None:
        """Take in tiles of rows against others (m, d), to whose `gradient`, if it is given, their part is added."""
        for i0, i1, j0, j1 in tiles:
            left, right = self._rows[..., i0:i1, :], others[j0:j1]
            tile = gram_tile(left, right, self._buffer)
            self._note(tile)
            part, weights = self._weigh(tile)
            self.total += part
            self.gradient[..., i0:i1, :] += weights @ right
            if gradient is not None:
                gradient[j0:j1] += weights.mT @ left

    def close(self) -> Evaluation:
        """Return what the sums make."""
        losses = self._objective.close(self.total, self.gradient)
        return Evaluation(float(losses.sum()), losses, self.high, torch.maximum(self.high, -self.low), self.gradient)

    def _weigh(self, tile: Tensor) -> tuple[Tensor, Tensor]:
        """Return a tile's part of the sum, and its weights, sparse where few are not zero."""
        part, weights = self._objective.weigh(tile)
        if self._may_be_sparse and weights.count_nonzero() < SPARSE_SHARE * weights.numel():
            weights = weights.to_sparse()
        return part, weights

    def _note(self, tile: Tensor, on_diagonal: bool = False) -> None:
        lowest, highest = _range(tile, on_diagonal)
        self.low, self.high = torch.minimum(self.low, lowest), torch.maximum(self.high, highest)


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
    """Evaluate an objective by tiles, whose edge the run gives or the device, beside `fixed` rows.

    Where the run has a group and the set is large, its ranks share the tiles.
    """

    def __init__(self, objective: Objective, run: Run, fixed: Tensor | None = None) -> None:
        self.objective, self.fixed = objective, fixed
        self.edge, self.ranks = tile_edge(torch.device(run.device), run.tile), ranks_of(run.group)

    def __call__(self, rows: Tensor) -> Evaluation:
        beside = None if self.fixed is None else self.fixed.to(rows)
        while True:
            at = self._evaluated(rows, beside)
            if not self.objective.adapt(at):
                return at

    def _evaluated(self, rows: Tensor, beside: Tensor | None) -> Evaluation:
        if self.ranks is not None:
            from .sharded import evaluate_together, is_worth_it

            if is_worth_it(rows):
                return evaluate_together(self.ranks, self.objective, rows, self.edge, beside)
        return evaluate(self.objective, rows, self.edge, beside)

    def state(self) -> State:
        return self.objective.state()

    def restore(self, state: State) -> None:
        self.objective.restore(state)
