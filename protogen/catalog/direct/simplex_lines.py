"""One line more than there are dimensions: a regular simplex, coherence 1/d."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

from protogen.errors import BadRequest

from ..algebra.simplex import vertices
from ..family import Tight

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class SimplexLines(Tight):
    """The d + 1 vertices of the regular simplex in R^d as lines: coherence 1/d, the least there is (Welch 1974)."""

    family: ClassVar[str] = "simplex-lines"
    d: int

    def __post_init__(self) -> None:
        if self.d < 2:
            raise BadRequest(f"d is {self.d}; allowed is a whole number from 2")

    @classmethod
    def reach(cls, d: int, n: int) -> Self | None:
        """The simplex that fills R^d, where n <= d + 1."""
        return cls(d) if 2 <= d >= n - 1 else None

    @classmethod
    def sized(cls, low: int, high: int) -> Iterator[Self]:
        """Yield the simplices of R^low to R^high."""
        return map(cls, range(max(low, 2), high + 1))

    @property
    def own_d(self) -> int:
        return self.d

    @property
    def own_n(self) -> int:
        return self.d + 1

    @property
    def cosine(self) -> float:
        return 1 / self.d

    def rows(self, start: int, stop: int) -> "torch.Tensor":
        """Return rows start to stop - 1, (stop - start, d) float32, by formula."""
        return vertices(self.d + 1, 1, start, stop).float()
