"""Equiangular tight frames of about 3d lines, from Steiner triple systems."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar, Self

from protogen.errors import BadRequest

from ..algebra import hadamard, steiner
from ..family import Tight

if TYPE_CHECKING:
    from torch import Tensor

MOST_POINTS = 2**20


@dataclass(frozen=True)
class Triples(Tight):
    """Equiangular lines on a Steiner triple system of v points, without or with a simplex.

    v is 1 or 3 mod 6, and (v+1)/2 a Hadamard order. All rows are scaled to length 1.

    - simplex 0: v(v+1)/2 lines in R^(v(v-1)/6), of coherence 2/(v-1).
    - simplex 1: (v+1)(v+2)/2 lines in R^((v+2)(v+3)/6), of coherence 2/(v+3).

    1. Each triple is a coordinate. Take a Hadamard matrix of order (v+1)/2 without its column of ones.
    2. Each point has the rows of this matrix on the (v-1)/2 triples that hold it. Two points are on one common
       triple, so rows of two points meet in 1 or -1, and rows of one point in -1.
    3. With the simplex each point is a coordinate too, on which its rows have sqrt(2), and there is a last coordinate.
       Now rows of one point meet in 1.
    4. v + 1 further rows have (g, sqrt(3)) on the points and the last coordinate: g is a row of a Hadamard matrix
       of order v + 1 without its column of ones. Two of them meet in 2, and one meets a row of step 3 in
       sqrt(2) or its negative.
    5. The squared length of the rows of step 2 is (v-1)/2, of step 3 (v+3)/2, of step 4 v + 3.

    Without the simplex the family is only read, from files that name it: `design` has members of the same sizes,
    which are chosen. v = 2^m - 1 has the sizes of the two-graphs of Sp(2m, 2).

    Source: Fickus, Mixon and Tremain 2012, without the simplex; Fickus, Jasper, Mixon and Peterson 2018, with it.
    """

    family: ClassVar[str] = "triples"
    v: int
    simplex: int

    def __post_init__(self) -> None:
        if self.simplex not in (0, 1):
            raise BadRequest(f"simplex is {self.simplex}; allowed is 0 or 1")
        least = 7 - 4 * self.simplex
        if not least <= self.v <= MOST_POINTS or not _exists(self.v):
            raise BadRequest(
                f"v is {self.v}; allowed is {least} to {MOST_POINTS}, 1 or 3 mod 6, (v+1)/2 a Hadamard order"
            )

    @classmethod
    def sized(cls, low: int, high: int) -> Iterator[Self]:
        """Yield the members with low <= own_d <= high and with a simplex; each other one has an equal `design`."""
        forms = (cls(v, 1) for v in range(3, math.isqrt(6 * high) + 2) if _exists(v))
        return (form for form in forms if low <= form.own_d <= high)

    @property
    def own_d(self) -> int:
        return (self.v + 2) * (self.v + 3) // 6 if self.simplex else self.v * (self.v - 1) // 6

    @property
    def own_n(self) -> int:
        return (self.v + 1) * (self.v + 2 * self.simplex) // 2

    @property
    def cosine(self) -> float:
        return 2 / (self.v - 1 + 4 * self.simplex)

    @property
    def held_bytes(self) -> int:
        return 4 * self.v * (self.v - 1)

    def rows(self, start: int, stop: int) -> "Tensor":
        """Return rows start to stop - 1, (stop - start, own_d) float32: point by point, then the simplex."""
        import torch

        v, order, triples = self.v, (self.v + 1) // 2, self.v * (self.v - 1) // 6
        rows = torch.zeros(stop - start, self.own_d, dtype=torch.float32, device="cpu")
        middle = min(max(start, v * order), stop)
        index = torch.arange(start, middle, device="cpu")
        point = index // order
        signs = _signs(order, index % order) * math.sqrt(self.cosine)
        rows[: middle - start].scatter_(1, _lines(v)[point], signs)
        if self.simplex:
            rows[index - start, triples + point] = math.sqrt(2 * self.cosine)
            last = rows[middle - start :]
            last[:, triples:-1] = _signs(v + 1, torch.arange(middle, stop, device="cpu") - v * order) / math.sqrt(v + 3)
            last[:, -1] = math.sqrt(3 / (v + 3))
        return rows


def _exists(v: int) -> bool:
    return steiner.exists(v) and hadamard.exists((v + 1) // 2)


def _signs(order: int, i: "Tensor") -> "Tensor":
    """Rows i of a Hadamard matrix that is normalised to a first column of ones, without this column, float32."""
    import torch

    signs = hadamard.entries(order, i[:, None], torch.arange(order, device="cpu")).float()
    return signs[:, 1:] * signs[:, :1]


@lru_cache(maxsize=4)
def _lines(v: int) -> "Tensor":
    """List the triples that hold each point, (v, (v-1)/2).

    The bytes of files rest on two orders:

    - Point x of copy c has the number x + c (v // 3). For v = 1 mod 6 the one further point is the last.
    - The triples are sorted by the larger element that they were formed from, then the smaller, then the copy.
    """
    import torch

    blocks, formed = steiner.triples(v)
    order = (formed * torch.tensor([3 * v, 3, 1], device="cpu")).sum(1).argsort()
    points = torch.where((blocks == v - 1) & (v % 6 == 1), v - 1, blocks % 3 * (v // 3) + blocks // 3)
    return points[order].flatten().argsort(stable=True).view(v, -1) // 3
