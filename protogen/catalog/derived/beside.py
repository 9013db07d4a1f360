"""More lines in as many dimensions more: a form, and an orthonormal basis of the dimensions that it leaves free."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

from protogen.bounds import coherence_bound
from protogen.errors import BadRequest

from ..direct import DIRECT
from ..direct.bent import Bent
from ..direct.conference import Conference
from ..direct.cut import Cut
from ..direct.cyclic import CyclicPacking
from ..direct.graphical import Graphical
from ..direct.nets import Net
from ..direct.paley import Paley
from ..family import ClosedForm, OfForm, best
from .blow_up import BlowUp
from .labels import Labels
from .projection import Projection
from .punctured import Punctured

if TYPE_CHECKING:
    from torch import Tensor

CUTS = tuple(family for family in DIRECT if issubclass(family, Cut))
SOURCES: tuple[type[ClosedForm], ...] = (*DIRECT, Labels, BlowUp, Projection, Punctured)
TRIED: tuple[type[ClosedForm], ...] = (Net, CyclicPacking, Paley, Bent, Conference, Graphical)  # beside the cuts
EXTRAS = (1, 2, 4, 8, 16)  # that are tried beside these
MOST_PER_DIMENSION = 2  # lines, up to which the rule pays


@dataclass(frozen=True)
class Beside(OfForm):
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
    def reach(cls, d: int, n: int) -> Self | None:
        """Return the best of all cuts, and of some numbers of lines beside the best of TRIED; n <= 2 d."""
        if n > MOST_PER_DIMENSION * d:
            return None
        found = best(cls._of_cuts(d, n))
        for extra in EXTRAS:
            if d <= extra:
                break
            others = max(2, n - extra)
            least = coherence_bound(d - extra, others).value
            if found is None or least < found.cosine:
                forms = (family.reach(d - extra, others) for family in TRIED)
                found = best((found, *(cls(form, extra) for form in forms if form)))
        return found

    @classmethod
    def _of_cuts(cls, d: int, n: int) -> Iterator[Self]:
        """Yield for each family of cuts the best member that leaves room for the lines that it has not."""
        if d > 1 and n > 1:
            for family in CUTS:
                form = family.with_room(d - 1, n - 1)
                if form:
                    yield cls(form, max(1, n - form.own_n))

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
