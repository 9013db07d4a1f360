"""Closed forms, one family a file, and the choice among them."""

from protogen.files.facts import Facts
from protogen.solution import Solution, Status

from .derived import LINES
from .direct.cyclic import search_packing
from .direct.orthonormal import Orthonormal
from .direct.simplex_lines import SimplexLines
from .family import ClosedForm, Padded, preference
from .naming import from_label
from .points.simplices import Simplices

EVERYWHERE = (Orthonormal, SimplexLines, Simplices)
ASKED, SEARCHED = 2**14, 2**12


def reaching(families: tuple[type[ClosedForm], ...], d: int, n: int) -> list[ClosedForm]:
    """The best form of n vectors in R^d of each family of LINES or POINTS that has one, the lowest cosine first.

    In more than ASKED dimensions a form of at most so many is given, but for those that stand in every one.
    """
    asked = ((family, d if family in EVERYWHERE else min(d, ASKED)) for family in families)
    return sorted((form for family, most in asked if (form := family.reach(most, n))), key=preference)


def choose(families: tuple[type[ClosedForm], ...], d: int, n: int) -> ClosedForm | None:
    """Of LINES or POINTS, the closed form of n vectors in R^d with the lowest guaranteed cosine, or None."""
    return next(iter(reaching(families, d, n)), None)


def seek(d: int, n: int) -> ClosedForm | None:
    """As `choose` among LINES, or a cyclic packing that is better, if a search of a second at most finds one."""
    form = choose(LINES, d, n)
    found = search_packing(d, n, form.cosine if form else 1) if d < n and d <= SEARCHED else None
    return found or form


def build(text: str, n: int, d: int) -> Solution:
    """The first n rows of the closed form with this label, in R^d, with what it guarantees."""
    form = from_label(text)
    if type(form) in LINES:
        facts = Facts(closed_form=text, guaranteed_coherence=form.cosine)
    else:
        facts = Facts(closed_form=text, guaranteed_max_cos=form.cosine)
    return Solution(Padded(form, n, d), Status.FORMULA, "exact" if form.exact else "statistical", facts=facts)
