"""Equiangular basis vectors: n lines in R^d whose |cos| stays under a threshold.

Shen, Sun and Wei 2023, Equiangular Basis Vectors: Section 3.3, Eq. 4 and Algorithm 1.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from protogen import catalog
from protogen.bounds import TOLERANCE, coherence_bound
from protogen.checks import check_between, check_flag, check_kind, check_whole, check_word
from protogen.descent.effort import search_bytes
from protogen.descent.thresholds import (
    FixedAlpha,
    LowestCoherence,
    PaperThreshold,
    SquaredThreshold,
    Threshold,
)
from protogen.errors import BadRequest
from protogen.files.facts import Facts
from protogen.files.header import Header, read_header
from protogen.measuring.stats import AngleStats
from protogen.rows import InMemory
from protogen.solution import ENDED_EARLY, Solution, Status
from protogen.spec import Spec, Value

from .method import EFFORT, RESTARTS, STEPS, Method, descent_bytes, formula_bytes, history, option
from .orbits import orbits_solution, turned_bytes
from .search import MOST_SEARCHED, check_alone, check_effort, meets, search, searches
from .start import (
    AUTO,
    CAPACITY,
    CLOSED_FORM,
    IMPROVED,
    ORBITS,
    PACKING,
    RANDOM,
    Start,
    best_word,
    check_start,
    descent_promise,
    orbits_start,
    parts_of_orbits,
)
from .task import Task

if TYPE_CHECKING:
    from torch import Tensor

    from protogen.descent.loop import Descent, Goal

# The version that has signs, the one that searches for a stated effort, and the one whose alpha, where it is missed,
# leaves a set no worse than without.
SIGNED, PACKED, AIMED = 2, 3, 4
UPDATES = ("lbfgs", "paper")
PAPER_RATE = 1e-3
WORTH_TRYING = 1.1  # random rows are tried beside a closed form that their promise exceeds by less than so many times
FIRST_STEP = 0.5  # along the gradient: it mends each violation at once where violations are few
# Noise that moves a closed form off its place: on its own coordinates, and on those it leaves free.
NOISE, FREE_NOISE = 0.1, 1.0


@dataclass(frozen=True)
class EBV(Method):
    """Make n lines in R^d of the lowest coherence, or of one asked for.

    Coherence is the largest |cos| of any two rows.
    """

    name: ClassVar[str] = "ebv"
    figure: ClassVar[str] = "coherence"
    version: ClassVar[int] = 1
    signed: ClassVar[bool] = False  # whether the rows of a closed form are turned round by `catalog.row_signs`
    uses: ClassVar[Mapping[str, tuple[str, ...]]] = {"extends": ("prototypes",)}

    alpha: float | None = option(
        None, "Stop at this coherence, 0 <= alpha < 1, 0 for n <= d alone; left out: as low as it can."
    )
    start: str = option(AUTO, f"{AUTO} (the lowest), {RANDOM} (the paper), {CLOSED_FORM}, {IMPROVED} or {ORBITS}.")
    steps: int | None = option(None, f"The most passes over all pairs of a descent by steps; left out: {STEPS}.")
    update: str = option("lbfgs", "lbfgs (squared threshold) or paper (Algorithm 1: plain sum, plain steps).")
    rate: float | None = option(None, f"Learning rate of --update paper; left out: {PAPER_RATE:g}.")
    endless: bool = option(False, "Take all steps of --update paper, as `while True` is printed, unless alpha is met.")
    restarts: int | None = option(None, f"{RESTARTS[:-1]}; left out: 1.")
    extends: str | None = option(None, "Artifact whose vectors come first, untouched; the new ones alone move.")
    signs: bool = option(False, "Rows of 1/sqrt(d) and -1/sqrt(d) alone, by formula.")
    effort: str | None = option(None, EFFORT)

    def _resolve(self, d: int, n: int, seed: int) -> Spec:
        check_word("start", self.start, (AUTO, RANDOM, CLOSED_FORM, IMPROVED, ORBITS))
        self._check(d, n)
        if self.signs:
            return self._formula(self._signs(d, n), d, n)
        if self.extends is not None:
            return self._extension(Path(self.extends), d, n, seed)
        form = catalog.seek(d, n) if self.start != RANDOM else None
        asked = self._searches(d, n) and (self.effort is not None or n <= MOST_SEARCHED)
        if asked and not (form is not None and meets(d, n, self.alpha, form.cosine)):
            return self._search(d, n, seed, form)
        if self.start == ORBITS:
            return self._orbits(d, n, seed, form)
        if form is None:
            if self.start == AUTO and best_word(d, n, self.alpha, 1.0, combined=self.update != "paper") == ORBITS:
                return self._orbits(d, n, seed, None)
            if self.start not in (AUTO, RANDOM):
                raise BadRequest(f"no closed form reaches d={d}, n={n}; use --start random or auto, or a larger d")
            return self._descent(d, n, seed, Start(RANDOM))
        word = self.start
        if word == AUTO:
            combined = self.update != "paper"
            word = best_word(d, n, self.alpha, form.cosine, combined, padded=form.own_d < d)
        if word == RANDOM:
            return self._descent(d, n, seed, Start(RANDOM))
        if word == ORBITS:
            return self._orbits(d, n, seed, form)
        if self.update == "paper":
            raise BadRequest(
                f"update is 'paper' where a formula gives the set, {catalog.label(form)}; add --start random"
            )
        return self._formula(form, d, n) if word == CLOSED_FORM else self._descent(d, n, seed, Start.of(form, word))

    def _searches(self, d: int, n: int) -> bool:
        """Whether a request is for a search by effort. Raises BadRequest on an effort that has no place."""
        words: dict[str, object] = {"endless": self.endless or None, "steps": self.steps, "restarts": self.restarts}
        words |= {"extends": self.extends, "signs": self.signs or None}
        other = [f"{name} {value}" for name, value in words.items() if value is not None]
        other += [f"start {self.start}"] * (self.start != AUTO) + [f"update {self.update}"] * (self.update != "lbfgs")
        return searches(d, n, self.effort, other)

    def _search(self, d: int, n: int, seed: int, form: catalog.ClosedForm | None) -> Spec:
        """Make the Spec of a search, beside a closed form if there is one."""
        params: dict[str, Value] = {
            "alpha": None if self.alpha is None else float(self.alpha),
            "start": PACKING if form is None else str(Start.of(form, PACKING)),
            "effort": self.effort or "default",
        }
        return Spec.of(self.name, PACKED, d=d, n=n, seed=seed, params=params)

    def _orbits(self, d: int, n: int, seed: int, form: catalog.ClosedForm | None) -> Spec:
        """Make the Spec of a descent among orbits, beside a closed form if there is one."""
        if self.alpha is not None or self.update == "paper":
            given = f"alpha {self.alpha}" if self.alpha is not None else "update paper"
            raise BadRequest(
                f"start is {ORBITS} with {given}; a descent among orbits goes as low as it can, its own way"
            )
        params: dict[str, Value] = {
            "start": str(orbits_start(d, n, form)),
            "steps": self.steps or STEPS,
            "restarts": self.restarts or 1,
        }
        return Spec.of(self.name, SIGNED, d=d, n=n, seed=seed, params=params)

    def _signs(self, d: int, n: int) -> catalog.ClosedForm:
        """Choose the closed form of signs. Raises BadRequest where there is none, or another option excludes it."""
        if self.extends is not None or self.start not in (AUTO, CLOSED_FORM) or self.update == "paper":
            raise BadRequest(
                "signs is given with extends, another start or update; rows of signs come by formula alone"
            )
        form = catalog.seek_signs(d, n)
        if form is None:
            raise BadRequest(f"no closed form has {n} rows of signs in R^{d}; use a larger d, or a smaller n")
        return form

    def _formula(self, form: catalog.ClosedForm, d: int, n: int, version: int = SIGNED) -> Spec:
        """Make the Spec of a closed form, which knows neither seed nor alpha."""
        return Spec.of(self.name, version, d=d, n=n, seed=0, params={"start": str(Start.of(form))})

    def _descent(self, d: int, n: int, seed: int, start: Start, **more: Value) -> Spec:
        params: dict[str, Value] = {
            "alpha": None if self.alpha is None else float(self.alpha),
            "start": str(start),
            "steps": STEPS if self.steps is None else self.steps,
            "update": self.update,
            "restarts": self.restarts or 1,
            **more,
        }
        if self.update == "paper":
            params["rate"] = PAPER_RATE if self.rate is None else float(self.rate)
        if self.endless:
            params["endless"] = True
        version = self.version if start.form is None else SIGNED
        if self.alpha is not None and self.update != "paper":
            version = AIMED
        return Spec.of(self.name, version, d=d, n=n, seed=seed, params=params)

    def _extension(self, path: Path, d: int, n: int, seed: int) -> Spec:
        """Make the Spec of an artifact's vectors and new ones: the next rows of its closed form, or by descent."""
        header = read_header(path)
        facts = header.facts
        self._check_extends(path, header, d, n)
        coherence = self.cosine(header.stats, facts) or 0.0
        if self.alpha is not None and self.alpha < coherence - TOLERANCE:
            raise BadRequest(
                f"alpha is {self.alpha!r}, the vectors of {path} have coherence {coherence:.6f} and stay; "
                "raise alpha to that or more"
            )
        form = _lines(facts.closed_form)
        if form and form.exact and form.own_n >= n and self.start == AUTO:
            return self._formula(form, d, n, min(header.spec.version, SIGNED))  # with signs where these rows have some
        return self._descent(d, n, seed, Start(RANDOM), extends=header.digest)

    def _check_extends(self, path: Path, header: Header, d: int, n: int) -> None:
        """Raise BadRequest where the artifact cannot be extended to n vectors in R^d."""
        before = header.spec
        (shape,) = (entry.shape for entry in header.entries if entry.name == "prototypes")
        if len(shape) > 2 or header.facts.norms == "free":
            has = f"{shape[1]} vectors a class" if len(shape) > 2 else "vectors of any length"
            raise BadRequest(
                f"{path}: has {has}; extends takes one vector a class, of length one",
                f"make the larger set anew, with `protogen {before.method}`",
            )
        if before.d != d or before.n >= n:
            raise BadRequest(
                f"{path}: has d={before.d}, n={before.n}, asked for are d={d}, n={n}; "
                "extends takes one vector a class, the same d and a larger n"
            )
        if self.start not in (AUTO, RANDOM):
            raise BadRequest(f"start is {self.start!r} with extends; allowed are auto and random")

    def _check(self, d: int, n: int) -> None:
        check_word("update", self.update, UPDATES)
        for name, value in (("steps", self.steps), ("restarts", self.restarts)):
            if value is not None:
                check_whole(name, value, 1)
        check_kind("extends", self.extends, str)
        if self.rate is not None:
            check_between("rate", self.rate, 0, math.inf)
            if self.update != "paper":
                raise BadRequest(f"rate is {self.rate!r} with --update {self.update}; it belongs to --update paper")
        check_flag("endless", self.endless)
        if self.endless and (self.update != "paper" or self.alpha is None):
            raise BadRequest("endless is True; it belongs to --update paper with an alpha, as Algorithm 1 has one")
        if self.alpha is not None:
            check_between("alpha", self.alpha, 0, 1, or_low=True)
            bound = coherence_bound(d, n)
            if self.alpha < bound.value - TOLERANCE:
                raise BadRequest(
                    f"alpha is {self.alpha!r}, the lower bound ({bound.name}) for d={d}, n={n} is {bound.value:.6f}; "
                    "no set can be better: raise alpha or d, or lower n"
                )

    def check(self, d: int, n: int, seed: int) -> None:
        super().check(d, n, seed)
        if self.start == CAPACITY:
            raise BadRequest(
                f"start is {self.start!r}, d={d}, n={n}; make it with `protogen capacity --d {d} --alpha {self.alpha}`"
            )
        if self.signs:
            raise BadRequest(f"signs is {self.signs!r} in a Spec; allowed is a start of {CLOSED_FORM}:<closed form>")
        check_effort(self.effort, None)
        if Start.parse(self.start).word == ORBITS:
            parts_of_orbits(Start.parse(self.start), d, n)
            if not self.signed or self.alpha is not None or self.update != "lbfgs":
                raise BadRequest(
                    f"start is {self.start!r} in a Spec of version {self.version} with alpha {self.alpha!r} and update "
                    f"{self.update!r}; allowed is version {SIGNED} without an alpha, and update 'lbfgs'"
                )
            if self.extends is not None:
                raise BadRequest(f"start is {self.start!r} with extends; allowed is {RANDOM}")
            return
        check_start(self.start, d, n, (*catalog.LINES, *catalog.SIGNS), (CLOSED_FORM, IMPROVED))
        if self.extends is not None and Start.parse(self.start).form is not None:
            raise BadRequest(f"start is {self.start!r} with extends; allowed is {RANDOM}")

    def solve(self, task: Task) -> Solution:
        """Build the closed form that the Spec names, or descend from it, from seeded random rows, or both.

        The best of all is the solution; none that is worse than the closed form.
        """
        start = Start.parse(self.start)
        if start.word == CLOSED_FORM:
            return catalog.build(start.form or "", task.n, task.d, signed=self.signed)
        if start.word == ORBITS:
            order, form = parts_of_orbits(start, task.d, task.n)
            return orbits_solution(task, order, form, self.steps or STEPS, self.restarts or 1, self.figure)
        if self.extends is not None:
            return self._extended(task)
        built = None if start.form is None else catalog.build(start.form, task.n, task.d, signed=self.signed)
        return self._best(task, built)

    def _best(self, task: Task, built: Solution | None, fixed: "Tensor | None" = None) -> Solution:
        """Return the best of a closed form, if there is one, and of a descent from each departure to each goal.

        Beside fixed rows the solution has those alone that have moved.
        """
        run, best, steps, lowest, facts = task.run, built, 0, math.inf, Facts()
        if built is not None:
            guaranteed = self.rank(None, built.facts)
            lowest = guaranteed - TOLERANCE  # what is no better than the closed form does not replace it
            facts = Facts(outdone=built.facts.closed_form, guaranteed_coherence=guaranteed)
        began = run.clock()
        for rows, goal in self._departures(task, built, fixed):
            left = run.time_limit and max(0.0, run.time_limit - (run.clock() - began))
            found = self._descend(rows, goal, replace(task, run=replace(run, time_limit=left)), fixed)
            steps += found.steps
            status = found.status
            if found.best < lowest:
                lowest = found.best
                best = Solution(InMemory(found.rows), status, "statistical", facts=facts)
            if status == Status.REACHED or status in ENDED_EARLY:
                break
        if best is None:  # it was interrupted before there was any set
            raise KeyboardInterrupt
        end = status if status in ENDED_EARLY else best.status
        return replace(best, status=end, reproducible="statistical", steps=steps)

    def _departures(
        self, task: Task, built: Solution | None, fixed: "Tensor | None"
    ) -> "Iterator[tuple[Tensor, Callable[[Threshold], Goal]]]":
        """Yield rows to descend from, one set or several at once, and what makes the goal of a loss.

        1. The closed form, if there is one, moved a little off its place.
        2. Random rows, if there is no closed form, or one that these have a chance to outdo.
        """
        from protogen.measuring.geometry import random_rows

        d, n, guaranteed = task.d, task.n, math.inf
        if built is not None:
            guaranteed, rows = self.rank(None, built.facts), _shaken(built, task.seed)
            for goal in self._goals(max(guaranteed, coherence_bound(d, n).value)):
                yield rows, goal
        promise = descent_promise(d, n)
        if promise < WORTH_TRYING * guaranteed:
            rows = random_rows(self.restarts or 1, n - (0 if fixed is None else len(fixed)), d, task.seed)
            for goal in self._goals(promise):
                yield rows, goal

    def _goals(self, expected: float) -> "Iterator[Callable[[Threshold], Goal]]":
        """Yield goals for the same rows, the next where one is missed, of a descent thought to reach `expected`."""
        if self.alpha is None:
            yield partial(LowestCoherence, expected=expected)
        else:
            margin = self._margin(self.alpha, expected)
            yield partial(FixedAlpha, alpha=self.alpha, margin=margin, endless=self.endless)

    def _extended(self, task: Task) -> Solution:
        """Return the vectors of the artifact, bit for bit, then new ones that a descent has moved."""
        import torch

        first = task.inputs["extends"]
        found = self._best(task, None, first)
        whole = InMemory(torch.cat((first, InMemory.of(found.source).tensor)))
        return replace(found, source=whole, facts=Facts(extended_n=len(first)))

    def _descend(
        self, rows: "Tensor", make_goal: "Callable[[Threshold], Goal]", task: Task, fixed: "Tensor | None"
    ) -> "Descent":
        """Descend from rows, beside fixed ones."""
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
            make_stepper = partial(LBFGS, history(rows.numel()), first=FIRST_STEP)
        goal = make_goal(threshold)
        evaluator = Sliced(threshold, task.run, fixed)
        return descend(rows, evaluator, goal, make_stepper, self.steps or STEPS, task.run, task.checkpoint)

    def _margin(self, alpha: float, expected: float) -> float:
        """Return the share of alpha by which the threshold lies under it; the paper has none.

        It is a tenth of the way from alpha to what is expected, and 5% at the most.
        """
        return 0.0 if self.update == "paper" or not alpha else max(0.0, min(0.05, 0.1 * (1 - expected / alpha)))

    def peak_bytes(self, d: int, n: int) -> int:
        start = Start.parse(self.start)
        if start.word == ORBITS:
            order, _ = parts_of_orbits(start, d, n)
            return turned_bytes(d, n, order, self.restarts or 1)
        form = start.closed_form
        held = form.held_bytes if form else 0
        return held + (
            formula_bytes(d, n) if start.word == CLOSED_FORM else descent_bytes((self.restarts or 1) * n * d)
        )

    def target(self) -> float | None:
        return self.alpha

    @classmethod
    def rank(cls, stats: AngleStats | None, facts: Facts) -> float:
        """Coherence, as measured; as guaranteed where nothing was measured."""
        cosine = cls.cosine(stats, facts)
        return math.inf if cosine is None else cosine

    @classmethod
    def admits(cls, spec: Spec, stats: AngleStats | None, facts: Facts, wanted: Mapping[str, Value]) -> bool:
        """As asked; `alpha` admits every set of that coherence or less, `start` also a closed form by kind."""
        alpha, start = wanted.get("alpha"), wanted.get("start")
        made = spec.options.get("start", start)
        rest = {name: value for name, value in wanted.items() if name not in ("alpha", "start", "signs")}
        return (
            (not wanted.get("signs") or _is_signs(spec))
            and (alpha is None or cls.rank(stats, facts) <= float(alpha) + TOLERANCE)
            and (start is None or start in (made, Start.parse(str(made)).word))
            and super().admits(spec, stats, facts, rest)
        )


@dataclass(frozen=True)
class SignedEBV(EBV):
    """Make the lines of a closed form with signs: what `protogen ebv` begins with, or gives by formula.

    Rows of a closed form tend to have the same cosine to one direction. A network that comes to rest there learns
    nothing more (tests/demo/SCIENCE.md), and signs leave no such direction where n > d.
    """

    version: ClassVar[int] = SIGNED
    signed: ClassVar[bool] = True


@dataclass(frozen=True)
class PackedEBV(SignedEBV):
    """Make the best lines of a closed form, if there is one, and of a search for a stated effort."""

    version: ClassVar[int] = PACKED

    def check(self, d: int, n: int, seed: int) -> None:
        Method.check(self, d, n, seed)
        check_effort(self.effort, "default")
        check_start(self.start, d, n, (*catalog.LINES, *catalog.SIGNS), (PACKING,), alone=(PACKING,))
        check_alone(self, ("alpha", "start", "effort"))

    def solve(self, task: Task) -> Solution:
        """Search, from the closed form that the Spec names and from random rows; none worse than the closed form."""
        form = Start.parse(self.start).form
        built = None if form is None else catalog.build(form, task.n, task.d, signed=self.signed)
        given = None if built is None else _shaken(built, task.seed)
        lowest = None if built is None else self.rank(None, built.facts)
        return search(task, True, self.effort or "default", self.alpha, built, given, lowest)

    def peak_bytes(self, d: int, n: int) -> int:
        form = Start.parse(self.start).closed_form
        return (form.held_bytes if form else 0) + search_bytes(d, n, self.effort or "default")


@dataclass(frozen=True)
class AimedEBV(SignedEBV):
    """Make lines by descents by steps to an alpha; where that is missed, lines no worse than without an alpha."""

    version: ClassVar[int] = AIMED

    def check(self, d: int, n: int, seed: int) -> None:
        super().check(d, n, seed)
        word = Start.parse(self.start).word
        if self.alpha is None or self.update == "paper" or word not in (AUTO, RANDOM, IMPROVED):
            raise BadRequest(
                f"alpha is {self.alpha!r}, update {self.update!r}, start {self.start!r} in a Spec of version {AIMED}; "
                f"allowed are an alpha, 'lbfgs', and {RANDOM} or {IMPROVED}:<closed form>"
            )

    def _goals(self, expected: float) -> "Iterator[Callable[[Threshold], Goal]]":
        """Yield alpha alone where it is expected, which is fast; then, or else, the lowest coherence down to alpha."""
        assert self.alpha is not None, "its Spec has passed `check`"
        if self.alpha >= expected:
            yield from super()._goals(expected)
        yield partial(LowestCoherence, expected=expected, alpha=self.alpha)


def _is_signs(spec: Spec) -> bool:
    """Whether a Spec asks for rows of signs alone, by a closed form."""
    start = Start.parse(str(spec.options.get("start", RANDOM)))
    form = start.closed_form if start.word == CLOSED_FORM else None
    return form is not None and form.own_d == spec.d and catalog.sign_rows(form) >= spec.n


def _lines(text: str | None) -> catalog.ClosedForm | None:
    """Return the closed form of lines with this label, or None where the catalogue has no such lines."""
    with suppress(BadRequest):
        form = None if text is None else catalog.from_label(text)
        return None if type(form) in catalog.POINTS else form
    return None


def _shaken(built: Solution, seed: int) -> "Tensor":
    """Move the rows of a closed form (n, d) off their place, most of all into the coordinates that it leaves free."""
    import torch
    from torch.nn.functional import normalize

    rows = InMemory.of(built.source).tensor
    noise = torch.randn(
        rows.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float32, device="cpu"
    ) / math.sqrt(rows.shape[1])
    scale = torch.full((rows.shape[1],), NOISE, dtype=torch.float32, device="cpu")
    scale.masked_fill_((rows == 0).all(dim=0), FREE_NOISE)
    return normalize(rows + noise * scale, dim=1)
