"""Uniform prototypes: n points on the sphere of R^d that minimise the Gaussian potential.

Saadabadi, Dabouei, Malakshan and Nasrabadi 2024, Hyperspherical Classification with Dynamic
Label-to-Prototype Assignment: Section 3.2.1, Eq. 3 to 5, and Section 4.1.

The paper prints no number for t. Ours, 2, is that of Wang and Isola 2020, on whose loss Eq. 3 and 4 stand. Where n is
large for d it is too blunt: of 100 vectors in R^3 two end 1.3 degrees apart, with t = 10 none under 20.

The paper's own settings, plain gradient steps at rate 0.1, 1,000 of them, do not give the cosines of its Table 7: 100
vectors in R^100 end between -.32 and .21, not -.01 and 0. Eq. 5 is the logarithm of a mean over the vectors, so that
the gradient of each is about one part in so many, and a step at that rate hardly moves it. A rate of 10 gives the
table, and so does L-BFGS.
"""

import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from protogen import catalog
from protogen.bounds import TOLERANCE, max_cos_bound
from protogen.checks import check_between, check_flag, check_whole, check_word
from protogen.descent.effort import search_bytes
from protogen.descent.potentials import LeastCosine, LeastLoss, PaperPotential, Potential, Subsets
from protogen.errors import BadRequest
from protogen.files.facts import Facts
from protogen.measuring.stats import AngleStats
from protogen.rows import InMemory
from protogen.solution import Solution
from protogen.spec import Spec, Value

from .method import EFFORT, RESTARTS, STEPS, Method, descent_bytes, formula_bytes, history, option
from .search import check_alone, check_effort, search, searches
from .start import AUTO, CLOSED_FORM, PACKING, RANDOM, Start, check_start
from .task import Task

if TYPE_CHECKING:
    from torch import Tensor

    from protogen.descent.evaluate import Evaluator
    from protogen.descent.loop import Descent

T = 2.0
PAPER_STEPS, PAPER_RATE = 1000, 0.1
PACKED = 2  # the version that searches for a stated effort
FIRST_STEP = 0.5
LEAST_GAIN = 1e-6  # a log potential that falls by less stands still


@dataclass(frozen=True)
class Uniform(Method):
    """Make n points on the sphere, uniform by the Gaussian potential.

    With sharpen the largest cosine is made as low as it goes.
    """

    name: ClassVar[str] = "uniform"
    version: ClassVar[int] = 1
    takes: ClassVar[tuple[str, ...]] = ("seed", "time_limit")

    t: float = option(T, "Sharpness of the Gaussian potential exp(-t |u - v|^2), above 0.")
    batch: int | None = option(None, "Vectors in each step's random subset (--update paper); left out: all.")
    start: str = option(
        AUTO, f"{AUTO} (a formula where it is proven best for the largest cosine), {RANDOM} or {CLOSED_FORM}."
    )
    steps: int | None = option(None, "The most passes over all pairs; left out: 5000, or 1000 for --update paper.")
    update: str = option(
        "lbfgs", "lbfgs, or paper (Section 4.1: plain gradient steps), far from uniform at its own rate."
    )
    rate: float | None = option(
        None, f"Learning rate of --update paper; left out: {PAPER_RATE:g}, too small; 10 gives Table 7."
    )
    sharpen: bool = option(False, "Search for the points whose smallest angle is the largest, by no potential.")
    restarts: int | None = option(None, f"{RESTARTS[:-1]}; left out: 1.")
    effort: str | None = option(None, EFFORT)

    def _resolve(self, d: int, n: int, seed: int) -> Spec:
        check_word("start", self.start, (AUTO, RANDOM, CLOSED_FORM))
        self._check(d, n)
        form = catalog.choose(catalog.POINTS, d, n) if self.start != RANDOM else None
        if self._searches(d, n) and not (form and form.cosine <= max_cos_bound(d, n).value + TOLERANCE):
            start = PACKING if form is None else str(Start.of(form, PACKING))
            params: dict[str, Value] = {"start": start, "sharpen": True, "effort": self.effort or "default"}
            return Spec.of(self.name, PACKED, d=d, n=n, seed=seed, params=params)
        if form is None and self.start == CLOSED_FORM:
            raise BadRequest(f"no closed form reaches d={d}, n={n}; use --start random or auto, or a larger d")
        if form and self.start == AUTO and form.cosine > max_cos_bound(d, n).value + TOLERANCE:
            form = None
        if form and self.update == "paper":
            raise BadRequest(
                f"update is 'paper' where a formula gives the set, {catalog.label(form)}; add --start random"
            )
        if form:
            params = {"start": str(Start.of(form))}
            return Spec.of(self.name, self.version, d=d, n=n, seed=0, params=params)
        params = {
            "t": float(self.t),
            "start": RANDOM,
            "steps": self.steps or (PAPER_STEPS if self.update == "paper" else STEPS),
            "update": self.update,
            "sharpen": self.sharpen,
            "restarts": self.restarts or 1,
        }
        if self.update == "paper":
            params["batch"] = self.batch or n
            params["rate"] = PAPER_RATE if self.rate is None else float(self.rate)
        return Spec.of(self.name, self.version, d=d, n=n, seed=seed, params=params)

    def _searches(self, d: int, n: int) -> bool:
        """Whether a request is for a search by effort. Raises BadRequest on an effort that has no place."""
        words = {"steps": self.steps, "restarts": self.restarts, "t": None if self.t == T else self.t}
        other = [f"{name} {value}" for name, value in words.items() if value is not None]
        other += [f"start {self.start}"] * (self.start != AUTO) + [f"update {self.update}"] * (self.update != "lbfgs")
        return searches(d, n, self.effort, other if self.sharpen else ["no sharpen"])

    def _check(self, d: int, n: int) -> None:
        check_between("t", self.t, 0, 1e9)
        check_flag("sharpen", self.sharpen)
        check_word("update", self.update, ("lbfgs", "paper"))
        if self.restarts is not None:
            check_whole("restarts", self.restarts, 1)
        if self.steps is not None:
            check_whole("steps", self.steps, 1)
        if self.rate is not None:
            check_between("rate", self.rate, 0, math.inf)
        if self.batch is not None:
            check_whole("batch", self.batch, 1, n)
        paper = self.update == "paper"
        if self.batch not in (None, n) and (self.restarts or 1) > 1:
            raise BadRequest(f"restarts is {self.restarts!r} with a batch, whose losses do not compare; allowed is 1")
        for name, value, fits in (
            ("rate", self.rate, paper),
            ("batch", self.batch, paper),
            ("sharpen", self.sharpen or None, not paper),
        ):
            if value is not None and not fits:
                other = "paper" if name != "sharpen" else "lbfgs"
                raise BadRequest(f"{name} is {value!r} with --update {self.update}; it belongs to --update {other}")

    def check(self, d: int, n: int, seed: int) -> None:
        super().check(d, n, seed)
        check_effort(self.effort, None)
        check_start(self.start, d, n, catalog.POINTS, (CLOSED_FORM,))
        if Start.parse(self.start).form is None:
            check_whole("steps", self.steps, 1)

    def solve(self, task: Task) -> Solution:
        """Build the closed form that the Spec names, or descend from seeded random rows."""
        start = Start.parse(self.start)
        if start.form is not None:
            return catalog.build(start.form, task.n, task.d)

        from protogen.measuring.geometry import random_rows

        rows = random_rows(self.restarts or 1, task.n, task.d, task.seed)
        found = self._paper_descent(rows, task) if self.update == "paper" else self._descent(rows, task)
        return Solution(InMemory(found.rows), found.status, "statistical", steps=found.steps)

    def _descent(self, rows: "Tensor", task: Task) -> "Descent":
        """Descend by L-BFGS, from one set of rows or several at once."""
        from protogen.descent.evaluate import Sliced
        from protogen.descent.loop import descend
        from protogen.descent.steppers import LBFGS

        potential = Potential(self.t)
        goal = LeastCosine(potential) if self.sharpen else LeastLoss(gain=LEAST_GAIN)
        make_stepper = partial(LBFGS, history(rows.numel()), first=FIRST_STEP)
        evaluator = Sliced(potential, task.run)
        return descend(rows, evaluator, goal, make_stepper, self.steps or 0, task.run, task.checkpoint)

    def _paper_descent(self, rows: "Tensor", task: Task) -> "Descent":
        """Descend by plain gradient steps, all of them (Section 4.1), on all vectors or a random batch a step."""
        from protogen.descent.evaluate import Sliced
        from protogen.descent.loop import descend
        from protogen.descent.steppers import GradientDescent

        printed = PaperPotential(self.t, task.n)
        evaluator: Evaluator = Sliced(printed, task.run)
        batched = self.batch is not None and self.batch < task.n
        if self.batch is not None and batched:
            evaluator = Subsets(printed, self.batch, task.seed, task.run)
        goal = LeastLoss(gain=-math.inf, keeps_last=batched)
        make_stepper = partial(GradientDescent, PAPER_RATE if self.rate is None else self.rate)
        return descend(rows, evaluator, goal, make_stepper, self.steps or 0, task.run, task.checkpoint)

    def peak_bytes(self, d: int, n: int) -> int:
        form = Start.parse(self.start).closed_form
        return form.held_bytes + formula_bytes(d, n) if form else descent_bytes((self.restarts or 1) * n * d)

    @classmethod
    def rank(cls, stats: AngleStats | None, facts: Facts) -> float:
        """The Gaussian potential at t = 2, as measured."""
        return stats.uniformity_t2 if stats else math.inf


@dataclass(frozen=True)
class PackedUniform(Uniform):
    """Make the best points of a closed form, if there is one, and of a search for a stated effort."""

    version: ClassVar[int] = PACKED

    def check(self, d: int, n: int, seed: int) -> None:
        Method.check(self, d, n, seed)
        check_effort(self.effort, "default")
        check_start(self.start, d, n, catalog.POINTS, (PACKING,), alone=(PACKING,))
        check_alone(self, ("start", "sharpen", "effort"))
        if not self.sharpen:
            raise BadRequest("sharpen is False in the Spec of a search; allowed is True")

    def solve(self, task: Task) -> Solution:
        """Search, from random rows; none worse than the closed form that the Spec names."""
        form = Start.parse(self.start).form
        built = None if form is None else catalog.build(form, task.n, task.d)
        lowest = None if built is None else built.facts.guaranteed_max_cos
        return search(task, False, self.effort or "default", None, built, None, lowest)

    def peak_bytes(self, d: int, n: int) -> int:
        form = Start.parse(self.start).closed_form
        return (form.held_bytes if form else 0) + search_bytes(d, n, self.effort or "default")
