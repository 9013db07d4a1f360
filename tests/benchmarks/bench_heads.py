"""Training steps of the heads against learned ones, by hand.

python tests/benchmarks/bench_heads.py [step [CHECKOUT]|losses|multicenter]

step: 100,000 classes, d = 1000, batch 256: a backbone's last layer and Adam, with `CosineHead.loss`, with frozen
prototypes under the plain product, with a learned nn.Linear, with `AssignmentHead`, whose loss takes one prototype a
sample, and with the ChunkedCosineLoss of another checkout of protogen where one is named. Each has a process of its
own, which tells its peak memory; steps are taken in turns, and the best of each counts.
losses: forward and backward of the same loss by each way that torch has, in turns in one process.
multicenter: 1,000 classes, K = 2, d = 2048, batch 1024 and 256, against nn.Linear with 3,000 classes, in turns.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, linear, normalize

from protogen.nn import AssignmentHead, CosineHead, FrozenPrototypes, MultiCenterClassifier, chunked_cross_entropy

N, D, BATCH, TURNS = 100_000, 1000, 256, 5
KINDS = ("learned", "plain", "head", "assignment")


class Linear(nn.Linear):
    """A learned classifier and its loss."""

    def loss(self, features: Tensor, labels: Tensor) -> Tensor:
        return cross_entropy(self(features), labels)


class Plain(nn.Module):
    """A cosine softmax on frozen prototypes, by the plain product."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("prototypes", unit_rows())

    def loss(self, features: Tensor, labels: Tensor) -> Tensor:
        return cross_entropy(linear(normalize(features, dim=1) / 0.07, self.prototypes), labels)


class Other(nn.Module):
    """The loss by chunks of a checkout before heads had one."""

    def __init__(self) -> None:
        super().__init__()
        from protogen.nn import ChunkedCosineLoss

        self.loss = ChunkedCosineLoss(FrozenPrototypes(unit_rows()))


def unit_rows() -> Tensor:
    rows = torch.randn(N, D)
    return rows.div_(torch.linalg.vector_norm(rows, dim=1, keepdim=True))


def head_of(kind: str) -> nn.Module:
    """Make the classifier of a kind, whose `loss` takes features and labels."""
    if kind == "head":
        return CosineHead(FrozenPrototypes(unit_rows()))
    if kind == "assignment":
        return AssignmentHead(FrozenPrototypes(unit_rows()))
    return Linear(D, N, bias=False) if kind == "learned" else Plain() if kind == "plain" else Other()


def resident() -> int:
    """The largest memory that this process has had, in KiB; resource.getrusage would count the parent's too."""
    return next(int(line.split()[1]) for line in Path("/proc/self/status").open() if line.startswith("VmHWM"))


def steps(kind: str) -> None:
    """Take a training step at each line of the input and print its seconds; at the end the peak memory in KiB."""
    torch.manual_seed(0)
    torch.randn(64, 64) @ torch.randn(64, 64)
    before = resident()
    head = head_of(kind)
    backbone = nn.Linear(64, D)
    optimizer = torch.optim.Adam([*backbone.parameters(), *head.parameters()])
    inputs, labels = torch.randn(BATCH, 64), torch.randint(N, (BATCH,))
    for _ in sys.stdin:
        began = time.perf_counter()
        optimizer.zero_grad()
        features = backbone(inputs)
        head.loss(features, labels).backward()
        optimizer.step()
        if isinstance(head, AssignmentHead):
            head.update(features.detach(), labels)
        print(time.perf_counter() - began, flush=True)
    print(resident() - before)


def step(checkout: str | None = None) -> None:
    kinds = KINDS if checkout is None else (*KINDS, "other")
    workers = {}
    for kind in kinds:
        where = os.environ if kind != "other" else {**os.environ, "PYTHONPATH": str(checkout)}
        command = [sys.executable, __file__, "steps", kind]
        workers[kind] = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=where)
    best, peak = dict.fromkeys(kinds, 9e9), {}
    for _ in range(TURNS + 1):  # the first, in which Adam makes its state, is never the best
        for kind, worker in workers.items():
            worker.stdin.write("\n")
            worker.stdin.flush()
            best[kind] = min(best[kind], float(worker.stdout.readline()))
    for kind, worker in workers.items():
        peak[kind] = int(worker.communicate()[0])
    print(f"a training step, n = {N}, d = {D}, batch {BATCH}:")
    for kind in kinds:
        print(
            f"  {kind:10} {best[kind]:.3f} s, {best[kind] / best['learned']:.0%}; "
            f"{peak[kind] / 1024:.0f} MiB, {peak[kind] / peak['learned']:.0%}"
        )


def race(title: str, ways: dict[str, Callable[[], object]]) -> None:
    """Print the best seconds of each way, run in turns, and its share of the first's."""
    best = dict.fromkeys(ways, 9e9)
    for way in ways.values():
        way()
    for _ in range(TURNS):
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            best[name] = min(best[name], time.perf_counter() - began)
    print(f"{title}:")
    for name, seconds in best.items():
        print(f"  {name:28} {seconds:.4f} s, {seconds / best[next(iter(best))]:.0%}")


def losses() -> None:
    features, labels = torch.randn(BATCH, D), torch.randint(N, (BATCH,))
    prototypes = normalize(torch.randn(N, D), dim=1)

    def run(loss: Callable[[Tensor], Tensor]) -> Callable[[], object]:
        return lambda: loss(features.clone().requires_grad_()).backward()

    ways = {"product and cross_entropy": run(lambda z: cross_entropy(linear(z, prototypes), labels))}
    for chunk in (None, 1024, 16384):
        ways[f"chunked, chunk {chunk}"] = run(
            lambda z, chunk=chunk: chunked_cross_entropy(z, prototypes, labels, chunk=chunk)
        )
    if hasattr(nn, "LinearCrossEntropyOptions"):  # torch 2.13
        fused = nn.functional.linear_cross_entropy
        ways["linear_cross_entropy"] = run(lambda z: fused(z, prototypes, labels))
        for size in (128, 64):
            options = nn.LinearCrossEntropyOptions(batch_chunk_size=size, chunking_method=None)
            ways[f"the same, {size} at a time"] = run(
                lambda z, options=options: fused(z, prototypes, labels, options=options)
            )
    race(f"forward and backward, n = {N}, d = {D}, batch {BATCH}", ways)


def multicenter() -> None:
    d, n, k = 2048, 1000, 2
    several, plain = MultiCenterClassifier(d=d, n=n, per_class=k), Linear(d, n * (k + 1), bias=False)
    for batch in (1024, 256):
        features, labels = torch.randn(batch, d), torch.randint(n, (batch,))

        def step(model: nn.Module, labels: Tensor, features: Tensor = features) -> Callable[[], object]:
            optimizer = torch.optim.Adam(model.parameters())

            def run() -> None:
                optimizer.zero_grad()
                model.loss(features.clone().requires_grad_(), labels).backward()
                optimizer.step()

            return run

        race(
            f"a training step, C = {n}, K = {k}, d = {d}, batch {batch}",
            {"linear, three times the classes": step(plain, labels * (k + 1)), "multi-centre": step(several, labels)},
        )


def main() -> None:
    if sys.argv[1:2] == ["steps"]:
        return steps(sys.argv[2])
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    for part in (step, losses, multicenter):
        if sys.argv[1:2] in ([], [part.__name__]):
            part(*sys.argv[2:])


if __name__ == "__main__":
    main()
