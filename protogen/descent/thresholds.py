"""Losses of lines above a threshold, and the goals that set it.

Shen, Sun and Wei 2023, Equiangular Basis Vectors: Eq. 4 and Algorithm 1.
"""

from typing import TYPE_CHECKING

from protogen.bounds import TOLERANCE

from .checkpoint import Stateful

if TYPE_CHECKING:
    from torch import Tensor

    from .evaluate import Evaluation

COHERENCE = "coherence"
STALL_SHARE = 1e-3  # a fall by less than this share is no improvement


class Threshold(Stateful):
    """A loss of the excess of |cos| over a threshold, zero below it."""

    diagonal = 0.0
    threshold = 0.0

    def close(self, total: "Tensor", gradient: "Tensor") -> "Tensor":
        return total

    def settled(self, at: "Evaluation") -> bool:
        return True

    def _excess(self, cosines: "Tensor") -> "Tensor":
        """sign(cos) max(|cos| - threshold, 0)."""
        from torch.nn.functional import softshrink

        return softshrink(cosines, self.threshold)


class SquaredThreshold(Threshold):
    """sum over pairs of 1/2 max(|cos| - threshold, 0)^2: Eq. 4 squared.

    Where violations are few, a step of 1/2 along its gradient mends each of them at once.
    """

    def weigh(self, cosines: "Tensor") -> "tuple[Tensor, Tensor]":
        excess = self._excess(cosines)
        return excess.square().sum((-2, -1)) / 2, excess


class PaperThreshold(Threshold):
    """The loss of Algorithm 1: sum over ordered pairs of max(|cos| - threshold, 0).

    The paper sums the whole matrix, hence each pair twice; its diagonal, |cos| - 1, adds nothing.
    """

    def weigh(self, cosines: "Tensor") -> "tuple[Tensor, Tensor]":
        excess = self._excess(cosines)
        return 2 * excess.abs().sum((-2, -1)), 2 * excess.sign()


class FixedAlpha(Stateful):
    """Stop at a given coherence; the threshold lies under it by a share, the margin."""

    name = COHERENCE

    def __init__(self, objective: Threshold, alpha: float, margin: float) -> None:
        self.target = alpha
        objective.threshold = alpha * (1 - margin)

    def figure(self, at: "Evaluation") -> "Tensor":
        return at.coherence

    def reached(self, best: float) -> bool:
        # Half the tolerance is left for what float32 adds to the float64 figure.
        return best <= self.target + TOLERANCE / 2

    def watched(self, at: "Evaluation", best: float) -> float:
        return at.loss

    def stands(self, before: float, now: float) -> bool:
        return now > (1 - STALL_SHARE) * before

    def moved(self, at: "Evaluation", best: float) -> bool:
        return False


class AsLowAsItCan(Stateful):
    """Lower the target as far as it goes.

    The threshold starts under what can be reached, which spreads the excess over many pairs; each
    time the best stands still, the gap between best and threshold narrows, until it closes.
    """

    name = COHERENCE
    FIRST = 0.85  # of the promise
    NARROW = 0.9
    PATIENCE, PATIENCE_SHARE, GAIN = 8, 1 / 25, 1e-3
    CLOSED, SMALLEST = 0.05, 1e-4

    def __init__(self, objective: Threshold, promise: float) -> None:
        self._objective = objective
        self._steps = 0
        self._gap = 1.0
        self._since: list[float] = []
        self.target = self._objective.threshold = promise * self.FIRST

    def figure(self, at: "Evaluation") -> "Tensor":
        return at.coherence

    def reached(self, best: float) -> bool:
        return False

    def watched(self, at: "Evaluation", best: float) -> float:
        return best

    def stands(self, before: float, now: float) -> bool:
        # While the threshold lies far under the best, the excess is still being spread.
        return self._gap <= self.CLOSED and now > (1 - STALL_SHARE) * before

    def moved(self, at: "Evaluation", best: float) -> bool:
        self._steps += 1
        self._since.append(best)
        patience = max(self.PATIENCE, int(self._steps * self.PATIENCE_SHARE))
        if best > self.target:
            if len(self._since) <= patience or best <= self._since[-1 - patience] * (1 - self.GAIN):
                return False
            self._gap = max(self.SMALLEST, min(self._gap, 1 - self.target / best) * self.NARROW)
        self._since.clear()
        self.target = self._objective.threshold = best * (1 - self._gap)
        return True
