"""Blocks of numbers modulo v, whose shifts are lines: two points are on at most one if no difference recurs."""

import math
import random
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from typing import TYPE_CHECKING, NamedTuple

from ..errors import BadRequest
from .family import Blocks

if TYPE_CHECKING:
    from torch import Tensor

Block = tuple[int, ...]

ATTEMPT = 2000  # elements placed after which a search starts afresh
WIDTH = 2  # elements that are tried at one place
PRIMES = (3, 5, 7, 11, 13)  # of the orders of symmetries


def is_short(v: int, block: Block) -> bool:
    """Whether a block is {0, s, 2s, ...}, s a divisor of v: it has only s shifts, and uses the multiples of s."""
    return block == tuple(range(0, v, max(1, v // len(block))))


def shifts(v: int, block: Block) -> int:
    return v // len(block) if is_short(v, block) else v


def lines_on_a_point(v: int, blocks: Blocks) -> int:
    return sum(1 if is_short(v, block) else len(block) for block in blocks)


def check(v: int, blocks: Blocks) -> None:
    """Raise BadRequest unless the differences modulo v are distinct, and so are a block's numbers, all below v."""
    if blocks and all(blocks) and all(0 <= x < v for block in blocks for x in block):
        steps = [step for block in blocks for step in _differences(v, block)]
        if 0 not in steps and len(steps) == len(set(steps)):
            return
    raise BadRequest(f"blocks are {blocks}; allowed are blocks whose differences are distinct; these are modulo {v}")


def _differences(v: int, block: Block) -> list[int]:
    if is_short(v, block):
        return list(block[1:])
    return [(b - a) % v for i, a in enumerate(block) for j, b in enumerate(block) if i != j]


def develop(v: int, blocks: Blocks, points: "Tensor") -> "Tensor":
    """The lines on each of some points, (k,) to (k, r); those of a block are numbered by the shift."""
    import torch

    found, first = [], 0
    for block in blocks:
        count = shifts(v, block)
        elements = torch.tensor(block if count == v else [0])
        found.append(first + (points[:, None] - elements) % count)
        first += count
    return torch.cat(found, 1)


def read(text: str) -> Blocks:
    """Read blocks that begin with 0 as the tables have them: two digits in base 32 for each other number."""
    return tuple((0, *(int(block[i : i + 2], 32) for i in range(0, len(block), 2))) for block in text.split(","))


@dataclass(frozen=True, order=True)
class Shape:
    """How many points lie on the lines of a packing that is looked for, and how full it is."""

    fill: float  # the share of all differences that it uses
    v: int
    sizes: tuple[int, ...]  # of the blocks with v shifts, the largest first
    short: tuple[int, ...]  # of the others


def fit(v: int, r: int, d: int) -> Shape | None:
    """The least full shape of v points on r of at most d lines each, or None if all are too full."""
    shapes = []
    divisors = [k for k in (2, 3, 4, 5, 7) if v % k == 0]
    for short in ((), *combinations(divisors, 1), *combinations(divisors, 2)):
        count = (d - sum(v // k for k in short)) // v
        if not 0 < count <= r - len(short) or (len(short) == 2 and math.gcd(*short) > 1):
            continue
        size, larger = divmod(r - len(short), count)
        used = size * (size - 1) * count + 2 * size * larger + sum(short) - len(short)
        alone = v % 2 == 0 and all(k % 2 for k in short)  # v/2, its own negative, is of use to short blocks only
        if used <= v - 1 - alone:
            shapes.append(Shape(used / v, v, (size + 1,) * larger + (size,) * (count - larger), short))
    return min(shapes, default=None)


def pack(shape: Shape, rounds: int) -> Blocks | None:
    """Search blocks of a shape at random, in rounds of an attempt by each symmetry; the same call finds the same.

    A symmetry is a unit u of order o e, both odd primes or 1: a block B that its powers u^o, u^2o, ... take
    to itself stands for o blocks B, uB, u^2 B, ... (Wilson 1972, Cyclotomy and difference families in
    elementary abelian groups). Blocks of a size that is neither 0 nor 1 modulo e stand for o blocks
    without being so, and those that are left over, fewer than o of a size, for themselves.
    """
    v, rng = shape.v, random.Random(f"{shape} {rounds}")
    short = tuple(tuple(range(0, v, v // k)) for k in shape.short)
    free = (1 << v) - 2 - sum(1 << step for block in short for step in block[1:])
    short += ((0,),) * shape.sizes.count(1)
    sizes = [size for size in shape.sizes if size > 1]
    plans = [
        plan
        for o in (1, *PRIMES)
        for e in (1, *PRIMES)
        if (unit := _unit(v, o * e)) and (plan := _plan(v, sizes, unit, o, e))
    ]
    for plan in plans * rounds:
        attempt = _Attempt(v, rng, plan)
        if attempt.block(free):
            blocks = [
                tuple(sorted(x * m % v for x in block))
                for block, kind in zip(attempt.found, plan, strict=True)
                for m in kind.copies
            ]
            return (*blocks, *short)
    return None


class _Kind(NamedTuple):
    """A block to place: of some size, invariant under the powers `within`, for all its products with `copies`."""

    size: int
    within: tuple[int, ...]
    copies: tuple[int, ...]
    masks: list[int]  # what a difference uses with all its products


def _plan(v: int, sizes: list[int], unit: int, o: int, e: int) -> list[_Kind]:
    """The blocks to place, the largest first; none if o or e are of no use to these sizes."""
    within, copies = _powers(v, pow(unit, o, v), e), _powers(v, unit, o)
    if e == 3:
        for size in set(sizes):
            if size % 3 == 2 and size > 5:
                pairs = sizes.count(size) // 2
                sizes = [x for x in sizes if x != size] + [size] * (sizes.count(size) % 2) + [size - 1, size + 1] * pairs
    kinds = []
    for size in sorted(set(sizes), reverse=True):
        inner = within if size >= e and size % e < 2 else (1,)
        outer = copies if len(inner) == e else _powers(v, pow(unit, e, v), o)
        count = sizes.count(size)
        kinds += [_Kind(size, inner, outer, _masks(v, _products(v, inner, outer)))] * (count // o)
        kinds += [_Kind(size, inner, (1,), _masks(v, inner))] * (count % o)
    useful = any(len(kind.within) == e for kind in kinds) and any(len(kind.copies) == o for kind in kinds)
    return sorted(kinds, key=lambda kind: (-len(kind.copies), -len(kind.within), -kind.size)) if useful else []


def _powers(v: int, unit: int, order: int) -> tuple[int, ...]:
    return tuple(pow(unit, power, v) for power in range(order))


def _products(v: int, inner: tuple[int, ...], outer: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(sorted(a * b % v for a in inner for b in outer))


class _Attempt:
    """One search by backtracking, bit x of a mask standing for the number x modulo v."""

    def __init__(self, v: int, rng: random.Random, plan: list[_Kind]) -> None:
        self.v, self.rng, self.plan = v, rng, plan
        self.nodes = ATTEMPT
        self.found: list[list[int]] = []

    def block(self, free: int) -> bool:
        """Place the blocks that are still to do, from the free differences."""
        if len(self.found) == len(self.plan):
            return True
        kind = self.plan[len(self.found)]
        if len(kind.within) > 1 and kind.size % len(kind.within) == 0:
            return self.elements([], free, (1 << self.v) - 2, kind)
        return self.elements([0], free, free, kind)

    def elements(self, block: list[int], free: int, candidates: int, kind: _Kind) -> bool:
        """Place the elements that a block is missing, of the candidates, then the blocks after it."""
        if len(block) == kind.size:
            self.found.append(block)
            return self.block(free) or self.found.pop() is None
        tried, v, missing = 0, self.v, (kind.size - len(block)) // len(kind.within)
        while tried < WIDTH and self.nodes and candidates.bit_count() >= missing:
            x = self.rng.randrange(v)
            above = candidates >> x
            x = x + (above & -above).bit_length() - 1 if above else (candidates & -candidates).bit_length() - 1
            candidates ^= 1 << x
            self.nodes -= 1
            orbit = [x * m % v for m in kind.within]
            steps = [x - e for e in (*block, *orbit[1 : len(orbit) // 2 + 1])]
            used = 0
            for step in steps:
                used |= kind.masks[step]
            if used & ~free or used.bit_count() != 2 * len(kind.within) * len(kind.copies) * len(steps):
                continue
            tried += 1
            left, fitting, longer = free ^ used, candidates, block + orbit
            if missing > 1:
                for e in longer:
                    fitting &= left << e | left >> v - e
            if self.elements(longer, left, fitting, kind):
                return True
        return False


@lru_cache(maxsize=64)
def _masks(v: int, products: tuple[int, ...]) -> list[int]:
    """For each difference the set of its products with some units, and of their negatives; 0 has none."""
    masks = [0] * v
    for step in range(1, v):
        for m in products:
            masks[step] |= 1 << step * m % v | 1 << -step * m % v
    return masks


@lru_cache(maxsize=4096)
def _unit(v: int, order: int) -> int | None:
    """A unit of odd order modulo v whose powers but 1 fix few differences, or None."""
    parts = [order // p for p in PRIMES if order % p == 0]
    units = [u for u in range(1, v) if pow(u, order, v) == 1 and all(pow(u, part, v) != 1 for part in parts)]
    return min(units, key=lambda u: sum(math.gcd(pow(u, part, v) - 1, v) for part in parts), default=None)
