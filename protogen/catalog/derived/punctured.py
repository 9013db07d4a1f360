"""Bases of signs without some coordinates: lines in the dimensions under those of other families."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from protogen.errors import BadRequest

from ..algebra.quadratic import QuadraticBases
from ..direct import DIRECT
from .rule import Derived, Need, frames

if TYPE_CHECKING:
    from torch import Tensor

FORMS = [family for family in DIRECT if issubclass(family, QuadraticBases)]


@dataclass(frozen=True)
class Punctured(Derived):
    """The flat bases of a form in R^D, of coherence mu, without the last `drop` coordinates.

    The coherence is (mu D + drop) / (D - drop) for drop < mu D, and (mu D / 2 + drop) / (D - drop) from there on.
    Let T be the inner product of two rows of signs over all D coordinates. |T| <= mu D, and mu D is a power of two.

    1. A coordinate adds 1 or -1 to T. Without `drop` of them the inner product is at most mu D + drop.
       This proves the first formula.
    2. For drop >= mu D the last mu D coordinates are a flat V of the index space. Let S be the part of T
       that they add. Steps 3 and 4 to 6 show that |T - S| <= 3/2 mu D.
    3. Let the rows be of one basis. They are orthogonal, so that T = 0. V has mu D coordinates, so that
       |T - S| = |S| <= mu D.
    4. Let the rows be of two bases. Their signs differ by a quadratic form, on V too. Hence |S| is 0 or a
       power of two, and at most mu D.
    5. Multiply one row by each character that is constant on V. The products are rows of the same basis, but for
       signs, so that their inner products with the other row are at most mu D. But for signs S is the mean of
       these inner products, and T is one of them. So if |S| = mu D, then T = S.
    6. If |S| is less than mu D, then |S| <= mu D / 2 by step 4, and |T - S| <= mu D + mu D / 2.
    7. Of the coordinates that are dropped, drop - mu D lie outside V. Without them it grows by 1 each at most.
       The inner product that is left is at most 3/2 mu D + drop - mu D = mu D / 2 + drop.
    """

    family: ClassVar[str] = "punctured"
    form: QuadraticBases
    drop: int

    def __post_init__(self) -> None:
        if not isinstance(self.form, QuadraticBases):
            raise BadRequest(f"form is {self.form}; allowed is one of {', '.join(family.family for family in FORMS)}")
        if self.drop < 1 or _peak(self.form, self.drop) >= self.own_d:
            raise BadRequest(f"drop is {self.drop}; allowed is 1 or more, while a coherence below 1 is guaranteed")

    @classmethod
    def needs(cls, d: int, n: int) -> Iterator[Need]:
        """Yield the forms of at most 2 d dimensions, which drop as little as can be, or mu D."""
        yield Need(FORMS, frames, 1, 2 * d, lambda form: cls._dropping(form, d, n))

    @classmethod
    def _dropping(cls, form: QuadraticBases, d: int, n: int) -> "Iterator[Punctured]":
        if n <= form.flat * form.own_d:
            least, whole = max(1, form.own_d - d), _whole(form)
            drops = (least, whole) if least < whole else (least,)
            yield from (cls(form, drop) for drop in drops if _peak(form, drop) < form.own_d - drop)

    @property
    def own_d(self) -> int:
        return self.form.own_d - self.drop

    @property
    def own_n(self) -> int:
        return self.form.flat * self.form.own_d

    @property
    def cosine(self) -> float:
        return _peak(self.form, self.drop) / self.own_d

    def rows(self, start: int, stop: int) -> "Tensor":
        """Return rows start to stop - 1, (stop - start, own_d) float32, basis by basis."""
        return self.form.rows(start, stop)[:, : self.own_d].sign() * (1 / math.sqrt(self.own_d))


def _whole(form: QuadraticBases) -> int:
    """The largest inner product of two rows of signs over all coordinates: mu D, a power of two."""
    return int(form.cosine * form.own_d)


def _peak(form: QuadraticBases, drop: int) -> int:
    """The largest inner product of two rows of signs over the coordinates that are left."""
    whole = _whole(form)
    return drop + (whole if drop < whole else whole // 2)
