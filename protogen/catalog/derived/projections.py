"""Lines in several dimensions less: all the vectors of a form but some, projected off those."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from protogen.bounds import coherence_bound
from protogen.errors import BadRequest

from ..direct import DIRECT
from ..direct.cut import Cut
from ..family import ClosedForm
from .beside import MOST_PER_DIMENSION, SOURCES
from .blow_up import BlowUp
from .copies import Copies
from .projection import Projection, off_last
from .rule import Derived, Need, reached

if TYPE_CHECKING:
    from torch import Tensor

ASKED: tuple[type[ClosedForm], ...] = (*(family for family in DIRECT if issubclass(family, Cut)), BlowUp, Copies)
STEPS = (2, 3, 4, 6, 8, 12)  # that are tried
MOST_STEPS = 64
PROJECTED: tuple[type[ClosedForm], ...] = tuple(family for family in SOURCES if family is not Projection)


@dataclass(frozen=True)
class Projections(Derived):
    """The vectors of a form in R^D but its last `steps`, projected on the complement of these: lines in R^(D - steps).

    The form has coherence mu, the lines mu / (1 - steps mu): each step is that of `projection`, which takes
    1/coherence one lower.
    """

    family: ClassVar[str] = "projections"
    form: ClosedForm
    steps: int

    def __post_init__(self) -> None:
        if type(self.form) not in PROJECTED or not 2 <= self.steps <= MOST_STEPS:
            raise BadRequest(
                f"form is {self.form} and steps is {self.steps}; allowed is a form of "
                f"{', '.join(family.family for family in PROJECTED)}, and 2 to {MOST_STEPS} steps"
            )
        if (self.steps + 1) * self.form.cosine >= 1 or min(self.form.own_d, self.form.own_n) <= self.steps + 1:
            raise BadRequest(f"steps is {self.steps}; allowed are fewer, while a coherence below 1 is guaranteed")

    @classmethod
    def needs(cls, d: int, n: int) -> Iterator[Need]:
        """Yield the best forms of some dimensions and vectors more; n <= 2 d."""
        if d < 2 or n > MOST_PER_DIMENSION * d:
            return
        for steps in STEPS:
            least = coherence_bound(d + steps, n + steps).value
            if (steps + 1) * least < 1:
                yield cls._need(d, n, steps, least / (1 - steps * least))

    @classmethod
    def _need(cls, d: int, n: int, steps: int, least: float) -> Need:
        def made(form: ClosedForm) -> "Iterator[Projections]":
            if (steps + 1) * form.cosine < 1 and form.own_d > steps + 1:
                yield cls(form, steps)

        return Need(ASKED, reached, d + steps, n + steps, made, least)

    @property
    def own_d(self) -> int:
        return self.form.own_d - self.steps

    @property
    def own_n(self) -> int:
        return self.form.own_n - self.steps

    @property
    def cosine(self) -> float:
        return self.form.cosine / (1 - self.steps * self.form.cosine)

    def rows(self, start: int, stop: int) -> "Tensor":
        """Return rows start to stop - 1, (stop - start, own_d) float32, by one reflection for each step."""
        own = self.form.rows(start, stop).double()
        last = self.form.rows(self.own_n, self.form.own_n).double()
        for _ in range(self.steps):
            own, last = off_last(own, last[-1:]), off_last(last[:-1], last[-1:])
        return own.float()
