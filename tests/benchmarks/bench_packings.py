"""Small packings against published ones, by hand.

python tests/benchmarks/bench_packings.py TABLE [--cells N | KIND D N ...] [--effort WORD] [--seed S] [--out FILE]
    [--store FOLDER] [--without STAGE] [--table-of FILE]

TABLE is a file of tab-separated lines `kind d n value`, kind `line` or `point`, comments after #. Without cells named
every cell of it is run; with --cells so many, drawn by DRAWN. Each cell is made as `protogen ebv` or `protogen uniform
--sharpen` makes it, and written as a line: kind, d, n, value, seconds of the processor, published value, and the
degrees that are lost against it (negative: gained). A summary follows. A cell that is not in the table has no published
value.

- `--store` keeps the sets in a store.
- `--without` leaves out symmetric, starts, hops or polish, and what these would have cost goes to the others; or forms,
  the starts from closed forms but that of the size itself, whose cost is beside the effort.
- `--table-of` makes nothing: it reads a FILE that `--out` has written, and writes a table in Markdown: the best
  first.
"""

import argparse
import math
import random
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from protogen import Run, ensure, generate, resolve
from protogen.descent import search
from protogen.methods import search as methods_search

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


def make(cell: Cell, seed: int, effort: str | None, published: float | None, store: Path | None = None) -> Result:
    """Make a cell by the public call, in memory or in a store."""
    kind, d, n = cell
    options: dict[str, object] = {} if effort is None else {"effort": effort}
    if kind == "point":
        options["sharpen"] = True
    began = time.process_time()
    spec, run = resolve("ebv" if kind == "line" else "uniform", d=d, n=n, seed=seed, **options), Run(stats="exact")
    made = generate(spec, run) if store is None else ensure(spec, run, store=store)
    seconds = time.process_time() - began
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


class NoSymmetric:
    """Stands for a search among symmetric sets that has found nothing."""

    def __init__(self, *_: object, **__: object) -> None:
        self.ended, self.spent, self.batches = True, 0.0, 0

    def best(self, most: int = 1) -> list[object]:
        return []

    others = best


def leave_out(stage: str) -> None:
    """Let searches of this process do without a stage."""
    match stage:
        case "forms":
            replaced = patch.object(methods_search, "FORMS", 0)
        case "symmetric":
            replaced = patch.object(search, "SymmetricSearch", NoSymmetric)
        case "starts":
            replaced = patch.object(search, "starts", lambda d, n, effort: 1)
        case "hops":
            replaced = patch.object(search.Search, "_hop_or_end", search.Search._make_sharp)
        case _:
            replaced = patch.object(search, "POLISH_SHARE", 0.0)
    replaced.start()  # which fails where there is nothing of this name


def held(out: Path) -> list[Result]:
    """Read the results that a file holds."""
    results = []
    for line in out.read_text().splitlines():
        kind, d, n, value, seconds, *more = line.split("\t")
        results.append(
            Result((kind, int(d), int(n)), float(value), float(seconds), float(more[0]) if more[0] else None)
        )
    return results


def markdown(results: list[Result]) -> str:
    """Write results as a table: those better than what is published, equal to EQUAL, and worse."""
    lines = ["| cell | value | seconds | published | degrees lost |", "|---|---|---|---|---|"]
    known = [result for result in results if result.lost is not None and result.published is not None]
    for result in sorted(known, key=lambda result: result.lost or 0.0):
        kind, d, n = result.cell
        value, published = f"{result.value:.7f}"[1:], f"{result.published or 0:.7f}"[1:]
        lines.append(f"| {kind}s ({d}, {n}) | {value} | {result.seconds:.0f} | {published} | {result.lost:+.4f} |")
    return "\n".join(lines)


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
    parser.add_argument("--store", type=Path)
    parser.add_argument("--without", choices=("forms", "symmetric", "starts", "hops", "polish"))
    parser.add_argument("--table-of", type=Path)
    given = parser.parse_args(arguments)
    table = read(given.table)
    if given.table_of is not None:
        results = held(given.table_of)
        print(f"{markdown(results)}\n\n{summary(results)}")
        return
    if given.without is not None:
        leave_out(given.without)
    results = []
    for cell in chosen(table, given.named, given.cells):
        results.append(make(cell, given.seed, given.effort, table.get(cell), given.store))
        print(results[-1], flush=True)
        if given.out is not None:
            with given.out.open("a") as file:
                print(results[-1], file=file)
    print(summary(results))


if __name__ == "__main__":
    main(sys.argv[1:])
