"""Unbiased bases told apart by labels: few bases, in a few dimensions more than they have."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from protogen.errors import BadRequest

from ..direct import DIRECT
from ..family import Bases, ClosedForm
from .rule import Derived, Need, bases

if TYPE_CHECKING:
    import torch

BASES = tuple(family for family in DIRECT if issubclass(family, Bases))


def holding(room: int, n: int, made: Callable[[Bases, int], Iterable[ClosedForm]]) -> Iterator[Need]:
    """Need forms, and what is made of each and the least count >= 2 of its bases, own_d + count <= room.

    The bases hold n vectors.
    """
    square = room * room - 4 * n  # own_d (room - own_d) >= n between the roots of a quadratic
    if square >= 0:
        root = math.isqrt(square)
        low, high = max(1, (room - root + 1) // 2), min((room + root) // 2, room - 2)

        def counted(form: Bases) -> Iterable[ClosedForm]:
            count = max(2, -(-n // form.own_d))
            return made(form, count) if count <= form.own_n // form.own_d else ()

        yield Need(BASES, bases, low, high, counted)


@dataclass(frozen=True)
class Labels(Derived):
    """The first `count` bases of a form in R^D, each with a label of its own: D count vectors in R^(D + count).

    The form has coherence mu_0, the vectors mu_0/(1 + mu_0).

    1. A vector x of basis b becomes sqrt(p) x and sqrt(1 - p) e_b, where p = 1/(1 + mu_0).
    2. Two vectors of one basis meet in 1 - p, of two bases in p mu_0 at most. Both are mu_0/(1 + mu_0).
    3. With `cut` = 1 they stand in one dimension less. All these bases are flat then. The vectors are signed to have
       1/sqrt(D) at coordinate 0, which so adds p/D to every inner product.
    4. Labels sqrt(1 - p) e_b + shift (1, ..., 1) add as much as coordinate 0, which is left out.
    """

    family: ClassVar[str] = "labels"
    form: Bases
    count: int
    cut: int

    def __post_init__(self) -> None:
        if type(self.form) not in BASES:
            raise BadRequest(f"form is {self.form}; allowed is a form made of orthonormal bases")
        if self.cut not in (0, 1):
            raise BadRequest(f"cut is {self.cut}; allowed is 0 or 1")
        most = self.form.flat if self.cut else self.form.own_n // self.form.own_d
        if not 2 <= self.count <= most:
            raise BadRequest(f"count is {self.count}; allowed is 2 to {most} bases of this form with cut={self.cut}")

    @classmethod
    def needs(cls, d: int, n: int) -> Iterator[Need]:
        """Yield the bases that leave room for the labels of as many as n needs, two at least."""
        yield from holding(d, n, lambda form, count: [cls(form, count, 0)])
        yield from holding(d + 1, n, lambda form, count: [cls(form, count, 1)] if count <= form.flat else [])

    @property
    def own_d(self) -> int:
        return self.form.own_d + self.count - self.cut

    @property
    def own_n(self) -> int:
        return self.form.own_d * self.count

    @property
    def cosine(self) -> float:
        return self.form.cosine / (1 + self.form.cosine)

    def rows(self, start: int, stop: int) -> "torch.Tensor":
        """Return rows start to stop - 1, (stop - start, own_d) float32: of the form, then of labels."""
        import torch

        p, size = 1 / (1 + self.form.cosine), self.form.own_d
        own = self.form.rows(start, stop).double() * math.sqrt(p)
        shift = (math.sqrt(1 - p + self.count * p / size) - math.sqrt(1 - p)) / self.count if self.cut else 0.0
        labels = torch.full((stop - start, self.count), shift, dtype=torch.float64, device="cpu")
        index = torch.arange(stop - start, device="cpu")
        labels[index, (index + start) // size] += math.sqrt(1 - p)
        if self.cut:
            own = own[:, 1:] * own[:, :1].sign()
        return torch.cat((own, labels), 1).float()
