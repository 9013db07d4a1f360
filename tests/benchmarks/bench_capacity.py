"""What `protogen capacity` finds and how long it takes, by hand.

python tests/benchmarks/bench_capacity.py [sizes] [grid]
"""

import math
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import product
from statistics import NormalDist

import torch

from protogen.capacity.capacity import Capacity, End, capacity, sweep

EXACT = ((3, 5**-0.5, 6), (7, 1 / 3, 28), (23, 0.2, 276), (64, 0.125, 2112), (1024, 0.03125, 525312))
LEAST = (100, 0.1351, 1024)
GRID, CAP, SHARE = ((50, 100, 200), (0.1, 0.15, 0.2, 0.25, 0.3)), 4000, 0.7


def promised(d: int, alpha: float) -> float:
    """d / Q(alpha sqrt(d)), Q the normal tail."""
    return d / NormalDist().cdf(-alpha * math.sqrt(d))


def written(cell: Capacity, seconds: float) -> str:
    most = f"{cell.limit.n:,} ({cell.limit.name})" if cell.limit else "none"
    share = cell.n / promised(cell.d, cell.alpha)
    return (
        f"({cell.d}, {cell.alpha:.6g}): {cell.n:,}, {cell.end}; bound {most}; {share:.2f} of d / Q; "
        f"{len(cell.probes)} probes, {seconds:.1f} s"
    )


def sizes() -> None:
    """Sizes whose answer is known, and one for descents."""
    for d, alpha, n in (*EXACT, LEAST):
        began = time.perf_counter()
        with tempfile.TemporaryDirectory() as store:
            cell = capacity(d, alpha, store=store)
        print(written(cell, time.perf_counter() - began), flush=True)
        assert cell.n >= n
        assert (cell.end is End.MAXIMUM) == (alpha != LEAST[1])


def grid() -> None:
    """The grid of three dimensions and five coherences."""
    began, cells = time.perf_counter(), []
    with tempfile.TemporaryDirectory() as store:
        before = began
        for cell in sweep(*GRID, max_n=CAP, store=store):
            now = time.perf_counter()
            print(written(cell, now - before), flush=True)
            cells.append(cell)
            before = now
    print(f"grid: {time.perf_counter() - began:.1f} s")
    for cell, other in product(cells, cells):
        assert cell.n >= other.n or other.d > cell.d or other.alpha > cell.alpha
    for cell in cells:
        least = SHARE * promised(cell.d, cell.alpha)
        if cell.limit:
            assert cell.n <= cell.limit.n
            least = min(least, SHARE * cell.limit.n)
        if cell.n < min(CAP, least):
            print(f"({cell.d}, {cell.alpha}): {cell.n} is below {SHARE} of d / Q, and of the bound, {least:.0f}")


PARTS: dict[str, Callable[[], None]] = {"sizes": sizes, "grid": grid}

if __name__ == "__main__":
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    for part in sys.argv[1:] or PARTS:
        PARTS[part]()
