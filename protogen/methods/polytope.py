"""Make a regular polytope: simplex, orthoplex or cube, by formula.

Pernici, Bruni, Baecchi and Del Bimbo 2019, Maximally Compact and Separated Features with Regular Polytope Networks
(CVPR Workshops): Eq. 3 to 5, 7 and 10 to 12.
"""

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from protogen.catalog import Padded, label
from protogen.catalog.family import ClosedForm
from protogen.catalog.points.cube import CubeVertices
from protogen.catalog.points.simplices import Simplices
from protogen.files.facts import Facts
from protogen.measuring.stats import AngleStats
from protogen.solution import Solution, Status
from protogen.spec import Spec

from .method import Method, formula_bytes
from .task import Task


@dataclass(frozen=True)
class Polytope(Method):
    """What the three share: no parameter, no seed, rows by formula and a smallest d for n (Eq. 7)."""

    version: ClassVar[int] = 1
    group: ClassVar[str | None] = "polytope"
    takes: ClassVar[tuple[str, ...]] = ()

    def _resolve(self, d: int, n: int, seed: int) -> Spec:
        return Spec.of(self.name, self.version, d=d, n=n, seed=0, params={})

    def solve(self, task: Task) -> Solution:
        """Lay the vertices into R^d; the facts hold own d, phi in radians and degrees, and what is guaranteed."""
        d, n = task.d, task.n
        form = self.vertices(d, n)
        phi = self.phi(form.own_d)
        facts = Facts(
            closed_form=label(form),
            construction=form.construction if isinstance(form, CubeVertices) else None,
            guaranteed_max_cos=form.cosine,
            own_d=form.own_d,
            phi=phi,
            phi_deg=math.degrees(phi),
        )
        return Solution(Padded(form, n, d), Status.FORMULA, "exact", facts=facts)

    @classmethod
    @abstractmethod
    def vertices(cls, d: int, n: int) -> ClosedForm:
        """The vertices, of which the first n are taken, in as many of d coordinates as they use."""

    @classmethod
    @abstractmethod
    def phi(cls, own_d: int) -> float:
        """The angle in radians from a vertex of the whole polytope in R^own_d to its neighbours (Eq. 10 to 12)."""

    def peak_bytes(self, d: int, n: int) -> int:
        return formula_bytes(d, n)

    @classmethod
    def rank(cls, stats: AngleStats | None, facts: Facts) -> float:
        """The largest cosine, as measured; as guaranteed where nothing was measured."""
        cosine = cls.cosine(stats, facts)
        return math.inf if cosine is None else cosine


@dataclass(frozen=True)
class Simplex(Polytope):
    """Take the n vertices of the regular simplex of R^(n-1): every cosine is -1/(n-1).

    {e_1, ..., e_m, kappa (e_1 + ... + e_m)} in R^m, m = n - 1, kappa = (1 - sqrt(m+1)) / m, centred and
    scaled to length one (Eq. 3, which prints R^(m-1), where it is not regular). In a larger d the other
    coordinates are zeros.
    """

    name: ClassVar[str] = "simplex"

    @classmethod
    def least_d(cls, n: int) -> int:
        return n - 1

    @classmethod
    def vertices(cls, d: int, n: int) -> ClosedForm:
        return Simplices(n, 1)

    @classmethod
    def phi(cls, own_d: int) -> float:
        return math.acos(-1 / own_d)  # Eq. 10


@dataclass(frozen=True)
class Orthoplex(Polytope):
    """Take n of the vertices +-e_i of the orthoplex of R^ceil(n/2): every cosine is 0 or -1 (Eq. 4).

    Opposite vertices follow one another; of an odd n the last stands alone. In a larger d the other
    coordinates are zeros.
    """

    name: ClassVar[str] = "orthoplex"

    @classmethod
    def least_d(cls, n: int) -> int:
        return -(-n // 2)

    @classmethod
    def vertices(cls, d: int, n: int) -> ClosedForm:
        pairs = cls.least_d(n)
        return Simplices(2 * pairs, pairs)

    @classmethod
    def phi(cls, own_d: int) -> float:
        return math.pi / 2  # Eq. 11


@dataclass(frozen=True)
class Cube(Polytope):
    """Take n of the 2^d vertices of the cube of R^d, as far apart as a binary code brings them (Eq. 5).

    The smallest d is ceil(log2 n). A larger d is used whole: the vertices are the words of the best code
    of length d among several constructions, and the file says which. All codes are linear, or made of
    Hadamard matrices, and no two words are the same.
    """

    name: ClassVar[str] = "cube"
    version: ClassVar[int] = 2  # the codes of 1 knew fewer Hadamard matrices

    @classmethod
    def least_d(cls, n: int) -> int:
        return (n - 1).bit_length()

    @classmethod
    def vertices(cls, d: int, n: int) -> ClosedForm:
        return CubeVertices(d, n)

    @classmethod
    def phi(cls, own_d: int) -> float:
        return math.acos((own_d - 2) / own_d)  # Eq. 12
