"""Equiangular lines of coherence 1/5 in 16 to 20 dimensions."""

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar, Self

from protogen.errors import BadRequest

from ..algebra.leech import leech
from ..algebra.sections import Cut
from ..family import Sized, best
from .sharp import HALVING, LONG, Section, points_of

if TYPE_CHECKING:
    from torch import Tensor

NESTED: tuple[Cut, ...] = (
    ((1, -1), 2),
    (HALVING, 8),
    ((1, 0, 0, -1), 2),
    ((0, 1, 1, 1, 1, 0, 0, 0, 1, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 1), 4),
    ((1, 0, 0, 0, 0, -1, 0, 1, 0, -1, 1, 0, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 1), 4),
    ((0, 1, 0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 1, 1, 0, 0, 1), 4),
)
FORTY: tuple[Cut, ...] = (
    ((0, 1, -1), 0),
    ((0, 0, 0, 1, -1), 0),
    ((*5 * (0,), 1, *10 * (0,), -1), 0),
    ((*18 * (0,), 1, 0, 0, -1), 0),
    ((0, 0, 0, 0, 0, 1, 0, 0, 0, 0, -1, 0, 0, 1, 0, 0, -1, 0, 1, 0, 0, -1, 1, -1), 0),
    ((0, 0, 0, -1, 1, 1, 0, 0, 0, 0, -1, 0, 0, 0, 0, 0, -1, 1, 0, 0, 1, 0, 0, -1), 0),
    ((1, -1, -1, -1, -1, -1, -1, -1, -1, -1, 1, -1, -1, 1, -1, 5, -1, 1, -1, -1, 1, -1, 1, 1), 0),
)
LINES = {(16, 40): FORTY, (17, 48): NESTED, (19, 72): NESTED[:4], (20, 90): NESTED[:3]}


@dataclass(frozen=True)
class Equiangular(Sized):
    """n equiangular lines in R^d of coherence 1/5.

    They are those of the 276 lines of `sharp-lines` in R^23 that are orthogonal to some vectors. No larger sets of
    equiangular lines are known in R^16, R^19 and R^20.

    Source: Lemmens and Seidel 1973, Equiangular lines.
    """

    family: ClassVar[str] = "equiangular"
    d: int
    n: int

    def __post_init__(self) -> None:
        if (self.d, self.n) not in LINES:
            raise BadRequest(f"d, n is {self.d}, {self.n}; allowed is one of {', '.join(map(str, LINES))}")

    @classmethod
    def reach(cls, d: int, n: int) -> Self | None:
        return best(cls(own_d, own_n) for own_d, own_n in LINES if own_d <= d and n <= own_n)

    @property
    def cosine(self) -> float:
        return 1 / 5

    def rows(self, start: int, stop: int) -> "Tensor":
        """Return rows start to stop - 1, (stop - start, d) float32, from the table of all."""
        return _lines(self.d, self.n)[start:stop].clone()


@lru_cache(maxsize=4)
def _lines(d: int, n: int) -> "Tensor":
    """All lines, (n, d) float32."""
    return points_of(Section(1 / 5, leech, (LONG, *LINES[d, n])), antipodal=True)[::2]
