"""What every closed form answers, and how it is laid into the space that was asked for."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol, Self

if TYPE_CHECKING:
    import torch


class ClosedForm(Protocol):
    """One member of a family of lines or of points: a frozen dataclass of whole numbers.

    It answers its size and guarantee without building anything, then yields rows for any range.
    """

    family: ClassVar[str]

    @classmethod
    def reach(cls, d: int, n: int) -> Self | None:
        """The member with the lowest cosine that has n vectors in R^d, or None."""
        ...

    @property
    def own_d(self) -> int: ...

    @property
    def own_n(self) -> int: ...

    @property
    def cosine(self) -> float:
        """What the construction guarantees: of lines the largest |cos|, of points the largest cos."""
        ...

    def rows(self, start: int, stop: int) -> "torch.Tensor":
        """Return rows start to stop - 1, (stop - start, own_d), float32, unit, on the CPU."""
        ...


def label(form: ClosedForm) -> str:
    """Write a form as family(parameter=value, ...), the way a Spec names it."""
    return f"{form.family}({','.join(f'{name}={value}' for name, value in vars(form).items())})"


@dataclass(frozen=True)
class Padded:
    """The first n rows of a closed form in R^d: its own coordinates, then zeros."""

    form: ClosedForm
    n: int
    d: int

    @property
    def shape(self) -> tuple[int, ...]:
        return self.n, self.d

    def rows(self, start: int, stop: int) -> "torch.Tensor":
        own = self.form.rows(start, stop)
        padded = own.new_zeros(stop - start, self.d)
        padded[:, : self.form.own_d] = own
        return padded
