"""Lines where n is little above d: each vector of a form several times, its copies set apart by a simplex."""

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

from protogen.errors import BadRequest

from ..algebra.simplex import vertices
from ..direct import DIRECT
from ..direct.cut import Cut
from ..direct.orthonormal import Orthonormal
from ..direct.packing import Packing
from ..direct.simplex_lines import SimplexLines
from ..family import ClosedForm, Tight
from .rule import Derived, Need, frames

if TYPE_CHECKING:
    from torch import Tensor

# Cuts are copied in their own family, simplices in `blow-up`.
COPIED = tuple(family for family in DIRECT if not issubclass(family, (Cut, Orthonormal, SimplexLines)))
ASKED = tuple(family for family in COPIED if issubclass(family, Tight) and not issubclass(family, Packing))
WIDEST = 2**10  # dimensions of forms that are copied


class Copied(Derived):
    """Each of `size` vectors z, of coherence 1/L, m = floor(n / size) times or once more: n vectors.

    1. A copy is sqrt(L mu) z and sqrt(1 - L mu) times a vertex of a regular simplex in m - 1 coordinates of its own,
       where mu = 1/(m (1 + L) - 1).
    2. Copies of one z meet in L mu - (1 - L mu)/(m - 1) = -mu. Copies of two meet in L mu / L = mu at most.

    A family is a frozen dataclass with the fields `form` and `n`.
    """

    n: int

    @classmethod
    def with_room(cls, d: int, n: int) -> Self | None:
        """Return the best member that `reach` has: copies fill R^d, so that none has to be left free."""
        return cls.reach(d, n)

    @property
    @abstractmethod
    def copied(self) -> int:
        """How many vectors are copied."""

    @property
    @abstractmethod
    def apart(self) -> float:
        """One over the coherence of the vectors that are copied, L."""

    @abstractmethod
    def originals(self, start: int, stop: int) -> "Tensor":
        """Return the vectors start to stop - 1 that are copied, float32 or float64."""

    @property
    def own_n(self) -> int:
        return self.n

    @property
    def cosine(self) -> float:
        return 1 / (self.n // self.copied * (1 + self.apart) - 1)

    def rows(self, start: int, stop: int) -> "Tensor":
        """Return rows start to stop - 1, (stop - start, own_d) float32, all copies of one vector after another."""
        import torch

        m, larger = divmod(self.n, self.copied)
        index = torch.arange(start, stop, device="cpu")
        source = torch.maximum(index // (m + 1), (index - larger) // m)  # the first `larger` have a copy more
        first, last = (int(source[0]), int(source[-1]) + 1) if start < stop else (0, 0)
        originals = self.originals(first, last)[source - first]
        share = (self.apart / ((m + (source < larger)).float() * (1 + self.apart) - 1))[:, None]
        rows = torch.empty(stop - start, self.own_d, dtype=torch.float32, device="cpu")
        apart = self.n - self.copied
        rows[:, :apart] = vertices(self.n, self.copied, start, stop) * (1 - share).clamp(min=0).sqrt()
        rows[:, apart:] = originals * share.sqrt()
        return rows


@dataclass(frozen=True)
class Copies(Copied):
    """The first `size` vectors of a form in R^D, each several times: n vectors in R^(n - size + D).

    The coherence is 1/(m (1 + L) - 1): the form's is 1/L, and each vector has m copies or one more.
    """

    family: ClassVar[str] = "copies"
    form: ClosedForm
    size: int
    n: int

    def __post_init__(self) -> None:
        if type(self.form) not in COPIED or self.form.cosine >= 1:
            raise BadRequest(
                f"form is {self.form}; allowed are lines of {', '.join(family.family for family in COPIED)}"
            )
        if not 2 <= self.size <= self.form.own_n or self.n < 2 * self.size:
            raise BadRequest(
                f"size is {self.size}; allowed is 2 to {self.form.own_n} vectors of the form, and at most half of n; "
                f"n is {self.n}"
            )

    @classmethod
    def needs(cls, d: int, n: int) -> Iterator[Need]:
        """Yield all forms; of each as few vectors are copied as are n - d, or one, more than dimensions."""
        more = max(1, n - d)
        total = d + more

        def promised(form: Tight) -> float:
            copies = total // (form.own_d + more)
            return 1 / (copies * (1 + 1 / form.cosine) - 1) if copies > 1 else 1.0

        def made(form: Tight) -> "Iterator[Copies]":
            size = form.own_d + more
            if 2 * size <= total and size <= form.own_n and form.cosine < 1:
                yield cls(form, size, total)

        yield Need(ASKED, frames, 1, WIDEST, made, promised=promised)

    @property
    def own_d(self) -> int:
        return self.n - self.size + self.form.own_d

    @property
    def copied(self) -> int:
        return self.size

    @property
    def apart(self) -> float:
        return 1 / self.form.cosine

    def originals(self, start: int, stop: int) -> "Tensor":
        return self.form.rows(start, stop).double()
