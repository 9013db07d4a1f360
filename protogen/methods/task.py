"""What a method is given to solve."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from protogen.run import Run
from protogen.spec import Spec

if TYPE_CHECKING:
    from torch import Tensor

    from protogen.descent.checkpoint import Checkpoint


@dataclass(frozen=True)
class Task:
    """Ask a method for n vectors in R^d.

    - `seed`: the seed of whatever the method draws.
    - `run`: how to compute.
    - `inputs`: the tensor of each artifact that the Spec names, by the parameter that names the artifact.
    - `checkpoint`: where descents keep their state; None: nowhere.
    """

    d: int
    n: int
    seed: int = 0
    run: Run = field(default_factory=Run)
    inputs: Mapping[str, "Tensor"] = field(default_factory=dict)
    checkpoint: "Checkpoint | None" = None

    @classmethod
    def of(
        cls,
        spec: Spec,
        run: Run | None = None,
        inputs: "Mapping[str, Tensor] | None" = None,
        checkpoint: "Checkpoint | None" = None,
    ) -> Self:
        """Make the task of a Spec."""
        return cls(spec.d, spec.n, spec.seed, run or Run(), inputs or {}, checkpoint)
