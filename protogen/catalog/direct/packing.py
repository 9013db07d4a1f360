"""Packing frames: from points and lines, two points on at most one common line, vectors of coherence 1/r."""

import math
from abc import abstractmethod
from functools import lru_cache
from typing import TYPE_CHECKING, Self

from protogen.errors import BadRequest

from ..algebra import hadamard
from ..family import Tight, nearby

if TYPE_CHECKING:
    from torch import Tensor

MOST_LINES = 2**20  # on a point, of any packing that is asked for


@lru_cache(maxsize=4096)
def orders(r: int) -> tuple[int, ...]:
    """List the Hadamard orders that a packing with r lines on each point can take, the largest first."""
    return tuple(order for order in (r + 1, r, r - 1) if r > 1 and hadamard.exists(order))


class Packing(Tight):
    """Vectors of coherence 1/r on the points of a packing: each point is on r of own_d lines.

    Two points are on at most one common line. Each line is a coordinate.

    1. Take a Hadamard matrix of the given order with a first column of ones. This column is left out
       (order = r + 1), kept (order = r) or taken twice (order = r - 1), so that r columns remain.
    2. Each point has the rows of these columns, over sqrt(r), on its r lines.
    3. Rows of one point meet in -1/r, 0 or 1/r. Rows of two points share one coordinate at most, and meet in 1/r
       at most.

    The rows are a tight frame if all lines have as many points and order >= r. A family is a frozen dataclass with
    the field `order`, which checks its other parameters first.

    Source: Steiner equiangular tight frames (Fickus, Mixon and Tremain 2012), here also for incomplete designs.
    """

    order: int

    def __post_init__(self) -> None:
        if self.r > MOST_LINES or self.order not in orders(self.r):
            raise BadRequest(
                f"order is {self.order}; allowed is a Hadamard order from r - 1 to r + 1, r at most {MOST_LINES}; "
                f"r is {self.r}"
            )

    @classmethod
    def with_room(cls, d: int, n: int) -> Self | None:
        return nearby(cls, d, n)

    @property
    @abstractmethod
    def r(self) -> int: ...

    @property
    @abstractmethod
    def points(self) -> int: ...

    @abstractmethod
    def lines(self, points: "Tensor") -> "Tensor":
        """List the r lines of each of some points (k,): (k, r) int64, distinct whole numbers below own_d."""

    @property
    def own_n(self) -> int:
        return self.points * self.order

    @property
    def cosine(self) -> float:
        return 1 / self.r

    def rows(self, start: int, stop: int) -> "Tensor":
        """Return rows start to stop - 1, (stop - start, own_d) float32, point by point."""
        import torch

        first = start // self.order
        index = torch.arange(start, stop, device="cpu")
        lines = self.lines(torch.arange(first, -(-stop // self.order), device="cpu"))[index // self.order - first]
        i = (index % self.order)[:, None]
        j = (torch.arange(self.r, device="cpu") + self.order - self.r).clamp(min=0)
        signs = hadamard.entries(self.order, i, j) * hadamard.entries(self.order, i, torch.zeros_like(i))
        return torch.zeros(stop - start, self.own_d, dtype=torch.float32, device="cpu").scatter_(
            1, lines, signs.float() / math.sqrt(self.r)
        )
