"""Closed forms, one family a file, and the choice among them."""

import re

from ..errors import BadRequest
from .family import ClosedForm, Padded, label
from .mub import ComplexMUB
from .orthonormal import Orthonormal

__all__ = ["FAMILIES", "ClosedForm", "Padded", "choose", "from_label", "label"]

FAMILIES: dict[str, type[ClosedForm]] = {f.family: f for f in (Orthonormal, ComplexMUB)}


def choose(d: int, n: int) -> ClosedForm | None:
    """The closed form of n lines in R^d with the lowest guaranteed coherence, or None."""
    forms = [form for family in FAMILIES.values() if (form := family.reach(d, n))]
    return min(forms, key=lambda form: form.coherence, default=None)


def from_label(text: str) -> ClosedForm:
    """Read what `label` wrote. Raises BadRequest on anything else."""
    match = re.fullmatch(r"([\w-]+)\(((?:\w+=\d+,?)*)\)", text)
    if not match or match[1] not in FAMILIES:
        raise BadRequest(f"unknown closed form {text!r}; the families are {', '.join(FAMILIES)}")
    parameters = dict(part.split("=") for part in match[2].split(",") if part)
    return FAMILIES[match[1]](**{name: int(value) for name, value in parameters.items()})
