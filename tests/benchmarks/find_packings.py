"""Make protogen/catalog/direct/packings.txt: python tests/benchmarks/benchmarks/find_packings.py 4.

Of all sizes with d <= 2048 and 1.2 <= n / d <= 10.6 it searches those for which the nets have fewer lines on
a point, and leaves out what another member is no worse than. The argument is the number of passes, of 1, 4, 16, ...
rounds for each size; the table is written after each. Four passes take 15 minutes.
"""

import math
import sys
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

from protogen.catalog.algebra.blocks import Shape, fit, pack
from protogen.catalog.direct.nets import Net
from protogen.catalog.direct.packing import orders
from protogen.catalog.family import Blocks

TABLE = Path(__file__).parents[2] / "protogen" / "catalog" / "direct" / "packings.txt"
FULL = 0.95  # above which lines of seven points were never found
DIGITS = "0123456789abcdefghijklmnopqrstuv"


class Target(NamedTuple):
    """A size that no net reaches with r lines on a point."""

    d: int
    n: int
    r: int
    shape: Shape


def targets() -> Iterator[Target]:
    for v in range(6, 441):
        divisors = [k for k in (2, 3, 4, 5, 7) if v % k == 0]
        pairs = [pair for pair in combinations(divisors, 2) if math.gcd(*pair) == 1]
        for short in ((), *combinations(divisors, 1), *pairs):
            for d in range(v + sum(v // k for k in short), 2049, v):
                for r in range(math.isqrt(2 * d) + 1, 1, -1):
                    n = v * max(orders(r), default=0)
                    if 1.2 * d <= n <= 10.6 * d and (shape := fit(v, r, d)) and shape.short == short:
                        net = Net.reach(d, n)
                        if net and net.r >= r:
                            break
                        if shape.fill < FULL or shape.sizes[0] < 7:
                            yield Target(d, n, r, shape)


def written(target: Target, blocks: Blocks) -> str:
    """A line of the table: d, v, order, and the blocks as protogen.catalog.blocks.read has them."""
    v = target.shape.v
    text = ",".join("".join(DIGITS[x // 32] + DIGITS[x % 32] for x in block[1:]) for block in blocks)
    return f"{target.d} {v} {target.n // v} {text}\n"


def main() -> None:
    wanted = sorted(targets(), key=lambda target: (-target.r, target.d, -target.n))
    found: dict[Target, Blocks] = {}

    def is_beaten(target: Target) -> bool:
        return any(other.r >= target.r and other.d <= target.d and other.n >= target.n for other in found)

    for rounds in (4**index for index in range(int(sys.argv[1]))):
        for target in wanted:
            if not is_beaten(target) and (blocks := pack(target.shape, rounds)):
                found[target] = blocks
        lines = []
        kept, found = found, {}
        for target in wanted:
            if target in kept and not is_beaten(target):
                found[target] = kept[target]
                lines.append(written(target, kept[target]))
        TABLE.write_text("".join(lines), "ascii")
        print(rounds, len(wanted), len(lines), flush=True)


if __name__ == "__main__":
    main()
