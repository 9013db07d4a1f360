"""Draw where the catalogue of lines is far from the bound: python tests/benchmarks/bench_map.py [PICTURE.png].

Regions lie on a grid of log2 d and log2 n/d. Of each region SIZES sizes (d, n) are drawn, and the median is taken of
the ratio of the best closed form to the lower bound. The medians are printed as a table, the worst regions by name, and
both drawn where a picture is asked for, with the extra `plot`.
"""

import math
import random
import statistics
import sys
from collections.abc import Iterator

from protogen.bounds import coherence_bound
from protogen.catalog import LINES, choose, label

SIZES = 20
DIMENSIONS = range(3, 12)  # log2 of the least d of a region
HALVES = range(14)  # log2 n/d of a region is from half of this to half of one more
WORST = 10


def drawn_sizes(row: int, column: int) -> Iterator[tuple[int, int]]:
    """Yield sizes of a region, the same at each call."""
    drawn = random.Random(f"{row} {column}")
    for _ in range(SIZES):
        d = round(2 ** drawn.uniform(row, row + 1))
        yield d, max(d + 1, round(d * 2 ** (drawn.uniform(column, column + 1) / 2)))


def ratio(d: int, n: int) -> float:
    """What the best closed form has over the lower bound; of no form, what coherence 1 has."""
    form = choose(LINES, d, n)
    return (form.cosine if form else 1.0) / coherence_bound(d, n).value


def draw(medians: list[list[float]], path: str) -> None:
    """Draw the table of medians, rows of one dimension each, as a picture."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 6), layout="constrained")
    axes = figure.add_subplot()
    extent = (0, len(HALVES) / 2, DIMENSIONS.start, DIMENSIONS.stop)
    image = axes.imshow(medians, origin="lower", aspect="auto", extent=extent, vmin=1, vmax=1.5, cmap="viridis_r")
    axes.set(xlabel="log2 n/d", ylabel="log2 d", title="best closed form of lines, over the lower bound")
    for row, own in zip(DIMENSIONS, medians, strict=True):
        for column, median in zip(HALVES, own, strict=True):
            axes.text(column / 2 + 0.25, row + 0.5, f"{median:.2f}", ha="center", va="center", fontsize=8)
    figure.colorbar(image, label="median ratio")
    figure.savefig(path, dpi=120)


def main(path: str | None = None) -> None:
    medians = [
        [statistics.median(ratio(*size) for size in drawn_sizes(row, column)) for column in HALVES]
        for row in DIMENSIONS
    ]
    print("log2 n/d from".rjust(16), *(f"{column / 2:5.1f}" for column in HALVES))
    for row, own in zip(DIMENSIONS, medians, strict=True):
        print(f"{2**row:>5} <= d < {2 ** (row + 1):<4}", *(f"{median:5.2f}" for median in own))
    regions = [(medians[row - DIMENSIONS.start][column], row, column) for row in DIMENSIONS for column in HALVES]
    print(f"the worst {WORST} regions, and in each the size farthest from the bound:")
    for median, row, column in sorted(regions, reverse=True)[:WORST]:
        d, n = max(drawn_sizes(row, column), key=lambda size: ratio(*size))
        form = choose(LINES, d, n)
        low, high = math.pow(2, column / 2), math.pow(2, (column + 1) / 2)
        print(
            f"  {2**row} <= d < {2 ** (row + 1)}, {low:.2f} to {high:.2f} times as many: median {median:.3f}; "
            f"({d}, {n}) {ratio(d, n):.3f}, {label(form) if form else 'no closed form'}"
        )
    if path is not None:
        draw(medians, path)


if __name__ == "__main__":
    main(*sys.argv[1:])
