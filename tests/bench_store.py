"""The store's figures, by hand: python tests/bench_store.py [parts|load].

parts: a file of 400 MB, read whole, by an eighth of its rows, the same with all blocks checked, and as the share of
one rank in eight: the bytes read, the time, and the memory needed above that of the process before.
load: a file of 10 MB, and the import of the package (torch is there already), against the plain read of its bytes.
Each reading has a process of its own, and the file lies in the page cache.
"""

import os
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import torch

TURNS = 5
READINGS = {
    "whole": "protogen.load(path)",
    "eighth": "protogen.load(path, rows=slice(n // 8, n // 4))",
    "eighth, full": "protogen.load(path, rows=slice(n // 8, n // 4), full=True)",
    "rank 1 of 8": "protogen.nn.FrozenPrototypes.of_rank(path, 1, 8)",
}


def figure(file: str, name: str) -> int:
    """One number that the system keeps of this process."""
    return next(int(line.split()[1]) for line in Path("/proc/self", file).open() if line.startswith(name))


def write_rows(path: Path, n: int, d: int) -> None:
    """Write an artifact of n random rows."""
    from protogen.prototypes import Prototypes, Provenance, write
    from protogen.solution import InMemory
    from protogen.spec import Spec

    rows = torch.nn.functional.normalize(torch.randn(n, d))
    made = Provenance("0", "0", "0", "cpu", 1, 0, 0.0, "2000-01-01T00:00:00Z", "drawn at random", "statistical")
    write(path, Prototypes(Spec.of("ebv", 1, d=d, n=n, seed=0, params={}), InMemory(rows), None, made))


def read_part(path: str, how: str) -> None:
    """Print what one reading costs: bytes, milliseconds, KiB."""
    import protogen.nn

    n = protogen.load(path, rows=slice(0, 1)).spec.n  # everything that is imported late
    before, peak, began = figure("io", "rchar"), figure("status", "VmHWM"), time.perf_counter()
    held = eval(READINGS[how], {"protogen": protogen, "path": path, "n": n})
    seconds = time.perf_counter() - began
    print(figure("io", "rchar") - before, seconds, figure("status", "VmHWM") - peak)
    del held


def read_all(path: str) -> None:
    """Print the seconds of a plain read, of the package's import and of a load."""
    times = [time.perf_counter()]
    Path(path).read_bytes()
    times.append(time.perf_counter())
    from protogen import load
    from protogen.prototypes import read  # noqa: F401  which `load` imports late

    times.append(time.perf_counter())
    load(path)
    times.append(time.perf_counter())
    print(*(end - start for start, end in pairwise(times)))


def fresh(*arguments: str) -> list[float]:
    """Run one reading in a process of its own and return the numbers that it prints."""
    # Compiled modules are kept, as they are for anyone who has the package installed.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, __file__, *arguments]
    printed = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    return [float(word) for word in printed.split()]


def parts(folder: Path) -> None:
    path = folder / "large.safetensors"
    write_rows(path, 100_000, 1000)
    size = path.stat().st_size
    print(f"{size:,} bytes; {'':>12} bytes read   of an eighth   seconds   MiB of memory")
    for how in READINGS:
        count, seconds, memory = min((fresh("read_part", str(path), how) for _ in range(TURNS)), key=lambda row: row[1])
        print(f"{how:>20} {count:>17,.0f} {8 * count / size:>14.4f} {seconds:>9.3f} {memory / 1024:>15.1f}")


def load(folder: Path) -> None:
    path = folder / "ten.safetensors"
    write_rows(path, 10_000, 250)
    print(f"{path.stat().st_size:,} bytes, ms: plain read, import of the package, load, the latter two above the first")
    for _ in range(TURNS):
        plain, imported, loaded = (1e3 * seconds for seconds in fresh("read_all", str(path)))
        print(f"{plain:8.1f} {imported:8.1f} {loaded:8.1f} {imported + loaded - plain:8.1f}")


def main() -> None:
    if sys.argv[1:2] == ["read_part"]:
        return read_part(*sys.argv[2:])
    if sys.argv[1:2] == ["read_all"]:
        return read_all(*sys.argv[2:])
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    with tempfile.TemporaryDirectory() as folder:
        for part in (parts, load):
            if sys.argv[1:] in ([], [part.__name__]):
                part(Path(folder))


if __name__ == "__main__":
    main()
