"""Kerdock bases without the coordinates of a flat, for dimensions a little under a power of four."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

from protogen.errors import BadRequest

from ..algebra.quadratic import flat_rows, kerdock_exponents
from ..family import ClosedForm, best

if TYPE_CHECKING:
    from torch import Tensor

# For (k, r): the bits that coordinates in V may have. They are chosen, by trying, such that every alternating form
# on V is that of one of the first 2^(r(r-1)/2) Kerdock bases; any choice with that has the guarantee.
FLATS = {
    (3, 3): (0, 1, 5),
    (5, 4): (0, 1, 7, 9),
    (6, 4): (0, 5, 7, 11),
    (6, 5): (0, 1, 3, 7, 11),
}


@dataclass(frozen=True)
class KerdockOffFlat(ClosedForm):
    """The first 2^(r(r-1)/2) Kerdock bases of R^(4^k) without the 2^r coordinates of a subspace V of the index space.

    There are 4^k 2^(r(r-1)/2) lines in R^(4^k - 2^r), of coherence (2^k + 2^(r-1)) / (4^k - 2^r). An inner
    product of two rows of signs is the sum over all coordinates less the sum over V:

    - Rows of two bases differ by a quadratic form whose alternating form is not zero on V. Over all coordinates
      its signs sum to at most 2^k (Kerdock 1972). Over V they sum to at most 2^(r-1) (Dickson 1901; MacWilliams
      and Sloane 1977, Section 15.2).
    - Two rows of one basis differ by a linear form. Over all coordinates its signs sum to 0, over V to at most
      2^r. This is at most 2^k + 2^(r-1), as r <= k + 1 in FLATS.
    """

    family: ClassVar[str] = "kerdock-off-flat"
    k: int
    r: int

    def __post_init__(self) -> None:
        if (self.k, self.r) not in FLATS:
            raise BadRequest(f"k, r is {self.k}, {self.r}; allowed is {'; '.join(f'{k}, {r}' for k, r in FLATS)}")

    @classmethod
    def reach(cls, d: int, n: int) -> Self | None:
        """Of the members that are large enough, the one of lowest coherence."""
        forms = (cls(k, r) for k, r in FLATS)
        return best(form for form in forms if form.own_d <= d and n <= form.own_n)

    @property
    def own_d(self) -> int:
        return int(4**self.k - 2**self.r)

    @property
    def own_n(self) -> int:
        return int(4**self.k * 2 ** (self.r * (self.r - 1) // 2))

    @property
    def cosine(self) -> float:
        return float(2**self.k + 2 ** (self.r - 1)) / self.own_d

    def rows(self, start: int, stop: int) -> "Tensor":
        """Return rows start to stop - 1, (stop - start, own_d) float32, basis by basis."""
        rows = flat_rows(4**self.k, lambda bases: kerdock_exponents(2 * self.k - 1, bases), start, stop)
        flat = sum(1 << bit for bit in FLATS[self.k, self.r])
        kept = [x for x in range(4**self.k) if x & ~flat]
        return rows[:, kept].sign() * (1 / math.sqrt(self.own_d))
