"""Cyclic packing frames: lines that are the shifts of a few blocks, from a table or by search."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from heapq import nsmallest
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

from ..algebra.blocks import ATTEMPT, Shape, check, develop, fit, lines_on_a_point, pack, read, shifts
from ..family import Blocks
from .packing import Packing, orders

if TYPE_CHECKING:
    from torch import Tensor

MOST = 200  # lines on a point that a search goes up to
TRIED = 4  # shapes that it tries for each number of lines on a point


@dataclass(frozen=True)
class CyclicPacking(Packing):
    """A packing on the whole numbers modulo v: its lines are the shifts of blocks whose differences are all distinct.

    1. A block has v shifts. A short block {0, s, 2s, ...}, s dividing v, has s of them, and its differences are
       the multiples of s.
    2. Two points are on one common line at most, as no difference occurs twice.
    3. The number r of lines on a point is the number of elements of all blocks, where a short block counts once.
    4. There are v `order` vectors of coherence 1/r, in as many dimensions as there are lines.

    Blocks that use all differences are a difference family (Bose 1939, On the construction of balanced incomplete
    block designs). Blocks of one size are an optical orthogonal code (Chung, Salehi and Wei 1989).
    """

    family: ClassVar[str] = "cyclic"
    v: int
    blocks: Blocks
    order: int

    def __post_init__(self) -> None:
        check(self.v, self.blocks)
        super().__post_init__()

    @classmethod
    def reach(cls, d: int, n: int) -> Self | None:
        """Return the member of the table with the most lines on a point, of equals the one of least own_d."""
        line = next((line for own_d, own_n, line in _table() if own_d <= d and own_n >= n), None)
        return cls(*_parameters(line)) if line else None

    @classmethod
    def sized(cls, low: int, high: int) -> Iterator[Self]:
        """Yield the members of the table that are tight frames, low <= own_d <= high."""
        yield from (cls(*_parameters(line)) for own_d, _, line in _table() if low <= own_d <= high and _is_tight(line))

    @property
    def r(self) -> int:
        return lines_on_a_point(self.v, self.blocks)

    @property
    def points(self) -> int:
        return self.v

    @property
    def own_d(self) -> int:
        return sum(shifts(self.v, block) for block in self.blocks)

    def lines(self, points: "Tensor") -> "Tensor":
        return develop(self.v, self.blocks, points)


@lru_cache(maxsize=1)
def _table() -> list[tuple[int, int, str]]:
    """Read the own_d, own_n and line of each member in packings.txt, which stand by falling r, then rising own_d."""
    members = []
    for line in (Path(__file__).parent / "packings.txt").read_text("ascii").splitlines():
        own_d, v, order, _ = line.split(" ")
        members.append((int(own_d), int(v) * int(order), line))
    return members


def _parameters(line: str) -> tuple[int, Blocks, int]:
    _, v, order, blocks = line.split(" ")
    return int(v), read(blocks), int(order)


def _is_tight(line: str) -> bool:
    """Whether all blocks are of one size k, and no column of the Hadamard matrix is taken twice: r = k own_d / v."""
    own_d, v, order, blocks = line.split(" ")
    lengths = {len(block) for block in blocks.split(",")}
    return len(lengths) == 1 and int(order) * int(v) >= (lengths.pop() // 2 + 1) * int(own_d)


def search_packing(d: int, n: int, below: float = 1, nodes: int = 300_000) -> CyclicPacking | None:
    """Search for a member with n > d vectors in R^d and a coherence under `below`, or return None.

    `nodes` bounds the elements that are placed; 300,000 take about a second. The same call finds the same member.

    1. The shapes of the largest r come first, and of one r those that are least full.
    2. Each shape has one round of attempts. When a member is found, only the shapes of a larger r stay.
    3. When the shapes have been gone through, those that are left have four times as many rounds.
    """
    found, rounds = None, 1
    most = min(MOST, math.isqrt(d * (n - 1) // (n - d)))  # by Welch's bound
    rising = range(math.floor(1 / below + 1e-9) + 1, most + 1)
    shapes = [(r, shape) for r in reversed(rising) for shape in _shapes(d, n, r)]
    while shapes and nodes > 0:
        for r, shape in shapes:
            nodes -= rounds * 2 * ATTEMPT
            if blocks := pack(shape, rounds):
                found = CyclicPacking(shape.v, blocks, orders(r)[0])
                shapes = [(more, shape) for more, shape in shapes if more > r]
                break
        rounds *= 4
    return found


def _shapes(d: int, n: int, r: int) -> list[Shape]:
    """List the TRIED least full shapes of packings with n vectors in R^d and r lines on a point."""
    order = max(orders(r), default=0)
    sizes = range(-(-n // order), min(d, n * 6 // (5 * order)) + 1) if order else ()
    return nsmallest(TRIED, filter(None, (fit(v, r, d) for v in sizes)))
