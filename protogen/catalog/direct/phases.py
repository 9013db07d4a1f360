"""Polynomial phases of any degree: more vectors than bases that are mutually unbiased have, at a larger coherence."""

import math
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, ClassVar, Self

from protogen.errors import BadRequest

from ..algebra.fields import is_prime
from ..algebra.roots import as_real, roots
from ..family import ClosedForm

if TYPE_CHECKING:
    import torch

DEGREES = 40  # more give more vectors than can be asked for


@dataclass(frozen=True)
class HigherPhases(ClosedForm):
    """2 p^D lines in R^(2p) of coherence at most (D - 1) / sqrt(p): polynomials as phases, p > (D - 1)^2 prime.

    1. Take the polynomials f over F_p of degree at most D = `degree` >= 3 without a constant term.
    2. Each gives the complex vector v_f(x) = p^(-1/2) exp(2 pi i f(x) / p), x in F_p.
    3. Each v gives the two real rows (Re v, Im v) and (-Im v, Re v).

    The inner product of two vectors is 1/p times the exponential sum of the difference of their polynomials. That
    sum is at most (D - 1) sqrt(p) (Weil 1948, On some exponential sums).

    The coefficients of f are the digits of a vector's number in base p, and that of x is the last. So rows run in
    orthonormal bases, and polynomials of lower degree come first.
    """

    family: ClassVar[str] = "phases"
    p: int
    degree: int

    def __post_init__(self) -> None:
        if not 3 <= self.degree <= DEGREES:
            raise BadRequest(f"degree is {self.degree}; allowed is 3 to {DEGREES}")
        if self.p <= (self.degree - 1) ** 2 or not is_prime(self.p):
            raise BadRequest(f"p is {self.p}; allowed is a prime above (degree - 1)^2 = {(self.degree - 1) ** 2}")

    @classmethod
    def reach(cls, d: int, n: int) -> Self | None:
        """The largest p with 2p <= d and the least degree whose vectors are enough."""
        p = next((p for p in range(d // 2, 4, -1) if is_prime(p)), None)
        if p is None:
            return None
        degree = next(degree for degree in count(3) if n <= 2 * p**degree)
        return cls(p, degree) if (degree - 1) ** 2 < p else None

    @property
    def own_d(self) -> int:
        return 2 * self.p

    @property
    def own_n(self) -> int:
        return int(2 * self.p**self.degree)

    @property
    def cosine(self) -> float:
        return (self.degree - 1) / math.sqrt(self.p)

    def rows(self, start: int, stop: int) -> "torch.Tensor":
        """Return rows start to stop - 1, (stop - start, 2p) float32, from float64 tables."""
        import torch

        p, x = self.p, torch.arange(self.p, device="cpu")
        index = torch.arange(start // 2, (stop + 1) // 2, device="cpu")[:, None]  # of complex vectors: two rows each
        phase, monomial = torch.zeros_like(index), x
        for _ in range(self.degree):
            phase = (phase + index % p * monomial) % p
            index, monomial = index // p, monomial * x % p
        return as_real(roots(p, p)[phase])[start % 2 :][: stop - start]
