"""All that a GPU has a part in, in at most eight minutes: python tests/benchmarks/bench_gpu.py [--small] [PART ...]

It runs on the first GPU, or on the CPU where there is none; --small takes sizes that a CPU does in seconds. Each part
prints lines; one that fails prints its error, the others go on, and the exit code is 1. No part begins once the time is
up. Steps, losses and products are timed as the best of a few turns, after one that does not count; the rest runs once.

- generators: lines and points by descent, a closed form, on the device;
- statistics: all pairs, against the CPU's figure;
- heads: a training step of each head;
- losses: forward and backward by chunks, by the plain product, and by torch's linear_cross_entropy where there is one;
- structured: products with the rows of closed forms, against the stored matrix;
- batches: descents of 256 starts at once;
- orbits: a large symmetric descent;
- algorithm1: the EBV paper's Algorithm 1 for some seconds, then the time of ours to the same coherence.
"""

import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from algorithm1 import algorithm1
from torch import Tensor
from torch.nn.functional import cross_entropy, linear, normalize

from protogen import Run, generate, resolve
from protogen.descent.batch import Batch
from protogen.descent.smooth import of_lines, of_points
from protogen.descent.turned import TurnedRequest, turned_descent
from protogen.measuring.geometry import random_rows
from protogen.measuring.measure import measure
from protogen.methods import Task, method_of
from protogen.nn import (
    CosineHead,
    FrozenPrototypes,
    MarginHead,
    StructuredPrototypes,
    chunked_cross_entropy,
    cosine_logits,
)
from protogen.rows import InMemory

ALL_S = 480.0  # seconds that everything may take


@dataclass(frozen=True)
class Bench:
    """Where and how large: the device, whether sizes are small, and when everything is to be over."""

    small: bool
    device: str = field(default_factory=lambda: "cuda" if torch.cuda.is_available() else "cpu")
    began: float = field(default_factory=time.perf_counter)

    @property
    def left(self) -> float:
        return ALL_S - (time.perf_counter() - self.began)

    def seconds(self, work: Callable[[], object], turns: int = 3) -> float:
        """Return the best time of some turns, the device's work included."""
        work()
        best = float("inf")
        for _ in range(1 if self.small else turns):
            self.wait()
            began = time.perf_counter()
            work()
            self.wait()
            best = min(best, time.perf_counter() - began)
        return best

    def wait(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()


def generators(bench: Bench) -> None:
    """Make sets on the device."""
    d, n = (8, 40) if bench.small else (256, 10_000)
    for name, options in (
        ("ebv", {"start": "random", "steps": 20 if bench.small else 200}),
        ("uniform", {"start": "random", "steps": 20 if bench.small else 200}),
        ("ebv", {"start": "closed-form"}),
    ):
        began = time.perf_counter()
        made = generate(resolve(name, d=d, n=n, **options), Run(device=bench.device))
        assert made.stats is not None, "so few pairs are measured"
        print(
            f"generators: {name} ({d}, {n}) {options}: coherence {made.stats.coherence.value:.6f}, largest cos "
            f"{made.stats.max_cos.value:.6f}, {made.provenance.steps} steps, {time.perf_counter() - began:.2f} s"
        )


def statistics(bench: Bench) -> None:
    """Measure all pairs, and a small set on both devices."""
    d, n = (16, 300) if bench.small else (1000, 100_000)
    rows = random_rows(1, 300, 16, 0)
    here, there = measure(InMemory(rows), "cpu"), measure(InMemory(rows), bench.device)
    apart = abs(here.coherence.value - there.coherence.value)
    assert apart < 1e-6, f"the devices say {here.coherence.value} and {there.coherence.value}"
    source = InMemory(random_rows(1, n, d, 0))
    began = time.perf_counter()
    stats = measure(source, bench.device)
    print(
        f"statistics: ({d}, {n}) coherence {stats.coherence.value:.6f} in {time.perf_counter() - began:.2f} s; "
        f"the CPU's figure of a small set differs by {apart:.1e}"
    )


def heads(bench: Bench) -> None:
    """Take a training step of each head."""
    d, n, batch = (16, 50, 8) if bench.small else (1000, 100_000, 256)
    prototypes = random_rows(1, n, d, 0)
    features = torch.randn(batch, d, device=bench.device)
    labels = torch.randint(n, (batch,), device=bench.device)
    for make in (CosineHead, MarginHead):
        head = make(FrozenPrototypes(prototypes)).to(bench.device)

        def step(head: torch.nn.Module = head) -> None:
            head.loss(features.clone().requires_grad_(), labels).backward()

        print(f"heads: {make.__name__} ({d}, {n}), batch {batch}: {bench.seconds(step):.4f} s a step")


def losses(bench: Bench) -> None:
    """Take a loss and its gradient by each way."""
    d, n, batch = (16, 50, 8) if bench.small else (1000, 100_000, 256)
    prototypes = random_rows(1, n, d, 0).to(bench.device)
    features = torch.randn(batch, d, device=bench.device)
    labels = torch.randint(n, (batch,), device=bench.device)
    ways: dict[str, Callable[[Tensor], Tensor]] = {
        "plain product": lambda z: cross_entropy(linear(z, prototypes), labels),
        "by chunks": lambda z: chunked_cross_entropy(z, prototypes, labels),
    }
    fused = getattr(torch.nn.functional, "linear_cross_entropy", None)
    if fused is not None:
        ways["linear_cross_entropy"] = lambda z: fused(z, prototypes, labels)
    values = {}
    for name, way in ways.items():

        def work(way: Callable[[Tensor], Tensor] = way) -> None:
            way(features.clone().requires_grad_()).backward()

        if bench.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        took = bench.seconds(work)
        memory = f", {torch.cuda.max_memory_allocated() / 2**20:.0f} MiB" if bench.device == "cuda" else ""
        values[name] = float(way(features).detach())
        print(f"losses: {name} ({d}, {n}), batch {batch}: {took:.4f} s{memory}")
    first = values["plain product"]
    assert all(abs(value - first) < 1e-3 * abs(first) for value in values.values()), values


def structured(bench: Bench) -> None:
    """Take products with the rows of closed forms."""
    cases = {"kerdock(k=5)": 100_352, "mub(p=499)": 99_800}
    if bench.small:
        cases = {"kerdock(k=2)": 144, "mub(p=5)": 50}
    for label, n in cases.items():
        fast = StructuredPrototypes(label, n).to(bench.device)
        stored = FrozenPrototypes(InMemory.of(fast.laid).tensor).to(bench.device)
        features = normalize(torch.randn(8 if bench.small else 256, fast.d, device=bench.device), dim=1)
        apart = (cosine_logits(features, fast, 1.0) - cosine_logits(features, stored, 1.0)).abs().max()
        assert float(apart) < 1e-4, f"{label}: products differ by {float(apart)}"
        times = [bench.seconds(lambda p=p, z=features: cosine_logits(z, p, 1.0)) for p in (fast, stored)]
        print(f"structured: {label}, n {n}: {times[0]:.4f} s, stored {times[1]:.4f} s, apart {float(apart):.1e}")


def batches(bench: Bench) -> None:
    """Descend from many starts at once."""
    starts = 16 if bench.small else 256
    cases = (("points", False, 3, 13, 0.542637),)
    if not bench.small:
        cases += (("lines", True, 9, 48, 1 / 3), ("points", False, 9, 32, 0.150222))
    for kind, lines, d, n, best in cases:
        rows = random_rows(starts, n, d, 0).double().to(bench.device)
        rows = normalize(rows, dim=-1)
        bench.wait()
        began, evaluations = time.perf_counter(), 0
        sharpnesses = [20.0 * 5.0**stage for stage in range(2 if bench.small else 8)]
        batch = Batch(rows, of_lines if lines else of_points, sharpnesses, 20 if bench.small else 120, gain=1e-2)
        while batch.going:
            evaluations += batch.going
            batch.advance()
        print(
            f"batches: {starts} starts, {kind} ({d}, {n}): {float(batch.largest.min()):.6f}, published {best:.6f}, "
            f"{evaluations // starts} evaluations each, {time.perf_counter() - began:.2f} s"
        )


def orbits(bench: Bench) -> None:
    """Descend among the orbits of a cyclic group."""
    cases = ((8, 200, 20),) if bench.small else ((192, 20_000, 100), (192, 100_000, 100))
    for d, n, order in cases:
        began = time.perf_counter()
        asked = TurnedRequest(True, d, n, seed=0, order=order, steps=10 if bench.small else 3000)
        found = turned_descent(asked, Run(device=bench.device, time_limit=max(1.0, min(60.0, bench.left))), "coherence")
        print(
            f"orbits: ({d}, {n}), m = {order}: {found.largest:.5f}, {found.steps} evaluations, {found.status.value}, "
            f"{time.perf_counter() - began:.1f} s"
        )


def race(bench: Bench) -> None:
    """Run the paper's Algorithm 1, then ours to what it has reached."""
    sizes = ((100, 1000, 20.0), (256, 10_000, 20.0), (1000, 100_000, 40.0))
    for d, n, most in ((16, 100, 0.2),) if bench.small else sizes:
        rows, best, turns = random_rows(1, n, d, 0).to(bench.device), 1.0, 0
        bench.wait()
        began = time.perf_counter()
        for _, coherence in algorithm1(rows, 0.01, 1e-3, slice=512):
            best, turns = min(best, coherence), turns + 1
            if time.perf_counter() - began >= min(most, bench.left):
                break
        theirs = time.perf_counter() - began
        spec = resolve("ebv", d=d, n=n, alpha=best, start="random")
        began = time.perf_counter()
        limit = max(1.0, min(60.0, bench.left))
        solution = method_of(spec).solve(Task.of(spec, Run(device=bench.device, time_limit=limit)))
        bench.wait()
        ours = time.perf_counter() - began
        print(
            f"algorithm1: ({d}, {n}) {best:.6f} in {theirs:.1f} s, {turns} turns; ours {ours:.3f} s, "
            f"{solution.steps} steps, {solution.status.value}: {theirs / ours:.0f} times"
        )


PARTS: dict[str, Callable[[Bench], None]] = {
    "generators": generators,
    "statistics": statistics,
    "heads": heads,
    "losses": losses,
    "structured": structured,
    "batches": batches,
    "orbits": orbits,
    "algorithm1": race,
}


def main(words: list[str]) -> int:
    bench = Bench(small="--small" in words)
    where = torch.cuda.get_device_name() if bench.device == "cuda" else f"{torch.get_num_threads()} threads of a CPU"
    print(f"torch {torch.__version__}, {where}", flush=True)
    generate("simplex", Run(device=bench.device), n=4)  # the first work on a device takes longer
    failed = 0
    for name in [word for word in words if word != "--small"] or PARTS:
        if bench.left <= 0:
            print(f"{name}: no time left")
            failed = 1
            continue
        began = time.perf_counter()
        try:
            PARTS[name](bench)
        except Exception:
            traceback.print_exc(file=sys.stdout)
            print(f"{name}: failed")
            failed = 1
        print(f"{name}: {time.perf_counter() - began:.1f} s in all", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
