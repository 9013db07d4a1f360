"""Closed forms, one family a file, and the choice among them."""

from .choice import build, choose, reaching, seek
from .derived import LINES
from .family import ClosedForm, Padded, row_signs
from .naming import FAMILIES, from_label, label
from .points import POINTS

__all__ = [
    "FAMILIES",
    "LINES",
    "POINTS",
    "ClosedForm",
    "Padded",
    "build",
    "choose",
    "from_label",
    "label",
    "reaching",
    "row_signs",
    "seek",
]
