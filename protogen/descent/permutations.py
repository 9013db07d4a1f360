"""Finite groups as permutations: what generates each of a family."""

import itertools
from collections.abc import Callable

Permutation = tuple[int, ...]

# The polynomials x^k = sum of the coefficients times x^i that x is a generator of the field of.
FIELDS = {4: (2, (1, 1)), 8: (2, (1, 1, 0)), 9: (3, (1, 2)), 16: (2, (1, 1, 0, 0)), 25: (5, (3, 1)), 27: (3, (2, 1, 0))}


def generators(family: str, numbers: list[int]) -> list[Permutation]:
    """Return permutations that generate a group of a family. Raises ValueError where there is none of that name."""
    match family, numbers:
        case "cyclic", [m]:
            return _cyclic(m)
        case "dihedral", [m]:
            return _dihedral(m)
        case "dicyclic", [m]:
            return _dicyclic(m)
        case "symmetric", [m]:
            return [(1, 0, *range(2, m)), *_cyclic(m)]
        case "alternating", [m]:
            moved = [(x, (x + 1), (x + 2)) for x in range(m - 2)]
            return [tuple({a: b, b: c, c: a}.get(x, x) for x in range(m)) for a, b, c in moved]
        case "semidirect", [m, k, u]:
            return _semidirect(m, k, u)
        case "wreath", [a, b]:
            turned = (*((x + 1) % a for x in range(a)), *range(a, a * b))
            return [turned, tuple((x + a) % (a * b) for x in range(a * b))]
        case "affine", [q, k]:
            return _affine(q, k)
        case "special", [p]:
            plane = list(itertools.product(range(p), repeat=2))
            return _acting(plane, (lambda x, y: ((x + y) % p, y)), (lambda x, y: (x, (x + y) % p)))
        case "projective", [p]:
            inverses = [pow(x, -1, p) if x else p for x in range(p)]  # p is the point at infinity
            return [
                (*((x + 1) % p for x in range(p)), p),
                (*(-inverse % p if inverse < p else p for inverse in inverses), 0),
            ]
        case "heisenberg", [p]:
            space = list(itertools.product(range(p), repeat=3))
            first, second = (lambda x, y, z: ((x + 1) % p, y, z)), (lambda x, y, z: (x, (y + 1) % p, (z + x) % p))
            return _acting(space, first, second)
        case "pauli", [k]:
            return _pauli(k)
    raise ValueError(f"{family} with {len(numbers)} numbers names no group")


def _cyclic(m: int) -> list[Permutation]:
    return [tuple((x + 1) % m for x in range(m))]


def _dihedral(m: int) -> list[Permutation]:
    # Beside the corners of a polygon are two points, so that m = 1 and 2 have reflections of their own.
    return [
        (*((x + 1) % m for x in range(m)), m, m + 1),
        (*(-x % m for x in range(m)), m + 1, m),
    ]


def _dicyclic(m: int) -> list[Permutation]:
    # Element a^i b^j stands at 2 i + j; a^2m = 1, b^2 = a^m, b a = a^-1 b.
    whole = 2 * m
    by_a = tuple(2 * ((i + 1) % whole) + j for i in range(whole) for j in range(2))
    by_b = tuple(2 * ((-i + m * j) % whole) + 1 - j for i in range(whole) for j in range(2))
    return [by_a, by_b]


def _semidirect(m: int, k: int, u: int) -> list[Permutation]:
    """x -> x + 1 modulo m, and x -> u x, which moves k other points round."""
    return [
        (*((x + 1) % m for x in range(m)), *range(m, m + k)),
        (*(u * x % m for x in range(m)), *(m + (x + 1) % k for x in range(k))),
    ]


def _affine(q: int, k: int) -> list[Permutation]:
    """x -> a x + b over the field of q elements, a in the subgroup of order k."""
    p, least = FIELDS.get(q, (q, (0,)))
    degree = len(least)
    space = list(itertools.product(range(p), repeat=degree))

    def times_x(element: Permutation) -> Permutation:
        over = element[-1]
        return tuple((below + over * c) % p for below, c in zip((0, *element[:-1]), least, strict=True))

    factor = next(a for a in range(1, p) if _multiplicative_order(a, p) == k) if degree == 1 else 0

    def turned(element: Permutation) -> Permutation:
        if degree == 1:
            return ((element[0] * factor) % p,)
        for _ in range((q - 1) // k):
            element = times_x(element)
        return element

    place = {element: index for index, element in enumerate(space)}
    shifts = [tuple(place[*e[:axis], (e[axis] + 1) % p, *e[axis + 1 :]] for e in space) for axis in range(degree)]
    return [*shifts, tuple(place[turned(e)] for e in space)]


def _multiplicative_order(a: int, p: int) -> int:
    return next(k for k in range(1, p) if pow(a, k, p) == 1)


def _acting(space: list[Permutation], *maps: Callable[..., Permutation]) -> list[Permutation]:
    """Return what maps do to the places of the points of a space."""
    place = {point: index for index, point in enumerate(space)}
    return [tuple(place[move(*point)] for point in space) for move in maps]


def _pauli(k: int) -> list[Permutation]:
    """Signed permutations of 2^k axes: adding to the index, and changing signs; axis x and its negative stand apart."""
    size = 2**k
    shifts = [tuple(2 * (x ^ (1 << bit)) + sign for x in range(size) for sign in range(2)) for bit in range(k)]
    signs = [tuple(2 * x + (sign ^ (x >> bit & 1)) for x in range(size) for sign in range(2)) for bit in range(k)]
    return shifts + signs
