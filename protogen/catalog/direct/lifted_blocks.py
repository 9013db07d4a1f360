"""Equiangular tight frames from the blocks of a design, and one line more."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

from protogen.errors import BadRequest

from ..family import Tight
from .centred_blocks import CentredBlocks
from .designs import SIZES, exists

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class LiftedBlocks(Tight):
    """4 k^2 equiangular lines in R^v of coherence c = 1/(2k - 1), on a design (v, k, 1) with v = k (2k - 1).

    1. The rows of `centred-blocks` on this design meet in 1/(2k) and -1/(2k - 2).
    2. Each is scaled by sqrt(1 - c^2), and has one more coordinate, c. Now the rows meet in c and -c.
    3. The last row is (0, ..., 0, 1).

    The blocks and one more point are a regular two-graph.

    Source: Goethals and Seidel 1970, Strongly regular graphs derived from combinatorial designs; Taylor 1977,
    Regular 2-graphs.
    """

    family: ClassVar[str] = "lifted-blocks"
    k: int

    def __post_init__(self) -> None:
        if self.k not in SIZES or not exists(self.k * (2 * self.k - 1), self.k):
            raise BadRequest(
                f"k is {self.k}; allowed is {SIZES[0]} to {SIZES[-1]} with a known design of blocks of k on k (2k - 1)"
            )

    @classmethod
    def sized(cls, low: int, high: int) -> Iterator[Self]:
        """Yield the members with low <= own_d <= high."""
        sizes = ((k, k * (2 * k - 1)) for k in SIZES)
        return (cls(k) for k, v in sizes if low <= v <= high and exists(v, k))

    @property
    def own_d(self) -> int:
        return self.k * (2 * self.k - 1)

    @property
    def own_n(self) -> int:
        return 4 * self.k**2

    @property
    def cosine(self) -> float:
        return 1 / (2 * self.k - 1)

    def rows(self, start: int, stop: int) -> "Tensor":
        """Return rows start to stop - 1, (stop - start, v) float32: block by block, then the last."""
        import torch

        rows = torch.zeros(stop - start, self.own_d, dtype=torch.float32, device="cpu")
        blocks = CentredBlocks(self.own_d, self.k).rows(start, max(start, min(stop, self.own_n - 1)))
        rows[: len(blocks), :-1] = blocks * math.sqrt(1 - self.cosine**2)
        rows[: len(blocks), -1] = self.cosine
        rows[len(blocks) :, -1] = 1
        return rows
