"""The histogram of a set's angles with the bounds marked, in the terminal or as a picture; curves and accuracies."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from protogen.errors import BadRequest, DiskError
from protogen.measuring.charts import Chart, of_lines, of_points
from protogen.measuring.charts import charts as drawn_of
from protogen.measuring.picture import COLUMNS, DPI, figure_class, picture
from protogen.measuring.stats import BINS

from .record import Artifact

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HEIGHT = 8  # lines of a chart in the terminal
# How full a character is, then the marks of the bounds on lines and on points.
UNICODE, ASCII = (" ▁▂▃▄▅▆▇█", "▲△"), (" .-=#", "^*")


def charts(shown: Artifact, columns: int) -> list[Chart]:
    """Coarsen the histograms of an artifact's record to at most so many columns each.

    As `protogen.measuring.charts.charts`. Raises BadRequest where nothing was measured.
    """
    stats, bounds = shown.header.stats, shown.bounds
    if stats is None:
        raise BadRequest(
            f"{shown.path}: nothing was measured, so there is no histogram; `protogen stats FILE --json` makes one"
        )
    within = shown.header.facts.within_class
    marked = of_lines(bounds.lines.lower[0]), of_points(bounds.points.lower[0])
    return drawn_of(stats, within, marked, columns)


def terminal_lines(shown: Artifact, columns: int, encoding: str) -> list[str]:
    """Draw the charts in lines of at most so many characters, plain ones where the encoding has no others."""
    try:
        "".join(UNICODE).encode(encoding)
        shades, marks = UNICODE
    except UnicodeEncodeError:
        shades, marks = ASCII
    return [line for chart in charts(shown, columns) for line in _drawn(chart, shades, marks)]


def _drawn(chart: Chart, shades: str, marks: str) -> list[str]:
    full, steps = max(chart.counts), len(shades) - 1
    # What occurs at all is seen.
    levels = [math.ceil(count / full * HEIGHT * steps) for count in chart.counts]
    width_deg = chart.width * 180 / BINS
    lines = [f"{sum(chart.counts):,} {chart.title}, {width_deg:.1f} deg a column, at most {full:,} in one"]
    for line in reversed(range(HEIGHT)):
        lines.append("".join(shades[min(max(level - line * steps, 0), steps)] for level in levels).rstrip())
    for bound, mark in zip(chart.bounds, marks, strict=False):
        at = {chart.column(angle) for angle in bound.marks_deg}
        lines.append("".join(mark if index in at else " " for index in range(len(levels))).rstrip())
    left, right = f"{chart.edge_deg(0):.1f} deg", f"{chart.edge_deg(len(levels)):.1f} deg"
    lines.append(left + right.rjust(max(len(levels) - len(left), len(right) + 1)))
    return [*lines, *(f"{mark} {bound.text}" for bound, mark in zip(chart.bounds, marks, strict=False))]


def check_png(path: Path) -> "type[Figure]":
    """Load what draws a picture. Raises BadRequest and DiskError where matplotlib or the directory is not there."""
    if path.suffix.lower() != ".png":
        raise BadRequest(f"png is {str(path)!r}; allowed is a file name that ends in .png")
    if not path.parent.is_dir():
        raise DiskError(f"{path}: No such file or directory; name a place with room and permission")
    return figure_class()


def save_png(shown: Artifact, path: Path) -> None:
    """Write the charts as a picture, one below the other. Raises BadRequest and DiskError."""
    check_png(path)
    spec = shown.header.spec
    write_figure(picture(f"{spec.method}  d {spec.d}  n {spec.n}", charts(shown, COLUMNS)), path)


def save_capacity(cells: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw how many lines were found against alpha, a curve for each d, with the upper bounds. Raises as `save_png`.

    Figure 1 of the supplement to Shen, Sun and Wei 2023.
    """
    figure = check_png(path)(figsize=(9, 6), dpi=DPI, layout="constrained")
    axes = figure.subplots()
    for index, d in enumerate(sorted({cell["d"] for cell in cells})):
        here = [cell for cell in cells if cell["d"] == d]
        found = [(cell["alpha"], cell["n"]) for cell in here]
        most = [(cell["alpha"], cell["limit"]["n"]) for cell in here if cell["limit"]]
        axes.plot(*zip(*found, strict=True), f"C{index}.-", label=f"d {d}, found")
        if most:
            axes.plot(*zip(*most, strict=True), f"C{index}_--", label=f"d {d}, upper bound")
    capped = [(cell["alpha"], cell["n"]) for cell in cells if cell["n"] == cell["max_n"]]
    if capped:
        axes.plot(*zip(*capped, strict=True), "k^", fillstyle="none", label="as many as max-n allows")
    axes.set(xlabel="alpha", ylabel="lines of coherence at most alpha", yscale="log")
    axes.legend()
    write_figure(figure, path)


def save_demo(found: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw the accuracy of each head with its deviation, a colour for each d. Raises as `save_png`."""
    figure = check_png(path)(figsize=(9, 6), dpi=DPI, layout="constrained")
    axes = figure.subplots()
    for index, d in enumerate(dict.fromkeys(one["d"] for one in found)):
        here = [one for one in found if one["d"] == d]
        bars = [one["deviation"] or 0.0 for one in here]
        axes.errorbar(
            [one["accuracy"] for one in here],
            [one["head"] for one in here],
            xerr=bars,
            fmt=f"C{index}o",
            label=f"d {d}",
        )
    axes.invert_yaxis()
    axes.set(xlabel="accuracy on the test set in percent, mean and deviation over seeds")
    axes.grid(axis="x")
    axes.legend()
    write_figure(figure, path)


def write_figure(figure: "Figure", path: Path) -> None:
    """Write a picture. Raises DiskError."""
    try:
        figure.savefig(path, format="png")
    except OSError as error:
        raise DiskError(f"{path}: {error.strerror or error}; name a place with room and permission") from error
