"""Losses of lines above a threshold, and the goals that set it.

Shen, Sun and Wei 2023, Equiangular Basis Vectors: Eq. 4 and Algorithm 1.
"""

from typing import TYPE_CHECKING, ClassVar, Self

from protogen.bounds import TOLERANCE

from .checkpoint import Changing

if TYPE_CHECKING:
    from torch import Tensor

    from .evaluate import Evaluation

COHERENCE = "coherence"
STALL_SHARE = 1e-3  # a fall by less than this share is no improvement


class Threshold(Changing):
    """Weigh each pair by the excess of its |cos| over a threshold; what lies below adds nothing."""

    changes: ClassVar[tuple[str, ...]] = ("threshold",)
    diagonal = 0.0
    threshold = 0.0

    def close(self, total: "Tensor", gradient: "Tensor") -> "Tensor":
        return total

    def of_sets(self, start: int, stop: int) -> Self:
        return self

    def adapt(self, at: "Evaluation") -> bool:
        return False

    def _excess(self, cosines: "Tensor") -> "Tensor":
        """Return sign(cos) max(|cos| - threshold, 0)."""
        from torch.nn.functional import softshrink

        return softshrink(cosines, self.threshold)


class SquaredThreshold(Threshold):
    """Sum 1/2 max(|cos| - threshold, 0)^2 over pairs: Eq. 4 squared.

    Where violations are few, a step of 1/2 along its gradient mends each of them at once.
    """

    def weigh(self, cosines: "Tensor") -> "tuple[Tensor, Tensor]":
        excess = self._excess(cosines)
        return excess.square().sum((-2, -1)) / 2, excess


class PaperThreshold(Threshold):
    """Sum max(|cos| - threshold, 0) over ordered pairs: the loss of Algorithm 1.

    The paper sums the whole matrix, hence each pair twice. Its diagonal, |cos| - 1, adds nothing.
    """

    def weigh(self, cosines: "Tensor") -> "tuple[Tensor, Tensor]":
        excess = self._excess(cosines)
        return 2 * excess.abs().sum((-2, -1)), 2 * excess.sign()


def _meets(best: float, alpha: float) -> bool:
    # Half the tolerance is left for what float32 adds to the float64 figure.
    return best <= alpha + TOLERANCE / 2


class FixedAlpha(Changing):
    """Stop at a given coherence, alpha.

    The threshold lies under alpha by a share, the margin: rows that are to meet alpha are pushed a little
    beyond. With `endless` only alpha or the number of steps ends the descent, not that the loss stands still.
    """

    name = COHERENCE
    keeps_last = False

    def __init__(self, objective: Threshold, alpha: float, margin: float, endless: bool = False) -> None:
        self.target = alpha
        self._endless = endless
        objective.threshold = alpha * (1 - margin)

    def figure(self, at: "Evaluation") -> "Tensor":
        return at.coherence

    def reached(self, best: float) -> bool:
        return _meets(best, self.target)

    def watched(self, at: "Evaluation", best: float) -> float:
        return at.loss

    def stalled(self, before: float, now: float) -> bool:
        return not self._endless and now > (1 - STALL_SHARE) * before

    def advance(self, at: "Evaluation", best: float) -> bool:
        return False


class LowestCoherence(Changing):
    """Lower the coherence as far as it goes, by a threshold that follows the best set from below.

    The threshold lies under the best coherence by a share of it, the gap. An alpha ends the descent where the best
    meets it, and changes nothing else. The target is alpha, or else the threshold.

    1. At first the threshold is FIRST_SHARE of the coherence that is expected, well under what can be reached:
       the excess is spread over many pairs.
    2. Where the best comes down to the threshold, the threshold goes down by the gap once more.
    3. Where the best stands still, the gap becomes narrower by NARROWING, and the threshold rises to it.
    4. Once the gap is at most CLOSED, a best that falls no more ends the descent.

    The best stands still where it has fallen by less than the share GAIN over so many steps: LEAST_PATIENCE,
    or PATIENCE_SHARE of all steps so far where these are more.
    """

    changes: ClassVar[tuple[str, ...]] = ("_threshold", "_gap", "_steps", "_bests")
    name = COHERENCE
    keeps_last = False
    FIRST_SHARE = 0.85
    NARROWING = 0.9
    NARROWEST, CLOSED = 1e-4, 0.05
    LEAST_PATIENCE, PATIENCE_SHARE = 8, 1 / 25
    GAIN = 1e-3

    def __init__(self, objective: Threshold, expected: float, alpha: float | None = None) -> None:
        self._objective, self._alpha = objective, alpha
        self._steps = 0
        self._gap = 1.0
        self._bests: list[float] = []  # after each step since the threshold was moved
        self._threshold = self._objective.threshold = expected * self.FIRST_SHARE

    @property
    def target(self) -> float:
        return self._threshold if self._alpha is None else self._alpha

    def figure(self, at: "Evaluation") -> "Tensor":
        return at.coherence

    def reached(self, best: float) -> bool:
        return self._alpha is not None and _meets(best, self._alpha)

    def watched(self, at: "Evaluation", best: float) -> float:
        return best

    def stalled(self, before: float, now: float) -> bool:
        return self._gap <= self.CLOSED and now > (1 - STALL_SHARE) * before

    def advance(self, at: "Evaluation", best: float) -> bool:
        self._steps += 1
        self._bests.append(best)
        if best > self._threshold:
            if not self._stands_still():
                return False
            self._gap = self._narrower(best)
        self._bests.clear()
        self._threshold = self._objective.threshold = best * (1 - self._gap)
        return True

    def _stands_still(self) -> bool:
        patience = max(self.LEAST_PATIENCE, int(self._steps * self.PATIENCE_SHARE))
        if len(self._bests) <= patience:
            return False
        return self._bests[-1] > self._bests[-1 - patience] * (1 - self.GAIN)

    def _narrower(self, best: float) -> float:
        """Return the next gap: narrower than the last one, and than the distance from the best to the threshold."""
        return max(self.NARROWEST, min(self._gap, 1 - self._threshold / best) * self.NARROWING)
