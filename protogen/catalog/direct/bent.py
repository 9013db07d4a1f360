"""Equiangular tight frames of signs: Hadamard matrices cut to the columns where a bent function is constant."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

from protogen.errors import BadRequest

from ..algebra.hadamard import sylvester_entries
from ..family import Tight

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Bent(Tight):
    """4^m equiangular lines of signs: the Sylvester matrix of order 4^m, cut to the columns x with f(x) = value.

    The bent function is f(x) = x_1 x_{m+1} + ... + x_m x_{2m} over the bits of x.

    - value 0: in R^(2^(2m-1) + 2^(m-1)), of coherence 1/(2^m + 1).
    - value 1: in R^(2^(2m-1) - 2^(m-1)), of coherence 1/(2^m - 1).

    1. Row i has the sign (-1)^(i.x) at column x. All coordinates are such a sign over sqrt(own_d).
    2. Rows i and k multiply to row i xor k. So their inner product is the sum of one row over these x.
    3. f is bent: that sum is 2^(m-1) or its negative for every row but 0 (Dillon 1974). Over own_d this is the
       coherence.

    Source: Xia, Zhou and Giannakis 2005, Achieving the Welch bound with difference sets.
    """

    family: ClassVar[str] = "bent"
    m: int
    value: int

    def __post_init__(self) -> None:
        if self.value not in (0, 1):
            raise BadRequest(f"value is {self.value}; allowed is 0 or 1")
        if not self.value < self.m <= 20:
            raise BadRequest(f"m is {self.m}; allowed is {self.value + 1} to 20; value is {self.value}")

    @classmethod
    def sized(cls, low: int, high: int) -> Iterator[Self]:
        """Yield the members with low <= own_d <= high."""
        forms = (cls(m, value) for m in range(1, high.bit_length()) for value in (0, 1) if m > value)
        return (form for form in forms if low <= form.own_d <= high)

    @property
    def own_d(self) -> int:
        return (1 << self.m - 1) * ((1 << self.m) + 1 - 2 * self.value)

    @property
    def own_n(self) -> int:
        return 1 << 2 * self.m

    @property
    def cosine(self) -> float:
        return 1 / ((1 << self.m) + 1 - 2 * self.value)

    def rows(self, start: int, stop: int) -> "Tensor":
        """Return rows start to stop - 1, (stop - start, own_d) float32."""
        import torch

        x = torch.arange(self.own_n, device="cpu")
        bent = sylvester_entries(x >> self.m, x & (1 << self.m) - 1)  # (-1)^f(x)
        columns = x[bent == 1 - 2 * self.value]
        return sylvester_entries(torch.arange(start, stop, device="cpu")[:, None], columns).float() / math.sqrt(
            self.own_d
        )
