"""Blocks of numbers modulo v, whose shifts are lines: two points are on at most one if no difference recurs."""

import math
import random
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from typing import TYPE_CHECKING, NamedTuple

from protogen.errors import BadRequest

from ..family import Blocks

if TYPE_CHECKING:
    from torch import Tensor

Block = tuple[int, ...]

MOST = 512  # numbers in all blocks
ATTEMPT = 2000  # elements placed after which a search starts afresh
WIDTH = 2  # elements that are tried at one place
MULTIPLIERS = (1, 3, 5, 7, 11, 13)  # their orders


def is_short(v: int, block: Block) -> bool:
    """Whether a block is {0, s, 2s, ...}, s a divisor of v: it has only s shifts, and uses the multiples of s."""
    return block == tuple(range(0, v, max(1, v // len(block))))


def shifts(v: int, block: Block) -> int:
    return v // len(block) if is_short(v, block) else v


def lines_on_a_point(v: int, blocks: Blocks) -> int:
    return sum(1 if is_short(v, block) else len(block) for block in blocks)


def check(v: int, blocks: Blocks) -> None:
    """Raise BadRequest unless the differences modulo v are distinct, and so are a block's numbers, all below v."""
    if not 0 < sum(map(len, blocks)) <= MOST:
        raise BadRequest(f"blocks have {sum(map(len, blocks))} numbers; allowed are 1 to {MOST}")
    if all(blocks) and all(0 <= x < v for block in blocks for x in block):
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
        elements = torch.tensor(block if count == v else [0], device="cpu")
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
    """Search blocks of a shape at random; the same call finds the same blocks.

    A round is one attempt without a multiplier, and one with a multiplier u of each small odd prime
    order: then a block stands for its products with 1, u, u^2, ... (Wilson 1972, Cyclotomy and difference
    families in elementary abelian groups), and the blocks of a size that are left over, fewer than
    the order, are placed one by one.
    """
    v, rng = shape.v, random.Random(f"{shape} {rounds}")
    short = tuple(tuple(range(0, v, v // k)) for k in shape.short)
    free = (1 << v) - 2 - sum(1 << step for block in short for step in block[1:])
    short += ((0,),) * shape.sizes.count(1)
    counts = {size: shape.sizes.count(size) for size in shape.sizes if size > 1}
    units = [(o, u) for o in MULTIPLIERS if max(counts.values(), default=1) >= o and (u := _multiplier(v, o))]
    for o, u in units * rounds:
        whole = [_Wanted(size, _masks(v, u, o), 2 * o) for size, count in counts.items() for _ in range(count // o)]
        rest = [_Wanted(size, _masks(v, 1, 1), 2) for size, count in counts.items() for _ in range(count % o)]
        attempt = _Attempt(v, rng, whole + rest)
        if attempt.place_block(free):
            powers = [pow(u, power, v) for power in range(o)]
            orbits = [[[x * m % v for x in block] for m in powers] for block in attempt.found[: len(whole)]]
            blocks = [block for orbit in orbits for block in orbit] + attempt.found[len(whole) :]
            return tuple(tuple(sorted(block)) for block in blocks) + short
    return None


class _Wanted(NamedTuple):
    """A block that is to be placed: its size, and what a difference of two of its numbers uses up."""

    size: int
    masks: list[int]  # by difference: the set of differences that are used
    used: int  # how many these are, unless some coincide


class _Attempt:
    """One search by backtracking.

    A set of numbers modulo v is a whole number whose bit x stands for x. A set is shifted by e with
    `set << e | set >> v - e`, the bits from v on being of no use. `free` is the set of differences that no
    block uses yet; the blocks all begin with 0, so that a number of a block is itself a difference.
    """

    def __init__(self, v: int, rng: random.Random, todo: list[_Wanted]) -> None:
        self.v, self.rng, self.todo = v, rng, todo
        self.steps_left = ATTEMPT
        self.found: list[list[int]] = []

    def place_block(self, free: int) -> bool:
        """Place the blocks that are still to do, from the free differences; return whether that was done."""
        if len(self.found) == len(self.todo):
            return True
        wanted = self.todo[len(self.found)]
        return self.place_number([0], free, free, wanted)

    def place_number(self, block: list[int], free: int, candidates: int, wanted: _Wanted) -> bool:
        """Place the numbers that a block is missing, of the candidates, then the blocks after it.

        The candidates are the numbers whose differences from all of the block are free.
        """
        missing = wanted.size - len(block)
        if not missing:
            self.found.append(block)
            if self.place_block(free):
                return True
            self.found.pop()
            return False
        tried, v = 0, self.v
        while tried < WIDTH and self.steps_left and candidates.bit_count() >= missing:
            x = _first_from(candidates, self.rng.randrange(v))
            candidates ^= 1 << x
            self.steps_left -= 1
            used = 0
            for e in block:
                used |= wanted.masks[abs(x - e)]
            if used & ~free or used.bit_count() != wanted.used * len(block):  # taken before, or twice by x itself
                continue
            tried += 1
            left, fitting = free ^ used, candidates
            if missing > 1:
                for e in (*block, x):
                    fitting &= left << e | left >> v - e
            if self.place_number([*block, x], left, fitting, wanted):
                return True
        return False


def _first_from(numbers: int, least: int) -> int:
    """Return the smallest number from `least` of a set that is not empty, or else the smallest of all."""
    above = numbers >> least
    lowest = above & -above if above else numbers & -numbers
    return lowest.bit_length() - 1 + (least if above else 0)


@lru_cache(maxsize=16)
def _masks(v: int, u: int, o: int) -> list[int]:
    """By a difference: the set of its products with 1, u, u^2, ..., u^(o-1), and of their negatives."""
    powers = [pow(u, power, v) for power in range(o)]
    masks = [0]
    for step in range(1, v):
        mask = 0
        for m in powers:
            mask |= 1 << step * m % v | 1 << -step * m % v
        masks.append(mask)
    return masks


@lru_cache(maxsize=4096)
def _multiplier(v: int, o: int) -> int | None:
    """The unit of order o, a prime or 1, modulo v that the fewest differences are fixed by, or None."""
    units = (u for u in range(2, v) if pow(u, o, v) == 1)
    return 1 if o == 1 else min(units, key=lambda u: math.gcd(u - 1, v), default=None)
