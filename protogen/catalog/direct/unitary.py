"""Equiangular tight frames of about d^1.5 lines, on the points of the Hermitian unital."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar, Self

from protogen.errors import BadRequest

from ..algebra.fields import field, prime_power, prime_powers
from ..family import Tight

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Unitary(Tight):
    """q^3 + 1 equiangular lines in R^(q^2-q+1) of coherence 1/q, q an odd prime power.

    They are the two-graph of PSU(3, q) (Taylor 1977). Let e be a non-square of F_q, and chi its quadratic character.

    1. All lines but the last have a triple (u, w, z) in F_q^3. Two of them meet in chi(N^2 - 4 e t^2) / q, up to
       one sign for all, where N = (u-u')^2 - e (w-w')^2 and t = z - z' + (u+u')(w-w').
    2. This depends on the quotient of the two triples in the Heisenberg group alone.
    3. The group acts on R^(q^2-q+1) as a constant and as each of its q - 1 representations of dimension q, once.
    4. Hence the coordinates of a row: first 1/q. Then the real and imaginary parts of
       sqrt(2) V_c(x + u) exp(2 pi i Tr(c (z - 2 w x)) / p), for x in F_q and one c of each pair c, -c. V_c is real.
    5. The last row is (1, 0, ..., 0).
    """

    family: ClassVar[str] = "unitary"
    q: int

    def __post_init__(self) -> None:
        if self.q % 2 == 0 or not prime_power(self.q):
            raise BadRequest(f"q is {self.q}; allowed is an odd prime power")

    @classmethod
    def reach(cls, d: int, n: int) -> Self | None:
        """Return the member of the largest q with q^2 - q + 1 <= d, where its q^3 + 1 lines are enough."""
        form = next(cls.sized(1, d), None)
        return form if form and n <= form.own_n else None

    @classmethod
    def with_room(cls, d: int, n: int) -> Self | None:
        form = next(cls.sized(1, d), None)
        return form if form and n - d <= form.own_n - form.own_d else None

    @classmethod
    def sized(cls, low: int, high: int) -> Iterator[Self]:
        """Yield the members with low <= own_d <= high, the largest first."""
        forms = (cls(q) for q in prime_powers(math.isqrt(low), math.isqrt(high) + 1) if q % 2)
        return (form for form in forms if low <= form.own_d <= high)

    @property
    def own_d(self) -> int:
        return self.q**2 - self.q + 1

    @property
    def own_n(self) -> int:
        return self.q**3 + 1

    @property
    def cosine(self) -> float:
        return 1 / self.q

    def rows(self, start: int, stop: int) -> "Tensor":
        """Return rows start to stop - 1, (stop - start, q^2 - q + 1) float32, from float64 tables."""
        import torch

        q, elements = self.q, field(self.q)
        index = torch.arange(start, stop, device="cpu")[:, None]
        x, u, w, z = torch.arange(q, device="cpu"), index // q**2 % q, index // q % q, index % q
        values, real, imaginary = _tables(q)
        value = values[elements.add(x, u)]
        wx = elements.multiply(w, x)
        at = elements.subtract(z, elements.add(wx, wx))
        rows = torch.zeros(stop - start, self.own_d, dtype=torch.float32, device="cpu")
        rows[:, 0] = self.cosine
        rows[:, 1 : self.own_d // 2 + 1] = (value * real[at]).flatten(1)
        rows[:, self.own_d // 2 + 1 :] = (value * imaginary[at]).flatten(1)
        if stop > q**3:
            rows[q**3 - start :] = 0
            rows[q**3 - start :, 0] = 1
        return rows


@lru_cache(maxsize=2)
def _tables(q: int) -> "tuple[Tensor, Tensor, Tensor]":
    """Tabulate V_c(x), and sqrt(2) times the real and imaginary part of exp(2 pi i Tr(c x) / p): x by c, float64.

    - c runs over the powers g^0 to g^((q-3)/2) of the generator. They are one of each pair c, -c, as -1 is the next.
    - V of g^2 c at x is V of c at g x. So two c give all.
    """
    import torch

    elements = field(q)
    turns = torch.arange(elements.p, dtype=torch.float64, device="cpu") * (2 * math.pi / elements.p)
    exponents = torch.arange((q - 1) // 2, device="cpu")
    x = torch.arange(q, device="cpu")[:, None]
    phase = elements.trace[elements.multiply(x, elements.powers[exponents])]
    classes = torch.stack([_values(q, c) for c in elements.powers[:2]])
    values = classes[exponents % 2, elements.multiply(x, elements.powers[exponents // 2])]
    return values, math.sqrt(2) * turns.cos()[phase], math.sqrt(2) * turns.sin()[phase]


def _values(q: int, c: "Tensor") -> "Tensor":
    """Compute V_c, (q,), from its products with itself.

    1. S(N) is the sum over t in F_q of chi(-1) chi(N^2 - 4 e t^2) psi(t), plus q if N = 0. psi is the additive
       character.
    2. V_c(x) V_c(y) is q^-3 times the sum over w in F_q of S(c ((x-y)^2 - e w^2)) psi(c w (x+y)).
    3. A column of these products over the root of its diagonal entry is V_c.

    Sums go term by term, so that they are the same on every machine.
    """
    import torch

    elements = field(q)
    psi = (torch.arange(elements.p, dtype=torch.float64, device="cpu") * (2 * math.pi / elements.p)).cos()[
        elements.trace
    ]
    x = torch.arange(q, device="cpu")
    squares = elements.multiply(x, x)
    e_squares = elements.multiply(squares, elements.powers[1])
    sums = torch.zeros(q, dtype=torch.float64, device="cpu")
    for t in range(q):
        twice = elements.add(x[t], x[t])
        sums += elements.character[elements.subtract(squares, e_squares[twice])] * psi[t]
    sums *= elements.character[elements.subtract(x[0], x[1])]
    sums[0] += q
    y = x[:, None]
    total, difference = elements.add(x, y), squares[elements.subtract(x, y)]
    products = torch.zeros(q, q, dtype=torch.float64, device="cpu")
    for w in range(q):
        norm = elements.subtract(difference, e_squares[w])
        products += sums[elements.multiply(norm, c)] * psi[elements.multiply(total, elements.multiply(x[w], c))]
    products /= q**3
    pivot = int((products.diagonal() > (q + 1) / q**3 / 2).byte().argmax())  # the first above half the mean
    return products[pivot] / products[pivot, pivot].sqrt()
