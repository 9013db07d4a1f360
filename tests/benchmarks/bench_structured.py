"""Structured logits against the product with the stored matrix, by hand.

python tests/benchmarks/bench_structured.py [label n]

Forward and backward to the features at batch 256, in turns in one run; the best of each. Memory is the peak of
a process that does nothing else, less what it has after its imports.
"""

import subprocess
import sys
import time
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import normalize

from protogen.nn import FixedPrototypes, FrozenPrototypes, StructuredPrototypes, cosine_logits
from protogen.rows import InMemory

BATCH, TURNS = 256, 7
CASES = {
    "kerdock(k=5)": 100_352,
    "mub(p=499)": 99_800,
    "net(levels=[71.70.20;1.1.71],order=72)": 100_000,
}


def passes(prototypes: FixedPrototypes, features: Tensor, gradient: Tensor) -> tuple[float, float, Tensor, Tensor]:
    """Seconds forward and backward, the cosines and the gradient of the features."""
    features = features.detach().requires_grad_()
    began = time.perf_counter()
    cosines = cosine_logits(features, prototypes, 1.0)
    between = time.perf_counter()
    cosines.backward(gradient)
    assert features.grad is not None
    return between - began, time.perf_counter() - between, cosines.detach(), features.grad


def drawn(n: int, d: int) -> tuple[Tensor, Tensor]:
    return normalize(torch.randn(BATCH, d), dim=1), torch.randn(BATCH, n) / n**0.5


def race(label: str, n: int) -> None:
    began = time.perf_counter()
    structured = StructuredPrototypes(label, n)
    built = time.perf_counter() - began
    stored = FrozenPrototypes(InMemory.of(structured.laid).tensor)
    features, gradient = drawn(n, structured.d)
    best: dict[FixedPrototypes, list[float]] = {stored: [], structured: []}
    results = {}
    for _ in range(TURNS):
        for prototypes, times in best.items():
            forward, backward, *results[prototypes] = passes(prototypes, features, gradient)
            times[:] = map(min, zip(times or (9e9,) * 3, (forward, backward, forward + backward), strict=True))
    for prototypes, (forward, backward, both) in best.items():
        print(f"  {type(prototypes).__name__:21} {forward:.3f} s forward, {backward:.3f} s backward, {both:.3f} s both")
    differences = [float((x - y).abs().max()) for x, y in zip(*results.values(), strict=True)]
    print(
        f"  {best[stored][2] / best[structured][2]:.1f} times faster; tables in {built:.2f} s; largest difference "
        f"{differences[0]:.1e} of a cosine, {differences[1]:.1e} of a gradient up to "
        f"{float(results[stored][1].abs().max()):.1e}"
    )


def peak(kind: str, label: str, n: int) -> None:
    """Print the peak of one forward and backward, in MiB."""
    torch.randn(64, 64) @ torch.randn(64, 64)
    before = resident()
    structured = StructuredPrototypes(label, n)
    prototypes = structured if kind == "structured" else FrozenPrototypes(InMemory.of(structured.laid).tensor)
    passes(prototypes, *drawn(n, structured.d))
    print((resident() - before) // 1024)


def resident() -> int:
    """The largest memory that this process has had, in KiB; resource.getrusage would count the parent's too."""
    return next(int(line.split()[1]) for line in Path("/proc/self/status").open() if line.startswith("VmHWM"))


def main() -> None:
    cases = {sys.argv[1]: int(sys.argv[2])} if len(sys.argv) == 3 else CASES
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, batch {BATCH}")
    for label, n in cases.items():
        print(f"{label}, n {n}: logits and their gradient fill {2 * 4 * BATCH * n >> 20} MiB")
        race(label, n)
        for kind in ("stored", "structured"):
            found = subprocess.run([sys.executable, __file__, kind, label, str(n)], capture_output=True, check=True)
            print(f"  peak memory, {kind}: {int(found.stdout)} MiB")


if __name__ == "__main__":
    if len(sys.argv) == 4:
        peak(sys.argv[1], sys.argv[2], int(sys.argv[3]))
    else:
        main()
