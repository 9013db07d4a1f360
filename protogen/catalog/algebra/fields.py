"""Finite fields by tables of powers: the arithmetic that constructions need, on whole tensors.

Element a of GF(p^h) is a whole number below p^h whose digits in base p are its coordinates over F_p,
1, x, x^2, ... being the basis. The field's polynomial is the first, as such numbers go, of which x
is a generator, so that a construction is the same set for ever and everywhere; libraries change theirs.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def is_prime(q: int) -> bool:
    return q > 1 and all(q % p for p in range(2, math.isqrt(q) + 1))


def prime_power(q: int) -> tuple[int, int] | None:
    """The prime p and the exponent h >= 1 of q = p^h, or None."""
    if q < 2:
        return None
    p = next((p for p in range(2, math.isqrt(q) + 1) if q % p == 0), q)
    h = 0
    while q % p == 0:
        q, h = q // p, h + 1
    return (p, h) if q == 1 else None


def prime_powers(low: int, high: int) -> Iterator[int]:
    """Yield the prime powers from low to high, the largest first."""
    yield from (q for q in range(high, max(low, 2) - 1, -1) if prime_power(q))


@dataclass(frozen=True)
class Field:
    """GF(p^h). Its functions take and return int64 tensors of elements, which broadcast."""

    p: int
    h: int

    @property
    def q(self) -> int:
        return int(self.p**self.h)

    @cached_property
    def powers(self) -> "Tensor":
        """The powers x^0, x^1, ..., x^(q-2) of the generator, (q - 1,)."""
        import torch

        return torch.tensor(_powers(self.p, self.h), device="cpu")

    @cached_property
    def logs(self) -> "Tensor":
        """The exponent of each element, (q,); that of 0 means nothing."""
        import torch

        logs = torch.zeros(self.q, dtype=torch.int64, device="cpu")
        logs[self.powers] = torch.arange(self.q - 1, device="cpu")
        return logs

    def add(self, a: "Tensor", b: "Tensor") -> "Tensor":
        return self._by_digits(a, b, 1)

    def subtract(self, a: "Tensor", b: "Tensor") -> "Tensor":
        return self._by_digits(a, b, self.p - 1)

    def _by_digits(self, a: "Tensor", b: "Tensor", times: int) -> "Tensor":
        """a + times b, digit by digit."""
        if self.p == 2:
            return a ^ b
        total = (a + times * b) % self.p
        for digit in range(1, self.h):
            place = self.p**digit
            total = total + (a // place + times * (b // place)) % self.p * place
        return total

    def multiply(self, a: "Tensor", b: "Tensor") -> "Tensor":
        product = self.powers[(self.logs[a] + self.logs[b]) % (self.q - 1)]
        return product * ((a != 0) & (b != 0))

    def power(self, a: "Tensor", exponent: int) -> "Tensor":
        """a to a whole exponent >= 1."""
        return self.powers[self.logs[a] * exponent % (self.q - 1)] * (a != 0)

    @cached_property
    def trace(self) -> "Tensor":
        """The trace to F_p of each element, a whole number below p, (q,)."""
        import torch

        conjugate = total = torch.arange(self.q, device="cpu")
        for _ in range(1, self.h):
            conjugate = self.power(conjugate, self.p)
            total = self.add(total, conjugate)
        return total

    @cached_property
    def character(self) -> "Tensor":
        """The quadratic character of each element, q odd: 1 for squares, -1 for the others, 0 for 0, (q,)."""
        character = 1 - 2 * (self.logs % 2)
        character[0] = 0
        return character


@lru_cache
def field(q: int) -> Field:
    """GF(q), q a prime power."""
    found = prime_power(q)
    assert found, f"{q} is no prime power"
    return Field(*found)


@lru_cache
def _powers(p: int, h: int) -> list[int]:
    """The powers of the first generator: of x modulo the first polynomial that makes it one; for h = 1 of a number."""
    q = p**h
    if h == 1:
        candidates = ([(p - g) % p] for g in range(1, p))  # x - g: x is g
    else:
        candidates = ([low // p**digit % p for digit in range(h)] for low in range(1, q))
    for modulus in candidates:
        powers = [1]
        while (power := _times_x(powers[-1], modulus, p, h)) > 1 and len(powers) < q - 1:
            powers.append(power)
        if power == 1 and len(powers) == q - 1:
            return powers
    raise AssertionError("every field has a generator")


def _times_x(element: int, modulus: list[int], p: int, h: int) -> int:
    """x times an element, reduced by x^h = -(modulus[0] + modulus[1] x + ...)."""
    top, low = divmod(element, int(p ** (h - 1)))
    if p == 2:
        return low << 1 ^ (sum(bit << digit for digit, bit in enumerate(modulus)) if top else 0)
    product = 0
    for digit in reversed(range(h)):
        before = low // p ** (digit - 1) % p if digit else 0
        product = product * p + (before - top * modulus[digit]) % p
    return product
