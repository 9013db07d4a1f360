"""Delsarte-Goethals sets: many orthonormal bases of signs, more the higher the coherence; Gold's is the first."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

from protogen.errors import BadRequest

from ..algebra.quadratic import EXPONENTS, QuadraticBases, gold_exponents, kerdock_exponents

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class DelsarteGoethals(QuadraticBases):
    """Orthonormal bases of R^d, d = 2^m, from quadratic forms whose differences have a large rank.

    Row b of a basis has the sign exponent f(x) + b . x (Delsarte and Goethals 1975). For m odd f(x) =
    sum_{i=1}^{t+1} tr(a_i x^(1 + 2^i)), a_i and x in GF(d): d^(t+2) lines of coherence 2^t sqrt(2/d); t = 0
    is the set of Gold (1968). For m even and t >= 1 f is a Kerdock form plus sum_{i=1}^t tr(a_i y^(1 + 2^i)),
    a_i and y in GF(d/2), x = (y, e): d (d/2)^(t+1) lines of coherence 2^t/sqrt(d). The standard basis is
    added as the last.
    """

    family: ClassVar[str] = "delsarte-goethals"
    m: int
    t: int

    def __post_init__(self) -> None:
        if not 3 <= self.m < EXPONENTS or self.t not in _orders(self.m):
            raise BadRequest(
                f"m, t is {self.m}, {self.t}; allowed is m from 3 to {EXPONENTS - 1} with 0 <= t <= (m - 3)/2 for m "
                "odd, 1 <= t <= (m - 2)/2 for m even"
            )

    @classmethod
    def sized(cls, low: int, high: int) -> Iterator[Self]:
        yield from (cls(m, t) for m in range(3, high.bit_length()) if 2**m >= low for t in _orders(m))

    @property
    def own_d(self) -> int:
        return int(2**self.m)

    @property
    def flat(self) -> int:
        return int(2 ** (_degree(self.m) * (self.t + 1)))

    @property
    def cosine(self) -> float:
        return 0.5 ** (self.m // 2 - self.t)

    def exponents(self, bases: range) -> "Tensor":
        h = _degree(self.m)
        if self.m == h:
            return gold_exponents(h, self.t + 1, bases)
        added = gold_exponents(h, self.t, [basis >> h for basis in bases])
        return kerdock_exponents(h, bases) ^ added.repeat(1, 2)


def _degree(m: int) -> int:
    """Over F_2, of the field that the coefficients are from: the odd one of m and m - 1."""
    return m - 1 + m % 2


def _orders(m: int) -> range:
    """The t of members in R^(2^m); for m even t = 0 would be Kerdock's."""
    return range(1 - m % 2, m // 2)
