"""Packing frames of nested nets: near the Welch bound wherever n is up to about d^1.5."""

import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar, Self

from ..errors import BadRequest
from .family import Blocks
from .fields import field
from .packing import Packing, orders

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Net(Packing):
    """Points in g columns of q, the lines y = m x + c of s slopes, and in each column as much again, by `levels`.

    A level (q, s, g) has the points (x, y) and the lines (m, c) of a transversal design over a product
    R of finite fields with q elements (MacNeish 1922, Euler's squares): c in R, s elements m, and g
    elements x whose differences are units, as many as the smallest field has. With all q slopes one
    more column can be had, whose y is on the lines of slope y. A line has a point in each column.
    The points of one column are the first q of the next level, which is laid once into each column
    (Wilson 1972, An existence theory for pairwise balanced designs). (1, 1, q) is a line that holds
    all q points; ((q, q, q), (1, 1, q)) is the affine plane; (q, s, 1) gives each point s lines of its own.
    r is the sum of all s; coherence 1/r.
    """

    family: ClassVar[str] = "net"
    levels: Blocks
    order: int

    def __post_init__(self) -> None:
        within = 1
        for level in self.levels or ((),):
            if len(level) != 3 or not _is_level(*level) or level[0] * level[2] < within:
                raise BadRequest(
                    f"levels is {self.levels}; allowed is blocks (q, s, g), 1 <= s <= q if g > 1, 1 <= g <= the prime "
                    "powers that q is a product of, one more if s = q, each q at most q g of the next"
                )
            within = level[0]
        super().__post_init__()

    @classmethod
    def reach(cls, d: int, n: int) -> Self | None:
        """The largest r, and with it the fewest lines, that a search of levels finds for n > d."""
        most = math.isqrt(d * (n - 1) // (n - d)) if n > d else 0  # by the Welch bound
        for r in range(min(most, d), 1, -1):
            if _bound(-(-n // (r + 1)), r) <= d:
                for order in orders(r)[:1]:
                    points = -(-n // order)
                    if _bound(points, r) <= d:
                        lines, levels = _fewest(points, r)
                        if lines <= d:
                            return cls(levels, order)
        return None

    @classmethod
    def sized(cls, low: int, high: int) -> Iterator[Self]:
        """Yield the members with low <= own_d <= high whose lines all have g points and that use all slopes."""
        for first in range(math.isqrt(low // 2), math.isqrt(high) + 1):
            for g in range(2, _columns(first, first) + 1 if first > 1 else 2):
                levels: Blocks = ()
                q, own_d = first, 0
                while _is_level(q, q, g):
                    levels += ((q, q, g),)
                    own_d += g ** (len(levels) - 1) * q * q
                    if low <= own_d <= high:
                        r = sum(s for _, s, _ in levels)
                        yield from (cls(levels, order) for order in orders(r) if order >= r)
                    if q % g:
                        break
                    q //= g

    @property
    def r(self) -> int:
        return sum(s for _, s, _ in self.levels)

    @property
    def points(self) -> int:
        q, _, g = self.levels[0]
        return q * g

    @property
    def own_d(self) -> int:
        lines, copies = 0, 1
        for q, s, g in self.levels:
            lines += copies * s * q
            copies *= g
        return lines

    def lines(self, points: "Tensor") -> "Tensor":
        import torch

        found, first, copies, copy = [], 0, 1, torch.zeros_like(points)
        for q, s, g in self.levels:
            x, y = points // q, points % q
            found.append(first + copy[:, None] * s * q + _lines(q, s, x[:, None], y[:, None]))
            first += copies * s * q
            copies, copy, points = copies * g, copy * g + x, y
        return torch.cat(found, 1)


def _lines(q: int, s: int, x: "Tensor", y: "Tensor") -> "Tensor":
    """The lines m q + c of s slopes on points (x, y) of one level, which are columns; x times s whole numbers."""
    import torch

    j = torch.arange(s)
    c, place = torch.zeros_like(y), 1
    for size in _factors(q):
        elements = field(size)
        slope, height = j // place % size, y // place % size
        c = c + elements.subtract(height, elements.multiply(slope, x % size)) * place
        place *= size
    return torch.where(x < min(_factors(q), default=sys.maxsize), j * q + c, y * q + j)


def _is_level(q: int, s: int, g: int) -> bool:
    return q > 0 and s > 0 and (g == 1 or (s <= q and 1 < g <= _columns(q, s)))


def _columns(q: int, s: int) -> int:
    return min(_factors(q), default=sys.maxsize - 1) + (s == q)


@lru_cache(maxsize=2**14)
def _factors(q: int) -> tuple[int, ...]:
    """The powers of different primes whose product is q."""
    factors = []
    p = 2
    while q > 1:
        if p * p > q:
            p = q
        power = math.gcd(q, p ** q.bit_length())
        if power > 1:
            factors.append(power)
            q //= power
        p += 1
    return tuple(factors)


def _bound(points: int, r: int) -> int:
    """A number of lines that any packing has, if not more.

    Pairs of points: lines of sizes k and k + 1 cover the fewest. Pairs of lines: they meet once at most.
    """
    k = 1 + (points - 1) // r
    return max(-(points * (points - 1 - 2 * k * r) // (k * (k + 1))), math.isqrt(points * r * (r - 1)))


@lru_cache(maxsize=2**14)
def _fewest(points: int, r: int) -> tuple[int, Blocks]:
    """The fewest lines that levels need for so many points, r lines on each, and the levels."""
    if r == 0:
        return 0, ()
    if r == 1:
        return 1, ((1, 1, points),)
    if r >= points:  # all pairs are on lines, then
        lines, levels = _fewest(points, points - 1)
        return lines + points * (r - points + 1), ((points, r - points + 1, 1), *levels)
    q = max(r - 1, math.isqrt(points - 1) + 1)
    while q * _columns(q, r - 1) < points:
        q += 1
    g = -(-points // q)
    best: tuple[int, Blocks] = q * (r - 1) + g, ((q, r - 1, g), (1, 1, q))
    least, size = _bound(points, r), 1 + (points - 1) // r  # lines have about this size
    for g in range(max(2, 3 * size // 4), min(5 * size // 4 + 1, math.isqrt(points) + 1) + 1):
        column = -(-points // g)
        for s in range(min(r - 2, best[0] // column), 0, -1):
            q = max(column, s)
            if best[0] > max(least, s * q + g * _bound(q, r - s)):
                while _columns(q, s) < g:
                    q += 1
                lines, levels = _fewest(q, r - s)
                if s * q + g * lines < best[0]:
                    best = s * q + g * lines, ((q, s, g), *levels)
    return best
