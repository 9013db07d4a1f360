"""`protogen fit` on many classes, by hand: `python tests/benchmarks/bench_fit.py [classes samples]`.

Draws features of width 1,024 around class means that come in groups of about twenty alike, as float16 in a temporary
file (2 GB at 10^6 samples), and runs the command at d = 256 and alpha = .5 in a process of its own: its minutes, its
peak memory, and what it says.
"""

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

WIDTH, D, ALPHA, GROUP = 1024, 256, 0.5, 20
PIECE = 20_000


def draw(folder: Path, classes: int, samples: int) -> None:
    """Write features and labels, each class at least once."""
    rng = np.random.default_rng(0)
    groups = rng.standard_normal((classes // GROUP, WIDTH), dtype=np.float32)
    means = groups[rng.integers(0, len(groups), classes)]
    means += 0.5 * rng.standard_normal(means.shape, dtype=np.float32)
    labels = np.concatenate([np.arange(classes), rng.integers(0, classes, samples - classes)])
    rng.shuffle(labels)
    features = np.lib.format.open_memmap(folder / "x.npy", mode="w+", dtype=np.float16, shape=(samples, WIDTH))
    for start in range(0, samples, PIECE):
        own = labels[start : start + PIECE]
        features[start : start + PIECE] = means[own] + rng.standard_normal((len(own), WIDTH), dtype=np.float32)
    np.save(folder / "y.npy", labels)


if __name__ == "__main__":
    classes, samples = (int(word) for word in (sys.argv[1:] or ("100000", "1000000")))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        draw(folder, classes, samples)
        files = ["--features", folder / "x.npy", "--labels", folder / "y.npy"]
        words = ["fit", *files, "--d", D, "--alpha", ALPHA, "--store", folder / "store"]
        began = time.perf_counter()
        ran = subprocess.run(
            [sys.executable, "-m", "protogen", *map(str, words)], stdout=subprocess.PIPE, text=True, check=True
        )
        minutes = (time.perf_counter() - began) / 60
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
        print(f"{classes:,} classes, {samples:,} samples: {minutes:.1f} minutes, peak memory {peak:.1f} GiB")
        print(ran.stdout, end="")
