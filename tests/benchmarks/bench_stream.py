"""Closed forms larger than memory should hold, by hand: `python tests/benchmarks/bench_stream.py`.

Writes (1024, 525312), 2.1 GB, to a temporary store in a process of its own, and says its time and peak
memory; holds 1,000 random rows of the file against all; then takes rows of larger sets on demand.
"""

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench_catalog import sampled

from protogen.files.foreign import read_matrix
from protogen.generating import generate
from protogen.methods import resolve
from protogen.run import Run

ON_DEMAND = ((512, 1_000_000), (1024, 10_000_000))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as store:
        began = time.perf_counter()
        words = ["ebv", "--d", "1024", "--n", "525312", "--quiet", "--store", store]
        path = subprocess.run([sys.executable, "-m", "protogen", *words], capture_output=True, text=True, check=True)
        seconds = time.perf_counter() - began
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        file = read_matrix(Path(path.stdout.strip()))
        print(f"(1024, 525312) written in {seconds:.0f} s, peak memory {peak:.0f} MiB")
        print(f"  1,000 random rows of the file against all: {sampled(file):.7f}, guaranteed {1 / 32}")
    for d, n in ON_DEMAND:
        made = generate(resolve("ebv", d=d, n=n), Run(stats="certificate"))
        rates = []
        for start in range(0, n, n // 5):
            began, stop = time.perf_counter(), min(start + 50_000, n)
            for i in range(start, stop, 4096):
                made.rows(i, min(i + 4096, stop))
            rates.append((stop - start) / (time.perf_counter() - began))
        said = made.facts
        print(
            f"({d}, {n}): {said['closed_form']} guarantees {said['guaranteed_coherence']}; "
            f"{min(rates):,.0f} to {max(rates):,.0f} rows a second on demand"
        )
