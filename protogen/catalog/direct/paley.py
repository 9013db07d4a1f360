"""Equiangular tight frames of n = 2d lines, from the quadratic residues of a finite field."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

from protogen.errors import BadRequest

from ..algebra.fields import field, prime_power, prime_powers
from ..family import Tight

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Paley(Tight):
    """q + 1 equiangular lines in R^((q+1)/2) of coherence 1/sqrt(q), q = 1 mod 4 a prime power.

    1. Row x, for x in F_q, begins with 1/sqrt(q).
    2. Then row x has (2/sqrt(q)) cos(2 pi Tr(c x) / p) for one c of each pair c, -c of squares, and the same with
       sin.
    3. The last row is (1, 0, ..., 0).

    Off its diagonal the Gram matrix is Paley's symmetric conference matrix over sqrt(q), negated where x and y
    are both in F_q. The characters of step 2 span its range.

    Source: Paley 1933; Strohmer and Heath 2003.
    """

    family: ClassVar[str] = "paley"
    q: int

    def __post_init__(self) -> None:
        if self.q % 4 != 1 or not prime_power(self.q):
            raise BadRequest(f"q is {self.q}; allowed is a prime power that is 1 mod 4")

    @classmethod
    def reach(cls, d: int, n: int) -> Self | None:
        """Return the member of the largest q with (q+1)/2 <= d, where its q + 1 lines are enough."""
        form = next(cls.sized(1, d), None)
        return form if form and n <= form.own_n else None

    @classmethod
    def with_room(cls, d: int, n: int) -> Self | None:
        form = next(cls.sized(1, d), None)
        return form if form and n - d <= form.own_n - form.own_d else None

    @classmethod
    def sized(cls, low: int, high: int) -> Iterator[Self]:
        """Yield the members with low <= own_d <= high, the largest first."""
        return (cls(q) for q in prime_powers(2 * low - 1, 2 * high - 1) if q % 4 == 1)

    @property
    def own_d(self) -> int:
        return (self.q + 1) // 2

    @property
    def own_n(self) -> int:
        return self.q + 1

    @property
    def cosine(self) -> float:
        return 1 / math.sqrt(self.q)

    def rows(self, start: int, stop: int) -> "Tensor":
        """Return rows start to stop - 1, (stop - start, (q+1)/2) float32, from float64 tables."""
        import torch

        elements = field(self.q)
        x = torch.arange(start, stop, device="cpu")[:, None]
        squares = elements.powers[: (self.q - 1) // 2 : 2]  # -1 is the power (q-1)/2
        phase = elements.trace[elements.multiply(x % self.q, squares)]
        turns = torch.arange(elements.p, dtype=torch.float64, device="cpu") * (2 * math.pi / elements.p)
        scale = 2 / math.sqrt(self.q)
        constant = torch.full(x.shape, self.cosine, dtype=torch.float32, device="cpu")
        rows = torch.cat((constant, (scale * turns.cos()).float()[phase], (scale * turns.sin()).float()[phase]), 1)
        if stop > self.q:
            rows[self.q - start :] = 0
            rows[self.q - start :, 0] = 1
        return rows
