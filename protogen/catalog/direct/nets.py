"""Packing frames of nested nets: near the Welch bound wherever n is up to about d^1.5."""

import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar, Self

from protogen.errors import BadRequest

from ..algebra.fields import field
from ..family import Blocks
from .designs import SIZES, blocks_of, exists
from .packing import MOST_LINES, Packing, orders

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Net(Packing):
    """A packing of nested levels (q, s, g): points in g columns of q, and lines y = m x + c of s slopes.

    1. A level (q, s, g) is a transversal design over a product R of finite fields with q elements
       (MacNeish 1922, Euler's squares). Its points (x, y) have y in R and x among g elements whose
       differences are units, as many as the smallest field has. Its lines (m, c) have c in R and m among
       s elements.
    2. A line has one point in each column x. Two points of different columns are on one line at most,
       as the difference of their x is a unit.
    3. Where all q slopes are there, s = q, one more column can be had: its point y is on the lines of slope y.
    4. Two points of one column are on no line of the level. The points of a column are the first q points of the
       next level, which is laid into each column once (Wilson 1972, An existence theory for pairwise
       balanced designs). So two points are on one line at most in all.
    5. Each point is on s lines of each level. The sum of all s is r, and the coherence is 1/r.

    Special levels: (1, 1, q) is one line that holds all q points; ((q, q, q), (1, 1, q)) is the affine plane;
    (q, s, 1) gives each point s lines of its own; (q, s, 2) with q < s < 2q, which stands last, has s rounds
    in which 2q points meet in pairs; (q, s, 0), which stands last but not alone, has a design of q points and blocks
    of s turned round: its points are the blocks, and its q lines the points.
    """

    family: ClassVar[str] = "net"
    levels: Blocks
    order: int

    def __post_init__(self) -> None:
        if not _are_levels(self.levels):
            raise BadRequest(
                f"levels is {self.levels}; allowed is blocks (q, s, g) of numbers up to {MOST_LINES}, s <= q if g > 1, "
                "g <= the prime powers that q is a product of, one more if s = q, each q <= q g of the next; "
                "for the last also g = 2, s < 2q, and g = 0, q and s of a known design"
            )
        super().__post_init__()

    @classmethod
    def reach(cls, d: int, n: int) -> Self | None:
        """Return the member of the largest r, and with it the fewest lines, that a search of levels finds."""
        most = math.isqrt(d * (n - 1) // (n - d)) if n > d else d  # by the Welch bound
        for r in range(min(most, d), 1, -1):
            if _bound(-(-n // (r + 1)), r) <= d and (order := next(iter(orders(r)), 0)):
                lines, levels = _fewest_lines(-(-n // order), r, False)
                if lines <= d:
                    return cls(levels, order)
        return None

    @classmethod
    def sized(cls, low: int, high: int) -> Iterator[Self]:
        """Yield the members with low <= own_d <= high whose lines all have g points and that use all slopes."""
        for levels in _uniform(math.isqrt(low // 2), math.isqrt(high)):
            if low <= _size(levels) <= high:
                r = sum(s for _, s, _ in levels)
                yield from (cls(levels, order) for order in orders(r) if order >= r)

    @property
    def r(self) -> int:
        return sum(s for _, s, _ in self.levels)

    @property
    def points(self) -> int:
        return _points(*self.levels[0])

    @property
    def own_d(self) -> int:
        return _size(self.levels)

    def lines(self, points: "Tensor") -> "Tensor":
        import torch

        found, first, copies, copy = [], 0, 1, torch.zeros_like(points)
        for q, s, g in self.levels:
            found.append((first + copy * _lines(q, s, g))[:, None] + level_lines(q, s, g, points[:, None]))
            first += copies * _lines(q, s, g)
            copies, copy, points = copies * g, copy * g + points // q, points % q
        return torch.cat(found, 1)


def level_lines(q: int, s: int, g: int, point: "Tensor") -> "Tensor":
    """List the s lines of one level on each of some points x q + y, a column of numbers: (points, s)."""
    import torch

    if g == 0:
        return blocks_of(q, s)[point[:, 0]]
    j = torch.arange(s, device="cpu")
    if g == 2 and s > q:  # j + t meets j - t modulo 2q - 1 in round j, and j itself meets the last point
        t = (point - j) % (2 * q - 1)
        return j * q + torch.where(point == 2 * q - 1, 0, torch.minimum(t, 2 * q - 1 - t))
    x, y = point // q, point % q
    c, place = torch.zeros_like(y), 1
    for size in _factors(q):
        elements = field(size)
        c = c + elements.subtract(y // place % size, elements.multiply(j // place % size, x % size)) * place
        place *= size
    return torch.where(x < _finite_columns(q), j * q + c, y * q + j)


def _size(levels: Blocks) -> int:
    """How many lines there are."""
    lines, copies = 0, 1
    for q, s, g in levels:
        lines += copies * _lines(q, s, g)
        copies *= g
    return lines


def _points(q: int, s: int, g: int) -> int:
    """How many points a level has."""
    return q * g if g else q * (q - 1) // (s * (s - 1))


def _lines(q: int, s: int, g: int) -> int:
    """How many lines a level has."""
    return s * q if g else q


def _are_levels(levels: Blocks) -> bool:
    """Whether each level can be made, and its points are enough for a column of the one before."""
    within = 1
    for index, level in enumerate(levels):
        if len(level) != 3 or min(level[:2]) < 1 or not 0 <= level[2] <= MOST_LINES or max(level[:2]) > MOST_LINES:
            return False
        q, s, g = level
        last = index == len(levels) - 1
        rounds = g == 2 and s < 2 * q and last
        turned = g == 0 and 1 < s < q and index > 0 and last and exists(q, s) and _points(q, s, g) <= MOST_LINES
        if not (turned or g == 1 or rounds or (s <= q and 0 < g <= columns(q, s))) or _points(q, s, g) < within:
            return False
        within = q
    return len(levels) > 0


def _uniform(low: int, high: int) -> Iterator[Blocks]:
    """Yield the levels, low <= q <= high for the first, with g points on all lines and as many slopes as there are."""
    for first in range(max(low, 2), high + 1):
        yield ((first, 2 * first - 1, 2),)
        for g in range(2, columns(first, first) + 1):
            q = first
            levels: Blocks = ((q, q, g),)
            yield levels
            while q % g == 0 and g <= columns(q // g, q // g):
                q //= g
                levels += ((q, q, g),)
                yield levels


def columns(q: int, s: int) -> int:
    """How many columns a level of s slopes can have."""
    return _finite_columns(q) + (s == q)


def _finite_columns(q: int) -> int:
    return min(_factors(q), default=sys.maxsize)


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
    """Bound from below the number of lines of a packing with r lines on each point.

    1. All lines cover each pair of points once at most. They are the fewest where their sizes are k and k + 1.
    2. Two lines meet in one point at most.
    """
    k = 1 + (points - 1) // max(r, 1)
    return max(-(points * (points - 1 - 2 * k * r) // (k * (k + 1))), math.isqrt(points * r * (r - 1)))


@lru_cache(maxsize=2**14)
def _fewest_lines(points: int, r: int, inner: bool = True) -> tuple[int, Blocks]:
    """Find the levels of the fewest lines for so many points, r lines on each: how many lines, and the levels.

    1. Start with the better of two: one level above whole columns, and rounds in which the points meet in pairs.
    2. Try a level (q, s, g) above the levels of the fewest lines for q points, for each g and s whose bound is lower
       than the best so far.
    3. Last, turn a design round, where the points are inside a column.

    The labels of files rest on the order in which g and s are tried: of equals the first is taken.
    """
    if r == 0:
        return 0, ()
    if r == 1:
        return 1, ((1, 1, points),)
    half = (points + 1) // 2
    if r >= 2 * half - 1:
        levels: Blocks = ((half, 2 * half - 1, 2),)
        if r >= 2 * half:
            levels = ((points, r - 2 * half + 1, 1), *levels)
        return _size(levels), levels
    q = max(r - 1, math.isqrt(points - 1) + 1)
    while q * columns(q, r - 1) < points:
        q += 1
    g = -(-points // q)
    best: tuple[int, Blocks] = min((q * (r - 1) + g, ((q, r - 1, g), (1, 1, q))), (half * r, ((half, r, 2),)))
    least, size = _bound(points, r), 1 + (points - 1) // r  # lines have about this size
    likely = range(max(2, 3 * size // 4), min(5 * size // 4 + 1, math.isqrt(points) + 1) + 1)
    others = (g for g in range(2, math.isqrt(points) + 2) if g not in likely)
    for g in (*likely, *others):
        column = -(-points // g)
        for s in range(min(r, best[0] // column), 0, -1):
            q = max(column, s)
            if best[0] > max(least, s * q + g * _bound(q, r - s)):
                while columns(q, s) < g:
                    q += 1
                lines, levels = _fewest_lines(q, r - s)
                if s * q + g * lines < best[0]:
                    best = s * q + g * lines, ((q, s, g), *levels)
    turned = _fewest_turned(points, r, best[0]) if inner else 0
    return (turned, ((turned, r, 0),)) if turned else best


def _fewest_turned(blocks: int, size: int, below: int) -> int:
    """Return the fewest points, fewer than `below`, of a design that is known with so many blocks of a size, or 0."""
    if size not in SIZES:
        return 0
    least = (1 + math.isqrt(1 + 4 * size * (size - 1) * blocks)) // 2
    return next((q for q in range(least, below) if _points(q, size, 0) >= blocks and exists(q, size)), 0)
