"""How rows move: plain gradient steps and L-BFGS on the sphere."""

from dataclasses import dataclass
from typing import ClassVar, Protocol

from torch import Tensor
from torch.nn.functional import normalize

from .checkpoint import Changing, Stateful
from .evaluate import Evaluation

ENOUGH = 1e-4  # of the slope along a step, by which the loss must fall at least (Armijo's condition)
SHORTEST = 1e-3  # a step halved to less leads nowhere
LEAST_CURVATURE = 1e-10  # a step along which the gradient changed by less tells nothing


class Stepper(Stateful, Protocol):
    """A rule that makes the next unit rows from an evaluated set."""

    def next(self, rows: Tensor, at: Evaluation) -> Tensor | None:
        """Return the next rows, or None where the rule finds no way down."""
        ...

    def restart(self) -> None:
        """Forget what belongs to the loss so far, since it has changed."""
        ...


@dataclass(frozen=True)
class GradientDescent(Changing):
    """Take rows - rate * gradient, normalised; there is no way down where that is not finite."""

    rate: float

    def next(self, rows: Tensor, at: Evaluation) -> Tensor | None:
        free = rows - self.rate * at.gradient
        norms = free.norm(dim=-1, keepdim=True)
        return free / norms if (norms.isfinite() & (norms > 0)).all() else None

    def restart(self) -> None:
        pass


class LBFGS(Changing):
    """Take steps of limited-memory BFGS on unit rows (Nocedal and Wright 2006, Algorithm 7.4).

    Gradients are projected on the tangent space, and rows normalised after each step. A step that does not
    lower the loss enough (Armijo) is halved, again and again.

    - `memory`: how many steps the curvature is taken from.
    - `first`: the length of the step along the gradient as long as nothing is known of the curvature.
    - `reach`: how far a row moves at the most in such a step.
    """

    changes: ClassVar[tuple[str, ...]] = ("_pairs", "_base", "_length")

    def __init__(self, memory: int, first: float, reach: float = 0.5) -> None:
        self._memory, self._first, self._reach = memory, first, reach
        # Of each step remembered: the step, the change of the tangent along it, 1 / (their inner product).
        self._pairs: list[tuple[Tensor, Tensor, Tensor]] = []
        # Where the last step began: rows, loss and tangent there, the direction taken and the slope along it.
        self._base: tuple[Tensor, float, Tensor, Tensor, float] | None = None
        self._length = 1.0

    def restart(self) -> None:
        self._base = None

    def next(self, rows: Tensor, at: Evaluation) -> Tensor | None:
        if self._base is not None:
            base, loss, tangent, direction, slope = self._base
            if not at.loss <= loss + ENOUGH * self._length * slope:
                self._length /= 2
                if self._length > SHORTEST:
                    return normalize(base + self._length * direction, dim=-1)
                return self._depart(base, loss, tangent) if self._forget() else None
            self._remember(rows - base, _tangent(rows, at.gradient) - tangent)
        return self._depart(rows, at.loss, _tangent(rows, at.gradient))

    def _depart(self, rows: Tensor, loss: float, tangent: Tensor) -> Tensor | None:
        direction = _tangent(rows, self._descent_direction(tangent))
        slope = self._inner(direction, tangent).item()
        self._base = (rows, loss, tangent, direction, slope)
        self._length = 1.0
        if slope < 0:
            return normalize(rows + direction, dim=-1)
        return self._depart(rows, loss, tangent) if self._forget() else None

    def _forget(self) -> bool:
        """Drop the curvature, which led nowhere; return whether there was any."""
        had = bool(self._pairs)
        self._pairs.clear()
        return had

    def _remember(self, step: Tensor, change: Tensor) -> None:
        curvature = self._inner(step, change)
        if curvature > LEAST_CURVATURE * self._inner(change, change):
            self._pairs.append((step, change, 1 / curvature))
            del self._pairs[: -self._memory]

    def _descent_direction(self, tangent: Tensor) -> Tensor:
        direction = -tangent
        if not self._pairs:
            longest = float(self._longest(direction))
            return direction * min(self._first, self._reach / max(longest, 1e-30))
        factors = []
        for step, change, inverse in reversed(self._pairs):
            factor = inverse * self._inner(step, direction)
            direction -= factor * change
            factors.append(factor)
        step, change, inverse = self._pairs[-1]
        direction *= 1 / (inverse * self._inner(change, change))
        for (step, change, inverse), factor in zip(self._pairs, reversed(factors), strict=True):
            direction += (factor - inverse * self._inner(change, direction)) * step
        return direction

    def _inner(self, one: Tensor, other: Tensor) -> Tensor:
        """The sum over all rows of their inner products."""
        return (one * other).sum()

    def _longest(self, vectors: Tensor) -> Tensor:
        """The largest length of a row."""
        longest: Tensor = vectors.norm(dim=-1).max()
        return longest


def _tangent(rows: Tensor, vectors: Tensor) -> Tensor:
    return vectors - (vectors * rows).sum(-1, keepdim=True) * rows
