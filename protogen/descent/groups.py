"""Finite groups by name, their real irreducible representations and their subgroups."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import torch
from torch import Tensor

LARGEST_ORDER = 400  # of a group whose representations are found from its table
_FACTOR = re.compile(r"([a-z]+)\(([0-9]+(?:,[0-9]+)*)\)")

Permutation = tuple[int, ...]


@dataclass(frozen=True)
class Group:
    """A finite group: its name, and its table (m, m), the place of g h; the identity has place 0."""

    name: str
    table: Tensor

    @property
    def order(self) -> int:
        return len(self.table)

    @property
    def inverses(self) -> Tensor:
        """The place of the inverse of each element (m,)."""
        return (self.table == 0).int().argmax(1)

    def generated(self, elements: list[int]) -> tuple[int, ...]:
        """Return the places of the subgroup that some elements generate, in order."""
        found, new = {0}, [0]
        while new:
            products = {int(self.table[g, e]) for g in new for e in elements}
            new = sorted(products - found)
            found |= products
        return tuple(sorted(found))


@cache
def group(name: str) -> Group:
    """Make the group of a name: families with their numbers, joined by `x` where it is a direct product.

    - `cyclic(m)`, `dihedral(m)` of order 2 m, `symmetric(m)`, `alternating(m)`;
    - `affine(p,k)`: x -> a x + b over F_p, a in the subgroup of order k;
    - `special(p)`: the 2 x 2 matrices of determinant 1 over F_p;
    - `heisenberg(p)`: the upper triangular 3 x 3 matrices with ones on the diagonal over F_p.

    >>> group("affine(7,3)").order, group("cyclic(2)xcyclic(3)").order, group("special(3)").order
    (21, 6, 24)
    """
    factors = [_FACTOR.fullmatch(text) for text in name.split("x")]
    if not all(factors):
        raise ValueError(f"{name!r} names no group")
    generators: list[Permutation] = []
    points = 0
    for factor in factors:
        assert factor is not None
        own = _permutations(factor[1], [int(number) for number in factor[2].split(",")])
        size = len(own[0])
        # The permutations of a factor leave the points of the others where they are.
        before = tuple(range(points))
        generators = [(*old, *range(points, points + size)) for old in generators]
        generators += [(*before, *(points + image for image in new)) for new in own]
        points += size
    return Group(name, _table(generators))


def _table(generators: list[Permutation]) -> Tensor:
    one = tuple(range(len(generators[0])))
    place, new = {one: 0}, [one]
    while new:
        grown = []
        for old in new:
            for generator in generators:
                product = tuple(old[image] for image in generator)
                if product not in place:
                    place[product] = len(place)
                    grown.append(product)
        new = grown
    elements = torch.tensor(list(place), device="cpu")
    products = elements[:, elements].flatten(0, 1).tolist()
    return torch.tensor([place[tuple(product)] for product in products], device="cpu").view(len(place), len(place))


def _cyclic(m: int) -> list[Permutation]:
    return [tuple((x + 1) % m for x in range(m))]


def _dihedral(m: int) -> list[Permutation]:
    # Beside the corners of a polygon are two points, so that m = 1 and 2 have reflections of their own.
    return [
        (*((x + 1) % m for x in range(m)), m, m + 1),
        (*(-x % m for x in range(m)), m + 1, m),
    ]


def _symmetric(m: int) -> list[Permutation]:
    return [(1, 0, *range(2, m)), *_cyclic(m)]


def _alternating(m: int) -> list[Permutation]:
    moved = [(x, (x + 1), (x + 2)) for x in range(m - 2)]
    return [tuple({a: b, b: c, c: a}.get(x, x) for x in range(m)) for a, b, c in moved]


def _affine(p: int, k: int) -> list[Permutation]:
    factor = next(a for a in range(1, p) if _multiplicative_order(a, p) == k)
    return [*_cyclic(p), tuple(factor * x % p for x in range(p))]


def _multiplicative_order(a: int, p: int) -> int:
    return next(k for k in range(1, p) if pow(a, k, p) == 1)


def _special(p: int) -> list[Permutation]:
    plane = [(x, y) for x in range(p) for y in range(p)]
    place = {vector: index for index, vector in enumerate(plane)}
    return [
        tuple(place[(x + y) % p, y] for x, y in plane),
        tuple(place[x, (x + y) % p] for x, y in plane),
    ]


def _heisenberg(p: int) -> list[Permutation]:
    space = [(x, y, z) for x in range(p) for y in range(p) for z in range(p)]
    place = {vector: index for index, vector in enumerate(space)}
    return [
        tuple(place[(x + 1) % p, y, z] for x, y, z in space),
        tuple(place[x, (y + 1) % p, (z + x) % p] for x, y, z in space),
    ]


def _permutations(family: str, numbers: list[int]) -> list[Permutation]:
    """Return permutations that generate a group of a family."""
    match family, numbers:
        case "cyclic", [m]:
            return _cyclic(m)
        case "dihedral", [m]:
            return _dihedral(m)
        case "symmetric", [m]:
            return _symmetric(m)
        case "alternating", [m]:
            return _alternating(m)
        case "affine", [p, k]:
            return _affine(p, k)
        case "special", [p]:
            return _special(p)
        case "heisenberg", [p]:
            return _heisenberg(p)
    raise ValueError(f"{family} with {len(numbers)} numbers names no group")


@cache
def irreducibles(name: str) -> tuple[Tensor, ...]:
    """Return the real irreducible representations of a group, each (m, f, f) orthogonal, float64.

    The trivial one is the first. A symmetric element of the group algebra that acts from the right commutes with
    the regular representation from the left. Where its coefficients are random, its eigenspaces are irreducible.
    """
    own = group(name)
    m, inverses = own.order, own.inverses
    if m > LARGEST_ORDER:
        raise ValueError(f"{name} has order {m}; allowed is at most {LARGEST_ORDER}")
    weights = torch.randn(m, generator=torch.Generator().manual_seed(m), dtype=torch.float64, device="cpu")
    element = (weights + weights[inverses])[own.table[inverses]]
    values, vectors = torch.linalg.eigh(element)
    edges = [0, *(values.diff() > 1e-8 * values.abs().max()).nonzero()[:, 0].add(1).tolist(), m]
    found: dict[tuple[float, ...], Tensor] = {}
    for first, last in pairwise(edges):
        basis = vectors[:, first:last]
        moved = basis[own.table[inverses]]  # (m, m, f): what an element makes of the basis
        matrices = basis.mT @ moved
        character = tuple(matrices.diagonal(dim1=1, dim2=2).sum(1).mul(1e4).round().div(1e4).add(0.0).tolist())
        found.setdefault(character, matrices)
    ordered = sorted(found, key=lambda character: (character[0], tuple(-value for value in character)))
    return tuple(found[character] for character in ordered)


def names(most: int) -> Iterator[str]:
    """Yield the names of the groups that a search goes through, of order at most `most`."""
    for m in range(2, most + 1):
        yield f"cyclic({m})"
    for m in range(3, most // 2 + 1):
        yield f"dihedral({m})"
    for a in range(2, math.isqrt(most) + 1):
        yield from (f"cyclic({a})xcyclic({b})" for b in range(a, most // a + 1, a))
    primes = [p for p in range(3, most // 2 + 1) if all(p % q for q in range(2, math.isqrt(p) + 1))]
    for p in primes:
        yield from (f"affine({p},{k})" for k in range(3, p) if (p - 1) % k == 0 and p * k <= most)
    others = {
        "cyclic(2)xcyclic(2)xcyclic(2)": 8,
        "cyclic(3)xcyclic(3)xcyclic(3)": 27,
        "cyclic(2)xcyclic(2)xcyclic(2)xcyclic(2)": 16,
        "alternating(4)": 12,
        "symmetric(4)": 24,
        "cyclic(2)xalternating(4)": 24,
        "cyclic(3)xalternating(4)": 36,
        "cyclic(2)xsymmetric(4)": 48,
        "special(3)": 24,
        "cyclic(3)xspecial(3)": 72,
        "heisenberg(2)": 8,
        "heisenberg(3)": 27,
        "heisenberg(5)": 125,
        "alternating(5)": 60,
        "cyclic(2)xalternating(5)": 120,
        "symmetric(5)": 120,
        "special(5)": 120,
        "cyclic(3)xsymmetric(3)": 18,
        "symmetric(3)xsymmetric(3)": 36,
        "cyclic(3)xalternating(5)": 180,
        "special(7)": 336,
        "alternating(6)": 360,
    }
    yield from (name for name, order in others.items() if order <= most)
