"""Mutually unbiased bases of C^(2^m) as real lines, by Kerdock codes over Z4."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

from protogen.errors import BadRequest

from ..algebra.quadratic import EXPONENTS, QuadraticBases, kerdock_exponents

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Z4Kerdock(QuadraticBases):
    """The 2^m + 1 mutually unbiased bases of C^(2^m) as d(d/2 + 1) lines in R^d, d = 2^(m+1).

    1. For a, b and x in GF(2^m) put v_{a,b}(x) = 2^(-m/2) i^(tr(ax) + 2 Q(ax) + 2 tr(bx)). Here tr(ax) is taken
       as 0 or 1, and Q(u) is the sum of u^(2^i + 2^j) over i < j. The standard basis is added as the last.
    2. Each complex v gives two real rows (Im w, Re w): w = exp(pi i/4) v and w = i exp(pi i/4) v. Their
       coordinates are signs over sqrt(d).

    The inner product of vectors of two bases is z / 2^(m/2) with z a power of exp(pi i/4). That of their real rows
    is its real or its imaginary part.

    - m odd: z is an odd power, and the coherence 1/sqrt(d). The lines are those of Kerdock.
    - m even: z is an even power, and the coherence sqrt(2/d).

    Source: Calderbank, Cameron, Kantor and Seidel 1997.
    """

    family: ClassVar[str] = "z4-kerdock"
    m: int

    def __post_init__(self) -> None:
        if not 1 <= self.m < EXPONENTS - 1:
            raise BadRequest(f"m is {self.m}; allowed is 1 to {EXPONENTS - 2}; the lines are in R^(2^(m+1))")

    @classmethod
    def sized(cls, low: int, high: int) -> Iterator[Self]:
        """Yield the members with low <= own_d <= high."""
        yield from (cls(m) for m in range(1, high.bit_length() - 1) if 2 ** (m + 1) >= low)

    @property
    def own_d(self) -> int:
        return int(2 ** (self.m + 1))

    @property
    def flat(self) -> int:
        return self.own_d // 2

    @property
    def cosine(self) -> float:
        return 0.5 ** ((self.m + 1) // 2)

    def exponents(self, bases: range) -> "Tensor":
        return kerdock_exponents(self.m, bases)
