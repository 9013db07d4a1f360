"""Equiangular tight frames of n = 2d lines from conference matrices of order q^2 (q + 2) + 1."""

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

LARGEST = 11  # q of a Gram matrix that is factorised


@dataclass(frozen=True)
class Mathon(Tight):
    """n = q^2 (q + 2) + 1 equiangular lines in R^(n/2) of coherence 1/sqrt(n - 1); q = 3 mod 4, q + 2 prime powers.

    Their Gram matrix is I + C/sqrt(n - 1), C the symmetric conference matrix of `conference_core`, bordered by ones.

    Source: Mathon 1978, Symmetric conference matrices of order p q^2 + 1.
    """

    family: ClassVar[str] = "mathon"
    q: int

    def __post_init__(self) -> None:
        if self.q > LARGEST or not _exists(self.q):
            raise BadRequest(
                f"q is {self.q}; allowed is a prime power that is 3 mod 4, q + 2 a prime power, to {LARGEST}"
            )

    @classmethod
    def sized(cls, low: int, high: int) -> Iterator[Self]:
        """Yield the members with low <= own_d <= high."""
        forms = (cls(q) for q in range(3, LARGEST + 1, 4) if _exists(q))
        return (form for form in forms if low <= form.own_d <= high)

    @property
    def own_d(self) -> int:
        return self.own_n // 2

    @property
    def own_n(self) -> int:
        return self.q**2 * (self.q + 2) + 1

    @property
    def cosine(self) -> float:
        return 1 / math.sqrt(self.own_n - 1)

    @property
    def exact(self) -> bool:
        return False

    @property
    def held_bytes(self) -> int:
        return 24 * self.own_n**2

    def rows(self, start: int, stop: int) -> "Tensor":
        return _rows(self.q)[start:stop].float()


def _exists(q: int) -> bool:
    return q % 4 == 3 and prime_power(q) is not None and prime_power(q + 2) is not None


@lru_cache(maxsize=1)
def _rows(q: int) -> "Tensor":
    """All rows, float64: the eigenvectors of C of eigenvalue sqrt(n - 1), times sqrt(2)."""
    import torch

    n = q * q * (q + 2) + 1
    conference = torch.ones(n, n, dtype=torch.float64, device="cpu")
    conference[0, 0] = 0
    conference[1:, 1:] = conference_core(q)
    vectors: Tensor = torch.linalg.eigh(conference).eigenvectors[:, n // 2 :]
    return vectors.contiguous() * math.sqrt(2)


def conference_core(q: int) -> "Tensor":
    """Return a symmetric T of order q^2 (q + 2) with zeros on its diagonal and else 1 and -1, float64; see `Mathon`.

    T T^T = q^2 (q + 2) I - J and T J = 0.

    1. There are q + 2 copies of the affine plane over F_q, numbered modulo q + 2. Parallel class j - i - 1 of copy i
       belongs to copy j.
    2. Points of one copy have the sign of their class: 1 for the first (q + 1)/2 classes, else -1.
    3. Points x of copy i and y of copy j have the sign chi(i - j) s(a, b), a and b the lines on x and y in the classes
       of j and of i. chi is the quadratic character of F_(q+2), and s(a, b) = chi(a - b) of F_q, but 1 for a = b.
       For i > j it is s(b, a).
    """
    import torch

    copies, elements, outer = q + 2, field(q), field(q + 2)
    points = torch.arange(q * q, device="cpu")
    slopes = torch.arange(q, device="cpu")
    lines = elements.subtract(points[:, None] % q, elements.multiply(points[:, None] // q, slopes))
    lines = torch.cat((lines, points[:, None] // q), 1)  # of each class, the last of equal x
    number = torch.arange(q, device="cpu")
    skew = elements.character[elements.subtract(number[:, None], number)].double() + torch.eye(
        q, dtype=torch.float64, device="cpu"
    )
    index = torch.arange(copies, device="cpu")
    signs = outer.character[outer.subtract(index[:, None], index)].double()
    same = (lines[:, None] == lines).double()
    half = (q + 1) // 2
    core = torch.zeros(copies, q * q, copies, q * q, dtype=torch.float64, device="cpu")
    for i in range(copies):
        core[i, :, i] = same[:, :, :half].sum(2) - same[:, :, half:].sum(2)
        for j in range(i):
            a, b = lines[:, (j - i - 1) % copies], lines[:, (i - j - 1) % copies]
            core[i, :, j] = signs[i, j] * skew[a][:, b]
            core[j, :, i] = core[i, :, j].T
    return core.view(copies * q * q, -1)
