"""The record of what is known of a set beside its Spec and what was measured."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal

from protogen.measuring.stats import AngleStats

# Facts that stand with others: a file that has the first has those beside it too.
BESIDE = {"outdone": ("guaranteed_coherence",), "phi": ("phi_deg", "own_d", "guaranteed_max_cos")}


@dataclass(frozen=True)
class Norms:
    """The smallest, the mean and the largest norm of some vectors."""

    min: float
    mean: float
    max: float


@dataclass(frozen=True)
class Jammed:
    """What is known of the pairs at the largest cosine, or |cosine| of lines, of a set that was polished.

    - `active_pairs`: so many pairs have it, but for `within`.
    - `slope`: moves of the rows within their tangent spaces, of at most `within` a coordinate, lower it to first
      order by at most `slope` times `within`. About 0: the set is a local optimum to first order.
    """

    active_pairs: int
    within: float
    slope: float


@dataclass(frozen=True)
class Turns:
    """A cyclic group that turns planes of R^d, with as many elements as `order` says.

    Element g turns plane p, of coordinates p and p + d // 2, by the angle 2 pi g f / order, f the frequency of the
    plane. Where d is odd, the last coordinate stays.
    """

    order: int
    frequencies: tuple[int, ...]


@dataclass(frozen=True)
class Facts:
    """What is known of a set of n vectors in R^d; None where a fact does not apply.

    - `closed_form`: the label of the formula that gives the rows; `construction`: of a cube, the code in it.
    - `guaranteed_coherence`, `guaranteed_max_cos`: the largest |cos| and the largest cos that the formula allows.
    - `outdone`: the label of the closed form that a descent has started from, and bettered.
    - `own_d`: the coordinates that the rows use, from the first on; the others are zeros.
    - `phi`, `phi_deg`: of a polytope, the angle from a vertex to its neighbours, in radians and in degrees.
    - `extended_n`: so many rows, the first, are those of the artifact that this one extends.
    - `norms`: "free" where rows keep a norm that is not one.
    - `center_norms`, `subcenter_norms`: of the vectors as drawn.
    - `within_class`: what was measured over pairs of one class, where each class has several rows.
    - `jammed`: what a polish says of the largest cosine that it came to.
    - `orbits`: the group of which the rows are orbits: row i is element i % order of the orbit of row i - i % order.
    - `group`: the finite group that maps the set to itself, or a set that it was made from, and how many orbits it has.
    - `more`: facts by names that this protogen does not know; each is any value of JSON.
    """

    closed_form: str | None = None
    construction: str | None = None
    guaranteed_coherence: float | None = None
    guaranteed_max_cos: float | None = None
    outdone: str | None = None
    own_d: int | None = None
    phi: float | None = None
    phi_deg: float | None = None
    extended_n: int | None = None
    norms: Literal["free"] | None = None
    center_norms: Norms | None = None
    subcenter_norms: Norms | None = None
    within_class: AngleStats | None = None
    jammed: Jammed | None = None
    orbits: Turns | None = None
    group: str | None = None
    more: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The facts that apply as plain JSON values."""
        known = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "more"}
        said = {name: _plain(value) for name, value in known.items() if value is not None}
        return {**said, **self.more}

    def with_more(self, more: Mapping[str, Any]) -> "Facts":
        """The same facts with further ones, whose names this protogen does not know."""
        return replace(self, more={**self.more, **more}) if more else self

    def faults(self, shape: Sequence[int]) -> Iterator[str]:
        """Say what cannot be true of rows of this shape, (n, d) or (n, s, d)."""
        if self.own_d is not None and not 1 <= self.own_d <= shape[-1]:
            yield f"own_d is {self.own_d}, allowed is 1 to {shape[-1]}"
        if self.extended_n is not None and not 1 <= self.extended_n < shape[0]:
            yield f"extended_n is {self.extended_n}, allowed is 1 to {shape[0] - 1}"
        if self.phi is not None and not 0 <= self.phi <= math.pi:
            yield f"phi is {self.phi}, allowed is 0 to pi"
        if self.within_class is not None:
            if len(shape) < 3 or shape[1] < 2:
                yield "within_class stands beside rows that are one a class"
            yield from self.within_class.faults()
        if self.jammed is not None and not 0 < self.jammed.active_pairs <= shape[0] * (shape[0] - 1) // 2:
            yield f"jammed has {self.jammed.active_pairs} active pairs, allowed are 1 to all of {shape[0]} vectors"
        if self.orbits is not None:
            yield from _orbit_faults(self.orbits, shape)
        for name, others in BESIDE.items():
            for other in others:
                if getattr(self, name) is not None and getattr(self, other) is None:
                    yield f"{name} stands without {other}"


def _orbit_faults(turns: Turns, shape: Sequence[int]) -> Iterator[str]:
    if not 2 <= turns.order <= shape[0]:
        yield f"orbits are of a group of order {turns.order}, allowed is 2 to {shape[0]}"
    elif len(turns.frequencies) != shape[-1] // 2 or len(shape) != 2:
        yield f"orbits have {len(turns.frequencies)} frequencies, allowed is one for each plane of R^{shape[-1]}"
    elif not all(0 <= frequency < turns.order for frequency in turns.frequencies):
        yield f"orbits have a frequency that is not 0 to {turns.order - 1}"


def _plain(value: Any) -> Any:
    if isinstance(value, AngleStats):
        return value.to_dict()
    return asdict(value) if isinstance(value, Norms | Jammed | Turns) else value
