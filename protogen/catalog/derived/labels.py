"""Unbiased bases told apart by labels: few bases, in a few dimensions more than they have."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

from protogen.errors import BadRequest

from ..direct import DIRECT
from ..family import Bases, ClosedForm, best

if TYPE_CHECKING:
    import torch

BASES = tuple(family for family in DIRECT if issubclass(family, Bases))


def labelled(room: int, n: int) -> Iterator[tuple[Bases, int]]:
    """Yield forms and the least count >= 2 of their bases that holds n vectors, where own_d + count <= room.

    A form may be left out where another has a lower cosine and needs no more bases.
    """
    square = room * room - 4 * n  # own_d (room - own_d) >= n between the roots of a quadratic
    if square >= 0:
        root = math.isqrt(square)
        low, high = max(1, (room - root + 1) // 2), min((room + root) // 2, room - 2)
        for family in BASES:
            for form in family.leading(low, high):
                count = max(2, -(-n // form.own_d))
                if count <= form.own_n // form.own_d:
                    yield form, count


@dataclass(frozen=True)
class Labels(ClosedForm):
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
    def reach(cls, d: int, n: int) -> Self | None:
        """Return the best bases that leave room for the labels of as many as n needs, two at least."""
        fitting = ((form, count, cut) for cut in (0, 1) for form, count in labelled(d + cut, n))
        return best(cls(form, count, cut) for form, count, cut in fitting if count * cut <= form.flat)

    @property
    def own_d(self) -> int:
        return self.form.own_d + self.count - self.cut

    @property
    def own_n(self) -> int:
        return self.form.own_d * self.count

    @property
    def cosine(self) -> float:
        return self.form.cosine / (1 + self.form.cosine)

    @property
    def held_bytes(self) -> int:
        return self.form.held_bytes

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
