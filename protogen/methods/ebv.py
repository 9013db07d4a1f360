"""Equiangular basis vectors: n lines in R^d whose |cos| stays under a threshold.

Shen, Sun and Wei 2023, Equiangular Basis Vectors: Section 3.3, Eq. 4 and Algorithm 1.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, ClassVar

from protogen import catalog
from protogen.bounds import TOLERANCE, coherence_bound
from protogen.checks import check_between, check_kind, check_whole, check_word
from protogen.descent.thresholds import AsLowAsItCan, FixedAlpha, PaperThreshold, SquaredThreshold, Threshold
from protogen.errors import BadRequest
from protogen.files.header import read_header
from protogen.rows import InMemory
from protogen.solution import ENDED_EARLY, Solution, Status
from protogen.spec import Spec, Value

from .method import RESTARTS, Method, descent_bytes, formula_bytes, history, option
from .task import Task

if TYPE_CHECKING:
    from torch import Tensor

    from protogen.descent.loop import Descent

IMPROVED = f"{catalog.CLOSED_FORM}+descent"
STARTS = ("auto", "random", catalog.CLOSED_FORM, IMPROVED)
CAPACITY = "capacity"  # the start of the sets that `protogen capacity` finds
UPDATES = ("lbfgs", "paper")
PAPER_RATE = 1e-3
# What `auto` takes for worth a descent: so many multiplications in a pass at most, and a closed form that lies so
# far above the bound at least; random rows are tried beside it where they promise so much more than it at most.
AFFORDABLE, ROOM, HOPE = 1e9, 1.05, 1.1
# Noise that moves a closed form off its place: on its own coordinates, and on those it leaves free.
NOISE, FREE_NOISE = 0.1, 1.0


@dataclass(frozen=True)
class EBV(Method):
    """Make n lines in R^d whose largest |cos| is as low as asked for, or as low as it goes."""

    name: ClassVar[str] = "ebv"
    figure: ClassVar[str] = "coherence"
    version: ClassVar[int] = 1
    uses: ClassVar[Mapping[str, tuple[str, ...]]] = {"extends": ("prototypes",)}

    alpha: float | None = option(None, "Stop at this coherence, 0 < alpha < 1; left out: as low as it can.")
    start: str = option("auto", f"auto (the lowest), random (the paper), {catalog.CLOSED_FORM} or {IMPROVED}.")
    steps: int = option(5000, "The most passes over all pairs that a descent may take.")
    update: str = option("lbfgs", "lbfgs (squared threshold) or paper (Algorithm 1: plain sum, plain steps).")
    rate: float | None = option(None, f"Learning rate of --update paper; left out: {PAPER_RATE:g}.")
    restarts: int = option(1, RESTARTS)
    extends: str | None = option(None, "Artifact whose vectors come first, untouched; the new ones alone move.")

    def _resolve(self, d: int, n: int, seed: int) -> Spec:
        self._check(d, n)
        if self.extends is not None:
            return self._extension(Path(self.extends), d, n, seed)
        form = catalog.seek(d, n) if self.start != "random" else None
        if form is None and self.start not in ("auto", "random"):
            raise BadRequest(f"no closed form reaches d={d}, n={n}; use --start random or auto, or a larger d")
        start = self._start(form, d, n)
        if form and start != "random" and self.update == "paper":
            raise BadRequest(
                f"update is 'paper' where a formula gives the set, {catalog.label(form)}; add --start random"
            )
        if form and start == catalog.CLOSED_FORM:
            return self._formula(form, d, n)
        return self._descent(d, n, seed, catalog.start_of(form, IMPROVED) if form and start == IMPROVED else "random")

    def _formula(self, form: catalog.ClosedForm, d: int, n: int) -> Spec:
        """The Spec of a closed form, which knows neither seed nor alpha."""
        return Spec.of(self.name, self.version, d=d, n=n, seed=0, params={"start": catalog.start_of(form)})

    def _descent(self, d: int, n: int, seed: int, start: str, **more: Value) -> Spec:
        params: dict[str, Value] = {
            "alpha": None if self.alpha is None else float(self.alpha),
            "start": start,
            "steps": self.steps,
            "update": self.update,
            "restarts": self.restarts,
            **more,
        }
        if self.update == "paper":
            params["rate"] = PAPER_RATE if self.rate is None else float(self.rate)
        return Spec.of(self.name, self.version, d=d, n=n, seed=seed, params=params)

    def _extension(self, path: Path, d: int, n: int, seed: int) -> Spec:
        """The vectors of an artifact, then new ones: the next rows of its closed form, or found by a descent."""
        header = read_header(path)
        before, facts, stats = header.spec, header.meta["facts"], header.meta["stats"]
        if before.d != d or before.n >= n or "within_class" in facts:
            raise BadRequest(
                f"{path}: has d={before.d}, n={before.n}, asked for are d={d}, n={n}; "
                "extends takes one vector a class, the same d and a larger n"
            )
        if self.start not in ("auto", "random"):
            raise BadRequest(f"start is {self.start!r} with extends; allowed are auto and random")
        coherence = stats["coherence"]["value"] if stats else facts.get("guaranteed_coherence", 0.0)
        if self.alpha is not None and self.alpha < coherence - TOLERANCE:
            raise BadRequest(
                f"alpha is {self.alpha!r}, the vectors of {path} have coherence {coherence:.6f} and stay; "
                "raise alpha to that or more"
            )
        form = catalog.from_label(facts["closed_form"]) if "closed_form" in facts else None
        if form and type(form) in catalog.LINES and form.exact and form.own_n >= n and self.start == "auto":
            return self._formula(form, d, n)
        return self._descent(d, n, seed, "random", extends=header.digest)

    def _check(self, d: int, n: int) -> None:
        check_word("start", self.start, STARTS)
        check_word("update", self.update, UPDATES)
        check_whole("steps", self.steps, 1)
        check_whole("restarts", self.restarts, 1)
        check_kind("extends", self.extends, str)
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

    def _start(self, form: catalog.ClosedForm | None, d: int, n: int) -> str:
        """Resolve `auto`: the closed form where it answers, a descent where that may be better, or both."""
        if self.start != "auto":
            return self.start
        if form is None:
            return "random"
        bound = coherence_bound(d, n).value
        enough = ROOM * bound if self.alpha is None else max(self.alpha, bound)
        if n <= d or form.cosine <= enough + TOLERANCE:
            return catalog.CLOSED_FORM
        if n * n * d <= AFFORDABLE and self.update != "paper":
            return IMPROVED
        return catalog.CLOSED_FORM if form.cosine <= descent_promise(d, n) else "random"

    def solve(self, task: Task) -> Solution:
        """Build the closed form that the Spec names, or descend from it, from seeded random rows, or both.

        The best of all is the solution; none that is worse than the closed form.
        """
        d, n, run = task.d, task.n, task.run
        word, _, form = self.start.partition(":")
        if word == catalog.CLOSED_FORM:
            return catalog.build(form, n, d)
        if word == CAPACITY:
            raise BadRequest(
                f"start is {word!r}, d={d}, n={n}; make it with `protogen capacity --d {d} --alpha {self.alpha}`"
            )
        if self.extends is not None:
            return self._extended(task)
        best, guaranteed, facts = None, math.inf, {}
        if form:
            best = catalog.build(form, n, d)
            guaranteed = float(best.facts["guaranteed_coherence"])
            facts = {"outdone": form, "guaranteed_coherence": guaranteed}
        began, steps, lowest = run.clock(), 0, guaranteed - TOLERANCE
        for rows, promise in self._departures(best, guaranteed, d, n, task.seed):
            left = run.time_limit and max(0.0, run.time_limit - (run.clock() - began))
            found = self._descend(rows, promise, replace(task, run=replace(run, time_limit=left)))
            steps += found.steps
            status = found.status
            if found.best < lowest:
                lowest = found.best
                best = Solution(InMemory(found.rows), status, "statistical", facts=facts)
            if status == Status.REACHED or status in ENDED_EARLY:
                break
        assert best is not None, "a descent without a closed form has a best"
        return replace(
            best, status=status if status in ENDED_EARLY else best.status, reproducible="statistical", steps=steps
        )

    def _extended(self, task: Task) -> Solution:
        """The vectors of the artifact, bit for bit, then new ones that a descent moves."""
        import torch

        from protogen.measuring.geometry import random_rows

        first = task.inputs["extends"]
        rows = random_rows(self.restarts, task.n - len(first), task.d, task.seed)
        found = self._descend(rows, descent_promise(task.d, task.n), task, first)
        whole = InMemory(torch.cat((first, found.rows)))
        return Solution(whole, found.status, "statistical", steps=found.steps, facts={"extended_n": len(first)})

    def _departures(
        self, built: Solution | None, guaranteed: float, d: int, n: int, seed: int
    ) -> "Iterator[tuple[Tensor, float]]":
        """Yield rows to descend from, one set or several at once, and the coherence to hope for."""
        from protogen.measuring.geometry import random_rows

        promise = descent_promise(d, n)
        if built is not None:
            yield _shaken(built, seed), max(guaranteed, coherence_bound(d, n).value)
        if promise < HOPE * guaranteed:
            yield random_rows(self.restarts, n, d, seed), promise

    def _descend(self, rows: "Tensor", promise: float, task: Task, fixed: "Tensor | None" = None) -> "Descent":
        from protogen.descent.evaluate import Sliced
        from protogen.descent.loop import descend
        from protogen.descent.steppers import LBFGS, GradientDescent

        threshold: Threshold
        make_stepper: Callable[[], GradientDescent | LBFGS]
        if self.update == "paper":
            threshold = PaperThreshold()
            make_stepper = partial(GradientDescent, PAPER_RATE if self.rate is None else self.rate)
        else:
            threshold = SquaredThreshold()
            make_stepper = partial(LBFGS, history(rows.numel()), first=0.5)
        if self.alpha is None:
            goal: FixedAlpha | AsLowAsItCan = AsLowAsItCan(threshold, promise)
        else:
            margin = 0.0 if self.update == "paper" else min(0.05, 0.1 * (1 - promise / self.alpha))
            goal = FixedAlpha(threshold, self.alpha, max(0.0, margin))
        evaluator = Sliced(threshold, task.run, fixed)
        return descend(rows, evaluator, goal, make_stepper, self.steps, task.run, task.checkpoint)

    def peak_bytes(self, d: int, n: int) -> int:
        word, _, form = self.start.partition(":")
        held = catalog.from_label(form).held_bytes if form else 0
        return held + (formula_bytes(d, n) if word == catalog.CLOSED_FORM else descent_bytes(self.restarts * n * d))

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
        """As asked; `alpha` admits every set of that coherence or less, `start` also a closed form by kind.

        `extends` is a path and admits what continues the content of that file.
        """
        alpha, start, path = wanted.get("alpha"), wanted.get("start"), wanted.get("extends")
        made = spec.options.get("start", start)
        rest = {name: value for name, value in wanted.items() if name not in ("alpha", "start")}
        if path is not None:
            rest["extends"] = read_header(str(path)).digest
        return (
            (alpha is None or cls.rank(stats, facts) <= float(alpha) + TOLERANCE)
            and (start is None or start in (made, str(made).split(":")[0]))
            and super().admits(spec, stats, facts, rest)
        )


def descent_promise(d: int, n: int) -> float:
    """The coherence that a descent from random rows gets to, as a rule of thumb.

    The larger of two: the tangent sqrt(d - 1) c / sqrt(1 - c^2) = z with 2 Q(z) = 2 d / n, Q the normal
    tail, since each of the n d degrees of freedom pulls in about one pair; and c^2 = b^2 + (1 - b^2) y / (d + y),
    y = 0.16 log(n/d)^2, b the lower bound, which fits what descents at n = 2 d to 13 d reached within 1%.
    """
    bound = coherence_bound(d, n).value
    if n <= d:
        return bound
    z = NormalDist().inv_cdf(1 - min(0.5, d / n))
    y = 0.16 * math.log(n / d) ** 2
    return math.sqrt(max(z**2 / (d - 1 + z**2), bound**2 + (1 - bound**2) * y / (d + y)))


def _shaken(built: Solution, seed: int) -> "Tensor":
    """The rows of a closed form (n, d) moved off their place, most of all into the coordinates it leaves free."""
    import torch
    from torch.nn.functional import normalize

    rows = InMemory.of(built.source).tensor
    noise = torch.randn(rows.shape, generator=torch.Generator().manual_seed(seed)) / math.sqrt(rows.shape[1])
    free = (rows == 0).all(dim=0)
    return normalize(rows + noise * torch.where(free, FREE_NOISE, NOISE), dim=1)
