"""Hadamard matrices of many orders, entry by entry."""

from typing import TYPE_CHECKING

from .fields import is_prime

if TYPE_CHECKING:
    from torch import Tensor


def exists(order: int) -> bool:
    """Whether `entries` has this order: 1, 2, and 2^a times q + 1 (q = 3 mod 4) or 2q + 2 (q = 1 mod 4), q prime."""
    return _core(order) is not None


def entries(order: int, i: "Tensor", j: "Tensor") -> "Tensor":
    """Return the entries, 1 or -1, at rows i and columns j, whole numbers that broadcast, as int64.

    The Kronecker product of a Sylvester matrix and one of Paley's two (Paley 1933, On orthogonal
    matrices), for an order that `exists`.
    """
    core = _core(order) or order
    outer = (i // core) & (j // core)
    for shift in (16, 8, 4, 2, 1):
        outer = outer ^ outer >> shift
    return (1 - 2 * (outer & 1)) * _paley(core, i % core, j % core)


def _core(order: int) -> int | None:
    """The order that is left of a Kronecker product when the Sylvester matrix is taken out of it."""
    while order > 2 and order % 4 == 0:
        if is_prime(order - 1) or (order // 2 % 4 == 2 and is_prime(order // 2 - 1)):
            return order
        order //= 2
    return order if order in (1, 2) else None


def _paley(order: int, i: "Tensor", j: "Tensor") -> "Tensor":
    import torch

    if order <= 2:
        return 1 - 2 * (i & j)
    if is_prime(order - 1):  # I + S, S skew: a first row of ones, a first column of -1, chi(j - i)
        chi = _characters(order - 1)
        inner = torch.where(j == 0, -1, chi[(j - i) % (order - 1)])
        return torch.where((i == j) | (i == 0), 1, inner)
    # C x [[1, 1], [1, -1]] + I x [[1, -1], [-1, -1]], C symmetric with zeros on the diagonal
    q = order // 2 - 1
    corner = (i % 2) & (j % 2)
    i, j, mixed = i // 2, j // 2, i % 2 + j % 2
    conference = torch.where((i == 0) | (j == 0), 1, _characters(q)[(j - i) % q])
    return torch.where(i == j, torch.where(mixed == 0, 1, -1), conference * (1 - 2 * corner))


def _characters(q: int) -> "Tensor":
    """The quadratic character of 0, ..., q - 1 modulo a prime q."""
    import torch

    chi = torch.full((q,), -1)
    chi[torch.arange(q) ** 2 % q] = 1
    chi[0] = 0
    return chi
