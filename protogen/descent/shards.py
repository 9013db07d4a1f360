"""What a rank keeps of a descent over ranks: rows, the gradient of its own, and its part of the optimiser."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from protogen.errors import RankLost
from protogen.ranks.group import Ranks

from .evaluate import Evaluation, PairSums, Tile
from .states import State
from .steppers import LBFGS

TURN = 16  # tiles of a rank between two moments at which all agree that they go on
SHARD = "descent"  # under which each rank keeps its shard


class RowsLBFGS(LBFGS):
    """L-BFGS on this rank's rows, whose inner products are those of all rows."""

    ranks: Ranks

    def _inner(self, one: Tensor, other: Tensor) -> Tensor:
        return self.ranks.add(super()._inner(one, other))

    def _longest(self, vectors: Tensor) -> Tensor:
        longest = super()._longest(vectors) if len(vectors) else vectors.new_zeros(())
        return self.ranks.raise_to_largest(longest)


@dataclass
class Shard:
    """What this rank keeps: rows, the gradient of its own, and its part of the stepper.

    - `rows` are all of them, where each rank has them all; `parts` this rank's alone, by the number of their set.
    - `states` are the stepper's before and after its last change, by how often it has changed.
    """

    rows: Tensor | None = None
    parts: dict[int, Tensor] = field(default_factory=dict)
    fixed: Tensor | None = None
    gradient: Tensor | None = None
    stepper: RowsLBFGS | None = None
    changes: int = 0
    states: dict[int, State] = field(default_factory=dict)

    @classmethod
    def of(cls, ranks: Ranks) -> "Shard":
        """The shard of this rank."""
        kept: Shard = ranks.kept.setdefault(SHARD, cls())
        return kept

    def note(self, changes: int) -> int:
        """Hold the state of the stepper, which has changed so often, beside the one before."""
        assert self.stepper is not None
        self.changes = changes
        self.states = {changes - 1: self.states.get(changes - 1, {}), changes: self.stepper.state()}
        return changes


def begin(ranks: Ranks, make: "partial[LBFGS]") -> int:
    """Make this rank's part of a stepper; return how often it has changed, as all that follow do."""
    shard = Shard.of(ranks)
    shard.stepper = RowsLBFGS(*make.args, **make.keywords)
    shard.stepper.ranks = ranks
    return shard.note(shard.changes + 1)


def restart(ranks: Ranks) -> int:
    """Restart this rank's part of a stepper."""
    shard = Shard.of(ranks)
    assert shard.stepper is not None
    shard.stepper.restart()
    return shard.note(shard.changes + 1)


def restore(ranks: Ranks, state: State) -> int:
    """Take this rank's rows of the state of a stepper."""
    shard = Shard.of(ranks)
    assert shard.stepper is not None

    def own(rows: Tensor) -> Tensor:
        start, stop = ranks.range(len(rows))
        return rows[start:stop].clone()

    shard.stepper.restore(of_rows(state, own))
    return shard.note(shard.changes + 1)


def of_rows(state: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Put in the place of each tensor of rows in a state what is made of it."""
    if isinstance(state, dict):
        return {name: of_rows(value, change) for name, value in state.items()}
    if isinstance(state, list | tuple):
        return [of_rows(value, change) for value in state]
    return change(state) if isinstance(state, Tensor) and state.dim() >= 2 else state


def stepped(ranks: Ranks, own: Tensor, loss: float) -> Tensor | None:
    """Step from this rank's rows and their gradient, evaluated before; None where there is no way down."""
    shard = Shard.of(ranks)
    assert shard.stepper is not None
    assert shard.gradient is not None
    none = own.new_zeros(())
    try:
        return shard.stepper.next(own, Evaluation(loss, none, none, none, shard.gradient))
    except MemoryError as error:  # between two sums, where the other ranks wait for this one's
        raise RankLost(
            f"rank {ranks.rank} of {ranks.world} is out of memory; ask for less, or use more ranks"
        ) from error


def turns(tiles: Iterable[Tile], ranks: Ranks, size: int = TURN) -> Iterator[list[Tile]]:
    """Deal tiles to the ranks, and yield this one's, `size` at a time."""
    waiting = iter(tiles)
    while turn := list(islice(waiting, size * ranks.world)):
        yield turn[ranks.rank :: ranks.world]


def join(ranks: Ranks, sums: PairSums) -> None:
    """Put what all ranks have summed together, on each of them; but for the gradient."""
    ranks.add(sums.total)
    high, low = ranks.raise_to_largest(torch.stack((sums.high, -sums.low)))
    sums.high, sums.low = high, -low
