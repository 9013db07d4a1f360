"""Where a set starts: how a Spec says it, and what is chosen where a request leaves the choice."""

import math
import re
from dataclasses import dataclass
from statistics import NormalDist
from typing import Self

from protogen.bounds import TOLERANCE, coherence_bound
from protogen.catalog import ClosedForm, Padded, from_label, label
from protogen.errors import BadRequest

AUTO = "auto"  # in a request only: the best of those that follow
RANDOM = "random"
CLOSED_FORM = "closed-form"
IMPROVED = "closed-form+descent"
PACKING = "packing"  # in a Spec only: the best of a closed form and a search for a stated effort
ORBITS = "orbits"  # in a Spec with the group, and a closed form if there is one: orbits:cyclic(<order>)/<closed form>
CAPACITY = "capacity"  # in a Spec only: the sets that `protogen capacity` finds

NEAR_BOUND = 1.05  # a coherence of at most so many times the lower bound leaves a descent little to gain
# A descent among orbits moves about ORBITS_MOVED vectors, fewer where the group would be smaller than ORBITS_ORDER. It
# gets to .89 to .94 of what is promised of a free one, measured from (16, 1024) to (192, 20000) with MANY_TIMES to 208
# times as many vectors as dimensions; to .94 to .97 with 16 and 24 times as many; with ten times as many no lower than
# free, above a descent from a closed form. Sets of more than ORBITS_LARGEST numbers take it hours.
ORBITS_FROM, ORBITS_LARGEST, ORBITS_TIMES, ORBITS_SHARE = 1e7, 2**25, 16, 0.97
MANY_TIMES, MANY_SHARE = 32, 0.93
ORBITS_MOVED, ORBITS_ORDER, LEAST_MOVED = 200, 20, 100
# In fewer dimensions an element of even order may map each line to itself, whatever the frequencies.
LEAST_EVEN = 5
AFFORDABLE = 2**30  # multiplications of one pass over all pairs, up to which a descent is tried beside a closed form
# Of the coherence of a form that lies in all d dimensions, what a descent from it gets to: (64, 3072), (64, 3584) and
# (64, 4096) come from .2500 to .2328, .2381 and .2358, among orbits to .2305, .2381 and .2443. From forms of fewer
# dimensions orbits win, or come within .0005: (20, 1920), (28, 672), (32, 1280), (36, 1728), (36, 2016), (40, 800).
IMPROVED_SHARE = 0.94


@dataclass(frozen=True)
class Start:
    """Say in a Spec what a set is made from: a word, and the label of the closed form if there is one.

    >>> start = Start.parse("closed-form:kerdock(k=3)")
    >>> start.word, start.form, str(start)
    ('closed-form', 'kerdock(k=3)', 'closed-form:kerdock(k=3)')
    """

    word: str
    form: str | None = None

    @classmethod
    def of(cls, form: ClosedForm, word: str = CLOSED_FORM) -> Self:
        """Make the start of a closed form."""
        return cls(word, label(form))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what `str` of a start wrote."""
        word, _, form = text.partition(":")
        return cls(word, form or None)

    def __str__(self) -> str:
        return self.word if self.form is None else f"{self.word}:{self.form}"

    @property
    def closed_form(self) -> ClosedForm | None:
        """The closed form, or None. Raises BadRequest where this version of protogen knows none of this label."""
        return None if self.form is None else from_label(self.form)


def check_start(
    text: str,
    d: int,
    n: int,
    families: tuple[type[ClosedForm], ...],
    words: tuple[str, ...],
    alone: tuple[str, ...] = (AUTO, RANDOM),
) -> None:
    """Raise BadRequest unless a Spec of n vectors in R^d may have this start.

    It is one of the words that stand alone: `random`, which `auto` stands for, too; or one of `words` with a closed
    form of these families, which has n vectors in at most d dimensions.
    """
    start = Start.parse(text)
    form = start.closed_form
    if start.word not in (alone if form is None else words):
        allowed = " and ".join(f"{word}:<closed form>" for word in words)
        raise BadRequest(f"start is {text!r}; allowed in a Spec are {alone[-1]}, {allowed}")
    if form is not None:
        if type(form) not in families:
            raise BadRequest(f"start is {text!r}; allowed are the families {', '.join(f.family for f in families)}")
        Padded(form, n, d)  # which raises BadRequest where the form does not fit


def best_word(d: int, n: int, alpha: float | None, form_cosine: float, combined: bool, *, padded: bool = True) -> str:
    """Choose between the closed form of n lines in R^d with coherence `form_cosine` and a descent.

    `padded`: the lines of the form lie in fewer than d dimensions, or there is no form.

    - The closed form, where it is good enough: at most alpha; or without alpha at most NEAR_BOUND times the
      lower bound; or n <= d, where its lines are orthonormal.
    - A descent among orbits where that promises less than the closed form has, or than IMPROVED_SHARE of it where a
      descent from there is the alternative and the form is not padded. There is no alpha, `combined` says that the
      request allows it, one pass over all pairs costs more than ORBITS_FROM multiplications, n d is at most
      ORBITS_LARGEST and n at least ORBITS_TIMES d.
    - A descent from the closed form and the better of the two, where one pass costs at most AFFORDABLE
      multiplications and `combined`.
    - Else the one of the closed form and a descent from random rows that promises the lower coherence.
    """
    bound = coherence_bound(d, n).value
    enough = NEAR_BOUND * bound if alpha is None else max(alpha, bound)
    if n <= d or form_cosine <= enough + TOLERANCE:
        return CLOSED_FORM
    promise = descent_promise(d, n)
    many = n >= max(4 * LEAST_MOVED, ORBITS_TIMES * d)
    among_orbits = combined and alpha is None and many and n * d <= ORBITS_LARGEST
    share = MANY_SHARE if n >= MANY_TIMES * d else ORBITS_SHARE
    improving = combined and n * n * d <= AFFORDABLE
    least = IMPROVED_SHARE * form_cosine if improving and not padded else form_cosine
    if among_orbits and n * n * d > ORBITS_FROM and share * promise < least:
        return ORBITS
    if improving:
        return IMPROVED
    return CLOSED_FORM if form_cosine <= promise else RANDOM


def orbits_start(d: int, n: int, form: ClosedForm | None) -> Start:
    """Return the start of n vectors among the orbits of a cyclic group, of which LEAST_MOVED to ORBITS_MOVED move.

    The closed form, if there is one, is the solution where no orbits are better.
    """
    order = max(2, n // ORBITS_MOVED, min(n // LEAST_MOVED, ORBITS_ORDER))
    if d < LEAST_EVEN:
        order = min(order | 1, (n - 1) | 1)
    group = f"cyclic({order})"
    return Start(ORBITS, group if form is None else f"{group}/{label(form)}")


def parts_of_orbits(start: Start, d: int, n: int) -> tuple[int, str | None]:
    """Read the order of the group and the label of the closed form, or None, of an ORBITS start of n vectors in R^d.

    Raises BadRequest on another text, and on a closed form that does not fit.
    """
    match = re.fullmatch(r"cyclic\(([1-9][0-9]{0,11})\)(?:/(.+))?", start.form or "")
    if match is None or not 2 <= int(match[1]) <= n:
        raise BadRequest(
            f"start is {str(start)!r}; allowed is {ORBITS}:cyclic(<order>), of an order from 2 to {n}, alone or with "
            "/<closed form>"
        )
    if match[2] is not None:
        Padded(from_label(match[2]), n, d)  # which raises BadRequest where the form does not fit
    return int(match[1]), match[2]


def descent_promise(d: int, n: int) -> float:
    """Estimate the coherence of n lines in R^d that a descent from random rows gets to; a rule of thumb.

    With b the lower bound of the coherence, it is b for n <= d, and else the larger of two figures:

    1. The cosine whose tangent, sqrt(d - 1) c / sqrt(1 - c^2), is z with 2 Q(z) = 2 d / n, Q the normal tail:
       each of the n d degrees of freedom pulls in about one pair.
    2. c with c^2 = b^2 + (1 - b^2) y / (d + y), y = 0.16 log(n/d)^2: what descents at n = 2 d to 13 d reached,
       within 1%.
    """
    bound = coherence_bound(d, n).value
    if n <= d:
        return bound
    z = NormalDist().inv_cdf(1 - min(0.5, d / n))
    y = 0.16 * math.log(n / d) ** 2
    return math.sqrt(max(z**2 / (d - 1 + z**2), bound**2 + (1 - bound**2) * y / (d + y)))
