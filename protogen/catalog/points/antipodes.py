"""Points from lines: each vector of a form and its negative."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from protogen.errors import BadRequest

from ..derived import LINES
from ..derived.rule import Derived, Need, reached
from ..family import ClosedForm

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Antipodes(Derived):
    """The vectors of a set of lines of coherence mu, and their negatives: twice as many points, largest cosine mu."""

    family: ClassVar[str] = "antipodes"
    form: ClosedForm

    def __post_init__(self) -> None:
        if type(self.form) not in LINES:
            raise BadRequest(f"form is {self.form}; allowed is a form of lines")

    @classmethod
    def needs(cls, d: int, n: int) -> Iterator[Need]:
        """Yield the best n/2 lines, rounded up."""
        yield Need(LINES, reached, d, (n + 1) // 2, lambda form: [cls(form)])

    @property
    def own_d(self) -> int:
        return self.form.own_d

    @property
    def own_n(self) -> int:
        return 2 * self.form.own_n

    @property
    def cosine(self) -> float:
        return self.form.cosine

    def rows(self, start: int, stop: int) -> "torch.Tensor":
        """Return rows start to stop - 1, (stop - start, own_d) float32: each vector, then its negative."""
        import torch

        lines = self.form.rows(start // 2, (stop + 1) // 2)
        return torch.stack((lines, -lines), 1).flatten(0, 1)[start % 2 :][: stop - start].contiguous()
