"""Whether a set is what its file says: recorded against measured, measured against guaranteed."""

from protogen.bounds import TOLERANCE
from protogen.measuring.stats import AngleStats

from .facts import Facts

# How far a figure may lie from the recorded one: another device adds up in another order.
TOLERANCES = {
    "min_angle_points_deg": 1e-2,
    "min_angle_lines_deg": 1e-2,
    "mean_deviation_deg": 1e-3,
    "mean_cos": 1e-6,
    "std_cos": 1e-6,
    "mean_nearest_cos_points": 1e-6,
    "mean_nearest_cos_lines": 1e-6,
    "uniformity_t2": 1e-5,
}


_EXTREME_TOLERANCE = 1e-7


# What a closed form promises, by its name among the facts: in words, and the figure that is held to it.
_GUARANTEES = {
    "guaranteed_coherence": ("coherence", "coherence"),
    "guaranteed_max_cos": ("largest cosine", "max_cos"),
}


def differences(recorded: AngleStats | None, measured: AngleStats, facts: Facts) -> list[str]:
    """Say in what a set is not what its file says: recorded against measured, measured against guaranteed."""
    found = []
    if recorded is not None:
        if recorded.pairs != measured.pairs:
            found.append(f"pairs recorded {recorded.pairs}, measured {measured.pairs}")
        for name in ("coherence", "max_cos", "min_cos"):
            was, now = getattr(recorded, name).value, getattr(measured, name).value
            if abs(was - now) > _EXTREME_TOLERANCE + measured.error_bound:
                found.append(f"{name} recorded {was:.9f}, measured {now:.9f}")
        for name, tolerance in TOLERANCES.items():
            was, now = getattr(recorded, name), getattr(measured, name)
            if abs(was - now) > tolerance:
                found.append(f"{name} recorded {was:.9g}, measured {now:.9g}")
    for fact, (words, figure) in _GUARANTEES.items():
        now = getattr(measured, figure).value
        guaranteed = getattr(facts, fact)
        if guaranteed is not None and now > guaranteed + TOLERANCE:
            found.append(f"{words} guaranteed {guaranteed:.9f}, measured {now:.9f}")
    return found
