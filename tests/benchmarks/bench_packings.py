"""Small packings against published ones, by hand.

python tests/benchmarks/bench_packings.py TABLE [--cells N | KIND D N ...] [--effort WORD] [--seed S] [--out FILE]

TABLE is a file of tab-separated lines `kind d n value`, kind `line` or `point`, comments after #. Without cells named
every cell of it is run; with --cells so many, drawn by DRAWN. Each cell is made as `protogen ebv` or `protogen uniform
--sharpen` makes it, and written as a line: kind, d, n, value, seconds, published value, and the degrees that are lost
against it (negative: gained). A summary follows. A cell that is not in the table has no published value.
"""

import argparse
import math
import random
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from protogen import Run, generate, resolve

DRAWN = 20261129  # the seed that cells are drawn by
EQUAL = 1e-6  # cosines that differ by less count as equal

Cell = tuple[str, int, int]


@dataclass(frozen=True)
class Result:
    """A cell, the largest |cos| or cos that was reached, in how many seconds, and what is published."""

    cell: Cell
    value: float
    seconds: float
    published: float | None

    @property
    def lost(self) -> float | None:
        """The degrees by which the smallest angle stays under the published one."""
        if self.published is None:
            return None
        angles = [math.degrees(math.acos(max(-1.0, min(1.0, cosine)))) for cosine in (self.published, self.value)]
        return angles[0] - angles[1]

    def __str__(self) -> str:
        published = "" if self.published is None else f"{self.published:.9f}\t{self.lost:+.6f}"
        return "\t".join((*map(str, self.cell), f"{self.value:.9f}", f"{self.seconds:.1f}", published))


def read(table: Path) -> dict[Cell, float]:
    """Read published values, the lowest of each cell."""
    found: dict[Cell, float] = {}
    for line in table.read_text().splitlines():
        words = line.partition("#")[0].split()
        if len(words) == 4 and words[0] in ("line", "point"):
            cell = (words[0], int(words[1]), int(words[2]))
            found[cell] = min(found.get(cell, math.inf), float(words[3]))
    return found


def make(cell: Cell, seed: int, effort: str | None, published: float | None) -> Result:
    """Make a cell by the public call."""
    kind, d, n = cell
    options: dict[str, object] = {} if effort is None else {"effort": effort}
    if kind == "point":
        options["sharpen"] = True
    began = time.perf_counter()
    made = generate(resolve("ebv" if kind == "line" else "uniform", d=d, n=n, seed=seed, **options), Run(stats="exact"))
    seconds = time.perf_counter() - began
    assert made.stats is not None, "all pairs were asked for"
    value = made.stats.coherence.value if kind == "line" else made.stats.max_cos.value
    return Result(cell, value, seconds, published)


def summary(results: list[Result]) -> str:
    """Say what was lost: median, 90%, worst, and how many are better, equal, worse."""
    known = [(result.lost, result) for result in results if result.lost is not None and result.published is not None]
    if not known:
        return "no published values"
    lost = sorted(degrees for degrees, _ in known)
    differences = [result.value - float(result.published or 0) for _, result in known]
    better, worse = sum(x < -EQUAL for x in differences), sum(x > EQUAL for x in differences)
    seconds = [result.seconds for result in results]
    return (
        f"{len(lost)} cells; degrees lost: median {statistics.median(lost):.6f}, "
        f"90% {lost[math.ceil(0.9 * len(lost)) - 1]:.6f}, worst {lost[-1]:.6f}; "
        f"better {better}, equal to {EQUAL:g} {len(lost) - better - worse}, worse {worse}; "
        f"seconds: median {statistics.median(seconds):.1f}, largest {max(seconds):.1f}"
    )


def chosen(table: dict[Cell, float], words: list[str], drawn: int | None) -> list[Cell]:
    """List the cells that are named, as kind, d, n; or drawn; or all."""
    if words:
        return [(words[i], int(words[i + 1]), int(words[i + 2])) for i in range(0, len(words), 3)]
    cells = sorted(table)
    return cells if drawn is None else random.Random(DRAWN).sample(cells, min(drawn, len(cells)))


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path)
    parser.add_argument("named", nargs="*", metavar="KIND D N")
    parser.add_argument("--cells", type=int)
    parser.add_argument("--effort")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args(arguments)
    table = read(given.table)
    results = []
    for cell in chosen(table, given.named, given.cells):
        results.append(make(cell, given.seed, given.effort, table.get(cell)))
        print(results[-1], flush=True)
        if given.out is not None:
            with given.out.open("a") as file:
                print(results[-1], file=file)
    print(summary(results))


if __name__ == "__main__":
    main(sys.argv[1:])
