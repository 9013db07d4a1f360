"""Packing frames of the points and lines of affine and projective spaces."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

from protogen.errors import BadRequest

from ..algebra.fields import field, prime_power, prime_powers
from ..family import best
from .packing import Packing, orders

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Space(Packing):
    """The points and lines of the affine or the projective space of dimension k >= 2 over GF(q), of coherence 1/r.

    r = (q^k - 1)/(q - 1) lines are on each point, and two points are on exactly one common line.

    - infinity 0, AG(k, q): q^k points and q^(k-1) r lines.
    - infinity 1, PG(k, q): P = (q^(k+1) - 1)/(q - 1) points and P r/(q + 1) lines.

    Point number a has the digits of a in base q as its coordinates. The points at infinity, those of PG(k - 1, q),
    come last.

    Source: Fickus, Mixon and Tremain 2012.
    """

    family: ClassVar[str] = "space"
    k: int
    q: int
    infinity: int
    order: int

    def __post_init__(self) -> None:
        if not 2 <= self.k <= 20:
            raise BadRequest(f"k is {self.k}; allowed is 2 to 20")
        if not prime_power(self.q):
            raise BadRequest(f"q is {self.q}; allowed is a prime power")
        if self.infinity not in (0, 1):
            raise BadRequest(f"infinity is {self.infinity}; allowed is 0 or 1")
        super().__post_init__()

    @classmethod
    def reach(cls, d: int, n: int) -> Self | None:
        """Return the best of the spaces with few enough lines."""
        return best(form for form in cls._within(d) if form.own_d <= d and form.own_n >= n)

    @classmethod
    def sized(cls, low: int, high: int) -> Iterator[Self]:
        """Yield the members with low <= own_d <= high that are tight, order >= r."""
        return (form for form in cls._within(high) if low <= form.own_d <= high and form.order >= form.r)

    @classmethod
    def _within(cls, d: int) -> Iterator[Self]:
        """Yield the members with less than d lines, and a few others."""
        for k in range(2, d.bit_length() // 2 + 2):
            for q in prime_powers(2, round(d ** (1 / (2 * k - 2)))):
                for order in orders(_points(k - 1, q)):
                    yield from (cls(k, q, infinity, order) for infinity in (0, 1))

    @property
    def r(self) -> int:
        return _points(self.k - 1, self.q)

    @property
    def points(self) -> int:
        return _points(self.k, self.q) if self.infinity else int(self.q**self.k)

    @property
    def own_d(self) -> int:
        return self.points * self.r // (self.q + self.infinity)

    def lines(self, points: "Tensor") -> "Tensor":
        return _lines(self.k, self.q, points)


def _points(k: int, q: int) -> int:
    """How many points PG(k, q) has."""
    return int((q ** (k + 1) - 1) // (q - 1))


def _lines(k: int, q: int, points: "Tensor") -> "Tensor":
    """List the lines of PG(k, q) on each of some points: those of AG(k, q) by direction, then those at infinity."""
    import torch

    if k == 1:
        return torch.zeros_like(points)[:, None]
    r = _points(k - 1, q)
    lines = points.new_empty(len(points), r)
    finite = points < q**k
    lines[finite] = _affine_lines(k, q, points[finite])
    if not finite.all():
        directions = points[~finite] - q**k
        parallel = directions[:, None] * q ** (k - 1) + torch.arange(q ** (k - 1), device="cpu")
        lines[~finite] = torch.cat((parallel, r * q ** (k - 1) + _lines(k - 1, q, directions)), 1)
    return lines


def _affine_lines(k: int, q: int, points: "Tensor") -> "Tensor":
    """List the lines of AG(k, q) on each of some points, direction by direction.

    1. The pivot of a line is the last digit of its direction that is not 0. That digit is 1.
    2. One point of the line has the digit 0 at the pivot. Its number without this digit numbers the line among
       those of its direction.
    """
    import torch

    elements, found, first = field(q), [], 0
    for pivot in range(k - 1, -1, -1):
        direction = torch.arange(q**pivot, device="cpu")
        along = (points // q**pivot % q)[:, None]
        number = torch.zeros_like(along)
        for digit in range(k):
            place = q ** (digit - (digit > pivot))
            if digit != pivot:
                moved = elements.multiply(along, direction // q**digit % q)
                number = number + elements.subtract((points // q**digit % q)[:, None], moved) * place
        found.append((first + direction) * q ** (k - 1) + number)
        first += q**pivot
    return torch.cat(found, 1)
