"""A descent over ranks: each takes its tiles of the Gram matrix, and its rows of what the optimiser remembers.

Every rank holds all rows (n, d) and adds up the gradient of its tiles. The gradients are summed over the ranks, each
of which makes the next step of its own rows; then the rows are gathered.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from protogen.errors import RankLost
from protogen.measuring.tiles import upper_tiles
from protogen.ranks.group import Ranks

from .evaluate import Evaluation, Evaluator, Objective, PairSums, Sliced, Tile, fixed_tiles
from .states import State
from .steppers import LBFGS, Stepper

WORTH_IT = 10**9  # multiplications of a pass over all pairs, below which one rank alone is as fast
TURN = 16  # tiles of a rank between two moments at which all agree that they go on
SHARD = "descent"  # under which each rank keeps its shard


def is_worth_it(rows: Tensor) -> bool:
    """Whether an evaluation of these rows is shared: one large set (n, d)."""
    return rows.dim() == 2 and len(rows) * rows.numel() >= WORTH_IT


def spread(
    evaluator: Evaluator, make_stepper: Callable[[], Stepper], rows: Tensor
) -> tuple[Evaluator, Callable[[], Stepper]]:
    """Return evaluator and stepper of a descent, over ranks where these are a pass by tiles and L-BFGS."""
    if type(evaluator) is not Sliced or evaluator.ranks is None or not is_worth_it(rows):
        return evaluator, make_stepper
    if not isinstance(make_stepper, partial) or make_stepper.func is not LBFGS:
        return evaluator, make_stepper
    spreading = Spread(evaluator, evaluator.ranks)
    return spreading, partial(SpreadStepper, evaluator.ranks, make_stepper)


# What every rank does


class RowsLBFGS(LBFGS):
    """L-BFGS on this rank's rows, whose inner products are those of all rows."""

    ranks: Ranks

    def _inner(self, one: Tensor, other: Tensor) -> Tensor:
        return self.ranks.add(super()._inner(one, other))

    def _longest(self, vectors: Tensor) -> Tensor:
        longest = super()._longest(vectors) if len(vectors) else vectors.new_zeros(())
        return self.ranks.raise_to_largest(longest)


@dataclass
class _Shard:
    """What a rank keeps of a descent: all rows, the gradient of its own, and its part of the stepper.

    `states` are the stepper's before and after its last change, by how often it has changed.
    """

    rows: Tensor | None = None
    fixed: Tensor | None = None
    gradient: Tensor | None = None
    stepper: RowsLBFGS | None = None
    changes: int = 0
    states: dict[int, State] = field(default_factory=dict)

    @classmethod
    def of(cls, ranks: Ranks) -> "_Shard":
        kept: _Shard = ranks.kept.setdefault(SHARD, cls())
        return kept

    def note(self, changes: int) -> int:
        """Hold the state of the stepper, which has changed so often, beside the one before."""
        assert self.stepper is not None
        self.changes = changes
        self.states = {changes - 1: self.states.get(changes - 1, {}), changes: self.stepper.state()}
        return changes


def _evaluate(
    ranks: Ranks,
    objective: Objective,
    edge: int,
    device: str,
    rows: Tensor | None,
    fixed: Tensor | None,
    whole: bool,
) -> Evaluation:
    """Add up this rank's tiles, and all ranks' sums; the gradient is that of this rank's rows, or with `whole` of all.

    `rows` is None where these are the ones that the last step has made.
    """
    shard = _Shard.of(ranks)
    if rows is not None:
        shard.rows, shard.fixed = rows.to(device), None if fixed is None else fixed.to(device, rows.dtype)
    assert shard.rows is not None, "rows come with the first evaluation"
    n = len(shard.rows)
    sums = PairSums(objective, shard.rows, min(edge, n), shard.fixed)
    for turn in _turns(upper_tiles(n, min(edge, n)), ranks):
        with ranks.agreeing():
            sums.add(turn)
    for turn in _turns(fixed_tiles(n, min(edge, n), shard.fixed), ranks):
        with ranks.agreeing():
            sums.add_fixed(turn)
    ranks.add(sums.total)
    sums.high, low = ranks.raise_to_largest(torch.stack((sums.high, -sums.low)))
    sums.low = -low
    sums.gradient = ranks.add(sums.gradient) if whole else ranks.add_rows(sums.gradient)
    at = sums.close()
    shard.gradient = at.gradient
    return at


def _turns(tiles: Iterable[Tile], ranks: Ranks) -> Iterator[list[Tile]]:
    """Deal tiles to the ranks, and yield this one's, some at a time."""
    waiting = iter(tiles)
    while turn := list(islice(waiting, TURN * ranks.world)):
        yield turn[ranks.rank :: ranks.world]


def _begin(ranks: Ranks, make: "partial[LBFGS]") -> int:
    """Make this rank's part of a stepper."""
    shard = _Shard.of(ranks)
    shard.stepper = RowsLBFGS(*make.args, **make.keywords)
    shard.stepper.ranks = ranks
    return shard.note(shard.changes + 1)


def _restart(ranks: Ranks) -> int:
    shard = _Shard.of(ranks)
    assert shard.stepper is not None
    shard.stepper.restart()
    return shard.note(shard.changes + 1)


def _next(ranks: Ranks, loss: float) -> tuple[Tensor | None, int]:
    """Step from the evaluation before; all the next rows, or None where there is no way down."""
    shard = _Shard.of(ranks)
    assert shard.rows is not None
    assert shard.stepper is not None
    assert shard.gradient is not None
    start, stop = ranks.range(len(shard.rows))
    none = shard.rows.new_zeros(())
    try:
        own = shard.stepper.next(shard.rows[start:stop], Evaluation(loss, none, none, none, shard.gradient))
        rows = None if own is None else ranks.gather_rows(own, len(shard.rows))
    except MemoryError as error:  # between two sums, where the other ranks wait for this one's
        raise RankLost(
            f"rank {ranks.rank} of {ranks.world} is out of memory; ask for less, or use more ranks"
        ) from error
    if rows is not None:
        shard.rows = rows
    return rows, shard.note(shard.changes + 1)


def _state(ranks: Ranks, changes: int) -> State:
    """Return the stepper's state of all rows, as L-BFGS has it in one process."""
    shard = _Shard.of(ranks)
    assert shard.rows is not None
    n = len(shard.rows)
    whole: State = _of_rows(shard.states[changes], lambda own: ranks.gather_rows(own, n))
    return whole


def _restore(ranks: Ranks, state: State) -> int:
    """Take this rank's rows of the state of a stepper."""
    shard = _Shard.of(ranks)
    assert shard.stepper is not None

    def own(rows: Tensor) -> Tensor:
        start, stop = ranks.range(len(rows))
        return rows[start:stop].clone()

    shard.stepper.restore(_of_rows(state, own))
    return shard.note(shard.changes + 1)


def _of_rows(state: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Put in the place of each matrix of rows in a state what is made of it."""
    if isinstance(state, dict):
        return {name: _of_rows(value, change) for name, value in state.items()}
    if isinstance(state, list | tuple):
        return [_of_rows(value, change) for value in state]
    return change(state) if isinstance(state, Tensor) and state.dim() == 2 else state


# What rank 0 does in its descent


def evaluate_together(ranks: Ranks, objective: Objective, rows: Tensor, edge: int, fixed: Tensor | None) -> Evaluation:
    """Evaluate rows (n, d) as `evaluate` does, by all ranks; rank 0, which asks, gets the whole gradient."""
    return ranks.together(_evaluate, objective, edge, rows.device.type, rows, fixed, True)


class Spread:
    """Evaluate as Sliced does, by all ranks; the gradient is that of rank 0's own rows, for SpreadStepper."""

    def __init__(self, sliced: Sliced, ranks: Ranks) -> None:
        self._sliced, self._ranks = sliced, ranks

    def __call__(self, rows: Tensor) -> Evaluation:
        objective, edge, device = self._sliced.objective, self._sliced.edge, rows.device.type
        while True:
            known = _Shard.of(self._ranks).rows is rows
            fixed = None if known else self._sliced.fixed
            sent = None if known else rows
            at = self._ranks.together(_evaluate, objective, edge, device, sent, fixed, False)
            if not objective.adapt(at):
                return at

    def state(self) -> State:
        return self._sliced.state()

    def restore(self, state: State) -> None:
        self._sliced.restore(state)


class SpreadStepper:
    """Have each rank make the step of its own rows by L-BFGS."""

    def __init__(self, ranks: Ranks, make: "partial[LBFGS]") -> None:
        self._ranks, self._make = ranks, make
        self._changes = ranks.together(_begin, make)

    def next(self, rows: Tensor, at: Evaluation) -> Tensor | None:
        following, self._changes = self._ranks.together(_next, at.loss)
        return following

    def restart(self) -> None:
        self._changes = self._ranks.together(_restart)

    def state(self) -> State:
        """Return where the ranks stand, which comes together when it is written, after the next step at the latest."""
        # It stands where a dictionary is declared: gathering the ranks' shares at each step would cost more than the
        # step, so `flatten` asks for the dictionary when a state is written.
        return _Scattered(self._ranks, self._changes, self._make)  # type: ignore[return-value]

    def restore(self, state: "State | _Scattered") -> None:
        whole = state.gathered() if isinstance(state, _Scattered) else state
        self._changes = self._ranks.together(_restore, whole)


class _Scattered:
    """The state of a SpreadStepper, whole when it is asked for; that of a fresh stepper where a rank is lost."""

    def __init__(self, ranks: Ranks, changes: int, make: "partial[LBFGS]") -> None:
        self._ranks, self._changes, self._make = ranks, changes, make
        self._whole: State | None = None

    def gathered(self) -> State:
        if self._whole is None:
            try:
                self._whole = self._ranks.together(_state, self._changes)
            except RankLost:
                self._whole = self._make().state()
        return self._whole
