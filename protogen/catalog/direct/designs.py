"""Packing frames of block designs: the Steiner equiangular tight frames, and as many near to them."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar, Self

from protogen.errors import BadRequest

from ..algebra import steiner
from ..algebra.fields import field, is_prime, prime_power
from ..family import Blocks, best
from .packing import Packing, orders

if TYPE_CHECKING:
    from torch import Tensor

MOST_POINTS = 2**20
SIZES = range(2, 11)  # of blocks, in known designs
# By v and k difference families, as Abel and Buratti 2007, Difference families, list many. The last block of 91 has
# 13 shifts, that of 175 has 25.
DIFFERENCES: dict[tuple[int, int], Blocks] = {
    (45, 5): ((5, 6, 10, 27, 42), (6, 20, 22, 32, 40), (0, 3, 6, 9, 12)),
    (25, 4): ((0, 1, 5, 12), (0, 2, 10, 24)),
    (91, 7): ((0, 8, 29, 51, 54, 61, 63), (0, 11, 16, 17, 31, 35, 58), (0, 13, 26, 39, 52, 65, 78)),
    (141, 5): (
        (0, 33, 60, 92, 97),
        (0, 3, 45, 88, 110),
        (0, 18, 39, 68, 139),
        (0, 12, 67, 75, 113),
        (0, 1, 15, 84, 94),
        (0, 7, 11, 24, 30),
        (0, 36, 90, 116, 125),
    ),
    (121, 6): (
        (0, 1, 67, 95, 108, 117),
        (0, 4, 33, 51, 89, 97),
        (0, 59, 61, 69, 80, 103),
        (37, 43, 49, 63, 94, 110),
    ),
    (175, 7): (
        (0, 18, 32, 72, 99, 106, 128),
        (0, 57, 93, 95, 107, 130, 148),
        (0, 51, 60, 71, 134, 149, 165),
        (0, 4, 11, 43, 44, 156, 162),
        (0, 5, 10, 15, 20, 25, 30),
    ),
    (289, 9): (
        (0, 1, 57, 157, 176, 186, 208, 212, 254),
        (0, 15, 32, 69, 74, 77, 87, 179, 273),
        (0, 20, 83, 132, 136, 180, 218, 259, 281),
        (19, 102, 125, 136, 162, 186, 209, 273, 284),
    ),
}
# Of a group that is not cyclic but Z_f x Z_(v/f) the factor f; (a, b) is written a v/f + b.
FACTORS = {25: 5, 45: 3, 121: 11, 175: 5, 289: 17}


@dataclass(frozen=True)
class Design(Packing):
    """The blocks of a design (v, k, 1): any two of v points are in exactly one of v r / k blocks of k points.

    r = (v - 1)/(k - 1) blocks are on each point, and the coherence is 1/r. With order = r + 1 the lines are
    equiangular (Fickus, Mixon and Tremain 2012). The designs are:

    - k = 2: all pairs.
    - k = 3: Steiner triple systems (Bose 1939, Skolem 1958).
    - v a prime, 1 mod k (k - 1): the shifts of multiples of the roots of unity (Wilson 1972, Cyclotomy and
      difference families in elementary abelian groups).
    - v and k in DIFFERENCES: the shifts of those blocks.
    - v = q^3 + 1, k = q + 1: Hermitian unitals.
    - v = q k - q + k, k < q powers of two: maximal arcs of a plane (Denniston 1969, Some maximal arcs in finite
      projective planes).
    """

    family: ClassVar[str] = "design"
    v: int
    k: int
    order: int

    def __post_init__(self) -> None:
        if self.v > MOST_POINTS or not exists(self.v, self.k):
            raise BadRequest(f"v is {self.v}; allowed is v of a known design with blocks of k; k is {self.k}")
        super().__post_init__()

    @classmethod
    def reach(cls, d: int, n: int) -> Self | None:
        """Return the best of one member for each block size: that of the largest v with at most d blocks."""
        return best(
            next((form for v in _points(k, n // (2 * k), d) for form in cls._on(v, k) if form.own_n >= n), None)
            for k in SIZES
        )

    @classmethod
    def sized(cls, low: int, high: int) -> Iterator[Self]:
        """Yield the members with low <= own_d <= high that are tight, order >= r."""
        for k in SIZES:
            for v in _points(k, low, high):
                yield from (form for form in cls._on(v, k) if form.order >= form.r)

    @classmethod
    def _on(cls, v: int, k: int) -> Iterator[Self]:
        return (cls(v, k, order) for order in orders((v - 1) // (k - 1)))

    @property
    def r(self) -> int:
        return (self.v - 1) // (self.k - 1)

    @property
    def points(self) -> int:
        return self.v

    @property
    def own_d(self) -> int:
        return self.v * self.r // self.k

    @property
    def held_bytes(self) -> int:
        return 8 * self.v * self.r

    def lines(self, points: "Tensor") -> "Tensor":
        return _blocks_on_points(self.v, self.k)[points]


def _most(k: int, d: int) -> int:
    """The most points that d blocks of k leave room for."""
    return (1 + math.isqrt(1 + 4 * d * k * (k - 1))) // 2


def _points(k: int, low: int, high: int) -> Iterator[int]:
    """Yield the numbers of points of known designs with low to high blocks of k, the largest first."""
    most = _most(k, high)
    for v in range(most - (most - 1) % (k - 1), k, 1 - k):
        if v * (v - 1) < low * k * (k - 1):
            break
        if exists(v, k):
            yield v


def exists(v: int, k: int) -> bool:
    """Whether a design (v, k, 1) is known here."""
    if k == 2:
        return v > 2
    if k == 3:
        return v > 3 and steiner.exists(v)
    return k > 3 and v > k and (_is_unital(v, k) or _is_arc(v, k) or bool(_base_blocks(v, k)))


def _is_unital(v: int, k: int) -> bool:
    return v == (k - 1) ** 3 + 1 and prime_power(k - 1) is not None


def _is_arc(v: int, k: int) -> bool:
    q, left = divmod(v - k, k - 1)
    return left == 0 and k < q and k.bit_count() == q.bit_count() == 1


@lru_cache
def _base_blocks(v: int, k: int) -> Blocks:
    """Blocks of k whose shifts modulo v are a design, or none."""
    shifts, left = divmod(v - 1, k * (k - 1))
    if (v, k) in DIFFERENCES or left or not is_prime(v):
        return DIFFERENCES.get((v, k), ())
    divisors = [e for e in range(1, v // 2 + 1) if (v - 1) % e == 0]
    generator = next(g for g in range(2, v) if all(pow(g, e, v) != 1 for e in divisors))
    # The roots, and 0 if k is even. Their differences are multiples by roots and -1 of a few, which
    # have to lie in different cosets of the m-th powers.
    m, count = k // 2, k - 1 + k % 2
    roots = [pow(generator, (v - 1) // count * i, v) for i in range(count)]
    zero = [0] * (count < k)
    few = [1] * len(zero) + [root - 1 for root in roots[1 : (count + 1) // 2]]
    if len({pow(x, (v - 1) // m, v) for x in few}) < m:
        return ()
    return tuple(tuple(x * pow(generator, m * i, v) % v for x in (*zero, *roots)) for i in range(shifts))


@lru_cache(maxsize=2)
def _blocks_on_points(v: int, k: int) -> "Tensor":
    """The blocks that each point is in, (v, r)."""
    return (blocks_of(v, k).flatten().argsort(stable=True) // k).view(v, -1)


def blocks_of(v: int, k: int) -> "Tensor":
    """Return the blocks of the design that `exists`, (b, k) points."""
    import torch

    if k == 2:
        return torch.combinations(torch.arange(v, device="cpu"))
    if k == 3:
        return steiner.triples(v)[0]
    if _is_unital(v, k):
        return _unital(k - 1)
    return _arc((v - k) // (k - 1), k) if _is_arc(v, k) else _developed(v, _base_blocks(v, k))


def _unital(q: int) -> "Tensor":
    """The lines of PG(2, q^2) in q + 1 points of b + b^q + a^(q + 1) = 0: (1, a, b) and (0, 0, 1)."""
    import torch

    elements = field(q * q)
    add, multiply = elements.add, elements.multiply
    a = torch.arange(q * q, device="cpu")
    trace = add(a, elements.power(a, q))
    norm = elements.power(a, q + 1)
    x, y = (add(trace, norm[:, None]) == 0).nonzero().T
    # The line (u, w) is b = u a + w; that of all (1, a, b), one a, also goes through (0, 0, 1).
    on_line = add(multiply(a[:, None], x), y)  # w by u and point
    finite = torch.nn.functional.one_hot(on_line, q * q).transpose(1, 2).reshape(-1, len(x))
    blocks = finite[finite.sum(1) == q + 1].nonzero()[:, 1].view(-1, q + 1)
    vertical = torch.arange(q**3, device="cpu").view(q * q, q)
    return torch.cat((blocks, torch.cat((vertical, torch.full((q * q, 1), q**3, device="cpu")), 1)))


def _arc(q: int, k: int) -> "Tensor":
    """The lines of AG(2, q) through k points (x, y) with x^2 + b x y + y^2 < k, all but the lines through none.

    The form has no zero but (0, 0), and the numbers below k are a subgroup.
    """
    import torch

    elements = field(q)
    add, multiply = elements.add, elements.multiply
    all_x = torch.arange(q, device="cpu")
    squares = multiply(all_x, all_x)
    b = next(b for b in range(1, q) if (add(add(squares, multiply(all_x, all_x.new_tensor(b))), all_x[1]) != 0).all())
    x, y = torch.cartesian_prod(all_x, all_x).T
    form = add(add(squares[x], squares[y]), multiply(multiply(x, y), x.new_tensor(b)))
    x, y = x[form < k], y[form < k]
    lines = [add(y, multiply(slope, x)) for slope in all_x] + [x]
    return torch.cat([line.argsort(stable=True).view(-1, k) for line in lines])


def _developed(v: int, blocks: Blocks) -> "Tensor":
    """The shifts modulo v of blocks, once each."""
    import torch

    m = v // FACTORS.get(v, 1)
    shift, base = torch.arange(v, device="cpu")[:, None, None], torch.tensor(blocks, device="cpu")
    shifts = (shift // m + base // m) % (v // m) * m + (shift + base) % m
    different: Tensor = shifts.flatten(0, 1).sort(1).values.unique(dim=0)
    return different
