"""Orthonormal bases: coherence 0 as long as there are no more vectors than dimensions."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

from protogen.errors import BadRequest

from ..family import ClosedForm

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Orthonormal(ClosedForm):
    """The standard basis of R^k."""

    family: ClassVar[str] = "orthonormal"
    k: int

    def __post_init__(self) -> None:
        if self.k < 1:
            raise BadRequest(f"k is {self.k}; allowed is 1 or more")

    @classmethod
    def reach(cls, d: int, n: int) -> Self | None:
        """The basis of n vectors, where n <= d."""
        return cls(n) if n <= d else None

    @property
    def own_d(self) -> int:
        return self.k

    @property
    def own_n(self) -> int:
        return self.k

    @property
    def cosine(self) -> float:
        return 0.0

    def rows(self, start: int, stop: int) -> "torch.Tensor":
        """Return rows of the identity, (stop - start, k) float32."""
        import torch

        rows = torch.zeros(stop - start, self.k, dtype=torch.float32, device="cpu")
        index = torch.arange(stop - start, device="cpu")
        rows[index, index + start] = 1
        return rows
