"""The one sliced optimisation loop: evaluate by tiles, keep the best, stop for a stated reason."""

import math
import time
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import normalize

from .geometry import gram_tile, tile_edge, upper_tiles
from .solution import Progress, Run, Status

# Below this share of weights that are not zero a sparse product beats a dense one (measured on CPUs,
# d = 1000: equal at 8%); for short rows the conversion alone costs as much as the product.
SPARSE_SHARE = 0.05
SPARSE_MIN_D = 128
# "No further improvement": less than this share over the last tenth of the steps, at least 20.
STALL_SHARE = 1e-3
STALL_STEPS = 20


class Objective(Protocol):
    """A loss that is a sum over pairs of a function of their cosine."""

    diagonal: float
    """What a vector's cosine with itself is set to, so that it weighs nothing."""

    def weigh(self, cosines: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss summed over a tile of cosines, 0-dim, and its derivatives by them."""
        ...


@dataclass(frozen=True)
class Evaluation:
    """A set's loss, its largest |cos| over all pairs, and the gradient (n, d) by its rows."""

    loss: float
    coherence: float
    gradient: Tensor


def evaluate(objective: Objective, rows: Tensor, edge: int) -> Evaluation:
    """Sum loss and gradient over all pairs of unit rows (n, d), by tiles of the upper triangle.

    The gradient is that of the loss by free rows, not projected. The host waits once, at the end;
    on a CPU also at each tile, to count its weights. Memory: one tile beside the gradient.
    """
    edge = min(edge, len(rows))
    gradient = torch.zeros_like(rows)
    loss = torch.zeros((), dtype=torch.float64, device=rows.device)
    peak = torch.zeros((), dtype=rows.dtype, device=rows.device)
    buffer = torch.empty(edge * edge, dtype=rows.dtype, device=rows.device)
    may_be_sparse = rows.device.type == "cpu" and rows.shape[1] >= SPARSE_MIN_D
    for i0, i1, j0, j1 in upper_tiles(len(rows), edge):
        left, right = rows[i0:i1], rows[j0:j1]
        tile = gram_tile(left, right, buffer)
        on_diagonal = i0 == j0
        if on_diagonal:
            # Symmetric: each pair stands in it twice, so one product carries both halves.
            low, high = tile.fill_diagonal_(0).aminmax()
            tile.fill_diagonal_(objective.diagonal)
        else:
            low, high = tile.aminmax()
        peak = torch.maximum(peak, torch.maximum(high, -low))
        tile_loss, weights = objective.weigh(tile)
        loss += tile_loss * (0.5 if on_diagonal else 1.0)
        if may_be_sparse and weights.count_nonzero() < SPARSE_SHARE * weights.numel():
            weights = weights.to_sparse()
        gradient[i0:i1] += weights @ right
        if not on_diagonal:
            gradient[j0:j1] += weights.T @ left
    total, coherence = torch.stack((loss, peak.double())).tolist()
    return Evaluation(total, coherence, gradient)


class Stepper(Protocol):
    """A rule that makes the next unit rows from an evaluated set."""

    def next(self, rows: Tensor, at: Evaluation) -> Tensor | None:
        """Return the next rows, or None where the rule finds no way down."""
        ...

    def restart(self) -> None:
        """Forget what belongs to the loss so far, since it has changed."""
        ...


@dataclass(frozen=True)
class GradientDescent:
    """Plain gradient descent: rows - rate * gradient, then normalised."""

    rate: float

    def next(self, rows: Tensor, at: Evaluation) -> Tensor | None:
        return normalize(rows - self.rate * at.gradient, dim=1)

    def restart(self) -> None:
        pass


class LBFGS:
    """Limited-memory BFGS on unit rows (Nocedal and Wright 2006, Algorithm 7.4), Armijo backtracking.

    Gradients are projected on the tangent space, steps normalised back. `first` is the step along
    the gradient as long as nothing is known of the curvature; no row moves further than `reach`.
    """

    def __init__(self, memory: int, first: float, reach: float = 0.5) -> None:
        self._memory, self._first, self._reach = memory, first, reach
        self._pairs: list[tuple[Tensor, Tensor, Tensor]] = []
        self._base: tuple[Tensor, float, Tensor] | None = None

    def restart(self) -> None:
        self._base = None

    def next(self, rows: Tensor, at: Evaluation) -> Tensor | None:
        if self._base is not None:
            base, loss, tangent = self._base
            if not at.loss <= loss + 1e-4 * self._length * self._slope:
                self._length /= 2
                if self._length > 1e-3:
                    return normalize(base + self._length * self._direction, dim=1)
                return self._depart(*self._base) if self._forget() else None
            self._remember(rows - base, _tangent(rows, at.gradient) - tangent)
        return self._depart(rows, at.loss, _tangent(rows, at.gradient))

    def _depart(self, rows: Tensor, loss: float, tangent: Tensor) -> Tensor | None:
        self._base = (rows, loss, tangent)
        self._direction = _tangent(rows, self._descent_direction(tangent))
        self._slope = (self._direction * tangent).sum().item()
        self._length = 1.0
        if self._slope < 0:
            return normalize(rows + self._direction, dim=1)
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
            longest = float(direction.norm(dim=1).max())
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
    return vectors - (vectors * rows).sum(1, keepdim=True) * rows


class Goal(Protocol):
    """What a descent is after: it says when it is done and may move its target on the way."""

    target: float

    def reached(self, best: float) -> bool:
        """Whether the best coherence so far is what was asked for."""
        ...

    def watched(self, at: Evaluation, best: float) -> float:
        """The figure that must go on falling for the descent to go on."""
        ...

    def moved(self, at: Evaluation, best: float) -> bool:
        """Move the target if it is time to; return whether the objective has changed."""
        ...


@dataclass(frozen=True)
class Descent:
    """The best set seen (n, d), its coherence, the steps taken (evaluations), and why it ended."""

    rows: Tensor
    coherence: float
    steps: int
    status: Status


def descend(rows: Tensor, objective: Objective, goal: Goal, stepper: Stepper, steps: int, run: Run) -> Descent:
    """Lower the objective from unit rows (n, d) until the goal, a stall or a limit; keep the best.

    A KeyboardInterrupt ends it like a limit. The rows come back on the CPU.
    """
    began = time.monotonic()
    device = torch.device(run.device)
    rows = rows.to(device)
    edge = tile_edge(device, run.tile)
    best, best_rows, watched = math.inf, rows, []
    status, step = Status.STEP_LIMIT, 0
    try:
        for step in range(1, steps + 1):
            at = evaluate(objective, rows, edge)
            if at.coherence < best:
                best, best_rows = at.coherence, rows
            seconds = time.monotonic() - began
            if run.report:
                run.report(Progress(step, steps, at.coherence, best, goal.target, seconds))
            watched.append(goal.watched(at, best))
            if goal.reached(best):
                status = Status.REACHED
                break
            if _stalled(watched):
                status = Status.CONVERGED
                break
            if run.time_limit is not None and seconds >= run.time_limit:
                status = Status.TIME_LIMIT
                break
            if goal.moved(at, best):
                stepper.restart()
                continue
            following = stepper.next(rows, at)
            if following is None:
                status = Status.CONVERGED
                break
            rows = following
    except KeyboardInterrupt:
        status = Status.INTERRUPTED
    return Descent(best_rows.cpu(), best, step, status)


def _stalled(watched: list[float]) -> bool:
    window = max(STALL_STEPS, len(watched) // 10)
    return len(watched) > window and watched[-1] > (1 - STALL_SHARE) * watched[-1 - window]
