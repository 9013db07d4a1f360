"""The record of where a set comes from."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from protogen.spec import is_number

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

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Provenance":
        """Read what `to_dict` wrote. Raises KeyError or TypeError where it is something else."""
        made = cls(**{f.name: values[f.name] for f in fields(cls)})
        words = (made.protogen, made.torch, made.python, made.device, made.created, made.status)
        numbers = (made.threads, made.steps, made.seconds)
        sound = all(type(word) is str for word in words) and all(map(is_number, numbers))
        if not sound or made.reproducible not in get_args(Reproducible):
            raise TypeError("a value of another kind")
        return made
