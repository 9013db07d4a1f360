"""Equiangular tight frames of n = 2d lines from the square of a conference matrix."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar, Self

from protogen.errors import BadRequest

from ..algebra.conference import has_core, skew_core
from ..algebra.fields import prime_power
from ..algebra.simplex import vertices
from ..family import Tight

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Conference(Tight):
    """s^2 + 1 equiangular lines in R^((s^2 + 1)/2) of coherence 1/s, s = 2^doublings (q + 1) - 1.

    Let S be the skew core of order s of `skew_core`.

    1. T = S x S + I x J - J x I is the core of a symmetric conference matrix C of order s^2 + 1. I + C/s is the
       Gram matrix.
    2. Let u_a be an orthonormal basis of the (s - 1)/2 eigenvectors of S of eigenvalue i sqrt(s).
    3. The row of the point (x, y) begins with 1/s and a vertex x of a regular simplex. Then it has the real and the
       imaginary parts of u_a(x) times the conjugate of u_b(y), scaled.
    4. The last row is (1, 0, ..., 0).

    Source: Turyn 1971, On C-matrices of arbitrary powers.
    """

    family: ClassVar[str] = "conference"
    q: int
    doublings: int

    def __post_init__(self) -> None:
        if not has_core(self.q) or not 0 <= self.doublings <= 16:
            raise BadRequest(
                f"q, doublings is {self.q}, {self.doublings}; allowed is a prime power that is 3 mod 4 or 35, 0 to 16"
            )

    @classmethod
    def sized(cls, low: int, high: int) -> Iterator[Self]:
        """Yield the members with low <= own_d <= high; where s is a prime power `paley` has an equal one."""
        for s in range(7, math.isqrt(2 * high) + 1, 4):
            if 2 * low <= s * s + 1 <= 2 * high and not prime_power(s):
                order, doublings = s + 1, 0
                while order % 4 == 0 and not has_core(order - 1):
                    order, doublings = order // 2, doublings + 1
                if has_core(order - 1):
                    yield cls(order - 1, doublings)

    @property
    def s(self) -> int:
        """The order of the core."""
        return ((self.q + 1) << self.doublings) - 1

    @property
    def own_d(self) -> int:
        return (self.s**2 + 1) // 2

    @property
    def own_n(self) -> int:
        return self.s**2 + 1

    @property
    def cosine(self) -> float:
        return 1 / self.s

    @property
    def exact(self) -> bool:
        return False

    @property
    def held_bytes(self) -> int:
        return 40 * self.s**2

    def rows(self, start: int, stop: int) -> "Tensor":
        """Return rows start to stop - 1, (stop - start, own_d) float32, from float64 tables."""
        import torch

        s = self.s
        index = torch.arange(start, stop, device="cpu")
        x, y = index // s % s, index % s
        real, imaginary = _eigenvectors(self.q, self.doublings)
        (left, turned), (right, back) = ((real[i], imaginary[i]) for i in (x, y))
        left, turned, right, back = 2 * left[:, :, None], 2 * turned[:, :, None], right[:, None], back[:, None]
        rows = torch.zeros(stop - start, self.own_d, dtype=torch.float32, device="cpu")
        rows[:, 0] = self.cosine
        rows[:, 1:s] = (vertices(s, 1, 0, s) * (math.sqrt(2 * (s - 1)) / s))[x]
        half = (s + self.own_d) // 2
        rows[:, s:half] = (left * right + turned * back).flatten(1)
        rows[:, half:] = (turned * right - left * back).flatten(1)
        if start < stop and stop > s * s:
            rows[-1] = 0
            rows[-1, 0] = 1
        return rows


@lru_cache(maxsize=2)
def _eigenvectors(q: int, doublings: int) -> "tuple[Tensor, Tensor]":
    """The real and the imaginary part of an orthonormal basis u_a, both (s, (s - 1)/2) float64."""
    import torch

    core = skew_core(q, doublings)
    vectors = torch.linalg.eigh(-1j * core).eigenvectors[:, (len(core) + 1) // 2 :]
    return vectors.real.contiguous(), vectors.imag.contiguous()
