"""Hadamard matrices of many orders, entry by entry."""

import math
from functools import cache, lru_cache
from typing import TYPE_CHECKING

from .fields import field, is_prime, prime_power

if TYPE_CHECKING:
    from torch import Tensor

# The first rows of Williamson's four circulant symmetric matrices, as far as the middle: order 92 as found by Baumert,
# Golomb and Hall 1962, order 116 by Baumert 1966.
WILLIAMSON = {
    92: ("+++-++--+-+-", "++++--+-+-++", "++-++--+++--", "+-+++-----+-"),
    116: ("+--+++--++-+--+", "+--++----+-+-++", "+++-+++-+----++", "+--+-+-+++++++-"),
}
BLOCK_SIGNS = ("++++", "-+-+", "-++-", "--++")


def exists(order: int) -> bool:
    """Whether `entries` has this order.

    The orders are 1, 2, q + 1 (q = 3 mod 4) and 2q + 2 (q = 1 mod 4) for prime powers q, 92, 116
    and all products of these: up to 200 every multiple of 4 but 156, 172 and 188.
    """
    return _factors(order) is not None


def entries(order: int, i: "Tensor", j: "Tensor") -> "Tensor":
    """Return the entries, 1 or -1, at rows i and columns j, whole numbers that broadcast, as int64.

    The Kronecker product of matrices by Sylvester, Paley (1933, On orthogonal matrices) and
    Williamson (1944, Hadamard's determinant theorem), for an order that `exists`.
    """
    import torch

    factors = _factors(order)
    assert factors, f"no Hadamard matrix of order {order}"
    signs = torch.tensor(1, device="cpu")
    for size, q in reversed(factors):
        signs = signs * _factor(size, q, i % size, j % size)
        i, j = i // size, j // size
    return signs


@cache
def _factors(order: int) -> tuple[tuple[int, int], ...] | None:
    """The factors of a Kronecker product, the outermost first: their orders, and q of Paley's or 0.

    Files that stand rest on the order in which they are sought: one of Paley's by a prime and one of
    Sylvester's as small as can be, before all else.
    """
    if order in (1, 2):
        return ((order, 0),)
    halves = [order >> k for k in range(order.bit_length()) if order % (4 << k) == 0]
    for is_size in (is_prime, prime_power):
        for core in halves:
            # 2q + 2 = 4 mod 8, where q = 1 mod 4
            for q in (core - 1, core // 2 - 1) if core % 8 == 4 else (core - 1,):
                if is_size(q):
                    return (order // core, 0), (core, q)
    for core in halves:
        if core in WILLIAMSON:
            return (order // core, 0), (core, 0)
    for left in range(12, math.isqrt(order) + 1, 4):
        if order % left == 0 and (outer := _factors(left)) and (inner := _factors(order // left)):
            return outer + inner
    return None


def _factor(order: int, q: int, i: "Tensor", j: "Tensor") -> "Tensor":
    import torch

    if order in WILLIAMSON:
        size = order // 4
        return _williamson(order)[i // size, j // size, (j - i) % size]
    if not q:
        return sylvester_entries(i, j)
    elements = field(q)
    if order == q + 1:  # I + S, S skew: a first row of ones, a first column of -1, chi(j - i)
        inner = torch.where(j == 0, -1, elements.character[elements.subtract(j - 1, i - 1)])
        return torch.where((i == j) | (i == 0), 1, inner)
    # C x [[1, 1], [1, -1]] + I x [[1, -1], [-1, -1]], C symmetric with zeros on the diagonal
    corner = (i % 2) & (j % 2)
    i, j, mixed = i // 2, j // 2, i % 2 + j % 2
    conference = torch.where((i == 0) | (j == 0), 1, elements.character[elements.subtract(j - 1, i - 1)])
    return torch.where(i == j, torch.where(mixed == 0, 1, -1), conference * (1 - 2 * corner))


@lru_cache
def _williamson(order: int) -> "Tensor":
    """The entries of [[A,B,C,D],[-B,A,-D,C],[-C,D,A,-B],[-D,-C,B,A]] by block row, block column and shift."""
    import torch

    halves = [[1 if sign == "+" else -1 for sign in row] for row in WILLIAMSON[order]]
    circulant = torch.tensor([half + half[:0:-1] for half in halves], device="cpu")
    signs = torch.tensor([[1 if sign == "+" else -1 for sign in row] for row in BLOCK_SIGNS], device="cpu")
    block = torch.arange(4, device="cpu")
    return signs[:, :, None] * circulant[block[:, None] ^ block]


def sylvester_entries(i: "Tensor", j: "Tensor") -> "Tensor":
    """Return (-1)^(i . j), i . j the inner product of bits, at rows i and columns j that broadcast, as int64.

    The numbers are at least 0 and below 2^32.
    """
    odd = i & j
    for shift in (16, 8, 4, 2, 1):
        odd = odd ^ odd >> shift
    return 1 - 2 * (odd & 1)


def sylvester(m: int) -> "Tensor":
    """Return Sylvester's matrix of order 2^m whole, (2^m, 2^m) float64."""
    import torch

    index = torch.arange(1 << m, device="cpu")
    return sylvester_entries(index[:, None], index).double()
