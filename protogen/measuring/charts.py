"""The histogram of a set's angles in columns, with the lower bounds marked."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from protogen.bounds import Bound as Cosine

from .stats import BINS, AngleStats


@dataclass(frozen=True)
class Bound:
    """A lower bound on the cosines as angles: no set has its smallest angle above `angle_deg`.

    Lines have with every angle its complement to 180 degrees too.
    """

    text: str
    marks_deg: tuple[float, ...]


@dataclass(frozen=True)
class Chart:
    """A histogram in columns of `width` bins, from bin `start` on."""

    title: str
    start: int
    width: int
    counts: tuple[int, ...]
    bounds: tuple[Bound, ...]

    def edge_deg(self, column: int) -> float:
        """The angle at which a column begins."""
        return (self.start + column * self.width) * 180 / BINS

    def column(self, angle_deg: float) -> int:
        """The column that an angle lies in."""
        return (_bin(angle_deg) - self.start) // self.width


def of_lines(best: Cosine) -> Bound:
    """The best lower bound on |cos| as angles."""
    angle_deg = _angle(best)
    return Bound(_text("lines", angle_deg, best), (angle_deg, 180 - angle_deg))


def of_points(best: Cosine) -> Bound:
    """The best lower bound on cos as an angle."""
    angle_deg = _angle(best)
    return Bound(_text("points", angle_deg, best), (angle_deg,))


def charts(stats: AngleStats, within: AngleStats | None, bounds: Sequence[Bound], columns: int) -> list[Chart]:
    """Coarsen histograms to at most so many columns each, which show the angles that occur and those of the bounds.

    There is one of all pairs, or one of different classes and one `within` a class, which has no bounds.
    """
    title = "pairs" if within is None else "pairs of different classes"
    found = [_chart(title, stats.histogram, bounds, columns)]
    if within is not None:
        found.append(_chart("pairs within a class", within.histogram, (), columns))
    return found


def _angle(best: Cosine) -> float:
    return math.degrees(math.acos(best.value))


def _text(kind: str, angle_deg: float, best: Cosine) -> str:
    return f"smallest angle of {kind} at most {angle_deg:.4f} deg ({best.name})"


def _bin(angle_deg: float) -> int:
    return min(int(angle_deg * BINS / 180), BINS - 1)


def _chart(title: str, histogram: Sequence[int], bounds: Sequence[Bound], columns: int) -> Chart:
    marks = [_bin(mark) for bound in bounds for mark in bound.marks_deg]
    shown = [*marks, *(index for index, count in enumerate(histogram) if count)]
    low, high, width = min(shown), max(shown), 1
    while high // width - low // width >= columns:
        width += 1
    start = low // width * width
    counts = tuple(sum(histogram[first : first + width]) for first in range(start, high + 1, width))
    return Chart(title, start, width, counts, tuple(bounds))
