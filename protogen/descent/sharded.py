"""A descent over ranks: each takes its tiles of the Gram matrix, and its rows of what the optimiser remembers.

Every rank holds all rows (n, d) and adds up the gradient of its tiles. The gradients are summed over the ranks, each
of which makes the next step of its own rows; then the rows are gathered. Several sets (s, n, d) are dealt whole. Rows
too many for that lie on the ranks that they belong to, as `ring` says.
"""

from collections.abc import Callable
from functools import partial
from typing import cast

import torch
from torch import Tensor

from protogen.errors import RankLost
from protogen.measuring.memory import least_free
from protogen.measuring.precision import full_precision
from protogen.measuring.tiles import upper_tiles
from protogen.ranks.group import Ranks

from .evaluate import Evaluation, Evaluator, Objective, PairSums, Sliced, evaluate, fixed_tiles
from .ring import Ring, RingStepper
from .shards import Shard, begin, join, of_rows, restart, restore, stepped, turns
from .states import State
from .steppers import LBFGS, Stepper

WORTH_IT = 10**9  # multiplications of a pass over all pairs, below which one rank alone is as fast


def is_worth_it(rows: Tensor) -> bool:
    """Whether an evaluation of these rows (n, d), or sets of rows (s, n, d), is shared."""
    return rows.shape[-2] * rows.numel() >= WORTH_IT


def spread(
    evaluator: Evaluator, make_stepper: Callable[[], Stepper], rows: Tensor, device: str
) -> tuple[Evaluator, Callable[[], Stepper], Tensor]:
    """Return evaluator, stepper and rows of a descent, over ranks where these are a pass by tiles and L-BFGS."""
    ranks = evaluator.ranks if type(evaluator) is Sliced else None
    if ranks is None or not isinstance(make_stepper, partial) or make_stepper.func is not LBFGS:
        return evaluator, make_stepper, rows.to(device)
    if not is_worth_it(rows):
        return evaluator, make_stepper, rows.to(device)
    assert type(evaluator) is Sliced, "it has ranks"
    if rows.dim() == 2 and not _fits(ranks, rows, device, make_stepper):
        ring = Ring(evaluator, ranks, device)
        return ring, partial(RingStepper, ring, make_stepper), cast(Tensor, ring.dealt(rows))
    return Spread(evaluator, ranks), partial(SpreadStepper, ranks, make_stepper), rows.to(device)


def _fits(ranks: Ranks, rows: Tensor, device: str, make: "partial[LBFGS]") -> bool:
    """Whether each rank has the memory for all rows, their gradient, and its part of the optimiser's."""
    vectors = 3 + (2 * make.args[0] + 6) / ranks.world  # the third is where sums over ranks and rows come together
    free: int = ranks.together(least_free, device)
    return bool(vectors * rows.nbytes <= free)


# What every rank does


@full_precision()
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
    shard = Shard.of(ranks)
    if rows is not None:
        shard.rows, shard.fixed = rows.to(device), None if fixed is None else fixed.to(device, rows.dtype)
    assert shard.rows is not None, "rows come with the first evaluation"
    if shard.rows.dim() == 3:
        at = _evaluate_sets(ranks, objective, edge, shard.rows, shard.fixed, whole)
    else:
        at = _evaluate_one(ranks, objective, edge, shard.rows, shard.fixed, whole)
    shard.gradient = at.gradient
    return at


def _evaluate_one(
    ranks: Ranks, objective: Objective, edge: int, rows: Tensor, fixed: Tensor | None, whole: bool
) -> Evaluation:
    """Evaluate one set (n, d), whose tiles are dealt."""
    n = len(rows)
    edge = min(edge, -(-n // (2 * ranks.world)))  # so that there are enough to go round evenly
    sums = PairSums(objective, rows, edge, fixed)
    for turn in turns(upper_tiles(n, edge), ranks):
        with ranks.agreeing():
            sums.add(turn)
    for turn in turns(fixed_tiles(n, edge, fixed), ranks):
        with ranks.agreeing():
            sums.add_fixed(turn)
    join(ranks, sums)
    sums.gradient = ranks.add(sums.gradient) if whole else ranks.add_rows(sums.gradient)
    return sums.close()


def _evaluate_sets(
    ranks: Ranks, objective: Objective, edge: int, sets: Tensor, fixed: Tensor | None, whole: bool
) -> Evaluation:
    """Evaluate sets (s, n, d), of which each rank takes its range."""
    start, stop = ranks.range(len(sets))
    figures, gradient = torch.zeros(0, 3, dtype=torch.float64, device=sets.device), sets[start:stop]
    with ranks.agreeing():
        if stop > start:
            at = evaluate(objective.of_sets(start, stop), sets[start:stop], edge, fixed)
            figures = torch.stack([each.double() for each in (at.losses, at.max_cos, at.coherence)], 1)
            gradient = at.gradient
    losses, largest, coherence = ranks.gather_rows(figures, len(sets)).unbind(1)
    gradient = ranks.gather_rows(gradient, len(sets)) if whole else gradient
    return Evaluation(float(losses.sum()), losses, largest.to(sets), coherence.to(sets), gradient)


@full_precision()
def _next(ranks: Ranks, loss: float) -> tuple[Tensor | None, int]:
    """Step from the evaluation before; all the next rows, or None where there is no way down."""
    shard = Shard.of(ranks)
    assert shard.rows is not None
    start, stop = ranks.range(len(shard.rows))
    own = stepped(ranks, shard.rows[start:stop], loss)
    if own is not None:
        shard.rows = ranks.gather_rows(own, len(shard.rows))
    return None if own is None else shard.rows, shard.note(shard.changes + 1)


def _state(ranks: Ranks, changes: int) -> State:
    """Return the stepper's state of all rows, as L-BFGS has it in one process."""
    shard = Shard.of(ranks)
    assert shard.rows is not None
    n = len(shard.rows)
    whole: State = of_rows(shard.states[changes], lambda own: ranks.gather_rows(own, n))
    return whole


# What rank 0 does in its descent


def evaluate_together(ranks: Ranks, objective: Objective, rows: Tensor, edge: int, fixed: Tensor | None) -> Evaluation:
    """Evaluate rows (n, d) or sets (s, n, d) as `evaluate` does, by all ranks; rank 0 gets the whole gradient."""
    return ranks.together(_evaluate, objective, edge, rows.device.type, rows, fixed, True)


class Spread:
    """Evaluate as Sliced does, by all ranks; the gradient is that of rank 0's own rows, for SpreadStepper."""

    def __init__(self, sliced: Sliced, ranks: Ranks) -> None:
        self._sliced, self._ranks = sliced, ranks

    def __call__(self, rows: Tensor) -> Evaluation:
        objective, edge, device = self._sliced.objective, self._sliced.edge, rows.device.type
        while True:
            known = Shard.of(self._ranks).rows is rows
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
        self._changes = ranks.together(begin, make)

    def next(self, rows: Tensor, at: Evaluation) -> Tensor | None:
        following, self._changes = self._ranks.together(_next, at.loss)
        return following

    def restart(self) -> None:
        self._changes = self._ranks.together(restart)

    def state(self) -> State:
        """Return where the ranks stand, which comes together when it is written, after the next step at the latest."""
        # It stands where a dictionary is declared: gathering the ranks' shares at each step would cost more than the
        # step, so `flatten` asks for the dictionary when a state is written.
        return _Scattered(self._ranks, self._changes, self._make)  # type: ignore[return-value]

    def restore(self, state: "State | _Scattered") -> None:
        whole = state.gathered() if isinstance(state, _Scattered) else state
        self._changes = self._ranks.together(restore, whole)


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
