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
    """The 2^m + 1 mutually unbiased bases of C^(2^m) in R^d, d = 2^(m+1) (Calderbank et al. 1997).

    v_{a,b}(x) = 2^(-m/2) i^(tr(ax) + 2 Q(ax) + 2 tr(bx)) for a, b, x in GF(2^m), tr(ax) taken as 0 or
    1, Q(u) = sum_{i<j} u^(2^i + 2^j), and the standard basis. Each complex v gives (Im w, Re w) for
    w = exp(pi i/4) v and for w = i exp(pi i/4) v, signs over sqrt(d): d(d/2 + 1) lines, of coherence
    1/sqrt(d) for m odd, when they are the lines of Kerdock, and sqrt(2/d) for m even.
    """

    family: ClassVar[str] = "z4-kerdock"
    m: int

    def __post_init__(self) -> None:
        if not 1 <= self.m < EXPONENTS - 1:
            raise BadRequest(f"m is {self.m}; allowed is 1 to {EXPONENTS - 2}; the lines are in R^(2^(m+1))")

    @classmethod
    def sized(cls, low: int, high: int) -> Iterator[Self]:
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
