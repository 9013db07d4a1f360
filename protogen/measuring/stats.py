"""The record of what was measured on a set: its angle statistics."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from protogen.spec import is_number

BINS = 1800  # of the histogram, 0.1 degrees each


@dataclass(frozen=True)
class Extreme:
    """A cosine in float64 and the pair i < j that attains it."""

    value: float
    i: int
    j: int


@dataclass(frozen=True)
class AngleStats:
    """What was measured over all n(n-1)/2 pairs, or over those of one kind; angles in degrees.

    `coherence` is EBV Eq. 3. `mean_deviation_deg` is the average of |angle - 90| (EBV Table 2,
    "Ave. Del. Ang."; the formula printed there has its normalisation upside down). `histogram`
    counts angles in 1,800 bins of 0.1 degrees. `uniformity_t2` is log mean over i != j of
    exp(-2 |u - v|^2). `duplicate_pairs` and `antipodal_pairs` have a cosine within 1e-6 of 1
    and of -1. A pair outside the float64 candidates may exceed an extreme by `error_bound` at most.
    Where each class has several rows, pairs are those of different classes (i and j count rows) or those
    within a class, and the frame potential, a sum over all pairs, is None.
    """

    pairs: int
    max_cos: Extreme
    min_cos: Extreme
    coherence: Extreme
    min_angle_points_deg: float
    min_angle_lines_deg: float
    mean_deviation_deg: float
    mean_cos: float
    std_cos: float
    mean_nearest_cos_points: float
    mean_nearest_cos_lines: float
    frame_potential: float | None
    frame_potential_min: float | None
    uniformity_t2: float
    duplicate_pairs: int
    antipodal_pairs: int
    error_bound: float
    histogram: tuple[int, ...]

    def to_dict(self) -> dict[str, Any]:
        """The statistics as plain JSON values."""
        return {**asdict(self), "histogram": list(self.histogram)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "AngleStats":
        """Read what `to_dict` wrote. Raises KeyError or TypeError where it is something else."""
        extremes = {name: Extreme(**values[name]) for name in ("max_cos", "min_cos", "coherence")}
        rest = {f.name: values[f.name] for f in fields(cls) if f.name not in extremes}
        found = cls(**{**rest, **extremes, "histogram": tuple(values["histogram"])})
        figures = [rest[name] for name in rest.keys() - {"histogram", "frame_potential", "frame_potential_min"}]
        figures += [figure for each in extremes.values() for figure in (each.value, each.i, each.j)]
        if (found.frame_potential, found.frame_potential_min) != (None, None):
            figures += [found.frame_potential, found.frame_potential_min]
        counts = found.histogram
        if not all(map(is_number, figures)) or len(counts) != BINS or set(map(type, counts)) != {int}:
            raise TypeError("a value of another kind")
        return found
