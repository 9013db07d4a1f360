"""All families of points, counted by their largest cosine: a new one is one file and one word here."""

from ..direct.sharp import SharpPoints
from ..family import ClosedForm
from .antipodes import Antipodes
from .quadric import QuadricPoints
from .sections import SectionPoints
from .simplex_labels import SimplexLabels
from .simplices import Simplices

POINTS: tuple[type[ClosedForm], ...] = (
    Simplices,
    SharpPoints,
    QuadricPoints,
    Antipodes,
    SimplexLabels,
    SectionPoints,
)
