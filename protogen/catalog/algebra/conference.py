"""Cores of skew conference matrices."""

from typing import TYPE_CHECKING

from .fields import field, prime_power

if TYPE_CHECKING:
    from torch import Tensor

# The first rows of four circulant matrices A, B, C, D: A - I is skew, the others are symmetric, and
# A A^T + B^2 + C^2 + D^2 = (q + 1) I. So skew Hadamard matrices are made where no field has one (Goethals and
# Seidel 1970, A skew Hadamard matrix of order 36).
CIRCULANTS = {35: ("++++-+---", "+++-++-++", "+---++---", "++-+--+-+")}


def has_core(q: int) -> bool:
    """Whether `skew_core` begins with q: with Paley's matrix, q = 3 mod 4 a prime power, or with one of CIRCULANTS."""
    return q in CIRCULANTS or (q % 4 == 3 and prime_power(q) is not None)


def skew_core(q: int, doublings: int) -> "Tensor":
    """Return S of order s = 2^doublings (q + 1) - 1, (s, s) float64, for q that `has_core`.

    S is skew with entries 1 and -1 off its diagonal, S S^T = s I - J and S J = 0. It is what is left of a skew
    conference matrix C normalised to a row of ones. Paley's C has the core chi(x - y); [[C, C + I], [C - I, -C]]
    has twice the order.
    """
    import torch

    matrix = _of_circulants(q) if q in CIRCULANTS else _of_field(q)
    for _ in range(doublings):
        one = torch.eye(len(matrix), dtype=torch.float64, device="cpu")
        matrix = torch.cat((torch.cat((matrix, matrix + one), 1), torch.cat((matrix - one, -matrix), 1)))
    signs = matrix[0, 1:]
    return signs[:, None] * matrix[1:, 1:] * signs


def _of_field(q: int) -> "Tensor":
    """Paley's conference matrix of order q + 1."""
    import torch

    elements, x = field(q), torch.arange(q, device="cpu")
    matrix = torch.ones(q + 1, q + 1, dtype=torch.float64, device="cpu")
    matrix[0, 0] = 0
    matrix[1:, 0] = -1
    matrix[1:, 1:] = elements.character[elements.subtract(x[:, None], x)]
    return matrix


def _of_circulants(q: int) -> "Tensor":
    """The array of Goethals and Seidel of CIRCULANTS, less I: a conference matrix of order q + 1."""
    import torch

    rows = torch.tensor([[1.0 if sign == "+" else -1.0 for sign in row] for row in CIRCULANTS[q]], device="cpu")
    index = torch.arange(rows.shape[1], device="cpu")
    a = rows[0][(index - index[:, None]) % len(index)].double()
    b, c, d = rows[1:, (-index - index[:, None]) % len(index)].double()  # back-circulant, and so symmetric
    parts = ((a, b, c, d), (-b, a, d, -c), (-c, -d, a, b), (-d, c, -b, a))
    return torch.cat([torch.cat(part, 1) for part in parts]) - torch.eye(q + 1, dtype=torch.float64, device="cpu")
