"""Cut packing frames whose lines are pairs of points: the edges of a circulant graph."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, ClassVar, Self

from protogen.errors import BadRequest

from .cut import Cut, Kind, least_points

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class CutPairs(Cut):
    """v points modulo v, each in a pair with the `degree` points nearest to it, or with all others.

    v R lines in R^(v R - v degree / 2), of coherence 1 / (2 R - r). An odd degree needs an even v: then each point
    is also in a pair with the point opposite.
    """

    family: ClassVar[str] = "cut-pairs"
    v: int
    degree: int
    order: int
    copies: int

    def __post_init__(self) -> None:
        if not 1 <= self.degree < self.v or self.v * self.degree % 2:
            raise BadRequest(
                f"v, degree is {self.v}, {self.degree}; allowed is a degree from 1 to v - 1, even if v is odd"
            )
        super().__post_init__()

    @classmethod
    def kinds(cls, lines: int, longest: int) -> Iterator[Kind]:
        return (Kind(v, 2, v - 1) for v in count(least_points(lines, 2)))

    @classmethod
    def rounded(cls, kind: Kind, degree: int) -> int:
        return degree + kind.points * degree % 2

    @classmethod
    def of(cls, kind: Kind, degree: int, order: int, copies: int) -> Self:
        return cls(kind.points, degree, order, copies)

    @property
    def points(self) -> int:
        return self.v

    @property
    def size(self) -> int:
        return 2

    @property
    def lines_on_point(self) -> int:
        return self.degree

    def incidence(self, points: "Tensor") -> "tuple[Tensor, Tensor]":
        import torch

        v, steps = self.v, torch.arange(1, self.degree // 2 + 1, device="cpu")
        before = (steps - 1) * v + points[:, None]
        after = (steps - 1) * v + (points[:, None] - steps) % v
        lines, places = [before, after], [torch.zeros_like(before), torch.ones_like(after)]
        if self.degree % 2:
            half = v // 2
            lines.append(self.degree // 2 * v + points[:, None] % half)
            places.append(points[:, None] // half)
        return torch.cat(lines, 1), torch.cat(places, 1)
