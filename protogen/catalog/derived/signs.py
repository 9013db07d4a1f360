"""Lines of signs: all coordinates are 1/sqrt(d) or its negative, in exactly the dimension that is asked for."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar

from protogen.errors import BadRequest

from ..algebra import hadamard
from ..algebra.quadratic import QuadraticBases
from ..direct import DIRECT
from ..direct.bent import Bent
from ..direct.hadamard_rows import HadamardRows
from ..direct.kerdock_off_flat import FLATS, KerdockOffFlat
from ..family import ClosedForm, Tight, best, preference
from .punctured import Punctured
from .rule import Derived, Need

if TYPE_CHECKING:
    from torch import Tensor

FLAT = tuple(family for family in DIRECT if issubclass(family, QuadraticBases))
PIECES: tuple[type[ClosedForm], ...] = (*FLAT, Bent, HadamardRows)
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
class Lengthened(Derived):
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
    def needs(cls, d: int, n: int) -> Iterator[Need]:
        """Yield the pieces that ones fill up to n rows in exactly d coordinates."""
        yield Need(PIECES, pieces, d, n, lambda form: [cls(form, d - form.own_d)])

    @property
    def own_d(self) -> int:
        return self.form.own_d + self.ones

    @property
    def own_n(self) -> int:
        return sign_rows(self.form)

    @property
    def cosine(self) -> float:
        return (self.form.cosine * self.form.own_d + self.ones) / self.own_d

    def rows(self, start: int, stop: int) -> "Tensor":
        """Return rows start to stop - 1, (stop - start, own_d) float32."""
        import torch

        signs = torch.ones(stop - start, self.own_d, dtype=torch.float32, device="cpu")
        signs[:, : self.form.own_d] = self.form.rows(start, stop).sign()
        return signs * (1 / math.sqrt(self.own_d))


@dataclass(frozen=True)
class Joined(Derived):
    """Rows of signs of two forms side by side: coherence (mu D + mu' D') / (D + D') in R^(D + D')."""

    family: ClassVar[str] = "joined"
    form: ClosedForm
    other: ClosedForm

    def __post_init__(self) -> None:
        if not sign_rows(self.form) or not sign_rows(self.other):
            raise BadRequest(f"form is {self.form} and other is {self.other}; allowed are forms of signs")

    @classmethod
    def needs(cls, d: int, n: int, depth: int = DEEPEST) -> Iterator[Need]:
        """Yield the pieces that sets of at most depth - 1 pieces complete to n rows in exactly d coordinates."""

        def made(form: ClosedForm) -> "Iterator[Joined]":
            other = signs_of(d - form.own_d, n, depth - 1)
            if other:
                yield cls(form, other)

        if depth > 1:
            yield Need(PIECES, pieces, d, n, made)

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
    return best((*_whole(d, n), Lengthened.reach(d, n), Joined.best_of(Joined.needs(d, n, depth))))


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


def pieces(family: type[ClosedForm], d: int, n: int) -> Iterator[ClosedForm]:
    """Ask a family for its forms of n rows of signs in fewer than d coordinates, from d/4 on."""
    if issubclass(family, Tight):
        yield from (form for form in family.sized(max(1, d // 4), d - 1) if n <= sign_rows(form))
    else:
        order = next((m for m in range(d - 1, n - 1, -1) if hadamard.exists(m)), 0)
        if order > 1:
            yield HadamardRows(order, 0)


def _between(low: int, high: int) -> Iterator[ClosedForm]:
    """Yield the sets of flat bases, and those of bent functions, with low <= own_d <= high."""
    for family in FLAT:
        yield from family.sized(low, high)
    yield from Bent.sized(low, high)
