"""Points from unbiased bases: each vector, its negative, and the vertex of a simplex that labels its basis."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from protogen.errors import BadRequest

from ..algebra.simplex import vertices
from ..derived.labels import BASES, holding
from ..derived.rule import Derived, Need
from ..family import Bases

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class SimplexLabels(Derived):
    """The first B = `count` bases of a form in R^D and their negatives, with a label for each basis.

    They are 2 D B points in R^(D + B - 1) of largest cosine s = 1/(1 + B/((B - 1) mu_0)), where mu_0 is the
    coherence of the form.

    1. A vector x of basis b becomes sqrt(1 - s) x and sqrt(s) times vertex b of the regular simplex in R^(B - 1).
       So does -x.
    2. Two points of one basis meet in s at most.
    3. Points of two bases meet in (1 - s) mu_0 - s/(B - 1) at most, which is s.
    """

    family: ClassVar[str] = "simplex-labels"
    form: Bases
    count: int

    def __post_init__(self) -> None:
        if type(self.form) not in BASES:
            raise BadRequest(f"form is {self.form}; allowed is a form made of orthonormal bases")
        most = self.form.own_n // self.form.own_d
        if not 2 <= self.count <= most:
            raise BadRequest(f"count is {self.count}; allowed is 2 to {most} bases of this form")

    @classmethod
    def needs(cls, d: int, n: int) -> Iterator[Need]:
        """Yield the bases that leave room for the labels of as many as n needs, two at least."""
        yield from holding(d + 1, (n + 1) // 2, lambda form, count: [cls(form, count)])

    @property
    def own_d(self) -> int:
        return self.form.own_d + self.count - 1

    @property
    def own_n(self) -> int:
        return 2 * self.form.own_d * self.count

    @property
    def cosine(self) -> float:
        return 1 / (1 + self.count / ((self.count - 1) * self.form.cosine))

    def rows(self, start: int, stop: int) -> "torch.Tensor":
        """Return rows start to stop - 1, (stop - start, own_d) float32: x with its label, then -x, then the next x."""
        import torch

        size = 2 * self.form.own_d
        lines = self.form.rows(start // 2, (stop + 1) // 2).double()
        own = torch.stack((lines, -lines), 1).flatten(0, 1)[start % 2 :][: stop - start]
        first, last = start // size, -(-stop // size)
        labels = vertices(self.count, 1, first, last)[torch.arange(start, stop, device="cpu") // size - first]
        return torch.cat((own * math.sqrt(1 - self.cosine), labels * math.sqrt(self.cosine)), 1).float()
