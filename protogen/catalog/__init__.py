"""Closed forms, one family a file, and the choice among them."""

from .choice import build, choose, reaching, seek, seek_signs
from .derived import LINES, SIGNS
from .derived.signs import listed_signs, sign_rows, smallest_distance
from .family import ClosedForm, Padded, row_signs
from .naming import FAMILIES, from_label, label
from .points import POINTS

__all__ = [
    "FAMILIES",
    "LINES",
    "POINTS",
    "SIGNS",
    "ClosedForm",
    "Padded",
    "build",
    "choose",
    "from_label",
    "label",
    "listed_signs",
    "reaching",
    "row_signs",
    "seek",
    "seek_signs",
    "sign_rows",
    "smallest_distance",
]
