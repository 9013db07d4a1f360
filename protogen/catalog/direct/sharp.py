"""The sporadic sets of few dimensions: roots, the 600-cell, the Leech lattice's vectors, and what is cut from them."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache, reduce
from operator import add
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Self

from protogen.errors import BadRequest

from ..algebra.leech import e8, leech
from ..algebra.sections import Cut
from ..family import Sized, Tight, best

if TYPE_CHECKING:
    from torch import Tensor


def six_hundred_cell() -> "Tensor":
    """The 120 vertices of the 600-cell, of length 2, (120, 4) float64.

    (+-2, 0, 0, 0) anywhere, (+-1, +-1, +-1, +-1), and the even permutations of (0, +-1/phi, +-1, +-phi).
    """
    import torch

    phi = (1 + math.sqrt(5)) / 2
    signs = torch.tensor([1.0, -1.0], dtype=torch.float64, device="cpu")
    values = torch.cartesian_prod(0 * signs[:1], signs / phi, signs, signs * phi)
    turned = torch.cat([values[:, [0, *turn]] for turn in ((1, 2, 3), (2, 3, 1), (3, 1, 2))])
    permuted = [turned[:, torch.arange(4, device="cpu") ^ swap] for swap in range(4)]
    axes = 2 * torch.eye(4, dtype=torch.float64, device="cpu")
    return torch.cat((axes, -axes, torch.cartesian_prod(*4 * [signs]), *permuted))


class Section(NamedTuple):
    """The vectors x of a set with <x, w> = p for each cut (w, p), projected on the complement of these w and scaled.

    `cosine` is the largest of the section, `whole` makes the set. The zeros at the end of w are left out.
    """

    cosine: float
    whole: "Callable[[], Tensor]"
    cuts: tuple[Cut, ...] = ()


def _by_roots(count: int, product: int) -> tuple[Cut, ...]:
    """Cuts by up to four vectors, of cosine 1/2 to each other, of E8 or the Leech lattice."""
    return tuple(((1, *i * (0,), 1), product) for i in range(count))


OCTAD = (1, 3, 5, 6, 9, 17, 20, 21)
HALVING = (0, 2, 0, 2, 0, 2, 2, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 2, 2)  # twice an octad
LONG: Cut = (5, *23 * (1,)), 24  # w of the next length, sqrt(48); these x are as far from it as from 0
ANTIPODAL = {
    (4, 120): Section((1 + math.sqrt(5)) / 4, six_hundred_cell),
    (5, 40): Section(1 / 2, e8, _by_roots(3, 0)),
    (6, 72): Section(1 / 2, e8, _by_roots(2, 0)),
    (7, 126): Section(1 / 2, e8, _by_roots(1, 0)),
    (8, 240): Section(1 / 2, e8),
    (16, 4320): Section(1 / 2, leech, tuple(((*place * (0,), 1), 0) for place in OCTAD)),
    (22, 352): Section(1 / 5, leech, (LONG, ((1, -1), 2))),
    (22, 49896): Section(1 / 2, leech, _by_roots(2, 0)),
    (23, 552): Section(1 / 5, leech, (LONG,)),
    (23, 4600): Section(1 / 3, leech, _by_roots(1, 4)),
    (23, 93150): Section(1 / 2, leech, _by_roots(1, 0)),
    (24, 196560): Section(1 / 2, leech),
}
SECTIONS = ANTIPODAL | {
    (4, 10): Section(1 / 6, e8, _by_roots(4, 4)),
    (21, 162): Section(1 / 7, leech, (LONG, *_by_roots(2, 4))),
    (21, 336): Section(1 / 5, leech, _by_roots(3, 4)),
    (22, 100): Section(1 / 11, leech, (LONG, ((1, -1), 4))),
    (22, 275): Section(1 / 6, leech, (LONG, *_by_roots(1, 4))),
    (22, 891): Section(1 / 4, leech, _by_roots(2, 4)),
    (20, 56): Section(1 / 15, leech, (LONG, *_by_roots(2, 4), ((1, 0, 0, 1), 2))),
    (20, 105): Section(1 / 8, leech, (LONG, *_by_roots(3, 4))),
    (21, 50): Section(1 / 21, leech, (LONG, ((1, -1), 4), (HALVING, 8))),
    (21, 77): Section(1 / 12, leech, (LONG, ((1, -1), 4), ((1, 0, 1), 4))),
}


@dataclass(frozen=True)
class Sharp(Sized, Tight):
    """n vectors in R^d, a tight frame: one of every `step` points of the section of step * n points."""

    family: ClassVar[str]
    sections: ClassVar[dict[tuple[int, int], Section]]
    step: ClassVar[int]
    d: int
    n: int

    def __post_init__(self) -> None:
        if (self.d, self.step * self.n) not in self.sections:
            allowed = ", ".join(f"({d}, {n // self.step})" for d, n in self.sections)
            raise BadRequest(f"d is {self.d} and n is {self.n}; allowed is (d, n) one of {allowed}")

    @classmethod
    def reach(cls, d: int, n: int) -> Self | None:
        """Return the set of lowest cosine in at most d dimensions that has n vectors."""
        return best(form for form in cls.sized(1, d) if n <= form.n)

    @classmethod
    def sized(cls, low: int, high: int) -> Iterator[Self]:
        """Yield the members with low <= own_d <= high."""
        return (cls(d, n // cls.step) for d, n in cls.sections if low <= d <= high)

    @property
    def cosine(self) -> float:
        return self.sections[self.d, self.step * self.n].cosine

    @property
    def held_bytes(self) -> int:
        return 4 * self.d * self.step * self.n

    def rows(self, start: int, stop: int) -> "Tensor":
        """Return rows start to stop - 1, (stop - start, d) float32, from the table of all."""
        return _points(self.d, self.step * self.n)[self.step * start : self.step * stop : self.step].clone()


@dataclass(frozen=True)
class SharpPoints(Sharp):
    """n points in R^d whose largest cosine is the least there is, or the least known.

    - The 600-cell, (d, n) = (4, 120).
    - Cosine 1/2: the roots of D5, E6, E7 and E8; the shortest vectors of the Leech lattice, and those of them that
      are orthogonal to one or two of them or to the places of an octad.
    - The shortest vectors of E8 or the Leech lattice that are next to one to four of them: (4, 10), (21, 336),
      (22, 891), (23, 4600).
    - Those next to a vector of the next length, (23, 552); of these the ones in a hyperplane, (22, 352).
    - Those next to vectors of both kinds: (21, 162), (22, 100), (22, 275).
    - Of (22, 100) those next to one of them, (21, 77), and half of them, (21, 50); of (21, 162) those next to one,
      (20, 105), and those not next to it, (20, 56).

    In a set of opposite points each is followed by its negative.

    Source: Delsarte, Goethals and Seidel 1977; Conway and Sloane 1999, chapter 14; Cohn and Kumar 2007.
    """

    family: ClassVar[str] = "sharp-points"
    sections = SECTIONS
    step = 1


@dataclass(frozen=True)
class SharpLines(Sharp):
    """n lines in R^d: one of each two opposite points of a set of SharpPoints.

    - (d, n) = (22, 176) and (23, 276), of coherence 1/5, meet Welch's bound (Lemmens and Seidel 1973).
    - (6, 36), (7, 63), (8, 120) and (24, 98280), of coherence 1/2, and (23, 2300), of coherence 1/3, meet the bound
      of Levenshtein (1998).
    """

    family: ClassVar[str] = "sharp-lines"
    sections = ANTIPODAL
    step = 2


@lru_cache(maxsize=4)
def _points(d: int, n: int) -> "Tensor":
    """All points of a section, (n, d) float32; of an antipodal set each point, then its negative."""
    return points_of(SECTIONS[d, n], (d, n) in ANTIPODAL)


def points_of(section: Section, antipodal: bool) -> "Tensor":
    """Return all points of a section, (n, d) float32, if it is antipodal each point and then its negative."""
    import torch

    rows = _cut(section.whole().double(), section.cuts)
    rows /= _sum(rows * rows).sqrt()
    if antipodal:
        first = (rows.abs() > 1e-6).byte().argmax(1, keepdim=True)
        half = rows[(rows.gather(1, first) > 0).flatten()]
        rows = torch.stack((half, -half), 1).flatten(0, 1)
    return rows.float()


def _cut(rows: "Tensor", cuts: tuple[Cut, ...]) -> "Tensor":
    """Take the rows that the cuts select, in coordinates of the complement: (k, d) to (rows, d - cuts) float64.

    A reflection takes each normal in turn to the last axis, which is left out.
    """
    import torch

    normals = torch.zeros(len(cuts), rows.shape[1], dtype=torch.float64, device="cpu")
    for normal, (entries, product) in zip(normals, cuts, strict=True):
        normal[: len(entries)] = torch.tensor(entries, dtype=torch.float32, device="cpu")
        rows = rows[rows @ normal == product]  # of whole numbers, exact in any order
    rows = torch.cat((normals, rows))
    for _ in cuts:
        normal = rows[0] / _sum(rows[:1] * rows[:1])[0].sqrt()
        sign = 1.0 if normal[-1] >= 0 else -1.0
        along = (_sum(rows * normal) + sign * rows[:, -1:]) / (1 + normal[-1].abs())
        rows = (rows - along * normal)[1:, :-1]
    return rows


def _sum(terms: "Tensor") -> "Tensor":
    """The sums of rows, (rows, 1), term by term: the same additions on every machine."""
    sums: Tensor = reduce(add, terms.split(1, dim=1))
    return sums
