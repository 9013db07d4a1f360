"""Equiangular basis vectors: n lines in R^d whose |cos| stays under a threshold.

Shen, Sun and Wei 2023, Equiangular Basis Vectors: Section 3.3, Eq. 4 and Algorithm 1.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, ClassVar

from .. import catalog
from ..bounds import coherence_bound
from ..errors import BadRequest
from ..solution import InMemory, Run, Solution
from ..spec import Spec, Value
from .method import RESTARTS, Method, check_between, check_whole, check_word, descent_bytes, history, option

if TYPE_CHECKING:
    from torch import Tensor

    from ..descent import Evaluation

COHERENCE = "coherence"
TOLERANCE = 1e-6  # the paper's o(alpha)
STARTS = ("auto", "random", catalog.CLOSED_FORM)
UPDATES = ("lbfgs", "paper")
PAPER_RATE = 1e-3
STALL_SHARE = 1e-3  # a fall by less than this share is no improvement


@dataclass(frozen=True)
class EBV(Method):
    """Make n lines in R^d whose largest |cos| is as low as asked for, or as low as it goes."""

    name: ClassVar[str] = "ebv"
    version: ClassVar[int] = 1

    alpha: float | None = option(None, "Stop at this coherence, 0 < alpha < 1; left out: as low as it can.")
    start: str = option("auto", "auto (whichever promises less), random (the paper) or closed-form.")
    steps: int = option(5000, "The most passes over all pairs that a descent may take.")
    update: str = option("lbfgs", "lbfgs (squared threshold) or paper (Algorithm 1: plain sum, plain steps).")
    rate: float | None = option(None, f"Learning rate of --update paper; left out: {PAPER_RATE:g}.")
    restarts: int = option(1, RESTARTS)

    def _resolve(self, d: int, n: int, seed: int) -> Spec:
        self._check(d, n)
        form = catalog.choose(catalog.LINES, d, n) if self.start != "random" else None
        if form is None and self.start == catalog.CLOSED_FORM:
            raise BadRequest(f"no closed form reaches d={d}, n={n}; use --start random or auto, or a larger d")
        if form and (self.start == catalog.CLOSED_FORM or n <= d or self._suffices(form.cosine, d, n)):
            if self.update == "paper":
                raise BadRequest(
                    f"update is 'paper' where a formula gives the set, {catalog.label(form)}; add --start random"
                )
            params: dict[str, Value] = {"start": catalog.start_of(form)}
            return Spec.of(self.name, self.version, d=d, n=n, seed=0, params=params)
        params = {
            "alpha": None if self.alpha is None else float(self.alpha),
            "start": "random",
            "steps": self.steps,
            "update": self.update,
            "restarts": self.restarts,
        }
        if self.update == "paper":
            params["rate"] = PAPER_RATE if self.rate is None else float(self.rate)
        return Spec.of(self.name, self.version, d=d, n=n, seed=seed, params=params)

    def _check(self, d: int, n: int) -> None:
        check_word("start", self.start, STARTS)
        check_word("update", self.update, UPDATES)
        check_whole("steps", self.steps, 1)
        check_whole("restarts", self.restarts, 1)
        if self.rate is not None:
            check_between("rate", self.rate, 0, math.inf)
            if self.update != "paper":
                raise BadRequest(f"rate is {self.rate!r} with --update {self.update}; it belongs to --update paper")
        if self.alpha is not None:
            check_between("alpha", self.alpha, 0, 1)
            bound = coherence_bound(d, n)
            if self.alpha < bound.value - TOLERANCE:
                raise BadRequest(
                    f"alpha is {self.alpha!r}, the lower bound ({bound.name}) for d={d}, n={n} is {bound.value:.6f}; "
                    "no set can be better: raise alpha or d, or lower n"
                )

    def _suffices(self, coherence: float, d: int, n: int) -> bool:
        """Whether a closed form answers the request, or promises less than a descent would."""
        met = self.alpha is not None and coherence <= self.alpha + TOLERANCE
        return met or coherence <= descent_promise(d, n)

    def solve(self, d: int, n: int, seed: int, run: Run) -> Solution:
        """Build the closed form that the Spec names, or descend from seeded random rows."""
        if self.start != "random":
            return catalog.build(self.start, n, d)

        from ..descent import LBFGS, GradientDescent, descend, sliced
        from ..geometry import random_rows

        threshold: Threshold
        make_stepper: Callable[[], GradientDescent | LBFGS]
        if self.update == "paper":
            threshold = PaperThreshold()
            make_stepper = partial(GradientDescent, PAPER_RATE if self.rate is None else self.rate)
        else:
            threshold = SquaredThreshold()
            make_stepper = partial(LBFGS, history(self.restarts * n * d), first=0.5)
        promise = descent_promise(d, n)
        if self.alpha is None:
            goal: FixedAlpha | AsLowAsItCan = AsLowAsItCan(threshold, promise)
        else:
            margin = 0.0 if self.update == "paper" else min(0.05, 0.1 * (1 - promise / self.alpha))
            goal = FixedAlpha(threshold, self.alpha, max(0.0, margin))
        rows = random_rows(self.restarts, n, d, seed)
        found = descend(rows, sliced(threshold, run), goal, make_stepper, self.steps, run)
        return Solution(InMemory(found.rows), found.status, "statistical", steps=found.steps)

    def peak_bytes(self, d: int, n: int) -> int:
        return descent_bytes(self.restarts * n * d) if self.start == "random" else 4 * n * d + 2**28

    def target(self) -> float | None:
        return self.alpha

    @classmethod
    def rank(cls, stats: Mapping[str, Any], facts: Mapping[str, Any]) -> float:
        """Coherence, as measured; as guaranteed where nothing was measured."""
        return float(stats["coherence"]["value"] if stats else facts.get("guaranteed_coherence", math.inf))

    @classmethod
    def admits(
        cls, spec: Spec, stats: Mapping[str, Any], facts: Mapping[str, Any], wanted: Mapping[str, Value]
    ) -> bool:
        """As asked; `alpha` admits every set of that coherence or less, `start` also a closed form by kind."""
        alpha, start = wanted.get("alpha"), wanted.get("start")
        rest = {name: value for name, value in wanted.items() if name not in ("alpha", "start")}
        return (
            (alpha is None or cls.rank(stats, facts) <= float(alpha) + TOLERANCE)
            and (start is None or start in (spec.options["start"], str(spec.options["start"]).split(":")[0]))
            and super().admits(spec, stats, facts, rest)
        )


def descent_promise(d: int, n: int) -> float:
    """The coherence that a descent from random rows gets to, as a rule of thumb.

    z / sqrt(d) with 2 Q(z) = 2 d / n, Q the normal tail: each of the n d degrees of freedom pulls in
    about one pair; never below the lower bound.
    """
    tail = NormalDist().inv_cdf(1 - min(0.5, d / n)) / math.sqrt(d)
    return max(tail, coherence_bound(d, n).value)


class Threshold:
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


class FixedAlpha:
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


class AsLowAsItCan:
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
