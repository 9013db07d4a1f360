"""Lines of signs: all coordinates are 1/sqrt(d) or its negative, in exactly the dimension that is asked for."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar, Self

from protogen.errors import BadRequest

from ..algebra import hadamard
from ..algebra.quadratic import QuadraticBases
from ..direct import DIRECT
from ..direct.bent import Bent
from ..direct.hadamard_rows import HadamardRows
from ..direct.kerdock_off_flat import FLATS, KerdockOffFlat
from ..family import ClosedForm, best, preference
from .punctured import Punctured

if TYPE_CHECKING:
    from torch import Tensor

FLAT = tuple(family for family in DIRECT if issubclass(family, QuadraticBases))
DEEPEST = 5  # sets that are laid side by side


def sign_rows(form: ClosedForm) -> int:
    """Return how many of a form's first rows have all coordinates 1/sqrt(own_d) or its negative, as is known."""
    if isinstance(form, QuadraticBases):
        return form.flat * form.own_d
    return form.own_n if isinstance(form, Bent | KerdockOffFlat | Punctured | HadamardRows | Joined | Lengthened) else 0


def smallest_distance(form: ClosedForm) -> int:
    """Return the Hamming distance that its coherence guarantees for any two rows of signs, and for their negatives."""
    return math.ceil((1 - form.cosine) * form.own_d / 2 - 1e-6)


@dataclass(frozen=True)
class Lengthened(ClosedForm):
    """Rows of signs with as many ones at the end: coherence (mu D + ones) / (D + ones) in R^(D + ones)."""

    family: ClassVar[str] = "lengthened"
    form: ClosedForm
    ones: int

    def __post_init__(self) -> None:
        if not sign_rows(self.form) or self.ones < 1:
            raise BadRequest(
                f"form is {self.form} and ones is {self.ones}; allowed is a form of signs, and ones from 1"
            )

    @classmethod
    def reach(cls, d: int, n: int) -> Self | None:
        """Return n rows in exactly d coordinates, the lowest coherence of one piece with ones, or None."""
        return best(cls(form, d - form.own_d) for form in _pieces(d, n))

    @property
    def own_d(self) -> int:
        return self.form.own_d + self.ones

    @property
    def own_n(self) -> int:
        return sign_rows(self.form)

    @property
    def cosine(self) -> float:
        return (self.form.cosine * self.form.own_d + self.ones) / self.own_d

    @property
    def exact(self) -> bool:
        return self.form.exact

    def rows(self, start: int, stop: int) -> "Tensor":
        """Return rows start to stop - 1, (stop - start, own_d) float32."""
        import torch

        signs = torch.ones(stop - start, self.own_d, dtype=torch.float32, device="cpu")
        signs[:, : self.form.own_d] = self.form.rows(start, stop).sign()
        return signs * (1 / math.sqrt(self.own_d))


@dataclass(frozen=True)
class Joined(ClosedForm):
    """Rows of signs of two forms side by side: coherence (mu D + mu' D') / (D + D') in R^(D + D')."""

    family: ClassVar[str] = "joined"
    form: ClosedForm
    other: ClosedForm

    def __post_init__(self) -> None:
        if not sign_rows(self.form) or not sign_rows(self.other):
            raise BadRequest(f"form is {self.form} and other is {self.other}; allowed are forms of signs")

    @classmethod
    def reach(cls, d: int, n: int) -> Self | None:
        """Return n rows in exactly d coordinates, the lowest coherence of two sets or more, or None."""
        return cls._of_depth(d, n, DEEPEST)

    @classmethod
    def _of_depth(cls, d: int, n: int, depth: int) -> Self | None:
        rest = ((form, signs_of(d - form.own_d, n, depth - 1)) for form in _pieces(d, n)) if depth > 1 else ()
        return best(cls(form, other) for form, other in rest if other)

    @property
    def own_d(self) -> int:
        return self.form.own_d + self.other.own_d

    @property
    def own_n(self) -> int:
        return min(sign_rows(self.form), sign_rows(self.other))

    @property
    def cosine(self) -> float:
        return (self.form.cosine * self.form.own_d + self.other.cosine * self.other.own_d) / self.own_d

    @property
    def exact(self) -> bool:
        return self.form.exact and self.other.exact

    def rows(self, start: int, stop: int) -> "Tensor":
        """Return rows start to stop - 1, (stop - start, own_d) float32."""
        import torch

        signs = torch.cat((self.form.rows(start, stop).sign(), self.other.rows(start, stop).sign()), 1)
        return signs * (1 / math.sqrt(self.own_d))


@lru_cache(maxsize=2**12)
def signs_of(d: int, n: int, depth: int = DEEPEST) -> ClosedForm | None:
    """Return the form of lowest coherence with n first rows of signs in exactly d coordinates, or None.

    At most `depth` sets are laid side by side.
    """
    return best((*_whole(d, n), Lengthened.reach(d, n), Joined._of_depth(d, n, depth)))


def listed_signs(d: int, n: int) -> list[ClosedForm]:
    """List the forms with n first rows of signs in exactly d coordinates, one of a kind, the lowest coherence first."""
    found = (form for form in (*_whole(d, n), Lengthened.reach(d, n), Joined.reach(d, n)) if form)
    return sorted((form for form in found if form.cosine < 1), key=preference)


def _whole(d: int, n: int) -> Iterator[ClosedForm]:
    """Yield the forms of signs in exactly d coordinates that are no sets side by side."""
    yield from (form for form in _between(d, d) if n <= sign_rows(form))
    yield from (off for k, r in FLATS if (off := KerdockOffFlat(k, r)).own_d == d and n <= off.own_n)
    for longer in (form for family in FLAT for form in family.sized(d + 1, 2 * d)):
        drop = longer.own_d - d
        if n <= sign_rows(longer) and (punctured := _punctured(longer, drop)):
            yield punctured
    rows = HadamardRows.reach(d, n)
    if rows:
        yield rows


def _punctured(form: QuadraticBases, drop: int) -> Punctured | None:
    try:
        return Punctured(form, drop)
    except BadRequest:
        return None


def _pieces(d: int, n: int) -> Iterator[ClosedForm]:
    """Yield forms of n rows of signs in fewer than d coordinates, from d/4 on, of each dimension the best."""
    of_size: dict[int, list[ClosedForm]] = {}
    for form in _between(max(1, d // 4), d - 1):
        if n <= sign_rows(form):
            of_size.setdefault(form.own_d, []).append(form)
    yield from (min(forms, key=preference) for forms in of_size.values())
    order = next((m for m in range(d - 1, n - 1, -1) if hadamard.exists(m)), 0)
    if order > 1:
        yield HadamardRows(order, 0)


def _between(low: int, high: int) -> Iterator[ClosedForm]:
    """Yield the sets of flat bases, and those of bent functions, with low <= own_d <= high."""
    for family in FLAT:
        yield from family.sized(low, high)
    yield from Bent.sized(low, high)
