"""Cores of skew conference matrices."""

from typing import TYPE_CHECKING

from .fields import field, prime_power

if TYPE_CHECKING:
    from torch import Tensor


def has_core(q: int) -> bool:
    """Whether Paley's matrix of the field of q elements is skew: q = 3 mod 4 a prime power."""
    return q % 4 == 3 and prime_power(q) is not None


def skew_core(q: int, doublings: int) -> "Tensor":
    """Return S of order s = 2^doublings (q + 1) - 1, (s, s) float64, for q that `has_core`.

    S is skew with entries 1 and -1 off its diagonal, S S^T = s I - J and S J = 0. It is what is left of a skew
    conference matrix C normalised to a row of ones. Paley's C has the core chi(x - y); [[C, C + I], [C - I, -C]]
    has twice the order.
    """
    import torch

    elements, x = field(q), torch.arange(q, device="cpu")
    matrix = torch.ones(q + 1, q + 1, dtype=torch.float64, device="cpu")
    matrix[0, 0] = 0
    matrix[1:, 0] = -1
    matrix[1:, 1:] = elements.character[elements.subtract(x[:, None], x)]
    for _ in range(doublings):
        one = torch.eye(len(matrix), dtype=torch.float64, device="cpu")
        matrix = torch.cat((torch.cat((matrix, matrix + one), 1), torch.cat((matrix - one, -matrix), 1)))
    signs = matrix[0, 1:]
    return signs[:, None] * matrix[1:, 1:] * signs
