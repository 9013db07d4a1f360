"""The one sliced optimisation loop: evaluate by tiles, keep the best, stop for a stated reason."""

import contextlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import normalize

from .checkpoint import State, Stateful
from .geometry import blocks, gram_tile, tile_edge, upper_tiles
from .solution import Progress, Run, Status

# Below this share of weights that are not zero a sparse product beats a dense one (measured on CPUs,
# d = 1000: equal at 8%); for short rows the conversion alone costs as much as the product.
SPARSE_SHARE = 0.05
SPARSE_MIN_D = 128
# So few numbers are worked on in float64: symmetric optima are then met to ten digits.
SMALL = 2**16
# "No further improvement" is judged over the last tenth of the steps, at least 20.
STALL_STEPS = 20


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


class Stepper(Stateful, Protocol):
    """A rule that makes the next unit rows from an evaluated set."""

    def next(self, rows: Tensor, at: Evaluation) -> Tensor | None:
        """Return the next rows, or None where the rule finds no way down."""
        ...

    def restart(self) -> None:
        """Forget what belongs to the loss so far, since it has changed."""
        ...


@dataclass(frozen=True)
class GradientDescent(Stateful):
    """Plain gradient descent: rows - rate * gradient, then normalised; no way down where that is not finite."""

    rate: float

    def next(self, rows: Tensor, at: Evaluation) -> Tensor | None:
        free = rows - self.rate * at.gradient
        norms = free.norm(dim=-1, keepdim=True)
        return free / norms if (norms.isfinite() & (norms > 0)).all() else None

    def restart(self) -> None:
        pass


class LBFGS(Stateful):
    """Limited-memory BFGS on unit rows (Nocedal and Wright 2006, Algorithm 7.4), Armijo backtracking.

    Gradients are projected on the tangent space, steps normalised back. `first` is the step along
    the gradient as long as nothing is known of the curvature; then no row moves further than `reach`.
    """

    def __init__(self, memory: int, first: float, reach: float = 0.5) -> None:
        self._memory, self._first, self._reach = memory, first, reach
        self._pairs: list[tuple[Tensor, Tensor, Tensor]] = []
        # Where the last step began: rows, loss and tangent there, the direction taken and the slope along it.
        self._base: tuple[Tensor, float, Tensor, Tensor, float] | None = None
        self._length = 1.0

    def restart(self) -> None:
        self._base = None

    def next(self, rows: Tensor, at: Evaluation) -> Tensor | None:
        if self._base is not None:
            base, loss, tangent, direction, slope = self._base
            if not at.loss <= loss + 1e-4 * self._length * slope:
                self._length /= 2
                if self._length > 1e-3:
                    return normalize(base + self._length * direction, dim=-1)
                return self._depart(base, loss, tangent) if self._forget() else None
            self._remember(rows - base, _tangent(rows, at.gradient) - tangent)
        return self._depart(rows, at.loss, _tangent(rows, at.gradient))

    def _depart(self, rows: Tensor, loss: float, tangent: Tensor) -> Tensor | None:
        direction = _tangent(rows, self._descent_direction(tangent))
        slope = (direction * tangent).sum().item()
        self._base = (rows, loss, tangent, direction, slope)
        self._length = 1.0
        if slope < 0:
            return normalize(rows + direction, dim=-1)
        return self._depart(rows, loss, tangent) if self._forget() else None

    def _forget(self) -> bool:
        """Drop a curvature that led nowhere; return whether there was any."""
        had = bool(self._pairs)
        self._pairs.clear()
        return had

    def _remember(self, step: Tensor, change: Tensor) -> None:
        curvature = (step * change).sum()
        if curvature > 1e-10 * change.square().sum():
            self._pairs.append((step, change, 1 / curvature))
            del self._pairs[: -self._memory]

    def _descent_direction(self, tangent: Tensor) -> Tensor:
        direction = -tangent
        if not self._pairs:
            longest = float(direction.norm(dim=-1).max())
            return direction * min(self._first, self._reach / max(longest, 1e-30))
        factors = []
        for step, change, inverse in reversed(self._pairs):
            factor = inverse * (step * direction).sum()
            direction -= factor * change
            factors.append(factor)
        step, change, inverse = self._pairs[-1]
        direction *= 1 / (inverse * change.square().sum())
        for (step, change, inverse), factor in zip(self._pairs, reversed(factors), strict=True):
            direction += (factor - inverse * (change * direction).sum()) * step
        return direction


def _tangent(rows: Tensor, vectors: Tensor) -> Tensor:
    return vectors - (vectors * rows).sum(-1, keepdim=True) * rows


class Goal(Stateful, Protocol):
    """What a descent is after: the figure it lowers, when it is done, and where it moves its target."""

    @property
    def name(self) -> str:
        """What the figure is called."""
        ...

    @property
    def target(self) -> float | None:
        """What the figure is to come down to, if that is known."""
        ...

    def figure(self, at: Evaluation) -> Tensor:
        """The figure of each set (...,), of which the lowest is kept."""
        ...

    def reached(self, best: float) -> bool:
        """Whether the best figure so far is what was asked for."""
        ...

    def watched(self, at: Evaluation, best: float) -> float:
        """The number that must go on falling for the descent to go on."""
        ...

    def stands(self, before: float, now: float) -> bool:
        """Whether the watched number has fallen too little to count."""
        ...

    def moved(self, at: Evaluation, best: float) -> bool:
        """Move the target if it is time to; return whether the objective has changed."""
        ...


@dataclass(frozen=True)
class Descent:
    """The best set seen (n, d), float32, its figure, the steps taken (evaluations), and why it ended."""

    rows: Tensor
    best: float
    steps: int
    status: Status


class _Course:
    """Where a descent stands: the rows now, the best so far, and what its parts remember."""

    def __init__(self, rows: Tensor, evaluator: Evaluator, goal: Goal, make_stepper: Callable[[], Stepper]) -> None:
        self.evaluator, self.goal, self.make_stepper = evaluator, goal, make_stepper
        self.rows, self.stepper = rows, make_stepper()
        self.best, self.best_rows = math.inf, rows.view(-1, *rows.shape[-2:])[0]
        self.watched: list[float] = []
        self.step, self.seconds = 0, 0.0
        self.status: Status | None = None

    def see(self, figures: Tensor) -> float:
        """Keep the best of the sets just evaluated, if it is the best so far; return its figure."""
        lowest, index = (value.item() for value in figures.view(-1).min(0))
        if lowest < self.best:
            self.best, self.best_rows = lowest, self.rows.view(-1, *self.rows.shape[-2:])[int(index)]
        return lowest

    def go_on(self, at: Evaluation) -> None:
        """Take the next rows, or say why there are none."""
        now = self.goal.watched(at, self.best)
        # The lowest so far: a trial step that leads up is no standstill.
        self.watched.append(min(self.watched[-1], now) if self.watched else now)
        if self.goal.reached(self.best):
            self.status = Status.REACHED
            return
        if not self._stalled():
            if self.goal.moved(at, self.best):
                self.stepper.restart()
                return
            following = self.stepper.next(self.rows, at)
            if following is not None:
                self.rows = following
                return
        if self.rows.dim() == 2:
            self.status = Status.CONVERGED
            return
        # In memory of their own, as after a restore: products may round by where rows lie.
        self.rows, self.stepper = self.best_rows.clone(), self.make_stepper()
        self.watched = []

    def _stalled(self) -> bool:
        window = max(STALL_STEPS, len(self.watched) // 10)
        return len(self.watched) > window and self.goal.stands(self.watched[-1 - window], self.watched[-1])

    def state(self) -> State:
        """All of it; of a descent that has ended its best is all."""
        best = {"best": self.best, "best_rows": self.best_rows}
        stand = {"step": self.step, "seconds": self.seconds, "status": self.status}
        if self.status is not None:
            return {**stand, **best}
        parts = {"evaluator": self.evaluator.state(), "goal": self.goal.state(), "stepper": self.stepper.state()}
        # What is watched only grows: its length now serves for a copy of it at each step.
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


def descend(
    rows: Tensor, evaluator: Evaluator, goal: Goal, make_stepper: Callable[[], Stepper], steps: int, run: Run
) -> Descent:
    """Lower what is evaluated from unit rows until the goal, a stall or a limit; keep the best.

    Rows (n, d), or (k, n, d): k sets that descend at once, of which the best goes on alone when they
    stand still. It comes back on the CPU. Small sets are worked on in float64. A KeyboardInterrupt, or
    memory that runs out on the way, ends it like a limit. Where the run has a checkpoint it goes on from
    there, and whatever ends it early leaves a state that it can go on from.
    """
    rows = rows.to(run.device, torch.float64 if rows.shape[-2] * rows.shape[-1] <= SMALL else torch.float32)
    course, checkpoint = _Course(rows, evaluator, goal, make_stepper), run.checkpoint
    if checkpoint:
        checkpoint.begin(course)
    began, before = time.monotonic(), course.seconds
    early: Status | None = None
    try:
        while course.status is None and early is None:
            if checkpoint:
                checkpoint.note(course.state())
            at = evaluator(course.rows)
            course.step += 1
            lowest = course.see(goal.figure(at))
            elapsed = time.monotonic() - began
            course.seconds = before + elapsed
            if run.report:
                run.report(Progress(course.step, steps, goal.name, lowest, course.best, goal.target, course.seconds))
            course.go_on(at)
            if course.status is None and course.step == steps:
                course.status = Status.STEP_LIMIT
            elif course.status is None and run.time_limit is not None and elapsed >= run.time_limit:
                early = Status.TIME_LIMIT
        if checkpoint:
            checkpoint.note(course.state())
    except KeyboardInterrupt:
        early = Status.INTERRUPTED
    except (MemoryError, torch.OutOfMemoryError):
        if course.best == math.inf:
            raise
        early = Status.OUT_OF_MEMORY
    if checkpoint and early:
        with contextlib.suppress(KeyboardInterrupt):  # the best is lost to no second one
            checkpoint.write()
    status = early or course.status
    assert status is not None, "it has ended"
    return Descent(course.best_rows.float().cpu(), course.best, course.step, status)
