"""The record of what was measured on a set: its angle statistics."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

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

    `coherence` is EBV Eq. 3. `mean_deviation_deg` is the average of |angle - 90| (EBV Section
    4.1.3 and Table 2, "Ave. Del. Ang."; the formula printed there has its normalisation upside down). `histogram`
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

    def faults(self) -> Iterator[str]:
        """Say what cannot be true of any set: each pair is counted, once."""
        if self.pairs < 1 or len(self.histogram) != BINS or min(self.histogram) < 0:
            yield f"pairs is {self.pairs}, histogram has {len(self.histogram)} bins; needed are pairs in {BINS} bins"
        elif sum(self.histogram) != self.pairs:
            yield f"pairs is {self.pairs}, the histogram counts {sum(self.histogram)}"
        if (self.frame_potential is None) != (self.frame_potential_min is None):
            yield "frame_potential and frame_potential_min stand together"
