"""Whether a file is what it says: digests, recorded against measured, measured against guaranteed."""

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from protogen.bounds import TOLERANCE
from protogen.checks import check_flag, check_path, check_tile
from protogen.measuring.stats import AngleStats

from .facts import Facts
from .header import check_file

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

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
EXTREME_TOLERANCE = 1e-7  # of a cosine in float64
# What a closed form promises, by its name among the facts: in words, and the figure that is held to it.
GUARANTEES = {
    "guaranteed_coherence": ("coherence", "coherence"),
    "guaranteed_max_cos": ("largest cosine", "max_cos"),
}


@dataclass(frozen=True)
class Verified:
    """What was found of a file whose digests are right: `digest` of its content, statistics, and what differs.

    `stats` are of today's measurement. They are None, and `differences` is empty, where nothing was measured.
    """

    digest: str
    stats: AngleStats | None
    differences: tuple[str, ...]


def verify(
    path: str | os.PathLike[str],
    *,
    full: bool = False,
    device: str = "cpu",
    tile: int | None = None,
    report: Callable[[float], None] | None = None,
    group: "ProcessGroup | None" = None,
) -> Verified:
    """Check the digest of each block of an artifact; with `full` measure its rows and compare with what it says.

    `device`, `tile` and `group` are those of the measurement; `report` is called with the share of it that is done.
    Raises NotFound, DiskError and IntegrityError as `read`, also SchemaError and Damaged, and BadRequest where the
    device is unknown or the memory too small.

    >>> import protogen
    >>> path = protogen.ensure("simplex", n=4).path
    >>> protogen.verify(path, full=True).differences
    ()
    """
    check_path("path", path)
    check_flag("full", full)
    check_tile(tile)
    if not full:
        return Verified(check_file(path).digest, None, ())
    from protogen.measuring.geometry import pick_device
    from protogen.measuring.measure import measure
    from protogen.measuring.memory import check_memory, tile_bytes

    from .reading import read

    kept, where = read(path), pick_device(device)
    rows = math.prod(kept.source.shape[:-1])
    check_memory(f"n={rows} with this --tile", tile_bytes(rows, where, tile), where)
    measured = measure(kept.source, device, tile, report, group=group)
    found = differences(kept.stats, measured, kept.facts)
    if kept.facts.within_class is not None:
        within = measure(kept.source, device, tile, report, within=True, group=group)
        found += [f"within a class {what}" for what in differences(kept.facts.within_class, within, Facts())]
    return Verified(str(kept.digest), measured, tuple(found))


def differences(recorded: AngleStats | None, measured: AngleStats, facts: Facts) -> list[str]:
    """Say in what a set is not what its file says: recorded against measured, measured against guaranteed."""
    found = []
    if recorded is not None:
        if recorded.pairs != measured.pairs:
            found.append(f"pairs recorded {recorded.pairs}, measured {measured.pairs}")
        for name in ("coherence", "max_cos", "min_cos"):
            was, now = getattr(recorded, name).value, getattr(measured, name).value
            if abs(was - now) > EXTREME_TOLERANCE + measured.error_bound:
                found.append(f"{name} recorded {was:.9f}, measured {now:.9f}")
        for name, tolerance in TOLERANCES.items():
            was, now = getattr(recorded, name), getattr(measured, name)
            if abs(was - now) > tolerance:
                found.append(f"{name} recorded {was:.9g}, measured {now:.9g}")
    for fact, (words, figure) in GUARANTEES.items():
        guaranteed, now = getattr(facts, fact), getattr(measured, figure).value
        if guaranteed is not None and now > guaranteed + TOLERANCE:
            found.append(f"{words} guaranteed {guaranteed:.9f}, measured {now:.9f}")
    return found
