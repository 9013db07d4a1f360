"""Cut packing frames whose lines are the shifts of blocks of three, from Skolem sequences."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import count as counting
from typing import TYPE_CHECKING, ClassVar, Self

from protogen.errors import BadRequest

from ..algebra.blocks import develop
from ..family import Blocks
from .cut import Cut, Kind, least_points

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class CutTriples(Cut):
    """v points modulo v, and `count` blocks {0, i, b_i + count}, i = 1 to count; each has v shifts.

    v R lines in R^(v R - v count), of coherence 1 / (3 R - r).

    1. The numbers 1 to 2 count, or all up to 2 count - 1 and 2 count + 1, are cut into pairs a_i < b_i with
       b_i - a_i = i. Such pairs exist for every count: Skolem sequences where count is 0 or 1 modulo 4
       (Skolem 1957, On certain distributions of integers in pairs), hooked ones where it is 2 or 3
       (O'Keefe 1961, Verification of a conjecture of Th. Skolem).
    2. The differences of a block are i, a_i + count and b_i + count. So all blocks use the numbers 1 to 3 count,
       or in place of the last one more, and their negatives, once each.
    3. They are distinct modulo v if v > 6 count, but for v = 6 count + 2 with a hooked sequence: there 3 count + 1
       is its own negative.
    """

    family: ClassVar[str] = "cut-triples"
    v: int
    count: int
    order: int
    copies: int

    def __post_init__(self) -> None:
        if self.count < 1 or not _fits(self.v, self.count):
            raise BadRequest(
                f"v, count is {self.v}, {self.count}; allowed is v > 6 count, "
                "but for v = 6 count + 2 where count is 2 or 3 modulo 4"
            )
        super().__post_init__()

    @classmethod
    def kinds(cls, lines: int, longest: int) -> Iterator[Kind]:
        for v in counting(least_points(lines, 3)) if longest > 2 else ():
            most = (v - 1) // 6
            yield Kind(v, 3, 3 * (most if _fits(v, most) else most - 1))

    @classmethod
    def rounded(cls, kind: Kind, degree: int) -> int:
        return -(-degree // 3) * 3

    @classmethod
    def of(cls, kind: Kind, degree: int, order: int, copies: int) -> Self:
        return cls(kind.points, degree // 3, order, copies)

    @property
    def points(self) -> int:
        return self.v

    @property
    def size(self) -> int:
        return 3

    @property
    def lines_on_point(self) -> int:
        return 3 * self.count

    def incidence(self, points: "Tensor") -> "tuple[Tensor, Tensor]":
        import torch

        places = torch.arange(3, device="cpu").repeat(self.count).expand(len(points), -1)
        return develop(self.v, _blocks(self.count), points), places


def _fits(v: int, count: int) -> bool:
    return v > 6 * count and not (v == 6 * count + 2 and count % 4 in (2, 3))


@lru_cache(maxsize=16)
def _blocks(count: int) -> Blocks:
    ends = {after - before: after for before, after in _pairs(count)}
    return tuple((0, i, ends[i] + count) for i in range(1, count + 1))


SMALL = {
    1: ((1, 2),),
    2: ((1, 2), (3, 5)),
    3: ((2, 3), (5, 7), (1, 4)),
    4: ((1, 2), (5, 7), (3, 6), (4, 8)),
    5: ((8, 9), (1, 3), (4, 7), (2, 6), (5, 10)),
}


def _pairs(count: int) -> tuple[tuple[int, int], ...]:
    """Return the pairs (a_i, b_i) of a Skolem sequence, or of a hooked one where count is 2 or 3 modulo 4."""
    if count in SMALL:
        return SMALL[count]
    m = (count + 1) // 4
    first, second, third = range(1, 2 * m + 1), range(1, m - 1), range(1, m)
    if count % 4 == 0:
        pairs = [(4 * m + r - 1, 8 * m - r + 1) for r in first]
        pairs += [(r, 4 * m - r - 1) for r in second] + [(m + r + 1, 3 * m - r) for r in second]
        pairs += [(m - 1, 3 * m), (m, m + 1), (2 * m, 4 * m - 1), (2 * m + 1, 6 * m)]
    elif count % 4 == 1:
        pairs = [(4 * m + r + 1, 8 * m - r + 3) for r in first]
        pairs += [(r, 4 * m - r + 1) for r in range(1, m + 1)] + [(m + r + 2, 3 * m - r + 1) for r in second]
        pairs += [(m + 1, m + 2), (2 * m + 1, 6 * m + 2), (2 * m + 2, 4 * m + 1)]
    elif count % 4 == 2:
        pairs = [(r, 4 * m - r + 2) for r in first]
        pairs += [(4 * m + r + 3, 8 * m - r + 4) for r in third] + [(5 * m + r + 2, 7 * m - r + 3) for r in third]
        pairs += [(2 * m + 1, 6 * m + 2), (4 * m + 2, 6 * m + 3), (4 * m + 3, 8 * m + 5), (7 * m + 3, 7 * m + 4)]
    else:
        pairs = [(4 * m + r, 8 * m - r - 2) for r in range(1, 2 * m - 1)]
        pairs += [(r, 4 * m - r - 1) for r in second] + [(m + r + 1, 3 * m - r) for r in second]
        pairs += [(m - 1, 3 * m), (m, m + 1), (2 * m, 4 * m - 1), (2 * m + 1, 6 * m - 1), (4 * m, 8 * m - 1)]
    return tuple(pairs)
