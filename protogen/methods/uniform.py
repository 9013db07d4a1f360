"""Uniform prototypes: n points on the sphere of R^d that minimise the Gaussian potential.

Saadabadi, Dabouei, Malakshan and Nasrabadi 2024, Hyperspherical Classification with Dynamic
Label-to-Prototype Assignment: Section 3.2.1, Eq. 3 to 5, and Section 4.1.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from protogen import catalog
from protogen.bounds import TOLERANCE, max_cos_bound
from protogen.checks import check_between, check_flag, check_whole, check_word
from protogen.errors import BadRequest
from protogen.rows import InMemory
from protogen.solution import Solution
from protogen.spec import Spec, Value

from .method import RESTARTS, Method, descent_bytes, formula_bytes, history, option
from .task import Task

if TYPE_CHECKING:
    from protogen.descent.evaluate import Evaluator
from protogen.descent.potentials import LastLoss, LeastLoss, PaperPotential, Potential, Sharper, Subsets

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

    def solve(self, task: Task) -> Solution:
        """Build the closed form that the Spec names, or descend from seeded random rows."""
        _, _, form = self.start.partition(":")
        if form:
            return catalog.build(form, task.n, task.d)

        from protogen.descent.evaluate import Sliced
        from protogen.descent.loop import descend
        from protogen.descent.steppers import LBFGS, GradientDescent
        from protogen.measuring.geometry import random_rows

        n, run = task.n, task.run
        rows = random_rows(self.restarts, n, task.d, task.seed)
        steps = self.steps or 0
        if self.update == "paper":
            printed = PaperPotential(self.t, n)
            evaluator: Evaluator = Sliced(printed, run)
            goal: LeastLoss | Sharper = LeastLoss(gain=-math.inf)
            if self.batch is not None and self.batch < n:
                evaluator, goal = Subsets(printed, self.batch, task.seed, run), LastLoss()
            make = partial(GradientDescent, PAPER_RATE if self.rate is None else self.rate)
            found = descend(rows, evaluator, goal, make, steps, run, task.checkpoint)
        else:
            potential = Potential(self.t)
            make_lbfgs = partial(LBFGS, history(rows.numel()), first=0.5)
            goal = Sharper(potential) if self.sharpen else LeastLoss(gain=1e-6)
            found = descend(rows, Sliced(potential, run), goal, make_lbfgs, steps, run, task.checkpoint)
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
