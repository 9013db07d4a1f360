"""Rows of a Hadamard matrix, with some of its columns left out: lines of signs for few n."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

from protogen.errors import BadRequest

from ..algebra import hadamard
from ..family import ClosedForm

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class HadamardRows(ClosedForm):
    """The rows of a Hadamard matrix without its first `drop` columns, scaled to length one.

    `order` lines in R^(order - drop) of coherence drop / (order - drop): the inner product of two whole rows is 0,
    and each column that is left out changes it by one.

    Source: Levenshtein 1961, The application of Hadamard matrices to a problem in coding.
    """

    family: ClassVar[str] = "hadamard-rows"
    order: int
    drop: int

    def __post_init__(self) -> None:
        if self.order < 2 or not hadamard.exists(self.order) or not 0 <= 2 * self.drop < self.order:
            raise BadRequest(
                f"order, drop is {self.order}, {self.drop}; allowed is a Hadamard order and less than half of it"
            )

    @classmethod
    def reach(cls, d: int, n: int) -> Self | None:
        """Return n rows in exactly d coordinates, of the least order that has so many, or None."""
        order = next((m for m in range(max(d, n, 2), 2 * d) if hadamard.exists(m)), 0)
        return cls(order, order - d) if order else None

    @property
    def own_d(self) -> int:
        return self.order - self.drop

    @property
    def own_n(self) -> int:
        return self.order

    @property
    def cosine(self) -> float:
        return self.drop / self.own_d

    def rows(self, start: int, stop: int) -> "Tensor":
        """Return rows start to stop - 1, (stop - start, order - drop) float32."""
        import torch

        index = torch.arange(start, stop, device="cpu")[:, None]
        columns = torch.arange(self.drop, self.order, device="cpu")
        return hadamard.entries(self.order, index, columns).float() * (1 / math.sqrt(self.own_d))
