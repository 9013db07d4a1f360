"""More lines in as many dimensions more: a form, and an orthonormal basis of the dimensions that it leaves free."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from protogen.errors import BadRequest

from ..direct import DIRECT
from ..family import ClosedForm
from .blow_up import BlowUp
from .copies import Copies
from .labels import Labels
from .projection import Projection
from .punctured import Punctured
from .rule import Derived, Need, roomy

if TYPE_CHECKING:
    from torch import Tensor

SOURCES: tuple[type[ClosedForm], ...] = (*DIRECT, Labels, BlowUp, Copies, Projection, Punctured)
ASKED = tuple(family for family in SOURCES if family is not Projection)
MOST_PER_DIMENSION = 2  # lines, up to which the rule pays


@dataclass(frozen=True)
class Beside(Derived):
    """The lines of a form in R^D, and `extra` lines that are orthogonal to them and to each other.

    There are as many more dimensions as lines. The coherence is that of the form.
    """

    family: ClassVar[str] = "beside"
    form: ClosedForm
    extra: int

    def __post_init__(self) -> None:
        if type(self.form) not in SOURCES or self.extra < 1:
            raise BadRequest(
                f"form is {self.form} and extra is {self.extra}; allowed is a form of "
                f"{', '.join(family.family for family in SOURCES)}, and extra from 1"
            )

    @classmethod
    def needs(cls, d: int, n: int) -> Iterator[Need]:
        """Yield forms in R^(d-1) that leave a dimension free for each line that they have not; n <= 2 d."""
        if 1 < n <= MOST_PER_DIMENSION * d:
            yield Need(ASKED, roomy, d - 1, n - 1, lambda form: [cls(form, max(1, n - form.own_n))])

    @property
    def own_d(self) -> int:
        return self.form.own_d + self.extra

    @property
    def own_n(self) -> int:
        return self.form.own_n + self.extra

    @property
    def cosine(self) -> float:
        return self.form.cosine

    def rows(self, start: int, stop: int) -> "Tensor":
        """Return rows start to stop - 1, (stop - start, own_d) float32: those of the form, then the extra ones."""
        import torch

        own_n, own_d = self.form.own_n, self.form.own_d
        rows = torch.zeros(stop - start, self.own_d, dtype=torch.float32, device="cpu")
        if start < own_n:
            rows[: own_n - start, :own_d] = self.form.rows(start, min(stop, own_n))
        index = torch.arange(start, stop, device="cpu")
        index = index[index >= own_n]
        rows[index - start, index - own_n + own_d] = 1
        return rows
