"""Sections of the Leech lattice as sets of vectors, and the family of those that are lines."""

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar, Self

from protogen.errors import BadRequest

from ..algebra.leech import leech
from ..algebra.sections import cuts, sets, table
from ..family import Sized
from .sharp import Section, points_of

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Sections(Sized):
    """n vectors in R^d: the shortest vectors of the Leech lattice with given products with 24 - d words, projected.

    As lines, one of each two opposite ones. The lines of coherence 1/2 are those of the shortest vectors of the
    laminated lattices, those of coherence 1/3 of sections of the shorter Leech lattice.

    Source: Conway and Sloane 1999, Sphere Packings, Lattices and Groups, Chapter 14. The table of the words was found
    by a search.
    """

    family: ClassVar[str]
    lines: ClassVar[bool]
    d: int
    n: int

    def __post_init__(self) -> None:
        known = sets(self.lines)
        if (self.d, self.n) not in known:
            numbers = sorted(n for d, n in known if d == self.d)
            allowed = f"n one of {', '.join(map(str, numbers))}" if numbers else "d from 13 to 23"
            raise BadRequest(f"d is {self.d} and n is {self.n}; allowed is {allowed}")

    @classmethod
    def reach(cls, d: int, n: int) -> Self | None:
        """Return the set of lowest cosine in at most d dimensions that has n vectors."""
        return next((cls(*size) for size in sets(cls.lines) if size[0] <= d and size[1] >= n), None)

    @property
    def cosine(self) -> float:
        return float(sets(self.lines)[self.d, self.n][0])

    @property
    def held_bytes(self) -> int:
        return 4 * self.d * table()[sets(self.lines)[self.d, self.n][1]].n

    def rows(self, start: int, stop: int) -> "Tensor":
        """Return rows start to stop - 1, (stop - start, d) float32, from the table of all."""
        place = sets(self.lines)[self.d, self.n][1]
        step = 2 if self.lines and table()[place].opposite else 1
        return _vectors(place)[step * start : step * stop : step].clone()


@dataclass(frozen=True)
class SectionLines(Sections):
    """n lines in R^d that are a section of the Leech lattice, whose coherence is lower than of other forms."""

    family: ClassVar[str] = "section-lines"
    lines: ClassVar[bool] = True


@lru_cache(maxsize=4)
def _vectors(place: int) -> "Tensor":
    return points_of(Section(0.0, leech, tuple(cuts(place))), table()[place].opposite)
