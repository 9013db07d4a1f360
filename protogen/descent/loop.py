"""The one descent loop: evaluate, keep the best, stop for a stated reason."""

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from protogen.errors import RankLost
from protogen.measuring.precision import full_precision
from protogen.run import Progress, Run
from protogen.solution import Status

from .checkpoint import Checkpoint, Stateful
from .evaluate import Evaluation, Evaluator
from .ring import whole
from .sharded import spread
from .states import State
from .steppers import Stepper
from .threads import threads_for

SMALL = 2**16  # so few numbers are worked on in float64: symmetric optima are then met to ten digits
STALL_STEPS = 20  # "no further improvement" is judged over the last tenth of the steps, at least so many


class Goal(Stateful, Protocol):
    """What a descent is after: the figure that it lowers, when it is done, and where its target lies."""

    keeps_last: bool
    """Whether the last set is kept, and not the one with the lowest figure: figures do not compare."""

    @property
    def name(self) -> str:
        """What the figure is called."""
        ...

    @property
    def target(self) -> float | None:
        """What the figure is to come down to, if that is known."""
        ...

    def figure(self, at: Evaluation) -> Tensor:
        """The figure of each set (...,)."""
        ...

    def reached(self, best: float) -> bool:
        """Whether the figure of the set that is kept is what was asked for."""
        ...

    def watched(self, at: Evaluation, best: float) -> float:
        """The number that must go on falling for the descent to go on."""
        ...

    def stalled(self, before: float, now: float) -> bool:
        """Whether the watched number has fallen too little to count."""
        ...

    def advance(self, at: Evaluation, best: float) -> bool:
        """Move the target if it is time to; return whether the objective has changed."""
        ...


@dataclass(frozen=True)
class Descent:
    """How a descent ended: the set that was kept (n, d), float32, its figure, the evaluations made, and why."""

    rows: Tensor
    best: float
    steps: int
    status: Status


class _Course:
    """Where a descent stands: the rows now, the set that is kept, and what its parts remember."""

    def __init__(self, rows: Tensor, evaluator: Evaluator, goal: Goal, make_stepper: Callable[[], Stepper]) -> None:
        self.evaluator, self.goal, self.make_stepper = evaluator, goal, make_stepper
        self.rows, self.stepper = rows, make_stepper()
        self.best, self.best_rows = math.inf, _one_of(rows, 0)
        self.watched: list[float] = []
        self.step, self.seconds = 0, 0.0
        self.status: Status | None = None

    def keep_best(self, figures: Tensor) -> float:
        """Keep the best of the sets just evaluated, if it is to be kept; return its figure."""
        lowest, index = (value.item() for value in figures.view(-1).min(0))
        if lowest < self.best or self.goal.keeps_last:
            self.best, self.best_rows = lowest, _one_of(self.rows, int(index))
        return lowest

    def proceed(self, at: Evaluation) -> None:
        """Take the next rows, or set the status that says why there are none."""
        now = self.goal.watched(at, self.best)
        # The lowest so far: a trial step that leads up is no standstill.
        self.watched.append(min(self.watched[-1], now) if self.watched else now)
        if self.goal.reached(self.best):
            self.status = Status.REACHED
            return
        if not self._stalled():
            if self.goal.advance(at, self.best):
                self.stepper.restart()
                return
            following = self.stepper.next(self.rows, at)
            if following is not None:
                self.rows = following
                return
        if self.rows.dim() == 2:
            self.status = Status.CONVERGED
            return
        # The best of several sets goes on alone. Its rows are copied, so that they lie in memory as they do after
        # a restore: a product may round by where its rows lie.
        self.rows, self.stepper = self.best_rows.clone(), self.make_stepper()
        self.watched = []

    def _stalled(self) -> bool:
        window = max(STALL_STEPS, len(self.watched) // 10)
        return len(self.watched) > window and self.goal.stalled(self.watched[-1 - window], self.watched[-1])

    def state(self) -> State:
        """Return all of it; of a descent that has ended, the set that is kept is enough."""
        best = {"best": self.best, "best_rows": self.best_rows}
        stand = {"step": self.step, "seconds": self.seconds, "status": self.status}
        if self.status is not None:
            return {**stand, **best}
        parts = {"evaluator": self.evaluator.state(), "goal": self.goal.state(), "stepper": self.stepper.state()}
        # The list of what was watched only grows: its length now serves in place of a copy at each step.
        return {**stand, **best, **parts, "rows": self.rows, "watched": self.watched, "length": len(self.watched)}

    def restore(self, state: State) -> None:
        """Go back to what `state` said. Raises LookupError or ValueError where it is the state of something else."""
        self.best, self.best_rows = state["best"], state["best_rows"]
        self.step, self.seconds = state["step"], state["seconds"]
        self.status = None if state["status"] is None else Status(state["status"])
        if self.status is None:
            self.rows, self.watched = state["rows"], state["watched"][: state["length"]]
            self.evaluator.restore(state["evaluator"])
            self.goal.restore(state["goal"])
            self.stepper.restore(state["stepper"])


@full_precision()
def descend(
    rows: Tensor,
    evaluator: Evaluator,
    goal: Goal,
    make_stepper: Callable[[], Stepper],
    steps: int,
    run: Run,
    checkpoint: Checkpoint | None = None,
) -> Descent:
    """Lower what is evaluated from unit rows until the goal, a stall or a limit; keep the best.

    Rows (n, d), or (k, n, d): k sets that descend at once, of which the best goes on alone when they
    stand still. The best comes back on the CPU. Small sets are worked on in float64.

    A KeyboardInterrupt, or memory that runs out on the way, ends the descent as a limit does. With a
    checkpoint the descent goes on from the state there, and whatever ends it early leaves its state there. Where a
    rank of the run's group is lost, the state there is without what that rank had of the stepper's.
    """
    n, d = rows.shape[-2:]
    work = n * rows.numel()
    rows = rows.to(torch.float64 if n * d <= SMALL else torch.float32)
    evaluator, make_stepper, placed = spread(evaluator, make_stepper, rows, run.device)
    del rows
    course = _Course(placed, evaluator, goal, make_stepper)
    if checkpoint:
        checkpoint.begin(course)
    early: Status | None = None
    try:
        with threads_for(work):
            early = _walk(course, steps, run, checkpoint)
    except KeyboardInterrupt:
        early = Status.INTERRUPTED
    except (MemoryError, torch.OutOfMemoryError):
        if course.best == math.inf:
            raise
        early = Status.OUT_OF_MEMORY
    except RankLost:
        if checkpoint:
            with contextlib.suppress(RankLost):  # where rows lie on the ranks, the state is that of the last write
                checkpoint.write()
        raise
    if checkpoint and early:
        with contextlib.suppress(KeyboardInterrupt):  # a second interruption loses the state, not the best
            checkpoint.write()
    status = early or course.status
    assert status is not None, "the walk is over"
    return Descent(whole(course.best_rows).float().cpu(), course.best, course.step, status)


def _one_of(rows: Tensor, index: int) -> Tensor:
    """Return one of several sets (..., n, d), or the only one."""
    return rows if rows.dim() == 2 else rows.view(-1, *rows.shape[-2:])[index]


def _walk(course: _Course, steps: int, run: Run, checkpoint: Checkpoint | None) -> Status | None:
    """Take steps until the course has a status or the time is up; return TIME_LIMIT for the latter."""
    began, before = run.clock(), course.seconds
    early: Status | None = None
    while course.status is None and early is None:
        if checkpoint:
            checkpoint.note(course.state())
        at = course.evaluator(course.rows)
        course.step += 1
        lowest = course.keep_best(course.goal.figure(at))
        elapsed = run.clock() - began
        course.seconds = before + elapsed
        if run.report:
            goal = course.goal
            run.report(Progress(course.step, steps, goal.name, lowest, course.best, goal.target, course.seconds))
        course.proceed(at)
        if course.status is None and course.step == steps:
            course.status = Status.STEP_LIMIT
        elif course.status is None and run.time_limit is not None and elapsed >= run.time_limit:
            early = Status.TIME_LIMIT
    if checkpoint:
        checkpoint.note(course.state())
    return early
