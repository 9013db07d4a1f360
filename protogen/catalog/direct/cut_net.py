"""Cut packing frames of transversal designs."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, ClassVar, Self

from protogen.errors import BadRequest

from .cut import Cut, Kind
from .nets import columns, level_lines

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class CutNet(Cut):
    """`columns` of q points, and the lines of `slopes` of a net: one point in each column.

    v R lines in R^(v R - q s), v = c q, of coherence 1 / (c R - r); c are the columns and s the slopes, at most q.
    The lines are those of a level of `net`: a transversal design with some of its parallel classes
    (MacNeish 1922, Euler's squares).
    """

    family: ClassVar[str] = "cut-net"
    q: int
    slopes: int
    columns: int
    order: int
    copies: int

    def __post_init__(self) -> None:
        if not 1 <= self.slopes <= self.q or not 2 <= self.columns <= columns(self.q, self.slopes):
            raise BadRequest(
                f"q, slopes, columns is {self.q}, {self.slopes}, {self.columns}; allowed are slopes from 1 to q, and "
                "columns from 2 to the least of the prime powers that q is a product of, one more if slopes is q"
            )
        super().__post_init__()

    @classmethod
    def kinds(cls, lines: int, longest: int) -> Iterator[Kind]:
        for q in count(max(2, math.isqrt(lines - 1) + 1)):
            for size in range(2, min(columns(q, q - 1), longest) + 1):
                yield Kind(size * q, size, q)

    @classmethod
    def rounded(cls, kind: Kind, degree: int) -> int:
        return degree

    @classmethod
    def of(cls, kind: Kind, degree: int, order: int, copies: int) -> Self:
        return cls(kind.points // kind.size, degree, kind.size, order, copies)

    @property
    def points(self) -> int:
        return self.columns * self.q

    @property
    def size(self) -> int:
        return self.columns

    @property
    def lines_on_point(self) -> int:
        return self.slopes

    def incidence(self, points: "Tensor") -> "tuple[Tensor, Tensor]":
        lines = level_lines(self.q, self.slopes, self.columns, points[:, None])
        return lines, (points // self.q)[:, None].expand_as(lines)
