"""What a method is given beside its parameters, and what it gives back."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from .provenance import Reproducible

if TYPE_CHECKING:
    import torch

    from .checkpoint import Checkpoint

FILL = 2**22  # numbers that are built at a time
HELD = 2**30  # bytes of rows that a formula gives and that are held in memory all the same

Stats = Literal["auto", "exact", "certificate"]


class Status(StrEnum):
    """How a solution ended; the value is the sentence the user reads."""

    FORMULA = "built by formula"
    REACHED = "target reached"
    CONVERGED = "no further improvement"
    STEP_LIMIT = "step limit"
    TIME_LIMIT = "time limit"
    INTERRUPTED = "interrupted"
    OUT_OF_MEMORY = "out of memory"
    DRAWN = "drawn at random"


ENDED_EARLY = (Status.TIME_LIMIT, Status.INTERRUPTED, Status.OUT_OF_MEMORY)


class Rows(Protocol):
    """A source of rows: float32 vectors (n, d), or (n, s, d), given out block by block."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def rows(self, start: int, stop: int) -> "torch.Tensor":
        """Return rows start to stop - 1, (stop - start, ..., d) float32, contiguous, on the CPU."""
        ...


def pieces(shape: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    """Cut the first dimension so that a piece has at most FILL numbers, or one row."""
    step = max(1, FILL // max(1, math.prod(shape[1:])))
    for start in range(0, shape[0], step):
        yield start, min(start + step, shape[0])


def has_classes(source: Rows) -> bool:
    """Whether each class has several rows, hence pairs of its own."""
    return len(source.shape) == 3 and source.shape[1] > 1


@dataclass(frozen=True)
class InMemory:
    """Rows that lie in one tensor."""

    tensor: "torch.Tensor"

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.tensor.shape)

    @classmethod
    def of(cls, source: Rows) -> "InMemory":
        """Build all rows of a source, block by block, so that no block's work lies beside another's."""
        import torch

        if isinstance(source, cls):
            return source
        tensor = torch.empty(source.shape)
        for start, stop in pieces(source.shape):
            tensor[start:stop] = source.rows(start, stop)
        return cls(tensor)

    def rows(self, start: int, stop: int) -> "torch.Tensor":
        return self.tensor[start:stop]


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


@dataclass(frozen=True)
class Solution:
    """What a method found: rows, further tensors by name, facts for the header, how it ended."""

    source: Rows
    status: Status
    reproducible: Reproducible
    steps: int = 0
    facts: Mapping[str, Any] = field(default_factory=dict)
    tensors: Mapping[str, "torch.Tensor"] = field(default_factory=dict)

    @property
    def guaranteed(self) -> bool:
        """Whether these rows are a formula's, with what it guarantees among the facts."""
        return "closed_form" in self.facts
