"""Matrices of scatter plots: the features of some heads, coordinate against coordinate."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from protogen.errors import BadRequest
from protogen.measuring.picture import DPI

from .plot import check_png, write_figure

if TYPE_CHECKING:
    from matplotlib.figure import SubFigure
    from torch import Tensor

MOST_COORDINATES, MOST_POINTS = 12, 5000
INCHES = 6  # the edge of one matrix


def save_scatter(found: "Mapping[str, tuple[Tensor, Tensor]]", path: Path) -> None:
    """Draw features (m, d) of some heads with labels (m,), a colour for each class, as a PNG.

    A head is a column: above its features as they are, below of length one. With d = 2 each is one plot, else a matrix
    of the plots of each two coordinates. Of more than MOST_POINTS features the first are drawn.
    Raises BadRequest where d is above MOST_COORDINATES or matplotlib is not there, and DiskError.
    Source: Maximally Compact and Separated Features with Regular Polytope Networks, Figures 2, 4 and 5; of length one:
    Figure 6.
    """
    from torch.nn.functional import normalize

    make = check_png(path)
    sizes = {features.shape[1] for features, _ in found.values()}
    if not sizes or max(sizes) > MOST_COORDINATES:
        raise BadRequest(f"d is {max(sizes, default=0)}; allowed for scatter plots is 2 to {MOST_COORDINATES}")
    figure = make(figsize=(INCHES * len(found), 2 * INCHES), dpi=DPI)
    parts = figure.subfigures(2, len(found), squeeze=False)
    for (above, below), (name, (features, labels)) in zip(parts.T, found.items(), strict=True):
        kept, classes = features[:MOST_POINTS].float(), labels[:MOST_POINTS]
        _draw_matrix(above, name, kept, classes)
        _draw_matrix(below, f"{name}, of length one", normalize(kept, dim=1), classes)
    write_figure(figure, path)


def _draw_matrix(part: "SubFigure", title: str, features: "Tensor", labels: "Tensor") -> None:
    """Plot features (m, d) on each two coordinates: the one with the column's number across, with the line's up."""
    part.suptitle(title)
    columns, colors = features.T.tolist(), labels.tolist()
    d = len(columns)
    pairs = [[(0, 1)]] if d == 2 else [[(x, y) for x in range(d)] for y in range(d)]
    grid = part.subplots(
        len(pairs), len(pairs), sharex=True, sharey=True, squeeze=False, gridspec_kw={"wspace": 0.1, "hspace": 0.1}
    )
    for axes, (x, y) in zip(grid.flat, (pair for line in pairs for pair in line), strict=True):
        axes.scatter(columns[x], columns[y], c=colors, cmap="tab10", s=2, linewidths=0)
        axes.set(aspect="equal", xticks=[], yticks=[])
