"""Draw the README's picture: coherence of n lines in 256 dimensions, by formula, at random, and what none can beat.

python tests/benchmarks/draw_coherence.py .github/coherence.svg
"""

import sys

import matplotlib
import torch

from protogen.bounds import coherence_bound
from protogen.catalog.choice import seek
from protogen.measuring.measure import measure
from protogen.rows import InMemory

matplotlib.use("svg")
matplotlib.rcParams["svg.hashsalt"] = "protogen"  # the same bytes at every run

D, FIRST, LAST = 256, 260, 1_000_000
RANDOM = 20_000  # so many random rows are measured at most


def sizes(last: int) -> list[int]:
    """Numbers of lines, evenly spread in their logarithm."""
    steps = 60
    return sorted({round(FIRST * (last / FIRST) ** (step / steps)) for step in range(steps + 1)})


def of_random_rows(n: int) -> float:
    """The coherence of random rows, measured over all pairs."""
    drawn = torch.randn(n, D, generator=torch.Generator().manual_seed(0))
    return measure(InMemory(torch.nn.functional.normalize(drawn))).coherence.value


def main() -> None:
    """Draw the picture into the file that is named."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7.2, 3.2), layout="constrained")
    few = sizes(RANDOM)[::4]
    axes.plot(few, [of_random_rows(n) for n in few], color="#999999", label="random rows")
    every = sizes(LAST)
    axes.plot(
        every, [form.cosine for n in every if (form := seek(D, n))], color="#0b6e99", label="protogen, by formula"
    )
    axes.plot(every, [coherence_bound(D, n).value for n in every], "--", color="#d1495b", label="no set can be below")
    axes.set(xscale="log", xlabel="n, classes", ylabel="coherence", ylim=(0, 0.4), title=f"n lines in {D} dimensions")
    axes.legend(frameon=False, loc="center right")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(sys.argv[1], metadata={"Date": None})


if __name__ == "__main__":
    main()
