"""Finite groups by name, their real irreducible representations and their subgroups."""

import math
import re
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import torch
from torch import Tensor

from .permutations import FIELDS, Permutation, generators

LARGEST_ORDER = 400  # of a group whose representations are found from its table
# That are held, with tables of up to three megabytes. A search draws some hundreds; a process that makes many sets
# would come to thousands.
MOST_GROUPS = 1024
_FACTOR = re.compile(r"([a-z]+)\(([0-9]+(?:,[0-9]+)*)\)")

OTHERS = {
    "cyclic(2)xcyclic(2)xcyclic(2)": 8,
    "cyclic(2)xcyclic(2)xcyclic(2)xcyclic(2)": 16,
    "cyclic(3)xcyclic(3)xcyclic(3)": 27,
    "cyclic(3)xsymmetric(3)": 18,
    "symmetric(3)xsymmetric(3)": 36,
    "alternating(4)": 12,
    "cyclic(2)xalternating(4)": 24,
    "cyclic(3)xalternating(4)": 36,
    "alternating(4)xalternating(4)": 144,
    "symmetric(4)": 24,
    "cyclic(2)xsymmetric(4)": 48,
    "cyclic(3)xsymmetric(4)": 72,
    "special(3)": 24,
    "cyclic(3)xspecial(3)": 72,
    "pauli(2)": 32,
    "pauli(3)": 128,
    "cyclic(3)xpauli(2)": 96,
    "heisenberg(3)": 27,
    "cyclic(2)xheisenberg(3)": 54,
    "heisenberg(5)": 125,
    "alternating(5)": 60,
    "cyclic(2)xalternating(5)": 120,
    "cyclic(3)xalternating(5)": 180,
    "symmetric(5)": 120,
    "special(5)": 120,
    "cyclic(2)xaffine(5,4)": 40,
    "cyclic(2)xaffine(7,3)": 42,
    "cyclic(3)xaffine(7,3)": 63,
    "cyclic(3)xaffine(5,4)": 60,
    "symmetric(3)xaffine(5,4)": 120,
    "projective(7)": 168,
    "cyclic(2)xprojective(7)": 336,
    "special(7)": 336,
    "alternating(6)": 360,
    "wreath(3,2)": 18,
    "wreath(4,2)": 32,
    "wreath(5,2)": 50,
    "wreath(6,2)": 72,
    "wreath(2,4)": 64,
    "wreath(3,3)": 81,
    "wreath(2,5)": 160,
    "wreath(4,3)": 192,
}


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


def generated(table: list[list[int]], elements: list[int]) -> tuple[int, ...]:
    """Return the places of the subgroup that some elements generate, in order, by the table of the group."""
    found, new = {0}, [0]
    while new:
        products = {table[g][e] for g in new for e in elements}
        new = list(products - found)
        found |= products
    return tuple(sorted(found))


@lru_cache(MOST_GROUPS)
def group(name: str) -> Group:
    """Make the group of a name: families with their numbers, joined by `x` where it is a direct product.

    - `cyclic(m)`, `dihedral(m)` of order 2 m, `symmetric(m)`, `alternating(m)`;
    - `dicyclic(m)` of order 4 m, of which m = 2 is that of the quaternions 1, i, j, k and their negatives;
    - `affine(q,k)`: x -> a x + b over F_q, a in the subgroup of order k; q a prime, 4, 8, 9, 16, 25 or 27;
    - `semidirect(m,k,u)` of order m k: x -> x + b modulo m and x -> u x, whose k-th power is the identity;
    - `wreath(a,b)` of order b a^b: b places turn round, each of which turns round itself, by a;
    - `special(p)`: the 2 x 2 matrices of determinant 1 over F_p; `projective(p)`: these up to their sign;
    - `heisenberg(p)`: the upper triangular 3 x 3 matrices with ones on the diagonal over F_p;
    - `pauli(k)`: the signed permutations of 2^k axes that k commuting shifts and k changes of signs generate.

    >>> group("affine(7,3)").order, group("cyclic(2)xcyclic(3)").order, group("special(3)").order
    (21, 6, 24)
    """
    factors = [_FACTOR.fullmatch(text) for text in name.split("x")]
    if not all(factors):
        raise ValueError(f"{name!r} names no group")
    generating: list[Permutation] = []
    points = 0
    for factor in factors:
        assert factor is not None
        own = generators(factor[1], [int(number) for number in factor[2].split(",")])
        size = len(own[0])
        # The permutations of a factor leave the points of the others where they are.
        before = tuple(range(points))
        generating = [(*old, *range(points, points + size)) for old in generating]
        generating += [(*before, *(points + image for image in new)) for new in own]
        points += size
    return Group(name, _table(generating))


def _table(generating: list[Permutation]) -> Tensor:
    one = tuple(range(len(generating[0])))
    known, origins = {one: 0}, list[tuple[int, int]]()  # of each but the identity: which element times which generator
    new = [one]
    while new:
        grown = []
        for old in new:
            for place, generator in enumerate(generating):
                product = tuple([old[image] for image in generator])
                if product not in known:
                    origins.append((known[old], place))
                    known[product] = len(known)
                    grown.append(product)
        new = grown
    moved = [[known[tuple([generator[image] for image in element])] for element in known] for generator in generating]
    by = torch.tensor(moved, device="cpu")
    rows = [torch.arange(len(known), device="cpu")]
    for element, place in origins:
        rows.append(rows[element][by[place]])
    return torch.stack(rows)


@lru_cache(MOST_GROUPS)
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
    moving = own.table[inverses].T.flatten()  # where an element (second) takes what a place (first) holds from
    edges = [0, *(values.diff() > 1e-8 * values.abs().max()).nonzero()[:, 0].add(1).tolist(), m]
    found: dict[tuple[float, ...], Tensor] = {}
    for first, last in pairwise(edges):
        basis = vectors[:, first:last]
        # One product gives what all elements make of the basis.
        images = basis.contiguous().index_select(0, moving).view(m, -1)
        matrices = (basis.mT @ images).view(last - first, m, last - first).transpose(0, 1)
        character = tuple(matrices.diagonal(dim1=1, dim2=2).sum(1).mul(1e4).round().div(1e4).add(0.0).tolist())
        found.setdefault(character, matrices)
    ordered = sorted(found, key=lambda character: (character[0], tuple(-value for value in character)))
    return tuple(found[character] for character in ordered)


def families(most: int) -> dict[str, dict[str, int]]:
    """List the groups that a search goes through, of order at most `most`, by their family: names with orders."""
    primes = [p for p in range(3, most) if all(p % q for q in range(2, math.isqrt(p) + 1))]
    fields = sorted({*primes, *FIELDS})
    affine = {f"affine({q},{k})": q * k for q in fields for k in range(2, q) if (q - 1) % k == 0 and q * k <= most}
    pairs = [(a, b) for a in range(2, math.isqrt(most) + 1) for b in range(a, most // a + 1, a)]
    dihedral = {f"dihedral({m})": 2 * m for m in range(3, most // 2 + 1)}
    dicyclic = {f"dicyclic({m})": 4 * m for m in range(2, most // 4 + 1)}
    semidirect = _semidirect(most)
    own = {**dihedral, **dicyclic, **semidirect, "pauli(2)": 32}
    doubled = {f"cyclic({a})x{name}": a * own[name] for a in range(2, 6) for name in own if a * own[name] <= most}
    listed = {
        "semidirect": semidirect,
        "doubled": doubled,
        "cyclic": {f"cyclic({m})": m for m in range(2, most + 1)},
        "dihedral": dihedral,
        "dicyclic": dicyclic,
        "products": {f"cyclic({a})xcyclic({b})": a * b for a, b in pairs},
        "affine": affine,
        "others": {name: order for name, order in OTHERS.items() if order <= most},
    }
    return {family: names for family, names in listed.items() if names}


def _semidirect(most: int) -> dict[str, int]:
    """List the groups semidirect(m,k,u) of order at most `most` that are in no other family, with their orders.

    Of all u whose powers are the same the least is there.
    """
    listed: dict[str, int] = {}
    for m in range(3, most // 2 + 1):
        prime, known = all(m % q for q in range(2, math.isqrt(m) + 1)), set[frozenset[int]]()
        for u in range(2, m):
            powers = _powers(u, m)
            if not powers or powers in known:
                continue
            known.add(powers)
            for k in range(len(powers), most // m + 1, len(powers)):
                others = (k == 2 and u == m - 1) or (prime and k == len(powers))  # dihedral, affine
                if not others:
                    listed[f"semidirect({m},{k},{u})"] = m * k
    return listed


def _powers(u: int, m: int) -> frozenset[int]:
    """Return the powers of u modulo m; none where these never come to 1."""
    if math.gcd(u, m) > 1:
        return frozenset()
    powers, power = {1}, u
    while power != 1:
        powers.add(power)
        power = power * u % m
    return frozenset(powers)
