"""Mutually unbiased bases of C^q as real lines, whole and by halves."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, ClassVar, Self

from protogen.errors import BadRequest

from ..algebra.fields import field, prime_power, prime_powers
from ..algebra.roots import as_real, roots
from ..family import Bases, ClosedForm, Tight

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class ComplexMUB(Tight, Bases):
    """The p + 1 mutually unbiased bases of C^p as 2p(p+1) lines in R^(2p) of coherence 1/sqrt(p).

    p is any odd prime power, F the field of p elements, and w a primitive root of unity of its characteristic.

    1. Basis a, for a in F, has a vector for each b in F: v_{a,b}(x) = p^(-1/2) w^Tr(a x^2 + b x), x in F.
       Tr is the trace to the prime field. The standard basis is the last.
    2. Each complex v gives the two real rows (Re v, Im v) and (-Im v, Re v). Rows run basis by basis.

    The inner product of vectors of two bases is a quadratic Gauss sum over p, of modulus 1/sqrt(p).

    Source: Wootters and Fields 1989, Optimal state-determination by mutually unbiased measurements.
    """

    family: ClassVar[str] = "mub"
    p: int

    def __post_init__(self) -> None:
        if not (self.p % 2 and prime_power(self.p)):
            raise BadRequest(f"p is {self.p}; allowed is an odd prime power")

    @classmethod
    def reach(cls, d: int, n: int) -> Self | None:
        """Return the member of the largest p with 2p <= d, where its 2p(p+1) vectors are enough."""
        form = next(cls.sized(0, d), None)
        return form if form and n <= form.own_n else None

    @classmethod
    def sized(cls, low: int, high: int) -> Iterator[Self]:
        """Yield the members with low <= own_d <= high, the largest first."""
        return (cls(p) for p in prime_powers((low + 1) // 2, high // 2) if p % 2)

    @classmethod
    def leading(cls, low: int, high: int) -> Iterator[Self]:
        """Yield the largest member with low <= own_d <= high, which leads all others."""
        return islice(cls.sized(low, high), 1)

    @property
    def flat(self) -> int:
        return 0

    @property
    def own_d(self) -> int:
        return 2 * self.p

    @property
    def own_n(self) -> int:
        return 2 * self.p * (self.p + 1)

    @property
    def cosine(self) -> float:
        return 1 / math.sqrt(self.p)

    def rows(self, start: int, stop: int) -> "torch.Tensor":
        """Return rows start to stop - 1, (stop - start, 2p) float32, from float64 tables."""
        import torch

        F = field(self.p)
        index = torch.arange(start // 2, (stop + 1) // 2, device="cpu")  # of complex vectors: two rows each
        a, b, x = (index // F.q % F.q)[:, None], (index % F.q)[:, None], torch.arange(F.q, device="cpu")
        phase = F.trace[F.multiply(a, F.multiply(x, x))] + F.trace[F.multiply(b, x)]
        vectors = roots(F.p, F.q)[phase % F.p]
        standard = index >= F.q**2
        vectors[standard] = (b[standard] == x).to(vectors.dtype)
        return as_real(vectors)[start % 2 :][: stop - start]


@dataclass(frozen=True)
class TernaryMUB(ClosedForm):
    """Half of the mutually unbiased bases of C^q as q(q+1) lines in R^(2q), q = 3^m, m odd.

    1. Take the one real row (Re v, Im v) of each of ComplexMUB's vectors v.
    2. Multiply the vectors of the standard basis by i first.

    Vectors v and u of two bases have <v, u> = i w^k / sqrt(q) or its negative, w a cube root of unity: the quadratic
    Gauss sum over F_q is imaginary. The real part is at most sin(60 degrees) / sqrt(q) = sqrt(3 / (4q)).
    """

    family: ClassVar[str] = "ternary-mub"
    m: int

    def __post_init__(self) -> None:
        if not 1 <= self.m <= 23 or self.m % 2 == 0:
            raise BadRequest(f"m is {self.m}; allowed is an odd number from 1 to 23")

    @classmethod
    def reach(cls, d: int, n: int) -> Self | None:
        """Return the member of the largest m with 2 * 3^m <= d, where its vectors are enough."""
        forms = [cls(m) for m in range(1, d.bit_length(), 2) if 2 * 3**m <= d]
        return forms[-1] if forms and n <= forms[-1].own_n else None

    @property
    def q(self) -> int:
        return int(3**self.m)

    @property
    def own_d(self) -> int:
        return 2 * self.q

    @property
    def own_n(self) -> int:
        return self.q * (self.q + 1)

    @property
    def cosine(self) -> float:
        return math.sqrt(3 / (4 * self.q))

    def rows(self, start: int, stop: int) -> "torch.Tensor":
        """Return rows start to stop - 1, (stop - start, 2q) float32: one of each pair of ComplexMUB's."""
        import torch

        pairs = ComplexMUB(self.q).rows(2 * start, 2 * stop).view(-1, 2, self.own_d)
        standard = torch.arange(start, stop, device="cpu") >= self.q**2
        return torch.where(standard[:, None], pairs[:, 1], pairs[:, 0])
