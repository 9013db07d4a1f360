"""The families of lines that are built from nothing: a new one is one file and one word here."""

from ..family import ClosedForm
from .bent import Bent
from .centred_blocks import CentredBlocks
from .centred_net import CentredNet
from .conference import Conference
from .cut_cyclic import CutCyclic
from .cut_net import CutNet
from .cut_pairs import CutPairs
from .cut_triples import CutTriples
from .cyclic import CyclicPacking
from .delsarte_goethals import DelsarteGoethals
from .designs import Design
from .equiangular import Equiangular
from .graphical import Graphical
from .kerdock import Kerdock
from .kerdock_off_flat import KerdockOffFlat
from .lifted_blocks import LiftedBlocks
from .mathon import Mathon
from .mub import ComplexMUB, TernaryMUB
from .nets import Net
from .orthonormal import Orthonormal
from .paley import Paley
from .phases import HigherPhases
from .quadruples import Quadruples
from .sections import SectionLines
from .sharp import SharpLines
from .signed_triples import SignedTriples
from .simplex_lines import SimplexLines
from .spaces import Space
from .triples import Triples
from .unitary import Unitary
from .z4_kerdock import Z4Kerdock

# Of equal cosine the first is taken: those whose products with all vectors are fast come before the others.
DIRECT: tuple[type[ClosedForm], ...] = (
    Orthonormal,
    SimplexLines,
    SharpLines,
    Kerdock,
    DelsarteGoethals,
    Z4Kerdock,
    KerdockOffFlat,
    ComplexMUB,
    TernaryMUB,
    HigherPhases,
    Net,
    Space,
    Design,
    CyclicPacking,
    Paley,
    Bent,
    Unitary,
    Triples,
    CutPairs,
    CutTriples,
    CutCyclic,
    CutNet,
    Conference,
    Mathon,
    LiftedBlocks,
    Graphical,
    CentredNet,
    CentredBlocks,
    Equiangular,
    Quadruples,
    SignedTriples,
    SectionLines,
)
