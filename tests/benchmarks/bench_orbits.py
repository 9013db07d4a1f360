"""Large sizes by orbits: python tests/benchmarks/bench_orbits.py [named | map] [D,N ...]

- named: sizes at which a free descent takes hours, by their default request, measured over all pairs: coherence, the
  best closed form, what a free descent promises, seconds of processor time, steps. The default.
- map: sizes over a grid, at most MAP_S seconds each: the best closed form, what orbits come to, and which of the two
  the request without options takes.

One thread. Sizes that are given are taken in place of those that are listed.
"""

import sys
import time

import torch

from protogen import catalog, resolve
from protogen.descent.turned import TurnedRequest, turned_descent
from protogen.measuring.measure import measure
from protogen.methods.start import ORBITS, Start, descent_promise, orbits_start, parts_of_orbits
from protogen.rows import InMemory
from protogen.run import Run

NAMED = ((32, 4000), (48, 10_000), (128, 20_000), (192, 20_000), (192, 100_000))
MAP = (
    *((16, 1024), (48, 2304), (64, 3072), (64, 4096), (96, 4608), (96, 18_432), (128, 8192), (128, 32_000)),
    *((192, 9216), (192, 36_864), (256, 16_384), (384, 24_576), (512, 24_576)),
)
MAP_S = 25.0


def row(d: int, n: int, limit: float | None) -> str:
    """Descend among orbits, measure, and say what came of it beside the closed form and the choice."""
    order, _ = parts_of_orbits(orbits_start(d, n, None), d, n)
    form = catalog.seek(d, n)
    word = Start.parse(str(resolve("ebv", d=d, n=n).options["start"])).word
    began = time.process_time()
    asked = TurnedRequest(True, d, n, seed=0, order=order, steps=5000)
    found = turned_descent(asked, Run(time_limit=limit, clock=time.process_time), "coherence")
    took = time.process_time() - began
    # Held, as what `protogen ebv` makes of them is: a tile after the other would turn its vectors anew.
    coherence = measure(InMemory.of(found.orbits)).coherence.value
    cosine, label = (form.cosine, catalog.label(form)) if form else (1.0, "none")
    winner = "orbits" if coherence < cosine else "form"
    right = "" if (word == ORBITS) == (winner == "orbits") else " (not what wins)"
    return (
        f"| ({d}, {n}) | {order} | {coherence:.5f} | {cosine:.5f} | {descent_promise(d, n):.4f} | {took:.0f} | "
        f"{found.steps}, {found.status.value} | {word}{right} | {label[:60]} |"
    )


def main(words: list[str]) -> None:
    torch.set_num_threads(1)
    mapped = "map" in words
    given = [tuple(map(int, word.split(","))) for word in words if "," in word]
    print("| (d, n) | m | orbits | closed form | promise of free descent | s | steps | choice | form |", flush=True)
    for d, n in given or (MAP if mapped else NAMED):
        print(row(d, n, MAP_S if mapped else None), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
