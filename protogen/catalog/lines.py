"""All families of lines: the direct ones, and those that make a set from another's."""

from .direct import DIRECT
from .family import ClosedForm

LINES: tuple[type[ClosedForm], ...] = DIRECT
