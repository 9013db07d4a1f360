"""The phases of a search: how sharp and how long their stages are, and which share of the effort each may take."""

from dataclasses import dataclass

from .batch import GAIN
from .effort import BUDGETS, evaluation_cost


@dataclass(frozen=True)
class Phase:
    """The sharpness of the stages of a phase, the most steps in a stage, and its share of the effort."""

    stages: tuple[float, ...]
    steps: int
    share: float


@dataclass(frozen=True)
class Plan:
    """How a search goes: the multiplications that it may take, its phases by name.

    `symmetric` is the share of a search among symmetric sets, `gain` what a set has to gain to go on in a stage.
    """

    budget: float
    phases: dict[str, Phase]
    symmetric: float
    gain: float


SYMMETRIC_SHARE = 0.4
# Random starts come lower for as many evaluations where they begin at sharpness 5 and 10. The best quarter of 256 sets
# of points (13, 59) ends in one valley, in place of the best eighth; the median of 192 of points (17, 94) is .1974, in
# place of .1977, by smooth maxima at 540. Starts from closed forms come higher: of 128 points less two, .226, not .215.
PHASES = {
    "given": Phase((180.0, 540.0, 1620.0), 300, 0.06),
    "freed": Phase((60.0, 180.0, 540.0, 1620.0), 300, 0.08),
    "soft": Phase((5.0, 10.0), 300, 0.05),
    "blunt": Phase((20.0, 60.0, 180.0), 600, 0.25),
    "sharp": Phase((540.0, 1620.0), 600, 0.15),
    "hops": Phase((180.0,), 300, 1.0),
    "landed": Phase((540.0, 1620.0), 300, 1.0),
    "last": Phase((4860.0, 14580.0, 43740.0, 131220.0), 600, 0.3),
}
# Of MANY vectors one descent to the end takes DESCENT evaluations, which may be more than an effort holds: they are
# added to it, up to ADDED times as much. The evaluations are in float32 there, which takes half the time.
MANY, DESCENT, ADDED = 600, 2200, 2
MANY_SYMMETRIC, MANY_GAIN = 0.2, 1e-4
MANY_PHASES = {
    **PHASES,
    "freed": Phase((60.0, 180.0, 540.0, 1620.0), 300, 0.04),
    "soft": Phase((10.0,), 200, 0.02),
    "blunt": Phase((20.0, 60.0), 430, 0.18),
    "sharp": Phase((180.0, 540.0, 1620.0), 300, 0.25),
    "last": Phase((4860.0, 14580.0, 43740.0, 131220.0), 90, 0.18),
}


def planned(d: int, n: int, effort: str) -> Plan:
    """Plan a search for n vectors in R^d for an effort."""
    budget = BUDGETS[effort]
    if n <= MANY:
        return Plan(budget, PHASES, SYMMETRIC_SHARE, GAIN)
    return Plan(budget + min(DESCENT * evaluation_cost(d, n), ADDED * budget), MANY_PHASES, MANY_SYMMETRIC, MANY_GAIN)
