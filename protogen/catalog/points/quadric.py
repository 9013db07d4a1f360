"""Points of two cosines on the elliptic quadrics of PG(5, q), by way of ovoids."""

import math
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, ClassVar, Self

from protogen.errors import BadRequest

from ..algebra.fields import field, prime_power, prime_powers
from ..algebra.simplex import vertices
from ..family import ClosedForm

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class QuadricPoints(ClosedForm):
    """The (q+1)(q^3+1) points of the elliptic quadric of PG(5, q), q any prime power, in R^(q(q^2-q+1)).

    Points of the quadric that are orthogonal to each other have the cosine -1/q, all others 1/q^2. No set of so
    many points has a lower one.

    1. The quadric is T_3(O) of Tits (Payne and Thas 1984). O is the ovoid of the q^2 + 1 points v =
       (1, y, z, N(y, z)) and (0, 0, 0, 1) of PG(3, q), where N(y, z) = y^2 + yz + tz^2 is irreducible.
    2. There is one coordinate, and then for each v the q - 1 coordinates of a regular simplex s_0, ..., s_(q-1).
    3. For each f in F_q^4 a row has 1/q^2, and sqrt(q^2-1)/q^2 times s_(f.v) for every v.
    4. For each v and each h in F_q a row has -1/q, and -sqrt(q^2-1)/q times s_h for this v alone.
    5. The last row is 1 and zeros.

    Source: Cameron, Goethals and Seidel 1978; Cohn and Kumar 2007.
    """

    family: ClassVar[str] = "quadric-points"
    q: int

    def __post_init__(self) -> None:
        if not prime_power(self.q):
            raise BadRequest(f"q is {self.q}; allowed is a prime power")

    @classmethod
    def reach(cls, d: int, n: int) -> Self | None:
        """Return the member of the largest q with q(q^2-q+1) <= d, where its points are enough."""
        forms = (cls(q) for q in prime_powers(2, math.isqrt(d)) if q * (q * q - q + 1) <= d)
        form = next(forms, None)
        return form if form and n <= form.own_n else None

    @property
    def own_d(self) -> int:
        return self.q * (self.q**2 - self.q + 1)

    @property
    def own_n(self) -> int:
        return (self.q + 1) * (self.q**3 + 1)

    @property
    def cosine(self) -> float:
        return 1 / self.q**2

    def rows(self, start: int, stop: int) -> "Tensor":
        """Return rows start to stop - 1, (stop - start, q(q^2-q+1)) float32."""
        import torch

        q = self.q
        middle, last = (min(max(start, bound), stop) for bound in (q**4, self.own_n - 1))
        simplex = math.sqrt(q**2 - 1) * vertices(q, 1, 0, q)
        rows = torch.zeros(stop - start, self.own_d, dtype=torch.float32, device="cpu")
        blocks = rows[:, 1:].view(stop - start, q**2 + 1, q - 1)
        rows[: middle - start, 0] = 1 / q**2
        blocks[: middle - start] = (simplex / q**2).float()[_values(q, torch.arange(start, middle, device="cpu"))]
        rows[middle - start : last - start, 0] = -1 / q
        index = torch.arange(middle, last, device="cpu")
        blocks[index - start, (index - q**4) // q] = (simplex / -q).float()[(index - q**4) % q]
        rows[last - start :, 0] = 1
        return rows


def _values(q: int, index: "Tensor") -> "Tensor":
    """Multiply f.v for all v: (len(index), q^2 + 1). The coordinates of f in F_q^4 are the digits of an index."""
    import torch

    elements = field(q)
    y, z = torch.arange(q * q, device="cpu") // q, torch.arange(q * q, device="cpu") % q
    norms = elements.add(elements.multiply(y, elements.add(y, z)), elements.multiply(_t(q), elements.multiply(z, z)))
    infinity = torch.tensor([[0], [0], [0], [1]], device="cpu")
    ovoid = torch.cat((torch.stack((torch.ones_like(y), y, z, norms)), infinity), 1)
    terms = [elements.multiply((index // q**place % q)[:, None], v) for place, v in enumerate(ovoid)]
    return reduce(elements.add, terms)


def _t(q: int) -> "Tensor":
    """Find the first t for which y^2 + y + t has no root in F_q."""
    import torch

    elements, y = field(q), torch.arange(q, device="cpu")
    values = elements.subtract(torch.zeros_like(y), elements.multiply(y, elements.add(y, y[1:2])))
    return y[torch.isin(y, values, invert=True)][0]
