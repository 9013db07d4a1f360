"""Add to protogen/catalog/direct/packings.txt: python tests/benchmarks/find_multiplied.py [LEAST MOST SECONDS].

Packings on the whole numbers modulo v, LEAST <= v <= MOST, that a multiplier u of odd order m maps to themselves. A
block stands for its products with the powers of u, and can be mapped to itself by some of them. So few blocks are
placed, and even packings that use all differences are found soon. A member is added where no other is as good.
"""

import math
import random
import sys
import time
from collections.abc import Iterator
from itertools import combinations_with_replacement
from typing import NamedTuple

from find_packings import TABLE, Target, written

from protogen.catalog.algebra.blocks import Shape, check, lines_on_a_point, read, shifts
from protogen.catalog.direct.nets import Net
from protogen.catalog.direct.packing import orders
from protogen.catalog.family import Blocks

STEPS = 20_000  # orbits placed in one attempt
LEAST_FULL = 0.93
SHORT = range(2, 14)  # points of a block {0, s, 2s, ...}


class Kind(NamedTuple):
    """Blocks of orbits of the subgroup of order `fixing`, which maps them to themselves, and of 0 if `zero`."""

    fixing: int
    orbits: int
    zero: int

    @property
    def size(self) -> int:
        return self.fixing * self.orbits + self.zero


class Group:
    """The multipliers 1, u, u^2, ... modulo v, m of them, and the classes of differences that they and -1 unite."""

    def __init__(self, v: int, u: int, m: int) -> None:
        self.v, self.m = v, m
        self.powers = [pow(u, power, v) for power in range(m)]
        self.classes = [-1] * v
        self.count = 0
        for step in range(1, v):
            orbit = {sign * step * power % v for sign in (1, -1) for power in self.powers}
            if self.classes[step] < 0 and len(orbit) == 2 * m:
                for other in orbit:
                    self.classes[other] = self.count
                self.count += 1

    def classes_of(self, block: list[int], added: list[int]) -> int:
        """The classes of the differences in `added` and from there to a block, as bits, or -1 if one recurs."""
        fixing = self.powers[:: self.m // len(added)]
        steps = [(added[0] - x) % self.v for x in block]
        steps += [(added[0] - added[0] * power) % self.v for power in fixing[1 : (len(fixing) + 1) // 2]]
        bits = 0
        for step in steps:
            bit = 1 << self.classes[step] if self.classes[step] >= 0 else 0
            if not bit or bits & bit:
                return -1
            bits |= bit
        return bits


def groups(v: int) -> Iterator[Group]:
    """Yield for each odd order the multipliers that leave the fewest differences without a whole class."""
    found: dict[int, Group] = {}
    for u in (u for u in range(2, v) if math.gcd(u, v) == 1):
        m = next(m for m in range(2, v) if pow(u, m, v) == 1)
        if m % 2 and m < 100:
            group = Group(v, u, m)
            if 2 * m * group.count > 0.7 * v and (m not in found or found[m].count < group.count):
                found[m] = group
    yield from found.values()


def structures(group: Group) -> Iterator[tuple[tuple[Kind, ...], tuple[int, ...]]]:
    """Yield kinds of blocks, and sizes of short ones, that use most differences and give a Hadamard order."""
    v, m = group.v, group.m
    fixing = [e for e in range(1, m + 1) if m % e == 0]
    kinds = [
        Kind(e, orbits, zero)
        for e in fixing
        for zero in ((1,) if e == 1 else (0, 1))
        for orbits in range(1, 12 // e + 1)
        if 4 < e * orbits + zero < 13
    ]
    for number in range(1, 8):
        for chosen in combinations_with_replacement(kinds, number):
            used = sum(m // kind.fixing * kind.size * (kind.size - 1) for kind in chosen)
            lines = v * sum(m // kind.fixing for kind in chosen)
            spread = max(kind.size for kind in chosen) - min(kind.size for kind in chosen)
            if used < v and lines < 2048 and spread < 5:
                for short in ((), *((k,) for k in SHORT if v % k == 0)):
                    full = (used + sum(short) - len(short)) / (v - 1)
                    r = sum(m // kind.fixing * kind.size for kind in chosen) + len(short)
                    if LEAST_FULL <= full <= 1 and orders(r):
                        yield chosen, short


def placed(group: Group, kinds: tuple[Kind, ...], free: int, rng: random.Random) -> list[list[int]] | None:
    """Place a block of each kind at random, all differences in free classes, or return None."""
    steps_left = STEPS

    def place(index: int, block: list[int], missing: int, free: int, least: int) -> list[list[int]] | None:
        nonlocal steps_left
        if not missing:
            if index + 1 == len(kinds):
                return [block]
            kind = kinds[index + 1]
            rest = place(index + 1, [0] * kind.zero, kind.orbits, free, 0)
            return rest and [block, *rest]
        for place_of in range(least, len(starts[index])):
            added = starts[index][place_of]
            bits = group.classes_of(block, added)
            steps_left -= 1
            if bits >= 0 and not bits & ~free:
                found = place(index, block + added, missing - 1, free & ~bits, place_of + 1)
                if found:
                    return found
            if steps_left < 0:
                return None
        return None

    starts = []
    for kind in kinds:
        subgroup = group.powers[:: group.m // kind.fixing]
        orbits = {tuple(sorted(x * power % group.v for power in subgroup)): x for x in range(1, group.v)}
        own = [
            [x * power % group.v for power in subgroup] for orbit, x in orbits.items() if len({*orbit}) == kind.fixing
        ]
        rng.shuffle(own)
        starts.append(own)
    return place(0, [0] * kinds[0].zero, kinds[0].orbits, free, 0)


def searched(group: Group, kinds: tuple[Kind, ...], short: tuple[int, ...], rng: random.Random) -> Blocks | None:
    """Return all blocks of a packing, each beginning with 0, or None."""
    v = group.v
    free = (1 << group.count) - 1
    for k in short:
        for step in range(v // k, v, v // k):
            free &= ~(1 << group.classes[step]) if group.classes[step] >= 0 else -1
    bases = placed(group, kinds, free, rng)
    if bases is None:
        return None
    blocks = []
    for kind, base in zip(kinds, bases, strict=True):
        for power in group.powers[: group.m // kind.fixing]:
            moved = sorted(x * power % v for x in base)
            blocks.append(tuple(x - moved[0] for x in moved))
    found = (*blocks, *(tuple(range(0, v, v // k)) for k in short))
    check(v, found)
    return found


def main(least: int = 31, most: int = 460, seconds: int = 3600) -> None:
    members: dict[tuple[int, int, int], str] = {}
    for line in TABLE.read_text("ascii").splitlines():
        own_d, v, order, blocks = line.split(" ")
        members[-lines_on_a_point(int(v), read(blocks)), int(own_d), -int(v) * int(order)] = line + "\n"
    sizes = range(least, most + 1)
    wanted = [(group, *structure) for v in sizes for group in groups(v) for structure in structures(group)]
    end, rng = time.monotonic() + seconds, random.Random(0)
    while time.monotonic() < end:
        for group, kinds, short in wanted:
            r = sum(group.m // kind.fixing * kind.size for kind in kinds) + len(short)
            d = group.v * sum(group.m // kind.fixing for kind in kinds) + sum(group.v // k for k in short)
            n = group.v * max(orders(r))
            key, net = (-r, d, -n), Net.reach(d, n)
            beaten = any(all(a <= b for a, b in zip(other, key, strict=True)) for other in members)
            if beaten or (net and net.r >= r) or not (blocks := searched(group, kinds, short, rng)):
                continue
            assert (lines_on_a_point(group.v, blocks), sum(shifts(group.v, block) for block in blocks)) == (r, d)
            worse = [other for other in members if all(a >= b for a, b in zip(other, key, strict=True))]
            members = {other: text for other, text in members.items() if other not in worse}
            members[key] = written(Target(d, n, r, Shape(1, group.v, (), ())), blocks)
            print(r, d, n, group.v, [kind.size for kind in kinds], short, flush=True)
    TABLE.write_text("".join(members[key] for key in sorted(members)), "ascii")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
