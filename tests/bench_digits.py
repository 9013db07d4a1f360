"""Each head against a learned classifier on scikit-learn's digits, 5 seeds: `python tests/bench_digits.py`.

One network, 64 - 128 - 16, Adam, the same batches for a seed whatever the head; half of the images train, half
test. Differences are paired by seed, with their 95% interval (Student's t).
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from scipy.stats import t as student
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

from protogen.access import ensure_path
from protogen.methods import resolve
from protogen.nn import (
    AssignmentHead,
    EBVLoss,
    FrozenPrototypes,
    MarginHead,
    MultiCenterClassifier,
    SubcenterHead,
)

SEEDS, EPOCHS, BATCH, D, N = 5, 60, 64, 16, 10

Loss = Callable[[Tensor, Tensor], Tensor]
Head = tuple[nn.Module, Loss, Callable[[Tensor], Tensor]]  # with its loss, and its logits for a prediction


def learned(_: Path) -> Head:
    head = nn.Linear(D, N)
    return head, lambda z, y: F.cross_entropy(head(z), y), head


def ebv(store: Path) -> Head:
    loss = EBVLoss(FrozenPrototypes(ensure_path(resolve("ebv", d=D, n=N), store=store)))
    return loss, loss, loss.head


def polytope(kind: str, margin: float | str) -> Callable[[Path], Head]:
    def make(store: Path) -> Head:
        head = MarginHead(ensure_path(resolve(kind, d=D, n=N), store=store), margin)
        return head, lambda z, y: F.cross_entropy(head(z, y), y), head

    return make


def assignment(store: Path) -> Head:
    head = AssignmentHead(FrozenPrototypes(ensure_path(resolve("uniform", d=D, n=N), store=store)), every=15)

    def loss(z: Tensor, y: Tensor) -> Tensor:
        head.update(z.detach(), y)
        return head.loss(z, y)

    return head, loss, head


def subcenters(store: Path) -> Head:
    head = SubcenterHead(ensure_path(resolve("subcenters", d=D, n=N), store=store))
    return head, head.loss, head


def multicenter(_: Path) -> Head:
    head = MultiCenterClassifier(D, N)
    return head, head.loss, head


HEADS: dict[str, Callable[[Path], Head]] = {
    "learned": learned,
    "EBV": ebv,
    "simplex": polytope("simplex", 0),
    "simplex, margin max": polytope("simplex", "max"),
    "orthoplex, margin max": polytope("orthoplex", "max"),
    "cube, margin max": polytope("cube", "max"),
    "dynamic assignment": assignment,
    "fixed sub-centres": subcenters,
    "multi-centre": multicenter,
}


def accuracy(make: Callable[[Path], Head], seed: int, store: Path) -> tuple[float, float]:
    """Train a network with a head; return its accuracy on the test half and the seconds that training took."""
    x, y = (torch.as_tensor(part) for part in load_digits(return_X_y=True))
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    x, y = x[order].float() / 16, y[order].long()
    half = len(x) // 2
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, D))
    head, loss, logits = make(store)
    optimizer = torch.optim.Adam([*network.parameters(), *head.parameters()], lr=3e-3)
    batches = torch.Generator().manual_seed(seed)
    began = time.perf_counter()
    for _ in range(EPOCHS):
        for index in torch.randperm(half, generator=batches).split(BATCH):
            optimizer.zero_grad()
            loss(network(x[index]), y[index]).backward()
            optimizer.step()
    seconds = time.perf_counter() - began
    head.eval()
    with torch.no_grad():
        right = logits(network(x[half:])).argmax(1) == y[half:]
    return 100 * right.float().mean().item(), seconds


if __name__ == "__main__":
    print(f"{'head':<24}{'accuracy':>10}{'deviation':>11}{'to learned':>12}{'95%':>8}{'seconds':>9}")
    reference: list[float] = []
    with tempfile.TemporaryDirectory() as store:
        for name, make in HEADS.items():
            runs = [accuracy(make, seed, Path(store)) for seed in range(SEEDS)]
            found = [run[0] for run in runs]
            reference = reference or found
            apart = [one - other for one, other in zip(found, reference, strict=True)]
            interval = student.ppf(0.975, SEEDS - 1) * statistics.stdev(apart) / SEEDS**0.5
            print(
                f"{name:<24}{statistics.mean(found):>10.2f}{statistics.stdev(found):>11.2f}"
                f"{statistics.mean(apart):>+12.2f}{interval:>8.2f}{sum(run[1] for run in runs) / SEEDS:>9.1f}",
                flush=True,
            )
