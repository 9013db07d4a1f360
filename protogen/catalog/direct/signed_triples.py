"""Lines of coherence 1/3 on blocks of three coordinates, two of which share at most one."""

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar, Self

from protogen.errors import BadRequest

from ..algebra import steiner
from ..algebra.signed_blocks import signed_rows
from ..family import ClosedForm, best

if TYPE_CHECKING:
    from torch import Tensor

SIGNS = 4  # rows on a block
BLOCK_BYTES = 112  # of a block's tuple, where it lies, and of its places
SYSTEM = 13  # points of the triple system, of which the blocks of 12 points are those without the last
# As many blocks of 11 points as there can be, each point a digit of base 16; those of 10 points are without the last.
ELEVEN = "019 023 045 06a 078 125 147 168 246 279 28a 34a 358 367 489 569 57a"
COUNTS = {10: 13, 11: 17, 12: 20, 13: 26}  # blocks by points


@dataclass(frozen=True)
class SignedTriples(ClosedForm):
    """4 b lines in R^v of coherence 1/3, from b blocks of three of v points, of which two share at most one.

    On each block there are the four rows of 1 and -1, over sqrt(3), that begin with 1. Two of them meet in 1/3. Rows
    of two blocks meet in one place at most, and so in 1/3 at most.

    b is the largest number of such blocks: 13, 17, 20 and 26 for v of 10 to 13. Those of 13 points are a Steiner
    triple system. Of fewer or more points other families have as many lines of this coherence.

    Source: Spencer 1968, Maximal consistent families of triples.
    """

    family: ClassVar[str] = "signed-triples"
    v: int

    def __post_init__(self) -> None:
        if self.v not in COUNTS:
            raise BadRequest(f"v is {self.v}; allowed is {min(COUNTS)} to {max(COUNTS)}")

    @classmethod
    def reach(cls, d: int, n: int) -> Self | None:
        """Return the member of least v among those of n lines or more."""
        return best(form for v in COUNTS if v <= d and n <= (form := cls(v)).own_n)

    @property
    def own_d(self) -> int:
        return self.v

    @property
    def own_n(self) -> int:
        return SIGNS * COUNTS[self.v]

    @property
    def cosine(self) -> float:
        return 1 / 3

    @property
    def held_bytes(self) -> int:
        return 4 * self.v * self.own_n + BLOCK_BYTES * COUNTS[self.v]

    def rows(self, start: int, stop: int) -> "Tensor":
        """Return rows start to stop - 1, (stop - start, v) float32, block by block."""
        return signed_rows(blocks(self.v), self.v)[start:stop]


@lru_cache(maxsize=len(COUNTS))
def blocks(v: int) -> tuple[tuple[int, ...], ...]:
    """List the blocks of v points in lexical order, each by rising points."""
    if v == SYSTEM:
        return tuple(sorted(tuple(sorted(block)) for block in steiner.triples(v)[0].tolist()))
    if v == 11:
        return tuple(tuple(int(digit, 16) for digit in word) for word in ELEVEN.split())
    return tuple(block for block in blocks(v + 1) if v not in block)
