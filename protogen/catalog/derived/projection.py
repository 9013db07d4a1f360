"""Lines in one dimension less: all the vectors of a form but one, projected off that one."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from protogen.errors import BadRequest

from ..direct import DIRECT
from ..direct.orthonormal import Orthonormal
from ..direct.simplex_lines import SimplexLines
from ..family import ClosedForm
from .blow_up import BlowUp
from .copies import Copies
from .rule import Derived, Need, reached

if TYPE_CHECKING:
    from torch import Tensor

PROJECTED: tuple[type[ClosedForm], ...] = (*DIRECT, BlowUp, Copies)
ASKED = tuple(family for family in PROJECTED if family not in (Orthonormal, SimplexLines))


@dataclass(frozen=True)
class Projection(Derived):
    """The vectors of a form in R^D but its last, w, projected on the complement of w: lines in R^(D - 1).

    The form has coherence mu_0, the lines mu_0/(1 - mu_0).

    1. Projected and scaled, u and v meet in (<u, v> - <u, w><v, w>) / sqrt((1 - <u, w>^2)(1 - <v, w>^2)).
    2. This is at most (mu_0 + mu_0^2)/(1 - mu_0^2) = mu_0/(1 - mu_0).
    3. A reflection takes w to the last axis, which is left out (Householder 1958).
    """

    family: ClassVar[str] = "projection"
    form: ClosedForm

    def __post_init__(self) -> None:
        if type(self.form) not in PROJECTED or self.form.cosine >= 1 / 2:
            raise BadRequest(
                f"form is {self.form}; allowed are lines of a direct form, copies or a blow-up, of coherence below 1/2"
            )

    @classmethod
    def needs(cls, d: int, n: int) -> Iterator[Need]:
        """Yield the best forms of n + 1 vectors in R^(d+1), neither bases nor simplices."""
        yield Need(ASKED, reached, d + 1, n + 1, lambda form: [cls(form)] if form.cosine < 1 / 2 else [])

    @property
    def own_d(self) -> int:
        return self.form.own_d - 1

    @property
    def own_n(self) -> int:
        return self.form.own_n - 1

    @property
    def cosine(self) -> float:
        return self.form.cosine / (1 - self.form.cosine)

    def rows(self, start: int, stop: int) -> "Tensor":
        """Return rows start to stop - 1, (stop - start, own_d) float32, reflected, cut and scaled to unit length."""
        own = self.form.rows(start, stop).double()
        return off_last(own, self.form.rows(self.own_n, self.own_n + 1).double()).float()


def off_last(rows: "Tensor", last: "Tensor") -> "Tensor":
    """Project rows (k, D) on the complement of a unit vector (1, D): (k, D - 1), reflected, cut and scaled to one."""
    cosines = _sums(rows * last)
    # The reflection takes w to -sign e or sign e along u = w + sign e; both 1 and <u, u> / 2 = 1 + |w_last|.
    sign = 1.0 if last[0, -1] >= 0 else -1.0
    along = (cosines + sign * rows[:, -1:]) / (1 + last[0, -1].abs())
    cut = rows[:, :-1] - along * last[:, :-1]
    return cut / (1 - cosines * cosines).sqrt()


def _sums(terms: "Tensor") -> "Tensor":
    """Add each row of the terms up, in place: (rows, 1). By halves, which are the same additions on every machine."""
    width = terms.shape[1]
    while width > 1:
        half = (width + 1) // 2
        terms[:, : width - half] += terms[:, half:width]
        width = half
    return terms[:, :1]
