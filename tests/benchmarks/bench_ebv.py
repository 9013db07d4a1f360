"""Speed and quality of `protogen ebv`, by hand: python tests/benchmarks/bench_ebv.py [stats] [targets] [race] [large].

Every speed is a ratio to something timed in the same run.
"""

import sys
import time
from collections.abc import Callable

import torch
from algorithm1 import algorithm1

from protogen.measuring.geometry import random_rows
from protogen.measuring.measure import measure
from protogen.measuring.tiles import gram_tile, tile_edge, upper_tiles
from protogen.methods import Task, method_of, resolve
from protogen.rows import InMemory

RATES = (1e-4, 1e-3, 1e-2, 1e-1)
RACE_S = 60.0


def bare_pass(rows: torch.Tensor) -> float:
    """Seconds for the matrix products of one upper triangle of the Gram matrix of rows (n, d)."""
    edge = tile_edge(rows.device, None)
    buffer = torch.empty(edge * edge)
    began = time.perf_counter()
    for i0, i1, j0, j1 in upper_tiles(len(rows), edge):
        gram_tile(rows[i0:i1], rows[j0:j1], buffer)
    return time.perf_counter() - began


def reach(d: int, n: int, alpha: float) -> tuple[float, float, int, str]:
    """Descend from random rows to alpha: seconds, coherence in float64, steps, how it ended."""
    spec = resolve("ebv", d=d, n=n, alpha=alpha, start="random")
    began = time.perf_counter()
    solution = method_of(spec).solve(Task.of(spec))
    seconds = time.perf_counter() - began
    return seconds, measure(solution.source).coherence.value, solution.steps, solution.status.value


def stats() -> None:
    """The statistics pass against the bare products of its tiles."""
    rows = random_rows(1, 20000, 1000, 0)
    bare_pass(rows[:4000])
    for _ in range(3):
        bare = bare_pass(rows)
        began = time.perf_counter()
        measure(InMemory(rows))
        took = time.perf_counter() - began
        print(f"statistics at n 20000, d 1000: {took:.2f} s, bare pass {bare:.2f} s: {bare / took:.2f} of its speed")


def targets() -> None:
    """Time to given coherences from random starts."""
    for d, n, alpha in ((100, 1000, 0.1351), (200, 1000, 0.0801), (256, 10000, 0.131)):
        seconds, coherence, steps, status = reach(d, n, alpha)
        print(f"({d}, {n}) to {alpha}: {coherence:.6f} in {seconds:.2f} s, {steps} steps, {status}")


def race() -> None:
    """Our time to the coherence that Algorithm 1 has after 60 s, from the same start."""
    for d, n, alpha in ((100, 1000, 0.1351), (256, 10000, 0.131)):
        found = {}
        for rate in RATES:
            best, turns, began = 1.0, 0, time.perf_counter()
            for _, coherence in algorithm1(random_rows(1, n, d, 0), alpha, rate, slice=512):
                best, turns = min(best, coherence), turns + 1
                if time.perf_counter() - began >= RACE_S:
                    break
            found[rate] = best
            print(f"({d}, {n}) Algorithm 1, rate {rate:g}: {best:.6f} after {turns} turns", flush=True)
        theirs = min(found.values())
        seconds, coherence, steps, _ = reach(d, n, theirs)
        print(
            f"({d}, {n}) protogen: {coherence:.6f} in {seconds:.3f} s, {steps} steps, "
            f"{RACE_S / seconds:.0f} times faster"
        )


def large() -> None:
    """(1000, 100000) to 0.1 from a random start, in bare passes; one is timed before, one after."""
    rows = random_rows(1, 100_000, 1000, 0)
    before = bare_pass(rows)
    print(f"(1000, 100000) bare pass before: {before:.1f} s", flush=True)
    seconds, coherence, steps, status = reach(1000, 100_000, 0.1)
    after = bare_pass(rows)
    print(
        f"(1000, 100000) to 0.1: {coherence:.6f} in {seconds:.1f} s, {steps} steps, {status}; bare pass after: "
        f"{after:.1f} s: {seconds / min(before, after):.2f} bare passes"
    )


PARTS: dict[str, Callable[[], None]] = {"stats": stats, "targets": targets, "race": race, "large": large}

if __name__ == "__main__":
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    for part in sys.argv[1:] or PARTS:
        PARTS[part]()
