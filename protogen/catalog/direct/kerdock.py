"""Kerdock sets: real mutually unbiased bases, as many as there can be."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

from protogen.errors import BadRequest

from ..algebra.quadratic import EXPONENTS, QuadraticBases, kerdock_exponents

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Kerdock(QuadraticBases):
    """The d/2 + 1 mutually unbiased bases of R^d, d = 4^k: d(d/2 + 1) lines of coherence 1/sqrt(d).

    1. A coordinate is a pair (y, e) of y in GF(d/2) and e in {0, 1}. There is one basis for each a in GF(d/2).
    2. Row b of basis a has at (y, e) the sign (-1)^(Q(ay) + e tr(ay) + b . (y, e)) over sqrt(d), where Q(u) is
       the sum of u^(2^i + 2^j) over i < j.
    3. The standard basis is added as the last.

    Q(ay) + e tr(ay) is a quadratic form. The difference of two of these forms has full rank, so that its signs
    sum to sqrt(d) or its negative. No set of so many lines has a lower coherence.

    Source: Kerdock 1972; Calderbank, Cameron, Kantor and Seidel 1997.
    """

    family: ClassVar[str] = "kerdock"
    k: int

    def __post_init__(self) -> None:
        if not 1 <= self.k < EXPONENTS // 2:
            raise BadRequest(f"k is {self.k}; allowed is 1 to {EXPONENTS // 2 - 1}; the lines are in R^(4^k)")

    @classmethod
    def sized(cls, low: int, high: int) -> Iterator[Self]:
        """Yield the members with low <= own_d <= high."""
        yield from (cls(k) for k in range(1, (high.bit_length() + 1) // 2) if 4**k >= low)

    @property
    def own_d(self) -> int:
        return int(4**self.k)

    @property
    def flat(self) -> int:
        return self.own_d // 2

    @property
    def cosine(self) -> float:
        return 0.5**self.k

    def exponents(self, bases: range) -> "Tensor":
        return kerdock_exponents(2 * self.k - 1, bases)
