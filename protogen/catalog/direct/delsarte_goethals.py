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

    Row b of the basis of a form f has the sign (-1)^(f(x) + b . x) over sqrt(d) at coordinate x.

    - m odd: f(x) is the sum of tr(a_i x^(1 + 2^i)) over i from 1 to t + 1, a_i and x in GF(d). These are d^(t+2)
      lines of coherence 2^t sqrt(2/d). With t = 0 they are the set of Gold (1968).
    - m even, t >= 1: x is a pair (y, e), y in GF(d/2) and e in {0, 1}. f is a Kerdock form plus the sum of
      tr(a_i y^(1 + 2^i)) over i from 1 to t, a_i in GF(d/2). These are d (d/2)^(t+1) lines of coherence
      2^t/sqrt(d).

    The standard basis is added as the last. The difference of two forms has rank at least m - 1 - 2t for m odd, and
    m - 2t for m even. The signs of a form of rank r sum to at most 2^(m - r/2), which over d is the coherence.

    Source: Delsarte and Goethals 1975, Alternating bilinear forms over GF(q).
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
        """Yield the members with low <= own_d <= high."""
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
    """The degree over F_2 of the field that the coefficients are from: the odd one of m and m - 1."""
    return m - 1 + m % 2


def _orders(m: int) -> range:
    """Every t of the members in R^(2^m). For m even t = 0 is left out, as it would be Kerdock's."""
    return range(1 - m % 2, m // 2)
