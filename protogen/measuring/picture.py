"""Charts of angles as a picture, for a file or a notebook; matplotlib, an extra, is loaded when one is asked for."""

from collections.abc import Sequence
from io import BytesIO
from typing import TYPE_CHECKING

from protogen.errors import BadRequest

from .charts import Chart

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS, DPI = 450, 120


def figure_class() -> "type[Figure]":
    """Load what draws a picture: a Figure that a notebook shows, also without pyplot.

    Raises BadRequest without matplotlib.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise BadRequest("a picture needs matplotlib; run `pip install 'protogen-codes[plot]'`") from error

    class Picture(Figure):
        def _repr_png_(self) -> bytes:
            content = BytesIO()
            self.savefig(content, format="png")
            return content.getvalue()

    return Picture


def picture(title: str, drawn: Sequence[Chart]) -> "Figure":
    """Draw charts one below the other, the bounds as dashed lines. Raises BadRequest without matplotlib."""
    figure = figure_class()(figsize=(9, 4 * len(drawn)), dpi=DPI, layout="constrained")
    figure.suptitle(title)
    for axes, chart in zip(figure.subplots(len(drawn), squeeze=False).flat, drawn, strict=True):
        edges = [chart.edge_deg(column) for column in range(len(chart.counts) + 1)]
        axes.stairs(chart.counts, edges, fill=True)
        for bound, color in zip(chart.bounds, ("C1", "C3"), strict=False):
            for index, mark in enumerate(bound.marks_deg):
                axes.axvline(mark, color=color, linestyle="--", label=bound.text if index == 0 else None)
        axes.set(xlabel="angle in degrees", ylabel=chart.title)
        if chart.bounds:
            axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1))
    return figure
