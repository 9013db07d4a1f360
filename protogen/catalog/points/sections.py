"""Points among the shortest vectors of the Leech lattice: those that have given products with given vectors."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Self

from protogen.errors import BadRequest

from ..algebra.leech import leech
from ..direct.sharp import Cut, Section, points_of
from ..family import ClosedForm

if TYPE_CHECKING:
    from torch import Tensor

TABLE = Path(__file__).parent / "sections.txt"
DIGITS = "edcba012345"  # of the entries of a word, from -5 to 5
DIMENSIONS = 24


class Line(NamedTuple):
    """A line of the table: which section is cut, by which word and product, and of a set n and its cosine."""

    parent: int
    cut: Cut
    d: int
    n: int
    cosine: Fraction | None


def written(parent: int, word: list[int], product: int, n: int, cosine: Fraction | None) -> str:
    """Write a line of the table: the line of what is cut, -1 for the lattice; the word; the product; n; the cosine.

    The cosine is - where the section only leads to others.
    """
    entries = "".join(DIGITS[entry + 5] for entry in word).rstrip("0")
    return f"{parent} {entries} {product} {n} {'-' if cosine is None else cosine}\n"


@cache
def table() -> tuple[Line, ...]:
    """Read the lines of the table; each section comes after what it is cut from."""
    lines: list[Line] = []
    for text in TABLE.read_text("ascii").splitlines():
        parent, word, product, n, cosine = text.split(" ")
        cut = tuple(DIGITS.index(digit) - 5 for digit in word), int(product)
        above = DIMENSIONS if parent == "-1" else lines[int(parent)].d
        lines.append(Line(int(parent), cut, above - 1, int(n), None if cosine == "-" else Fraction(cosine)))
    return tuple(lines)


@cache
def members() -> dict[tuple[int, int], int]:
    """Return the line of each set by its d and n, the lowest cosine first."""
    listed = [(line.cosine, place) for place, line in enumerate(table()) if line.cosine is not None]
    return {(table()[place].d, table()[place].n): place for _, place in sorted(listed)}


@dataclass(frozen=True)
class SectionPoints(ClosedForm):
    """n points in R^d: shortest vectors of the Leech lattice with given products with 24 - d vectors, projected.

    A table lists the words w and the products p by which sections of a section are cut: the vectors x with
    <x, w> = p. All x of a section have the same part q, a squared length, in the span of the words. Two of them have
    the cosine (16 - q) / (32 - q) at most, where x has the squared length 32.

    Source: Conway and Sloane 1999, Sphere Packings, Lattices and Groups, Chapter 14; the table was found by a search.
    """

    family: ClassVar[str] = "section-points"
    d: int
    n: int

    def __post_init__(self) -> None:
        if (self.d, self.n) not in members():
            known = sorted(n for d, n in members() if d == self.d)
            allowed = f"n one of {', '.join(map(str, known))}" if known else "d from 13 to 23"
            raise BadRequest(f"d is {self.d} and n is {self.n}; allowed is {allowed}")

    @classmethod
    def reach(cls, d: int, n: int) -> Self | None:
        """Return the set of lowest cosine in at most d dimensions that has n points."""
        return next((cls(*size) for size in members() if size[0] <= d and size[1] >= n), None)

    @property
    def own_d(self) -> int:
        return self.d

    @property
    def own_n(self) -> int:
        return self.n

    @property
    def cosine(self) -> float:
        cosine = table()[members()[self.d, self.n]].cosine
        assert cosine is not None, "a member has one"
        return float(cosine)

    @property
    def held_bytes(self) -> int:
        return 4 * self.d * self.n

    def rows(self, start: int, stop: int) -> "Tensor":
        """Return rows start to stop - 1, (stop - start, d) float32, from the table of all."""
        return _points(self.d, self.n)[start:stop].clone()


def cuts(place: int) -> Iterator[Cut]:
    """Yield the cuts of the section on this line, the first one first."""
    line = table()[place]
    if line.parent >= 0:
        yield from cuts(line.parent)
    yield line.cut


@lru_cache(maxsize=4)
def _points(d: int, n: int) -> "Tensor":
    place = members()[d, n]
    cosine = table()[place].cosine
    assert cosine is not None, "a member has one"
    return points_of(Section(float(cosine), leech, tuple(cuts(place))), antipodal=False)
