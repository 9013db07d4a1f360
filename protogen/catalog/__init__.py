"""Closed forms, one family a file, and the choice among them."""

import re
from contextlib import suppress

from ..errors import BadRequest
from ..solution import Solution, Status
from .family import ClosedForm, Padded, label
from .mub import ComplexMUB
from .orthonormal import Orthonormal
from .simplices import Simplices

__all__ = [
    "CLOSED_FORM",
    "FAMILIES",
    "LINES",
    "POINTS",
    "ClosedForm",
    "Padded",
    "build",
    "choose",
    "from_label",
    "label",
    "start_of",
]

CLOSED_FORM = "closed-form"
LINES: tuple[type[ClosedForm], ...] = (Orthonormal, ComplexMUB)
POINTS: tuple[type[ClosedForm], ...] = (Simplices,)
FAMILIES = {family.family: family for family in LINES + POINTS}


def choose(families: tuple[type[ClosedForm], ...], d: int, n: int) -> ClosedForm | None:
    """Of LINES or POINTS, the closed form of n vectors in R^d with the lowest guaranteed cosine, or None."""
    forms = [form for family in families if (form := family.reach(d, n))]
    return min(forms, key=lambda form: form.cosine, default=None)


def from_label(text: str) -> ClosedForm:
    """Read what `label` wrote. Raises BadRequest on anything else."""
    match = re.fullmatch(r"([\w-]+)\((\w+=\d+(?:,\w+=\d+)*)\)", text)
    if match and match[1] in FAMILIES:
        parameters = dict(part.split("=") for part in match[2].split(","))
        with suppress(TypeError):  # the parameters of another family
            form = FAMILIES[match[1]](**{name: int(value) for name, value in parameters.items()})
            if label(form) == text:
                return form
    raise BadRequest(f"unknown closed form {text!r}; the families are {', '.join(FAMILIES)}")


def start_of(form: ClosedForm) -> str:
    """The start that a Spec names for a closed form: closed-form:family(parameters)."""
    return f"{CLOSED_FORM}:{label(form)}"


def build(start: str, n: int, d: int) -> Solution:
    """The first n rows of the closed form that a Spec names, in R^d, with what it guarantees."""
    form = from_label(start.removeprefix(f"{CLOSED_FORM}:"))
    guarantee = "guaranteed_coherence" if type(form) in LINES else "guaranteed_max_cos"
    facts = {"closed_form": label(form), guarantee: form.cosine}
    return Solution(Padded(form, n, d), Status.FORMULA, "exact", facts=facts)
