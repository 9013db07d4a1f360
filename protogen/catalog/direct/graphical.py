"""Equiangular tight frames from symmetric Hadamard matrices with a constant diagonal."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar, Self

from protogen.errors import BadRequest

from ..algebra.fields import field, prime_power
from ..family import Tight

if TYPE_CHECKING:
    from torch import Tensor

LARGEST = 2**12  # lines of a Gram matrix that is factorised


@dataclass(frozen=True)
class Graphical(Tight):
    """(q - 1)^2 equiangular lines in R^(u (2u - 1)) of coherence 1/(2u - 1), u = (q - 1)/2.

    q = 3 mod 4 and q - 2 are prime powers.

    1. H is a symmetric Hadamard matrix of order 4u^2 with ones on its diagonal.
    2. Its eigenvalue -2u has multiplicity u (2u - 1); all others are 2u.
    3. Hence (2u I - H) / (2u - 1) is the Gram matrix. The rows come from the eigenvectors of H.

    Source: Wallis and Whiteman 1972, Some classes of Hadamard matrices with constant diagonal, Theorem 16, for H;
    Goethals and Seidel 1970, Strongly regular graphs derived from combinatorial designs, for the lines.
    """

    family: ClassVar[str] = "graphical"
    q: int

    def __post_init__(self) -> None:
        if not 7 <= self.q <= math.isqrt(LARGEST) + 1 or not _exists(self.q):
            raise BadRequest(f"q is {self.q}; allowed is a prime power from 7, 3 mod 4, q - 2 a prime power, q to 65")

    @classmethod
    def sized(cls, low: int, high: int) -> Iterator[Self]:
        """Yield the members with low <= own_d <= high."""
        forms = (cls(q) for q in range(7, math.isqrt(LARGEST) + 2, 4) if _exists(q))
        return (form for form in forms if low <= form.own_d <= high)

    @property
    def u(self) -> int:
        """Half the root of the order of H."""
        return (self.q - 1) // 2

    @property
    def own_d(self) -> int:
        return self.u * (2 * self.u - 1)

    @property
    def own_n(self) -> int:
        return 4 * self.u**2

    @property
    def cosine(self) -> float:
        return 1 / (2 * self.u - 1)

    @property
    def exact(self) -> bool:
        return False

    @property
    def held_bytes(self) -> int:
        return 24 * self.own_n**2

    def rows(self, start: int, stop: int) -> "Tensor":
        return _rows(self.q)[start:stop].float()


def _exists(q: int) -> bool:
    return q % 4 == 3 and prime_power(q) is not None and prime_power(q - 2) is not None


@lru_cache(maxsize=1)
def _rows(q: int) -> "Tensor":
    """All rows, float64: the eigenvectors of H of eigenvalue -2u, times sqrt(n/d)."""
    import torch

    vectors: Tensor = torch.linalg.eigh(hadamard_with_constant_diagonal(q)).eigenvectors
    n, u = len(vectors), (q - 1) // 2
    return vectors[:, : u * (2 * u - 1)].contiguous() * math.sqrt(n / (u * (2 * u - 1)))


def hadamard_with_constant_diagonal(q: int) -> "Tensor":
    """Return H of order (q - 1)^2, symmetric with ones on its diagonal, float64; q = 3 mod 4, q - 2 prime powers.

    1. The squares of F_q are a cyclic group of order (q - 1)/2. Those x with x - 1, or with x + 1, a square are
       Szekeres's difference sets (1969, Tournaments and Hadamard matrices). B and -A are their matrices of signs.
    2. W is the symmetric core of Paley's conference matrix, of order q - 2.
    """
    import torch

    elements, s, order = field(q), q - 2, (q - 1) // 2
    squares, unit = elements.powers[::2], torch.tensor(1, device="cpu")
    place = torch.arange(order, device="cpu")
    shift = (place[:, None] - place) % order
    skew = torch.where(elements.character[elements.subtract(squares, unit)] == 1, 1.0, -1.0).double()[shift]
    even = -torch.where(elements.character[elements.add(squares, unit)] == 1, 1.0, -1.0).double()[shift]
    core, x = field(s), torch.arange(s, device="cpu")
    paley = core.character[core.subtract(x[:, None], x)].double()
    one, small = (torch.eye(size, dtype=torch.float64, device="cpu") for size in (s, order))
    ones, all_ones = torch.ones_like(paley), torch.ones_like(small)
    row = torch.ones(1, order, dtype=torch.float64, device="cpu")
    edge = torch.ones(1, order * s, dtype=torch.float64, device="cpu")
    upper, lower = _kron(row, paley - one), _kron(row, paley + one)
    mixed = _kron(small, ones) + _kron(small - all_ones, one) - _kron(skew + small, paley)
    twisted, diagonal = _kron(even, paley), _kron(all_ones, one)
    parts = (
        (edge[:, :1], edge[:, :s], edge, -edge),
        (edge[:, :s].T, ones, upper, lower),
        (edge.T, upper.T, diagonal + twisted, mixed),
        (-edge.T, lower.T, mixed.T, diagonal - twisted),
    )
    return torch.cat([torch.cat(part, 1) for part in parts])


def _kron(left: "Tensor", right: "Tensor") -> "Tensor":
    """The Kronecker product of two matrices."""
    product = left[:, None, :, None] * right[None, :, None]
    return product.reshape(len(left) * len(right), -1)
