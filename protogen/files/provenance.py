"""The record of where a set comes from."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

Reproducible = Literal["exact", "statistical"]


@dataclass(frozen=True)
class Provenance:
    """Where a set comes from: versions, machine, effort, date and how the run ended.

    `seconds` is wall time, `created` ISO 8601 in UTC, `status` the sentence of a Status.
    """

    protogen: str
    torch: str
    python: str
    device: str
    threads: int
    steps: int
    seconds: float
    created: str
    status: str
    reproducible: Reproducible

    def to_dict(self) -> dict[str, Any]:
        """The record as plain JSON values."""
        return asdict(self)
