"""Closed forms, one family a file, and the choice among them."""

from .choice import FAMILIES, build, choose, from_label, reaching, seek
from .derived import LINES
from .family import ClosedForm, Padded, label
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
    "seek",
]
