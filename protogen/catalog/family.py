"""What every closed form answers, how it is named, and how it is laid into the space that was asked for."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self, TypeVar

from protogen.errors import BadRequest

if TYPE_CHECKING:
    import torch

Blocks = tuple[tuple[int, ...], ...]
LESS = (0, 1, 3, 7, 15)  # vectors less than were asked for, of members with room for them


class ClosedForm(ABC):
    """One member of a family of lines or of points: a frozen dataclass of a few parameters.

    A parameter is a whole number, blocks of whole numbers, or another closed form. The member answers
    its size and guarantee without building anything, then yields rows for any range. Parameters that
    no member has raise BadRequest.
    """

    family: ClassVar[str]

    @classmethod
    @abstractmethod
    def reach(cls, d: int, n: int) -> Self | None:
        """Return the member of lowest cosine among those with own_d <= d and own_n >= n, or None.

        At least n vectors in at most d dimensions: the cosine never rises where n falls or d grows. Of
        members of equal cosine it is the one of least own_d.
        """

    @classmethod
    def with_room(cls, d: int, n: int) -> Self | None:
        """Return a member in R^d with n - d more vectors than dimensions, or more, or None.

        It leaves a dimension free for each vector that it has less than n. It is the best of all members where a
        family can tell, else of those that `reach` has for a few vectors less.
        """
        return nearby(cls, d, n)

    @property
    @abstractmethod
    def own_d(self) -> int:
        """The dimension that it needs."""

    @property
    @abstractmethod
    def own_n(self) -> int:
        """The number of vectors that it has."""

    @property
    @abstractmethod
    def cosine(self) -> float:
        """What the construction guarantees: of lines the largest |cos|, of points the largest cos."""

    @property
    def exact(self) -> bool:
        """Whether the rows have the same bytes on every machine: no factorisation, no long sums of floats."""
        return True

    @property
    def held_bytes(self) -> int:
        """The memory of tables that any rows need, beside the rows themselves; 0 if it does not grow with own_n."""
        return 0

    @abstractmethod
    def rows(self, start: int, stop: int) -> "torch.Tensor":
        """Return rows start to stop - 1, (stop - start, own_d), float32, unit, on the CPU."""


class OfForm(ClosedForm):
    """A family whose members are made from another form, their field `form`: as exact as that, and with its tables."""

    form: ClosedForm

    @property
    def exact(self) -> bool:
        return self.form.exact

    @property
    def held_bytes(self) -> int:
        return self.form.held_bytes


class Sized(ClosedForm):
    """A family whose members are named by their sizes: fields d and n, the n vectors of R^d that they are."""

    d: int
    n: int

    @property
    def own_d(self) -> int:
        return self.d

    @property
    def own_n(self) -> int:
        return self.n


class Tight(ClosedForm):
    """A family with members that are tight frames: all own_n rows X have X^T X = (own_n / own_d) I."""

    @classmethod
    def reach(cls, d: int, n: int) -> Self | None:
        return best(form for form in cls.sized(1, d) if n <= form.own_n)

    @classmethod
    def with_room(cls, d: int, n: int) -> Self | None:
        return best(form for form in cls.sized(1, d) if n - d <= form.own_n - form.own_d)

    @classmethod
    @abstractmethod
    def sized(cls, low: int, high: int) -> Iterator[Self]:
        """Yield the members that are tight frames, low <= own_d <= high."""


class Bases(ClosedForm):
    """A family whose rows run in orthonormal bases: rows k own_d to (k + 1) own_d - 1 are one."""

    @classmethod
    @abstractmethod
    def leading(cls, low: int, high: int) -> Iterator[Self]:
        """Yield the members with low <= own_d <= high.

        A member may be left out where one of larger own_d has more bases and a lower cosine.
        """

    @property
    @abstractmethod
    def flat(self) -> int:
        """How many of the first bases have all coordinates 1 / sqrt(own_d) or its negative."""


def preference(form: ClosedForm) -> tuple[float, int]:
    """What forms of one size are ordered by: the lowest guaranteed cosine, but for rounding, then the least tables."""
    return round(form.cosine, 12), form.held_bytes


Form = TypeVar("Form", bound=ClosedForm)


def best(forms: Iterable[Form | None]) -> Form | None:
    """Of closed forms, the one of most preference, of equals the one of least own_d."""
    return min((form for form in forms if form), key=lambda form: (*preference(form), form.own_d), default=None)


def nearby(family: type[Form], d: int, n: int) -> Form | None:
    """Return the best of what a family reaches for n vectors in R^d, and for LESS of both."""
    return best(family.reach(d - less, max(2, n - less)) for less in LESS if less < d)


def row_signs(start: int, stop: int) -> "torch.Tensor":
    """Return the signs of rows start to stop - 1, (stop - start,) float32: -1 where a hash of the index is odd.

    The last bit of splitmix64 (Steele, Lea and Flood 2014), which knows neither n nor the form: the first rows of
    more have the same signs, and the rows have no direction to which all have the same cosine. Where they are
    linearly independent, as for n <= d, every choice of signs leaves one.
    """
    import torch

    def shifted(x: torch.Tensor, bits: int) -> torch.Tensor:
        return (x >> bits) & ((1 << (64 - bits)) - 1)  # of an unsigned number

    x = (torch.arange(start, stop, device="cpu") + 1) * -0x61C8864680B583EB  # int64 wraps, as uint64 does
    x = (x ^ shifted(x, 30)) * -0x40A7B892E31B1A47
    x = (x ^ shifted(x, 27)) * -0x6B2FB644ECCEEE15
    return (1 - 2 * ((x ^ shifted(x, 31)) & 1)).float()


@dataclass(frozen=True)
class Padded:
    """The first n rows of a closed form in R^d: its own coordinates, then zeros.

    `signed` turns about half of them round, by `row_signs`: the same lines.
    Raises BadRequest where the form has fewer than n vectors or more than d dimensions.
    """

    form: ClosedForm
    n: int
    d: int
    signed: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.n <= self.form.own_n or self.d < self.form.own_d:
            raise BadRequest(
                f"n is {self.n} and d is {self.d}; the closed form {self.form} has {self.form.own_n} vectors "
                f"in {self.form.own_d} dimensions; allowed are n up to the one and d from the other"
            )

    @property
    def shape(self) -> tuple[int, ...]:
        return self.n, self.d

    def rows(self, start: int, stop: int) -> "torch.Tensor":
        own = self.form.rows(start, stop)
        if self.signed:
            own = own * row_signs(start, stop)[:, None] + 0.0  # no zero is a negative one
        if own.shape[1] == self.d:
            return own
        padded = own.new_zeros(stop - start, self.d)
        padded[:, : self.form.own_d] = own
        return padded
