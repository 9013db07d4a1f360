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
    """The lines of the space of dimension k >= 2 over GF(q): AG(k, q), or with its `infinity` PG(k, q).

    With r = (q^k - 1)/(q - 1), q^k points and q^(k-1) r lines, or (q^(k+1) - 1)/(q - 1) points and
    r/(q + 1) times as many lines; coherence 1/r (Fickus, Mixon and Tremain 2012). Point number a has
    the digits of a in base q as its coordinates; those at infinity, of PG(k - 1, q), come last.
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
        """The best of the spaces with few enough lines."""
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
    """The lines of PG(k, q) on points of it: those of AG(k, q), direction by direction, then those at infinity."""
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
    """The lines of AG(k, q) on points: each has the number, without its 0, of its point that is 0 at its pivot.

    The pivot of a line is where its direction has its last digit that is not 0, a 1.
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
