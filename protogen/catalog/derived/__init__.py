"""All families of lines: the direct ones, and those that make a set from another's."""

from ..direct import DIRECT
from ..family import ClosedForm
from .blow_up import BlowUp
from .labels import Labels
from .projection import Projection
from .punctured import Punctured

LINES: tuple[type[ClosedForm], ...] = (*DIRECT, Labels, BlowUp, Projection, Punctured)
