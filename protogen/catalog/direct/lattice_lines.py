"""Lines of coherence 1/2 and 1/3 among the shortest vectors of lattices: sections of the Leech lattice."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar, Self

from protogen.errors import BadRequest

from ..algebra.leech import leech
from ..algebra.sections import Cut
from ..family import ClosedForm, best
from .sharp import OCTAD, Section, points_of

if TYPE_CHECKING:
    from torch import Tensor


def _zero(*places: int) -> tuple[Cut, ...]:
    """Cuts by which these coordinates are 0."""
    return tuple(((*place * (0,), 1), 0) for place in places)


def _sum(*places: int) -> Cut:
    """The cut by which the sum of these coordinates is 0."""
    return tuple(int(place in places) for place in range(max(places) + 1)), 0


def _difference(first: int, *others: int) -> Cut:
    """The cut by which a coordinate is the sum of others, which come after it."""
    return tuple((place == first) - int(place in others) for place in range(max(others) + 1)), 0


# Vectors of cosine 1/2 with a shortest one, and of these the ones whose first two coordinates are equal.
NEXT: tuple[Cut, ...] = (((1, 1), 4),)
EVEN: tuple[Cut, ...] = (*NEXT, _difference(0, 1))
REST = (2, 3, 4, 15, 17, 20)  # an octad without the first two places
TAIL = (17, 20)
SECTIONS = {
    (14, 112): Section(1 / 3, leech, (*EVEN, *_zero(*REST, 5), _sum(7, 12, 22))),
    (15, 160): Section(1 / 3, leech, (*EVEN, *_zero(*REST, 5))),
    (16, 256): Section(1 / 3, leech, (*EVEN, *_zero(*REST))),
    (17, 288): Section(1 / 3, leech, (*EVEN, *_zero(2, 3, 4, 15), _sum(*TAIL))),
    (18, 352): Section(1 / 3, leech, (*EVEN, *_zero(2, 3, 4), _sum(15, *TAIL))),
    (19, 448): Section(1 / 3, leech, (*EVEN, *_zero(2, 3, 4))),
    (20, 640): Section(1 / 3, leech, (*EVEN, *_zero(2, 3))),
    (21, 896): Section(1 / 3, leech, (*NEXT, ((1, -1, 2), 0), _sum(2, 3))),
    (22, 1408): Section(1 / 3, leech, (*NEXT, ((1, -1, 2), 0))),
    (15, 1170): Section(1 / 2, leech, (*_zero(0), *_zero(*OCTAD))),
    (17, 2673): Section(1 / 2, leech, (_sum(*OCTAD[:2]), *_zero(*OCTAD[2:]))),
    (18, 3699): Section(1 / 2, leech, (_difference(*OCTAD[:3]), *_zero(*OCTAD[3:]))),
    (19, 5334): Section(1 / 2, leech, _zero(*OCTAD[:5])),
    (20, 8700): Section(1 / 2, leech, _zero(*OCTAD[:4])),
    (21, 13860): Section(1 / 2, leech, (*_zero(*OCTAD[:2]), _sum(*OCTAD[1:3]))),
}


@dataclass(frozen=True)
class LatticeLines(ClosedForm):
    """n lines in R^d: one of each two opposite shortest vectors of a lattice.

    - Of coherence 1/2: the laminated lattices of 15 and 17 to 21 dimensions, from the vectors of the Leech lattice
      that are orthogonal to some of its shortest ones.
    - Of coherence 1/3: sections of the shorter Leech lattice, whose shortest vectors come from those that have the
      cosine 1/2 with a shortest one. Those in the hyperplane that is orthogonal to one of them, (22, 1408), and
      those with two to nine more coordinates or sums of them 0.

    `SharpLines` has the sets of 16, 22, 23 and 24 dimensions of either kind that meet bounds.

    Source: Conway and Sloane 1999, Sphere Packings, Lattices and Groups, Chapters 4 and 6.
    """

    family: ClassVar[str] = "lattice-lines"
    d: int
    n: int

    def __post_init__(self) -> None:
        if (self.d, self.n) not in SECTIONS:
            allowed = ", ".join(str(size) for size in SECTIONS)
            raise BadRequest(f"d is {self.d} and n is {self.n}; allowed is (d, n) one of {allowed}")

    @classmethod
    def reach(cls, d: int, n: int) -> Self | None:
        """Return the set of lowest coherence in at most d dimensions that has n lines."""
        return best(form for form in cls._within(d) if n <= form.n)

    @classmethod
    def _within(cls, d: int) -> Iterator[Self]:
        return (cls(*size) for size in SECTIONS if size[0] <= d)

    @property
    def own_d(self) -> int:
        return self.d

    @property
    def own_n(self) -> int:
        return self.n

    @property
    def cosine(self) -> float:
        return SECTIONS[self.d, self.n].cosine

    @property
    def held_bytes(self) -> int:
        return 8 * self.d * self.n

    def rows(self, start: int, stop: int) -> "Tensor":
        """Return rows start to stop - 1, (stop - start, d) float32, from the table of all."""
        return _lines(self.d, self.n)[start:stop].clone()


@lru_cache(maxsize=4)
def _lines(d: int, n: int) -> "Tensor":
    return points_of(SECTIONS[d, n], antipodal=True)[::2]
