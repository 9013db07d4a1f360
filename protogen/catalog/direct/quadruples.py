"""Lines of coherence 1/2 on blocks of four coordinates, two of which share at most two."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from typing import TYPE_CHECKING, ClassVar, Self

from protogen.errors import BadRequest

from ..algebra.signed_blocks import signed_rows
from ..family import ClosedForm, best

if TYPE_CHECKING:
    from torch import Tensor

SIGNS = 8  # rows on a block
BLOCK_BYTES = 128  # of a block's tuple, where it lies, and of its places
PLANES = 15  # points that are not 0 of the affine space of 16: their blocks are the planes without 0
# By v: the length m of cycles, and blocks of four points in base 16. Point m c + r goes to m c + (r + 1) mod m, and
# the v mod m last points stay. The images of the blocks are as many blocks as there can be.
CYCLES = {
    9: (8, "0125 0168 0246"),
    10: (10, "0126 0134 0247"),
    11: (3, "012a 0134 0156 0179 0368 039a 0457 046a 0589 078a 347a 3489 6789"),
    12: (6, "0127 0134 0189 01ab 026a 029b 0369 037a 038b 067b 679a"),
    14: (7, "0124 0159 0178 01ab 01cd 027c 028a 029d 0379 038c 03ad 089b 789c"),
}
SIZES = (*range(9, 15), PLANES)


@dataclass(frozen=True)
class Quadruples(ClosedForm):
    """v + 8 b lines in R^v of coherence 1/2, from b blocks of four of v points, of which two share at most two.

    1. The rows of the identity come first.
    2. On each block there are eight rows of 1/2 and -1/2 that begin with 1/2. Two of them meet in 0 or in 1/2.
    3. Rows of two blocks meet in two places at most, and so in 1/2 at most.

    b is the size of the largest code of that length, of constant weight 4 and distance 4: 18, 30, 35, 51, 65, 91 and
    105 for v of 9 to 15. Those for v = 10 and 14 are Steiner systems of quadruples, those for v = 13 the blocks of 14
    points without the last.

    With their negatives the rows are the kissing configurations P9a, P10, P11a, P12a and P13a.

    Source: Conway and Sloane 1999, Chapter 5, Section 4; Brouwer, Shearer, Sloane and Smith 1990, A new table of
    constant weight codes.
    """

    family: ClassVar[str] = "quadruples"
    v: int

    def __post_init__(self) -> None:
        if self.v not in SIZES:
            raise BadRequest(f"v is {self.v}; allowed is {SIZES[0]} to {SIZES[-1]}")

    @classmethod
    def reach(cls, d: int, n: int) -> Self | None:
        """Return the member of least v among those of n lines or more."""
        return best(form for form in cls._within(d) if n <= form.own_n)

    @classmethod
    def _within(cls, d: int) -> Iterator[Self]:
        return (cls(v) for v in SIZES if v <= d)

    @property
    def own_d(self) -> int:
        return self.v

    @property
    def own_n(self) -> int:
        return self.v + SIGNS * len(blocks(self.v))

    @property
    def cosine(self) -> float:
        return 1 / 2

    @property
    def held_bytes(self) -> int:
        return 4 * self.v * self.own_n + BLOCK_BYTES * len(blocks(self.v))

    def rows(self, start: int, stop: int) -> "Tensor":
        """Return rows start to stop - 1, (stop - start, v) float32: those of the identity, then block by block."""
        return _rows(self.v)[start:stop].clone()


@lru_cache(maxsize=len(SIZES))
def blocks(v: int) -> tuple[tuple[int, ...], ...]:
    """List the blocks of v points in lexical order, each by rising points."""
    if v == PLANES:
        fours = combinations(range(1, v + 1), 4)
        return tuple(tuple(x - 1 for x in four) for four in fours if four[0] ^ four[1] == four[2] ^ four[3])
    if v not in CYCLES:
        return tuple(block for block in blocks(v + 1) if v not in block)
    m, first = CYCLES[v]
    found = set()
    for word in first.split():
        block = [int(digit, 16) for digit in word]
        for _ in range(m):
            found.add(tuple(sorted(block)))
            block = [x // m * m + (x % m + 1) % m if x < v - v % m else x for x in block]
    return tuple(sorted(found))


@lru_cache(maxsize=len(SIZES))
def _rows(v: int) -> "Tensor":
    import torch

    return torch.cat((torch.eye(v, dtype=torch.float32, device="cpu"), signed_rows(blocks(v), v)))
