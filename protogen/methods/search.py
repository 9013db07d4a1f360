"""A search for a stated effort, beside a closed form: when it is made, what a Spec may say of it, what comes of it."""

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING

from protogen import catalog
from protogen.bounds import TOLERANCE, coherence_bound
from protogen.checks import check_word
from protogen.descent.effort import EFFORTS, OVERHEAD, evaluation_cost, known_sets
from protogen.errors import BadRequest
from protogen.files.facts import Facts
from protogen.rows import InMemory
from protogen.solution import ENDED_EARLY, Solution

from .start import NEAR_BOUND
from .task import Task

if TYPE_CHECKING:
    from torch import Tensor

    from protogen.descent.pieces import Kept

    from .method import Method

SEARCHABLE = 2.2e8  # multiplications of an evaluation; where it takes more, descents go by steps
# So do they for more vectors than these, unless an evaluation is cheap, as it is of 1024 vectors in R^32: points
# (12, 734) are .5281 by steps. Of lines a search takes a minute and a half at (100, 1000) and (48, 900) and gains
# nothing and .2% there, where a descent from the closed form takes 2 and 5 seconds.
MOST_SEARCHED, MOST_CHEAP, CHEAP = 600, 1024, 8.2e7
# Of so few numbers a search finds lines that are a third of a degree better than a form within 5% of the bound: lines
# (12, 65) are .3232 against .3278.
FEW_NUMBERS = 4096
# Closed forms of LEAST to MOST times as many vectors give starts, FORMS of them at most, for a share of the effort. So
# few as half may lead to the best set known: lines (12, 48) come from 36 lines at 1/4 and their twelve deepest holes.
# Where the effort affords no more, as at lines (400, 500), they are LEAST_FORMS: each has its holes found.
LEAST, MOST, FORMS, LEAST_FORMS = 0.5, 1.5, 16, 8
HOLES_SHARE, DRAWN_SHARE = 0.2, 0.05  # of the effort, that are added to it, for their holes, and for what is drawn
# Sets are drawn from these forms and descend a little, SOON_STEPS at the sharpness SOON, which tells the good ones from
# the others: of 128 points in R^16 one pair in six is such that the 126 left descend to .2001, the others to .215.
# Half of them are of all forms, the others of the share GOOD_FORMS of forms that came lowest.
SOON, SOON_STEPS, MOST_DRAWN, GOOD_FORMS = 180.0, 30, 256, 0.25
BELOW = 0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5  # by how much fewer a form is looked for


def searches(d: int, n: int, effort: str | None, other: Sequence[str]) -> bool:
    """Whether a request is for a search; `other` are its options that ask for something else.

    Raises BadRequest where an effort is given beside these, or for a size that is too large.
    """
    if effort is not None:
        check_word("effort", effort, EFFORTS)
        if other:
            raise BadRequest(f"effort is {effort!r} with {other[0]}; a search goes by its effort alone")
        if not _searchable(d, n):
            raise BadRequest(
                f"effort is {effort!r}, d={d}, n={n}; allowed is it for n to {MOST_SEARCHED} where an evaluation takes "
                f"at most {SEARCHABLE:g} multiplications, and for n to {MOST_CHEAP} where it takes at most {CHEAP:g}, "
                f"not {evaluation_cost(d, n):g}; give steps"
            )
    return not other and _searchable(d, n)


def _searchable(d: int, n: int) -> bool:
    most, cost = (MOST_SEARCHED, SEARCHABLE) if n <= MOST_SEARCHED else (MOST_CHEAP, CHEAP)
    return n <= most and evaluation_cost(d, n) <= cost


def meets(d: int, n: int, alpha: float | None, cosine: float) -> bool:
    """Whether lines of this coherence leave a search nothing to find.

    That is so where alpha is met; without one where the lower bound is met, or about so in more than FEW_NUMBERS.
    """
    bound = coherence_bound(d, n).value
    near = NEAR_BOUND * bound if n * d > FEW_NUMBERS else bound
    return n <= d or cosine <= (near if alpha is None else max(alpha, bound)) + TOLERANCE


def check_alone(method: "Method", own: Sequence[str]) -> None:
    """Raise BadRequest where the Spec of a search has parameters beside its own."""
    for field in fields(method):
        value = getattr(method, field.name)
        if field.name not in own and value != field.default:
            raise BadRequest(f"{field.name} is {value!r} in the Spec of a search; allowed are {', '.join(own)}")


def check_effort(effort: str | None, default: str | None) -> None:
    """Raise BadRequest unless a Spec may have this effort: one of the words, or none where there is no default."""
    if default is None and effort is not None:
        raise BadRequest(f"effort is {effort!r} in a Spec of a version that has none")
    if default is not None:
        check_word("effort", effort, EFFORTS)


def search(
    task: Task,
    lines: bool,
    effort: str,
    alpha: float | None,
    built: Solution | None,
    given: "Tensor | None",
    lowest: float | None,
) -> Solution:
    """Return the best of a closed form, if there is one, and of a search for an effort.

    - `built`: the closed form, `lowest` the figure that it guarantees.
    - `given`: rows (n, d) to start from, beside those that `known_starts` makes and random ones.
    """
    import torch

    from protogen.descent.packing import pack
    from protogen.descent.search import Request

    first = torch.zeros(0, task.n, task.d, device="cpu") if given is None else given[None]
    asked = Request(lines, task.d, task.n, task.seed, effort, alpha)
    making = partial(known_starts, lines, task.d, task.n, effort, task.seed)
    found = pack(asked, first, task.run, task.checkpoint, making)
    facts = Facts(jammed=found.jammed, group=found.group or None)
    if built is not None and lowest is not None:
        if found.largest >= lowest - TOLERANCE:
            end = found.status if found.status in ENDED_EARLY else built.status
            return replace(built, status=end, reproducible="statistical", steps=found.steps)
        if lines:
            facts = replace(facts, outdone=built.facts.closed_form, guaranteed_coherence=lowest)
    return Solution(InMemory(found.rows.float()), found.status, "statistical", steps=found.steps, facts=facts)


def known_starts(lines: bool, d: int, n: int, effort: str, seed: int, kept: "Kept") -> "Generator[None, None, Tensor]":
    """Make sets of n vectors in R^d, (k, n, d) float64, of the closed forms that have about as many, see `neighbours`.

    It yields after each piece of the work, which it adds to those that are kept.

    They are as many as a share of the effort lets descend, of more that are drawn by the seed: what is taken out and
    which holes are filled. Half of them are the best of each form, of the forms that come lowest in a few steps; the
    others are the best that are left.
    """
    import torch

    from protogen.descent.hops import HOLE_EVALUATIONS, Holes, deepest_holes, fitted
    from protogen.descent.phases import planned
    from protogen.descent.pieces import Pieces

    budget = planned(d, n, effort).budget
    afforded = int(DRAWN_SHARE * budget / (SOON_STEPS * evaluation_cost(d, n)))
    searched = int(HOLES_SHARE * budget / (HOLE_EVALUATIONS * OVERHEAD))  # forms: a low effort has holes for three
    forms = neighbours(lines, d, n)[: max(1, min(searched, max(LEAST_FORMS, afforded)))]
    yield  # to look through the catalogue is a piece too, though too short to be kept
    if not forms:
        return torch.zeros(0, n, d, dtype=torch.float64, device="cpu")
    generator = torch.Generator().manual_seed(seed % 2**63)
    pieces = Pieces(kept, generator)
    whole = [catalog.Padded(form, form.own_n, d).rows(0, form.own_n).double() for form in forms]
    fewer = sum(len(rows) < n for rows in whole)
    allowed = HOLES_SHARE * budget / max(1, fewer)
    holes = dict[int, Holes]()
    for form, rows in enumerate(whole):
        if len(rows) < n:
            holes[form] = Holes(*pieces.do(partial(deepest_holes, rows, lines, generator, allowed)))
            yield

    def draw(chosen: list[int], count: int) -> list[_Drawn]:
        turns = [chosen[turn % len(chosen)] for turn in range(count)]

        def sets() -> "tuple[Tensor, Tensor]":
            made = torch.stack([fitted(whole[form], n, lines, generator, holes.get(form)) for form in turns])
            return _soon(made, lines), made

        soon, made = pieces.do(sets)
        return [_Drawn(*one) for one in zip(soon.tolist(), turns, made, strict=True)]

    most = max(len(forms), min(MOST_DRAWN, afforded))
    drawn = draw(list(range(len(forms))), max(1, most // (2 * len(forms))) * len(forms))
    yield
    good = [one.form for one in _best_of_each(drawn)[: math.ceil(GOOD_FORMS * len(forms))]]
    if len(drawn) < most:
        drawn += draw(good, most - len(drawn))
        yield
    count = known_sets(d, n, effort)
    firsts = _best_of_each(drawn)[: math.ceil(count / 2)]
    others = sorted((one for one in drawn if one not in firsts), key=attrgetter("value"))
    return torch.stack([one.rows for one in [*firsts, *others][:count]])


@dataclass(frozen=True, eq=False)
class _Drawn:
    """A set that was drawn: the smooth maximum that it comes to soon, the place of its form, its rows (n, d)."""

    value: float
    form: int
    rows: "Tensor"


def _best_of_each(drawn: list[_Drawn]) -> list[_Drawn]:
    """List the lowest set of each form, the lowest first."""
    listed: dict[int, _Drawn] = {}
    for one in sorted(drawn, key=attrgetter("value")):
        listed.setdefault(one.form, one)
    return list(listed.values())


def _soon(sets: "Tensor", lines: bool) -> "Tensor":
    """Return the smooth maxima (k,) that sets (k, n, d) come to in SOON_STEPS.

    The largest cosine would rank them wrongly at once: of 552 points at 1/5 and three holes it is that of the holes.
    """

    from protogen.descent.batch import Batch
    from protogen.descent.smooth import of_lines, of_points

    batch = Batch(sets.float(), of_lines if lines else of_points, (SOON,), SOON_STEPS)
    while batch.going:
        batch.advance()
    return batch.values


def neighbours(lines: bool, d: int, n: int) -> list[catalog.ClosedForm]:
    """List the FORMS best closed forms in R^d that have about n vectors, the lowest cosine first.

    They have LEAST to MOST times as many, and are the best of their families for n or for some numbers below it.
    """
    families = catalog.LINES if lines else catalog.POINTS
    numbers = sorted({n, *(max(2, n - 1 - int(share * n)) for share in BELOW)}, reverse=True)
    found = {form: None for number in numbers for form in catalog.reaching(families, d, number)}
    near = [form for form in found if LEAST * n <= form.own_n <= MOST * n]
    near.sort(key=lambda form: (round(form.cosine, 12), abs(form.own_n - n)))
    differing = {(round(form.cosine, 12), form.own_n): form for form in reversed(near)}
    return list(reversed(differing.values()))[:FORMS]
