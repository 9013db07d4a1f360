"""From any set, another: what a construction needs of other forms, and the one search for the best that comes of it."""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, Self

from ..family import Bases, ClosedForm, OfForm, Tight, preference

TIE = 1e-12  # cosines that are nearer count as equal
Question = Callable[[type[Any], int, int], Iterable[ClosedForm | None]]


class Need(NamedTuple):
    """What a construction asks other families, what it makes of an answer, and how good that can be.

    `question` is asked of each of the families, with `first` and `second`. `made` yields the members that come of
    one form. None of them has a cosine below `least`, and none below `promised` of the form.
    """

    families: Sequence[type[ClosedForm]]
    question: Question
    first: int
    second: int
    made: Callable[[Any], Iterable[Any]]
    least: float = -1.0
    promised: Callable[[Any], float] = lambda form: -1.0


def reached(family: type[ClosedForm], d: int, n: int) -> Iterator[ClosedForm | None]:
    """Ask for the best of n vectors or more in R^d."""
    yield family.reach(d, n)


def roomy(family: type[ClosedForm], d: int, n: int) -> Iterator[ClosedForm | None]:
    """Ask for the best in R^d with n - d more vectors than dimensions, or more."""
    yield family.with_room(d, n)


def frames(family: type[Tight], low: int, high: int) -> Iterator[ClosedForm]:
    """Ask for all tight frames of low to high dimensions."""
    return family.sized(low, high)


def bases(family: type[Bases], low: int, high: int) -> Iterator[ClosedForm]:
    """Ask for all sets of orthonormal bases in low to high dimensions, but for those that another is better than."""
    return family.leading(low, high)


@lru_cache(maxsize=2**12)
def answers(question: Question, family: type[ClosedForm], first: int, second: int) -> tuple[ClosedForm, ...]:
    """List what a family answers; rules of nearly one size ask the same, so that answers are kept."""
    return tuple(filter(None, question(family, first, second)))


class Derived(OfForm):
    """A family whose members are made from another form by a rule, which `needs` states.

    The rules chain, as a form that is asked for can itself be made by a rule. Let k be the number of vectors that a
    form has more than dimensions. `beside`, `projection`, `projections` and `copies` leave k as it is:

    1. A form with e lines beside it, projected e times, is the form.
    2. m copies of a form that was projected s times are m copies of the form, projected m s times.
    3. m copies of a form with e lines beside it have the size and the coherence of m copies of the form with m e
       lines beside them.

    So of the chains of two, those of one of the first three rules after `copies`, `blow-up`, `labels` or `punctured`
    are all that have to be looked at.
    """

    @classmethod
    @abstractmethod
    def needs(cls, d: int, n: int) -> Iterator[Need]:
        """Yield what members of n vectors or more in R^d can be made of."""

    @classmethod
    def order(cls, member: Self) -> tuple[float, ...]:
        """What members are ordered by; of equals the first is taken."""
        return (*preference(member), member.own_d)

    @classmethod
    def reach(cls, d: int, n: int) -> Self | None:
        return cls.best_of(cls.needs(d, n))

    @classmethod
    def best_of(cls, needs: Iterable[Need]) -> Self | None:
        """Return the best member that can be made, or None; what promises no better one is not asked for."""
        found: Self | None = None
        for need in needs:
            if found and need.least >= found.cosine:
                continue
            for family in need.families:
                for form in answers(need.question, family, need.first, need.second):
                    if found is None or need.promised(form) <= found.cosine + TIE:
                        members = (member for member in (found, *need.made(form)) if member)
                        found = min(members, key=cls.order, default=None)
        return found
