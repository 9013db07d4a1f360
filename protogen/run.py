"""How to compute, which never changes what is asked for."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch

    from .descent.checkpoint import Checkpoint


Stats = Literal["auto", "exact", "certificate"]


@dataclass(frozen=True)
class Progress:
    """One report from a running descent: the figure that it lowers, by name, now and at its best."""

    step: int
    steps: int
    figure: str
    value: float
    best: float
    target: float | None
    seconds: float


@dataclass(frozen=True)
class Run:
    """How to compute, which never changes what is asked for.

    `tile` is the edge of a Gram tile in rows (None: chosen for the device). `time_limit` is in
    seconds of this call, whatever calls before it took, and ends a descent, not the statistics. `report`
    is called after every step of a descent, `measuring` with the share of the statistics that is done,
    `say` with a line where there is something to tell. `files` are the artifacts that a Spec names by
    digest; whoever calls `solve` reads them into `inputs`. `folder` is where a descent keeps what lets it
    go on after a kill, by the `checkpoint` that `generate` makes of it; without one it keeps nothing.
    `stats` says whether all pairs are measured: `exact`; `certificate`: not where a formula guarantees a
    cosine; `auto`: up to EXACT_PAIRS pairs.
    """

    device: str = "cpu"
    tile: int | None = None
    time_limit: float | None = None
    report: Callable[[Progress], None] | None = None
    measuring: Callable[[float], None] | None = None
    stats: Stats = "auto"
    files: tuple[Path, ...] = ()
    folder: Path | None = None
    checkpoint: "Checkpoint | None" = None
    say: Callable[[str], None] | None = None
    inputs: Mapping[str, "torch.Tensor"] = field(default_factory=dict)


EXACT_PAIRS = 2 * 10**10
