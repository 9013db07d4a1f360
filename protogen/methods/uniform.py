"""Uniform prototypes: n points on the sphere of R^d that minimise the Gaussian potential.

Saadabadi, Dabouei, Malakshan and Nasrabadi 2024, Hyperspherical Classification with Dynamic
Label-to-Prototype Assignment: Section 3.2.1, Eq. 3 to 5, and Section 4.1.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from .. import catalog
from ..bounds import max_cos_bound
from ..checkpoint import State, Stateful
from ..errors import BadRequest
from ..solution import InMemory, Run, Solution
from ..spec import Spec, Value
from .method import (
    RESTARTS,
    Method,
    check_between,
    check_flag,
    check_whole,
    check_word,
    descent_bytes,
    formula_bytes,
    history,
    option,
)
from .threshold import TOLERANCE

if TYPE_CHECKING:
    from torch import Tensor

    from ..descent import Evaluation, Evaluator

PAPER_STEPS, PAPER_RATE = 1000, 0.1


@dataclass(frozen=True)
class Uniform(Method):
    """Make n points on the sphere of R^d, as uniform as the Gaussian potential tells."""

    name: ClassVar[str] = "uniform"
    version: ClassVar[int] = 1
    takes: ClassVar[tuple[str, ...]] = ("seed", "time_limit")

    t: float = option(2.0, "Sharpness of the Gaussian potential exp(-t |u - v|^2), above 0.")
    batch: int | None = option(None, "Vectors in each step's random subset (--update paper); left out: all.")
    start: str = option(
        "auto", "auto (a formula where it is proven best for the largest cosine), random or closed-form."
    )
    steps: int | None = option(None, "The most passes over all pairs; left out: 5000, or 1000 for --update paper.")
    update: str = option("lbfgs", "lbfgs, or paper (Section 4.1: plain gradient steps, all of them).")
    rate: float | None = option(None, f"Learning rate of --update paper; left out: {PAPER_RATE:g}.")
    sharpen: bool = option(False, "Let t grow, so that the smallest angle between points becomes the largest.")
    restarts: int = option(1, RESTARTS)

    def _resolve(self, d: int, n: int, seed: int) -> Spec:
        self._check(n)
        form = catalog.choose(catalog.POINTS, d, n) if self.start != "random" else None
        if form is None and self.start == catalog.CLOSED_FORM:
            raise BadRequest(f"no closed form reaches d={d}, n={n}; use --start random or auto, or a larger d")
        if form and self.start == "auto" and form.cosine > max_cos_bound(d, n).value + TOLERANCE:
            form = None
        if form and self.update == "paper":
            raise BadRequest(
                f"update is 'paper' where a formula gives the set, {catalog.label(form)}; add --start random"
            )
        if form:
            params: dict[str, Value] = {"start": catalog.start_of(form)}
            return Spec.of(self.name, self.version, d=d, n=n, seed=0, params=params)
        params = {
            "t": float(self.t),
            "start": "random",
            "steps": self.steps or (PAPER_STEPS if self.update == "paper" else 5000),
            "update": self.update,
            "sharpen": self.sharpen,
            "restarts": self.restarts,
        }
        if self.update == "paper":
            params["batch"] = self.batch or n
            params["rate"] = PAPER_RATE if self.rate is None else float(self.rate)
        return Spec.of(self.name, self.version, d=d, n=n, seed=seed, params=params)

    def _check(self, n: int) -> None:
        check_between("t", self.t, 0, 1e9)
        check_flag("sharpen", self.sharpen)
        check_word("start", self.start, ("auto", "random", catalog.CLOSED_FORM))
        check_word("update", self.update, ("lbfgs", "paper"))
        check_whole("restarts", self.restarts, 1)
        if self.steps is not None:
            check_whole("steps", self.steps, 1)
        if self.rate is not None:
            check_between("rate", self.rate, 0, math.inf)
        if self.batch is not None:
            check_whole("batch", self.batch, 1, n)
        paper = self.update == "paper"
        if self.batch is not None and self.restarts > 1:
            raise BadRequest(f"restarts is {self.restarts!r} with a batch, whose losses do not compare; allowed is 1")
        for name, value, fits in (
            ("rate", self.rate, paper),
            ("batch", self.batch, paper),
            ("sharpen", self.sharpen or None, not paper),
        ):
            if value is not None and not fits:
                other = "paper" if name != "sharpen" else "lbfgs"
                raise BadRequest(f"{name} is {value!r} with --update {self.update}; it belongs to --update {other}")

    def solve(self, d: int, n: int, seed: int, run: Run) -> Solution:
        """Build the closed form that the Spec names, or descend from seeded random rows."""
        _, _, form = self.start.partition(":")
        if form:
            return catalog.build(form, n, d)

        from ..descent import LBFGS, GradientDescent, Sliced, descend
        from ..geometry import random_rows

        rows = random_rows(self.restarts, n, d, seed)
        steps = self.steps or 0
        if self.update == "paper":
            printed = PaperPotential(self.t, n)
            evaluator: Evaluator = Sliced(printed, run)
            goal: LeastLoss | Sharper = LeastLoss(gain=-math.inf)
            if self.batch is not None and self.batch < n:
                evaluator, goal = Subsets(printed, self.batch, seed, run), LastLoss()
            make = partial(GradientDescent, PAPER_RATE if self.rate is None else self.rate)
            found = descend(rows, evaluator, goal, make, steps, run)
        else:
            potential = Potential(self.t)
            make_lbfgs = partial(LBFGS, history(rows.numel()), first=0.5)
            goal = Sharper(potential) if self.sharpen else LeastLoss(gain=1e-6)
            found = descend(rows, Sliced(potential, run), goal, make_lbfgs, steps, run)
        return Solution(InMemory(found.rows), found.status, "statistical", steps=found.steps)

    def peak_bytes(self, d: int, n: int) -> int:
        _, _, form = self.start.partition(":")
        if form:
            return catalog.from_label(form).held_bytes + formula_bytes(d, n)
        return descent_bytes(self.restarts * n * d)

    @classmethod
    def rank(cls, stats: Mapping[str, Any], facts: Mapping[str, Any]) -> float:
        """The Gaussian potential at t = 2, as measured."""
        return float(stats["uniformity_t2"]) if stats else math.inf


class Potential(Stateful):
    """log of the sum over pairs of exp(-t |u - v|^2) = exp(2 t (cos - 1)), of which Eq. 5 is a function.

    With S that sum, Eq. 5 on all n vectors is log((n + 2 S) / n), its i = j terms being 1: it falls
    where log S falls, but where S is small its gradient is lost in rounding and that of log S is not.
    Exponents are taken relative to 1, and from when float32 would lose them to the largest cosine.
    """

    diagonal = -math.inf
    SPAN = 40.0  # exponents may lie so far from 0 before float32 loses them

    def __init__(self, t: float) -> None:
        self.t = t
        self._shift: Tensor | None = None  # (..., 1, 1), one for each set

    def weigh(self, cosines: "Tensor") -> "tuple[Tensor, Tensor]":
        if self._shift is None or self._shift.shape[:-2] != cosines.shape[:-2]:
            self._shift = cosines.new_ones(*cosines.shape[:-2], 1, 1)
        weights = cosines.sub(self._shift).mul_(2 * self.t).clamp_(max=2 * self.SPAN).exp_()
        return weights.sum((-2, -1)), weights

    def close(self, total: "Tensor", gradient: "Tensor") -> "Tensor":
        gradient.mul_((2 * self.t / total).to(gradient.dtype)[..., None, None])
        assert self._shift is not None, "closed before it was weighed"
        return total.log() + 2 * self.t * (self._shift[..., 0, 0].double() - 1)

    def settled(self, at: "Evaluation") -> bool:
        assert self._shift is not None, "settled before it was weighed"
        beyond = 2 * self.t * (at.max_cos[..., None, None] - self._shift).abs().max()
        if not beyond > self.SPAN:
            return True
        self._shift = at.max_cos[..., None, None]
        return False


class PaperPotential(Potential):
    """Eq. 5 as printed, on all vectors: log of the mean over i of the sum over all j, j = i included."""

    def __init__(self, t: float, n: int) -> None:
        super().__init__(t)
        self._n = n

    def close(self, total: "Tensor", gradient: "Tensor") -> "Tensor":
        log_sum = super().close(total, gradient)
        doubled = 2 * log_sum.exp()
        gradient.mul_((doubled / (self._n + doubled)).to(gradient.dtype)[..., None, None])
        return (doubled / self._n).log1p()


class Subsets:
    """The evaluator of Eq. 5 on a random subset of `size` rows (n, d) a step, by tiles; the others stay put."""

    def __init__(self, potential: Potential, size: int, seed: int, run: Run) -> None:
        import torch

        from ..geometry import tile_edge

        self._t, self._size = potential.t, size
        self._generator = torch.Generator().manual_seed(seed)
        self._edge = tile_edge(torch.device(run.device), run.tile)

    def __call__(self, rows: "Tensor") -> "Evaluation":
        import torch

        from ..descent import Evaluation
        from ..geometry import blocks

        n = len(rows)
        chosen = torch.randperm(n, generator=self._generator)[: self._size].to(rows.device)
        # A pair inside the subset stands twice in the sum, once from each end.
        ends = torch.ones_like(rows[:, 0]).index_fill_(0, chosen, 2.0)
        total = rows.new_full((), self._size, dtype=torch.float64)  # i = j counts exp(0)
        low, high = rows.new_full((), math.inf), rows.new_full((), -math.inf)
        gradient = torch.zeros_like(rows)
        for i0, i1 in blocks(self._size, self._edge):
            own = chosen[i0:i1]
            for j0, j1 in blocks(n, self._edge):
                cosines = rows[own] @ rows[j0:j1].T
                itself = own[:, None] == torch.arange(j0, j1, device=rows.device)
                low = torch.minimum(low, cosines.masked_fill(itself, math.inf).amin())
                cosines.masked_fill_(itself, -math.inf)
                high = torch.maximum(high, cosines.amax())
                weights = cosines.sub_(1).mul_(2 * self._t).exp_()
                total += weights.sum()
                gradient.index_add_(0, own, (weights * ends[j0:j1]) @ rows[j0:j1])
        gradient *= (2 * self._t / total).to(rows.dtype)
        loss = (total / self._size).log()
        return Evaluation(float(loss), loss, high, torch.maximum(high, -low), gradient)

    def state(self) -> State:
        return {"generator": self._generator.get_state()}

    def restore(self, state: State) -> None:
        self._generator.set_state(state["generator"].cpu())


class LeastLoss(Stateful):
    """Lower the loss, a logarithm, until it stands still; or to the last step, with no gain to be had."""

    name = "log potential"
    target = None

    def __init__(self, gain: float) -> None:
        self._gain = gain

    def figure(self, at: "Evaluation") -> "Tensor":
        return at.losses

    def reached(self, best: float) -> bool:
        return False

    def watched(self, at: "Evaluation", best: float) -> float:
        return best

    def stands(self, before: float, now: float) -> bool:
        return before - now < self._gain

    def moved(self, at: "Evaluation", best: float) -> bool:
        return False


class LastLoss(LeastLoss):
    """Take every step, and the last set: losses of different subsets do not compare."""

    def __init__(self) -> None:
        super().__init__(gain=-math.inf)
        self._steps = 0

    def figure(self, at: "Evaluation") -> "Tensor":
        self._steps += 1
        return at.losses.new_full(at.losses.shape, -self._steps)


class Sharper(Stateful):
    """Lower the largest cosine: t grows each time the best stands still, to where it alone counts."""

    GROW = 1.3
    name = "largest cosine"
    target = None
    PATIENCE, GAIN, STALL = 8, 1e-3, 1e-6

    def __init__(self, potential: Potential) -> None:
        self._potential = potential
        self._since: list[float] = []

    def figure(self, at: "Evaluation") -> "Tensor":
        return at.max_cos

    def reached(self, best: float) -> bool:
        return False

    def watched(self, at: "Evaluation", best: float) -> float:
        # The largest cosine is at most this, and less by log(pairs) / (2 t) at the most.
        return 1 + float(at.losses.min()) / (2 * self._potential.t)

    def stands(self, before: float, now: float) -> bool:
        return before - now < self.STALL

    def moved(self, at: "Evaluation", best: float) -> bool:
        self._since.append(float(at.losses.min()))
        if len(self._since) <= self.PATIENCE:
            return False
        if self._since[-1 - self.PATIENCE] - self._since[-1] > self.GAIN:
            return False
        self._since.clear()
        self._potential.t *= self.GROW
        return True
