"""What a method is given beside its parameters, and what it gives back."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    import torch

FILL_ROWS = 4096

Reproducible = Literal["exact", "statistical"]


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
        for start in range(0, len(tensor), FILL_ROWS):
            stop = min(start + FILL_ROWS, len(tensor))
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
    seconds and ends a descent, not the statistics. `report` is called after every step of a
    descent, `measuring` with the share of the statistics that is done. `files` are the artifacts
    that a Spec names by digest; whoever calls `solve` reads them into `inputs`.
    """

    device: str = "cpu"
    tile: int | None = None
    time_limit: float | None = None
    report: Callable[[Progress], None] | None = None
    measuring: Callable[[float], None] | None = None
    files: tuple[Path, ...] = ()
    inputs: Mapping[str, "torch.Tensor"] = field(default_factory=dict)


@dataclass(frozen=True)
class Solution:
    """What a method found: rows, further tensors by name, facts for the header, how it ended."""

    source: Rows
    status: Status
    reproducible: Reproducible
    steps: int = 0
    facts: Mapping[str, Any] = field(default_factory=dict)
    tensors: Mapping[str, "torch.Tensor"] = field(default_factory=dict)
