"""All families of lines: the direct ones, and those that make a set from another's."""

from ..direct import DIRECT
from ..direct.hadamard_rows import HadamardRows
from ..family import ClosedForm
from .beside import Beside
from .blow_up import BlowUp
from .copies import Copies
from .labels import Labels
from .projection import Projection
from .projections import Projections
from .punctured import Punctured
from .signs import Joined, Lengthened

DERIVED: tuple[type[ClosedForm], ...] = (Labels, BlowUp, Copies, Projection, Punctured, Beside, Projections)
LINES: tuple[type[ClosedForm], ...] = (*DIRECT, *DERIVED)

# Rows of signs alone, in exactly d coordinates: asked for by `signs_of`, not among all lines.
SIGNS: tuple[type[ClosedForm], ...] = (HadamardRows, Lengthened, Joined)
