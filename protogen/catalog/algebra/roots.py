"""Complex vectors of roots of unity, and complex vectors as real ones."""

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def roots(p: int, q: int) -> "Tensor":
    """The p-th roots of unity exp(2 pi i k / p) over sqrt(q), coordinates of unit vectors in C^q, (p,) complex64."""
    import torch

    turns = torch.arange(p, dtype=torch.float64, device="cpu") * (2 * math.pi / p)
    return torch.complex(turns.cos() / math.sqrt(q), turns.sin() / math.sqrt(q)).to(torch.complex64)


def as_real(vectors: "Tensor") -> "Tensor":
    """Return the two real rows (Re v, Im v) and (-Im v, Re v) of each complex vector v, (m, q) to (2m, 2q) float32.

    Their inner products with those of u are the real and imaginary parts of <v, u>.
    """
    import torch

    real, imaginary = vectors.real, vectors.imag
    rows = torch.stack((torch.cat((real, imaginary), 1), torch.cat((-imaginary, real), 1)), 1)
    return rows.flatten(0, 1)
