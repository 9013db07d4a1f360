"""A search for a stated effort, beside a closed form: when it is made, what a Spec may say of it, what comes of it."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from protogen.bounds import TOLERANCE, coherence_bound
from protogen.checks import check_word
from protogen.descent.effort import EFFORTS, evaluation_cost
from protogen.errors import BadRequest
from protogen.files.facts import Facts
from protogen.rows import InMemory
from protogen.solution import ENDED_EARLY, Solution

from .start import NEAR_BOUND
from .task import Task

if TYPE_CHECKING:
    from torch import Tensor

SEARCHABLE = 2.2e8  # multiplications of an evaluation; where it takes more, descents go by steps
# So do they for more vectors. A search takes a minute and a half at (100, 1000) and (48, 900) and gains nothing and .2%
# there; a descent from the closed form takes 2 and 5 seconds.
MOST_SEARCHED = 600
# Of so few numbers a search finds lines that are a third of a degree better than a form within 5% of the bound: lines
# (12, 65) are .3232 against .3278.
FEW_NUMBERS = 4096


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
                f"at most {SEARCHABLE:g} multiplications, not {evaluation_cost(d, n):g}; give steps"
            )
    return not other and _searchable(d, n)


def _searchable(d: int, n: int) -> bool:
    return n <= MOST_SEARCHED and evaluation_cost(d, n) <= SEARCHABLE


def meets(d: int, n: int, alpha: float | None, cosine: float) -> bool:
    """Whether lines of this coherence leave a search nothing to find.

    That is so where alpha is met; without one where the lower bound is met, or about so in more than FEW_NUMBERS.
    """
    bound = coherence_bound(d, n).value
    near = NEAR_BOUND * bound if n * d > FEW_NUMBERS else bound
    return n <= d or cosine <= (near if alpha is None else max(alpha, bound)) + TOLERANCE


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
    - `given`: rows (n, d) to start from, beside random ones.
    """
    import torch

    from protogen.descent.packing import Request, pack

    rows = torch.zeros(0, task.n, task.d, dtype=torch.float64, device="cpu") if given is None else given[None].double()
    asked = Request(lines, task.d, task.n, task.seed, effort, alpha)
    found = pack(asked, rows, task.run, task.checkpoint)
    facts = Facts(jammed=found.jammed, group=found.group or None)
    if built is not None and lowest is not None:
        if found.largest >= lowest - TOLERANCE:
            end = found.status if found.status in ENDED_EARLY else built.status
            return replace(built, status=end, reproducible="statistical", steps=found.steps)
        if lines:
            facts = replace(facts, outdone=built.facts.closed_form, guaranteed_coherence=lowest)
    return Solution(InMemory(found.rows.float()), found.status, "statistical", steps=found.steps, facts=facts)
