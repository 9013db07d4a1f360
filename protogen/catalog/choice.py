"""Closed forms, one family a file, and the choice among them."""

from protogen.files.facts import Facts
from protogen.solution import Solution, Status

from .derived import DERIVED, LINES
from .derived.signs import listed_signs
from .direct.cyclic import search_packing
from .direct.orthonormal import Orthonormal
from .direct.simplex_lines import SimplexLines
from .family import ClosedForm, Padded, preference
from .naming import from_label
from .points import POINTS
from .points.simplices import Simplices

EVERYWHERE = (Orthonormal, SimplexLines, Simplices)
WIDEST_ASKED = 2**14  # dimensions that a family is asked for, but for those of EVERYWHERE
WIDEST_SEARCHED = 2**12  # dimensions that a search of a cyclic packing is made for


def reaching(families: tuple[type[ClosedForm], ...], d: int, n: int) -> list[ClosedForm]:
    """List the best form of n vectors in R^d of each family of LINES or POINTS that has one, the lowest cosine first.

    A family of EVERYWHERE is asked for d dimensions, any other for at most WIDEST_ASKED of them. Lines made from
    other lines are asked for where n > d: up to there `orthonormal` has the coherence 0.
    """
    paying = (family for family in families if n > d or family not in DERIVED)
    asked = ((family, d if family in EVERYWHERE else min(d, WIDEST_ASKED)) for family in paying)
    return sorted((form for family, most in asked if (form := family.reach(most, n))), key=preference)


def choose(families: tuple[type[ClosedForm], ...], d: int, n: int) -> ClosedForm | None:
    """Choose from LINES or POINTS the closed form of n vectors in R^d with the lowest guaranteed cosine, or None."""
    return next(iter(reaching(families, d, n)), None)


def seek(d: int, n: int) -> ClosedForm | None:
    """Choose from LINES, then search a second at most for a cyclic packing of lower coherence.

    The search is made where d < n and d <= WIDEST_SEARCHED. Returns None where there is no form at all.
    """
    form = choose(LINES, d, n)
    found = search_packing(d, n, form.cosine if form else 1) if d < n and d <= WIDEST_SEARCHED else None
    return found or form


def seek_signs(d: int, n: int) -> ClosedForm | None:
    """Choose the form of lowest coherence whose first n rows are signs alone in exactly d coordinates, or None."""
    return next(iter(listed_signs(d, n)), None)


def build(text: str, n: int, d: int, *, signed: bool = False) -> Solution:
    """Build the Solution of the first n rows of the form with this label in R^d, with the cosine that it guarantees.

    `signed` turns rows round by their index. Raises BadRequest where the label is none, or its form has fewer
    vectors or more dimensions.
    """
    form = from_label(text)
    if type(form) in POINTS:
        facts = Facts(closed_form=text, guaranteed_max_cos=form.cosine)
    else:
        facts = Facts(closed_form=text, guaranteed_coherence=form.cosine)
    return Solution(Padded(form, n, d, signed), Status.FORMULA, "exact" if form.exact else "statistical", facts=facts)
