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
    """The d/2 + 1 mutually unbiased bases of R^d, d = 4^k (Kerdock 1972; Calderbank et al. 1997).

    d(d/2 + 1) lines of coherence 1/sqrt(d), the least for so many. Row b of basis a, for a in
    GF(d/2), has the sign exponent Q(ay) + e tr(ay) + b . (y, e) at the coordinate (y, e), y in
    GF(d/2), e in {0, 1}, Q(u) = sum_{i<j} u^(2^i + 2^j). The standard basis is the last.
    """

    family: ClassVar[str] = "kerdock"
    k: int

    def __post_init__(self) -> None:
        if not 1 <= self.k < EXPONENTS // 2:
            raise BadRequest(f"k is {self.k}; allowed is 1 to {EXPONENTS // 2 - 1}; the lines are in R^(4^k)")

    @classmethod
    def sized(cls, low: int, high: int) -> Iterator[Self]:
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
