"""Mutually orthogonal simplices: the points whose largest cosine Rankin proves best up to n = 2d."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

from protogen.errors import BadRequest

from ..algebra.simplex import vertices
from ..family import ClosedForm

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Simplices(ClosedForm):
    """k regular simplices in orthogonal spaces, n points together in R^(n - k).

    - k = 1: one simplex, whose cosines are all -1/(n-1).
    - k > 1: the largest cosine is 0, that of points of two simplices. With n = 2k it is the orthoplex.

    The sizes of the simplices differ by one at most, and the larger ones come first.

    Source: Rankin 1955, The closest packing of spherical caps in n dimensions.
    """

    family: ClassVar[str] = "simplices"
    n: int
    k: int

    def __post_init__(self) -> None:
        if self.n < 2 or not 1 <= self.k <= self.n // 2:
            raise BadRequest(f"n, k is {self.n}, {self.k}; allowed is n from 2 and k from 1 to n/2")

    @classmethod
    def reach(cls, d: int, n: int) -> Self | None:
        """Return one simplex for n <= d + 1, else the n - d simplices that fill R^d, for n <= 2d."""
        return cls(max(2, n), max(1, n - d)) if n <= 2 * d else None

    @property
    def own_d(self) -> int:
        return self.n - self.k

    @property
    def own_n(self) -> int:
        return self.n

    @property
    def cosine(self) -> float:
        return -1 / (self.n - 1) if self.k == 1 else 0.0

    def rows(self, start: int, stop: int) -> "torch.Tensor":
        """Return rows start to stop - 1, (stop - start, n - k) float32, by formula."""
        return vertices(self.n, self.k, start, stop).float()
