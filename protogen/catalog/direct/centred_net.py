"""Lines where n is about 2 d: the points of an affine plane, a regular simplex on each parallel class of lines."""

import math
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, ClassVar, Self

from protogen.errors import BadRequest

from ..algebra.fields import prime_power, prime_powers
from ..algebra.simplex import vertices
from ..family import Tight
from .nets import level_lines

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor


@dataclass(frozen=True)
class CentredNet(Tight):
    """q^2 lines in R^(r (q - 1)), r parallel classes of the affine plane over F_q: r `classes`, q a prime power.

    1. The q lines of a class are the vertices of a regular simplex, in q - 1 coordinates of the class.
    2. A point has the vertices of its r lines, over sqrt(r).
    3. Two points on a common line meet in (1 - (r - 1)/(q - 1)) / r = (q - r) / (r (q - 1)).
    4. Two other points meet in -1/(q - 1).

    The rows are an eigenspace of the Latin square graph L_r(q).

    Source: Bruck 1963, Finite nets II; Delsarte, Goethals and Seidel 1977.
    """

    family: ClassVar[str] = "centred-net"
    q: int
    classes: int

    def __post_init__(self) -> None:
        if not prime_power(self.q) or not 2 <= self.classes <= self.q:
            raise BadRequest(
                f"q, classes is {self.q}, {self.classes}; allowed is a prime power and from 2 classes to as many"
            )

    @classmethod
    def reach(cls, d: int, n: int) -> Self | None:
        """Return the best of all planes of n points or more, with as many classes as R^d has room for."""
        found: Self | None = None
        for q in count(max(2, math.isqrt(n - 1) + 1)):
            # (q - r) / (r (q - 1)) is at least q/d - 1/(q - 1) where r (q - 1) is at most d.
            if 2 * (q - 1) > d or q / d - 1 / (q - 1) > (found.cosine if found else 1):
                return found
            classes = min(q, d // (q - 1))
            if _cosine(q, classes) < (found.cosine - 1e-12 if found else 1) and prime_power(q):
                found = cls(q, classes)
        return found

    @classmethod
    def sized(cls, low: int, high: int) -> "Iterator[Self]":
        """Yield the members with low <= own_d <= high whose coherence is 1/(q - 1), of each plane the smallest."""
        forms = (cls(q, -(-q // 2)) for q in prime_powers(max(3, math.isqrt(low)), math.isqrt(2 * high) + 2))
        return (form for form in forms if low <= form.own_d <= high)

    @property
    def own_d(self) -> int:
        return self.classes * (self.q - 1)

    @property
    def own_n(self) -> int:
        return self.q**2

    @property
    def cosine(self) -> float:
        return _cosine(self.q, self.classes)

    def rows(self, start: int, stop: int) -> "Tensor":
        """Return rows start to stop - 1, (stop - start, r (q - 1)) float32, class by class, from a float64 table."""
        import torch

        q, r = self.q, self.classes
        lines = level_lines(q, r, q, torch.arange(start, stop, device="cpu")[:, None])
        simplex = (vertices(q, 1, 0, q) / math.sqrt(r)).float()
        return simplex[lines % q].flatten(1)


def _cosine(q: int, r: int) -> float:
    return max(q - r, r) / (r * (q - 1))
