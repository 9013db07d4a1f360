"""The families of lines that are built from nothing: a new one is one file and one word here."""

from .family import ClosedForm
from .mub import ComplexMUB
from .orthonormal import Orthonormal

DIRECT: tuple[type[ClosedForm], ...] = (Orthonormal, ComplexMUB)
