"""What a method gives back: rows, how it ended, and what is known of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from .files.facts import Facts
from .files.provenance import Reproducible
from .rows import Rows

if TYPE_CHECKING:
    import torch


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
    FITTED = "fitted to the classes"
    IMPORTED = "imported"


ENDED_EARLY = (Status.TIME_LIMIT, Status.INTERRUPTED, Status.OUT_OF_MEMORY)


@dataclass(frozen=True)
class Solution:
    """What a method found: rows, further tensors by name, facts for the header, how it ended."""

    source: Rows
    status: Status
    reproducible: Reproducible
    steps: int = 0
    facts: Facts = field(default_factory=Facts)
    tensors: Mapping[str, "torch.Tensor"] = field(default_factory=dict)

    @property
    def guaranteed(self) -> bool:
        """Whether these rows are a formula's, with what it guarantees among the facts."""
        return self.facts.closed_form is not None
