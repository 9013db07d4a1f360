"""Orthonormal bases of signs in R^(2^m): the Sylvester matrix with its columns signed by quadratic forms."""

import math
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar, Self

from ..family import Bases, Tight
from .fields import field
from .hadamard import sylvester

if TYPE_CHECKING:
    from torch import Tensor


EXPONENTS = 40  # 2^m, m below this, is a dimension that can be asked for


class QuadraticBases(Tight, Bases):
    """A set of lines in R^(2^m): `flat` bases of signs, one for each quadratic form, then the standard basis."""

    family: ClassVar[str]

    @classmethod
    def leading(cls, low: int, high: int) -> Iterator[Self]:
        """Yield the members with low <= own_d <= high."""
        return cls.sized(low, high)

    @abstractmethod
    def exponents(self, bases: range) -> "Tensor":
        """The forms of these bases, 0 or 1 at each coordinate, (len(bases), own_d) int64."""

    @property
    def own_n(self) -> int:
        return self.own_d * (self.flat + 1)

    def rows(self, start: int, stop: int) -> "Tensor":
        """Return rows start to stop - 1, (stop - start, own_d) float32, basis by basis."""
        import torch

        first = self.flat * self.own_d  # row of the standard basis
        edge = min(max(start, first), stop)
        rows = flat_rows(self.own_d, self.exponents, start, edge)
        if stop == edge:
            return rows
        ones = torch.arange(edge - first, stop - first, device="cpu")[:, None] == torch.arange(self.own_d, device="cpu")
        return torch.cat((rows, ones.float()))


def flat_rows(d: int, exponents: Callable[[range], "Tensor"], start: int, stop: int) -> "Tensor":
    """Rows start to stop - 1 of flat bases: row b of one is (-1)^(exponent(x) + b . x) / sqrt(d), b . x of bits."""
    import torch

    first = start // d
    signs = (1 - 2 * exponents(range(first, -(-stop // d)))).float() * (1 / math.sqrt(d))
    index = torch.arange(start - first * d, stop - first * d, device="cpu")
    m = d.bit_length() - 1
    low = 2 ** (m // 2)
    left, right = sylvester(m - m // 2).float(), sylvester(m // 2).float()  # their Kronecker product has order d
    rows = signs[index // d].view(-1, d // low, low)
    rows *= left[index % d // low][:, :, None]
    rows *= right[index % low][:, None]
    return rows.view(-1, d)


def kerdock_exponents(h: int, bases: Sequence[int]) -> "Tensor":
    """Form a at coordinate y + 2^h e: Q(ay) + e tr(ay), a the lowest digit of the basis in base 2^h, e 0 or 1.

    Q(u) = sum_{i<j} u^(2^i + 2^j), u in GF(2^h).
    """
    import torch

    numbers = field(2**h)
    u = numbers.multiply(_digit(bases, h, 0), torch.arange(numbers.q, device="cpu"))
    q = _second_trace(h)[u]
    return torch.cat((q, q ^ numbers.trace[u]), 1)


def gold_exponents(h: int, terms: int, bases: Sequence[int]) -> "Tensor":
    """Form (a_1, a_2, ...) at y: the sum of tr(a_i y^(1 + 2^i)), a_i the digits of the basis, the lowest first."""
    import torch

    numbers = field(2**h)
    y = torch.arange(numbers.q, device="cpu")
    total = torch.zeros(len(bases), numbers.q, dtype=torch.int64, device="cpu")
    for term in range(terms):
        total ^= numbers.trace[numbers.multiply(_digit(bases, h, term), numbers.power(y, 1 + 2 ** (term + 1)))]
    return total


def _digit(bases: Sequence[int], h: int, place: int) -> "Tensor":
    """One digit of each number in base 2^h, (len(bases), 1); the numbers may be longer than 64 bits."""
    import torch

    digits = [[basis >> h * place & 2**h - 1] for basis in bases]
    return torch.tensor(digits, dtype=torch.int64, device="cpu").view(-1, 1)


@lru_cache(maxsize=4)
def _second_trace(h: int) -> "Tensor":
    """sum_{i<j} u^(2^i + 2^j), which is 0 or 1, of each u in GF(2^h)."""
    import torch

    numbers = field(2**h)
    conjugate = torch.arange(numbers.q, device="cpu")
    trace = total = torch.zeros_like(conjugate)
    for _ in range(h):
        total = total ^ numbers.multiply(trace, conjugate)
        trace = trace ^ conjugate
        conjugate = numbers.power(conjugate, 2)
    return total
