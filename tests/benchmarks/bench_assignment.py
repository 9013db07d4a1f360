"""Label assignment, by hand: python tests/benchmarks/bench_assignment.py [classes ...]. One core.

Processor seconds of `assign` over all pairs and over each class's k nearest prototypes, and the part of the possible
gain over the start that the latter has. Scores are random, or like those of a network in training: a mean is the sum
of a tenth of a prototype that is its own (not its present one), a direction that ten classes share, and noise of one
half. `again` are the same means moved a little, from the assignment found. Memory is the process's peak so far.
"""

import resource
import sys
import time

import torch
from torch import Tensor
from torch.nn.functional import normalize

from protogen.nn import FrozenPrototypes
from protogen.nn.assigning import assign

D, CANDIDATES = 512, (4, 16, 64)


def rows(n: int) -> Tensor:
    return normalize(torch.randn(n, D), dim=1)


def trained(prototypes: Tensor) -> Tensor:
    n = len(prototypes)
    own, shared = prototypes[torch.randperm(n)], rows(-(-n // 10)).repeat(10, 1)[:n]
    return normalize(0.1 * own + shared + 0.5 * rows(n), dim=1)


def peak_gb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def compare(kind: str, means: Tensor, prototypes: FrozenPrototypes, start: Tensor) -> Tensor:
    def timed(candidates: int | None) -> tuple[float, Tensor, float]:
        began = time.process_time()
        found = assign(means, prototypes, start, candidates=candidates)
        return time.process_time() - began, found, value(found)

    def value(places: Tensor) -> float:
        return float((means * prototypes.prototypes[places]).sum(dtype=torch.float64))

    few = [(k, *timed(k)) for k in CANDIDATES]
    partial = peak_gb()
    seconds, best, most = timed(None)
    print(
        f"{len(means):6} {kind:14} all pairs {seconds:7.2f} s, {int((best != start).sum())} moved; "
        f"peak {partial:.2f} GB without and {peak_gb():.2f} GB with it"
    )
    for k, seconds, places, reached in few:
        share = (reached - value(start)) / (most - value(start))
        print(
            f"{'':21} {k:3} nearest {seconds:7.2f} s, {share:.4%} of the gain, {int((places == best).sum())} the same",
            flush=True,
        )
    return best


def main(sizes: list[int]) -> None:
    torch.set_num_threads(1)
    for n in sizes:
        torch.manual_seed(0)
        prototypes = FrozenPrototypes(rows(n))
        compare("random", rows(n), prototypes, torch.arange(n))
        means = trained(prototypes.prototypes)
        found = compare("trained-like", means, prototypes, torch.arange(n))
        compare("again", normalize(means + 0.1 * rows(n), dim=1), prototypes, found)


if __name__ == "__main__":
    main([int(word) for word in sys.argv[1:]] or [1000, 5000, 10000])
