"""Lines where n is about 2 d, in few dimensions: the blocks of a design, less their mean."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

from protogen.errors import BadRequest

from ..algebra.simplex import vertices
from ..family import Tight, best
from .designs import SIZES, blocks_of, exists

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class CentredBlocks(Tight):
    """The b = v (v - 1) / (k (k - 1)) blocks of a design (v, k, 1), as lines in R^(v - 1).

    1. The row of a block is the sum of the vertices of a regular simplex at its k points, scaled.
    2. Two blocks with a common point meet in (v - k^2) / (k (v - k)).
    3. Two other blocks meet in -k / (v - k).

    The rows are an eigenspace of the block graph of the design. The best have v near 2 k^2; v is at most 4 k^2.

    Source: Goethals and Seidel 1970, Strongly regular graphs derived from combinatorial designs.
    """

    family: ClassVar[str] = "centred-blocks"
    v: int
    k: int

    def __post_init__(self) -> None:
        if self.k not in SIZES or not self.k < self.v <= 4 * self.k**2 or not exists(self.v, self.k):
            raise BadRequest(
                f"v, k is {self.v}, {self.k}; allowed is a known design (v, k, 1) with k from {SIZES[0]} "
                f"to {SIZES[-1]} and v up to 4 k^2"
            )

    @classmethod
    def sized(cls, low: int, high: int) -> Iterator[Self]:
        """Yield the members with low <= own_d <= high."""
        for k in SIZES:
            for v in range(max(k + 1, low + 1), min(high + 1, 4 * k * k) + 1):
                if (v - 1) % (k - 1) == 0 and v * (v - 1) % (k * (k - 1)) == 0 and exists(v, k):
                    yield cls(v, k)

    @classmethod
    def reach(cls, d: int, n: int) -> Self | None:
        least = min((1 + math.isqrt(4 * n * k * (k - 1))) // 2 for k in SIZES)
        return best(form for form in cls.sized(least - 1, d) if n <= form.own_n)

    @property
    def own_d(self) -> int:
        return self.v - 1

    @property
    def own_n(self) -> int:
        return self.v * (self.v - 1) // (self.k * (self.k - 1))

    @property
    def cosine(self) -> float:
        return max(abs(self.v - self.k**2), self.k**2) / (self.k * (self.v - self.k))

    def rows(self, start: int, stop: int) -> "Tensor":
        """Return rows start to stop - 1, (stop - start, v - 1) float32, from a float64 table."""
        import torch

        v, k = self.v, self.k
        simplex = vertices(v, 1, 0, v) * math.sqrt((v - 1) / (k * (v - k)))
        points = blocks_of(v, k)[start:stop]
        rows = torch.zeros(stop - start, v - 1, dtype=torch.float64, device="cpu")
        for place in range(k):
            rows += simplex[points[:, place]]
        return rows.float()
