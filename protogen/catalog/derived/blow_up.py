"""Lines where n is little above d: the complement of a tight frame, its vectors copied and set apart by simplices."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar, Self

from protogen.errors import BadRequest

from ..algebra.simplex import vertices
from ..direct import DIRECT
from ..family import Bases, Tight
from .copies import Copied
from .rule import Need, frames

if TYPE_CHECKING:
    from torch import Tensor

TIGHT = tuple(family for family in DIRECT if issubclass(family, Tight))
LARGEST = 2**14  # vectors of a frame whose complement is factorised: 2 GiB


@dataclass(frozen=True)
class BlowUp(Copied):
    """n vectors in R^(n - k) from N = `size` vectors x that are a tight frame of R^k, of coherence mu_0.

    The frame is the first N rows of a form: two or more bases, or all rows if it is not made of bases.

    The frame's Naimark complement is N unit vectors z in R^(N - k) with <z_i, z_j> = -<x_i, x_j> k/(N - k). Their
    coherence is 1/L, where L = (N/k - 1)/mu_0. Each z has m = floor(n/N) copies or one more, as `Copied` has it.

    The coherence is 1/(m (1 + L) - 1). It is the least there is if the frame is equiangular with k(k+1)/2 lines and
    N divides n.

    Source: Bukh and Cox 2020, Nearly orthogonal vectors and small antipodal spherical codes.
    """

    family: ClassVar[str] = "blow-up"
    form: Tight
    size: int
    n: int

    def __post_init__(self) -> None:
        if type(self.form) not in TIGHT:
            raise BadRequest(f"form is {self.form}; allowed is a tight frame")
        if self.size not in _sizes(self.form, self.n):
            several = f"2 or more times {self.form.own_d}, up to " if _in_bases(self.form) else ""
            raise BadRequest(
                f"size is {self.size}; allowed is {several}{self.form.own_n} with this form, at most n; n is {self.n}"
            )

    @classmethod
    def needs(cls, d: int, n: int) -> Iterator[Need]:
        """Yield the frames of R^k, k from n - d on, band by band."""
        low = max(2, n - d)
        while low <= d:
            high, least = min(d, 3 * low // 2 + 32), _cosine(_most_merit(low, d))
            yield Need(
                TIGHT,
                frames,
                low,
                high,
                made=lambda form: cls._filling(form, d, n),
                least=least,
                promised=lambda form: _cosine(_filled(form, d, n)[0]),
            )
            low = high + 1

    @classmethod
    def order(cls, member: Self) -> tuple[float, ...]:
        return member.cosine, member.own_d  # whatever tables a frame has: keys of files rest on it

    @classmethod
    def _filling(cls, form: Tight, d: int, n: int) -> "Iterator[BlowUp]":
        """Yield the copies of lowest coherence that fill R^d."""
        merit, enough, size = _filled(form, d, n)
        if merit > 2 + 1e-9:
            yield cls(form, size, enough)

    @property
    def own_d(self) -> int:
        return self.n - self.form.own_d

    @property
    def copied(self) -> int:
        return self.size

    @property
    def apart(self) -> float:
        return _ratio(self.form, self.size)

    @property
    def exact(self) -> bool:
        return _in_bases(self.form)

    @property
    def held_bytes(self) -> int:
        return self.form.held_bytes + (0 if _in_bases(self.form) else 8 * self.size**2)

    def originals(self, start: int, stop: int) -> "Tensor":
        part = _complement_of_bases if _in_bases(self.form) else _complement_by_qr
        return part(self.form, self.size, start, stop)


def _in_bases(form: Tight) -> bool:
    return isinstance(form, Bases)


def _sizes(form: Tight, n: int) -> range:
    """How many of a form's first rows, at most n, can be the frame."""
    least, step = (2 * form.own_d, form.own_d) if _in_bases(form) else (form.own_n, form.own_n)
    return range(least, min(form.own_n, n) + 1, step)


def _ratio(form: Tight, size: int) -> float:
    """One over the coherence of the frame's complement."""
    return (size / form.own_d - 1) / form.cosine


def _merit(form: Tight, size: int, n: int) -> float:
    """Rate the copies: one more than one over their coherence."""
    return n // size * (1 + _ratio(form, size))


def _filled(form: Tight, d: int, n: int) -> tuple[float, int, int]:
    """Return the merit, the vectors and the size of the copies of most merit that fill R^d, of equals the fewest."""
    best, room = (0.0, 0, 0), d + form.own_d
    for size in _sizes(form, room):
        if _in_bases(form) or size <= LARGEST:
            enough = max(n, room // size * size)
            merit = _merit(form, size, enough)
            if merit > best[0] or (merit == best[0] and enough < best[1]):
                best = merit, enough, size
    return best


def _cosine(merit: float) -> float:
    return 1 / (merit - 1) if merit > 2 else 1.0


def _most_merit(k: int, d: int) -> float:
    """Bound `_merit` from above for all frames of at least k and at most d dimensions.

    1. Copies of N vectors in R^k that fill R^d have (d + k)/N (1 + L) at most, L = (N/k - 1)/mu_0 and N > k.
    2. Welch's bound on mu_0 bounds L.
    """
    return (d + k) * (1 / (k + 1) + 1 / math.sqrt(k)) * (1 + 1e-9)


def _complement_of_bases(form: Tight, size: int, start: int, stop: int) -> "Tensor":
    """Multiply vector i of basis b with vertex b of a regular simplex, a Kronecker product: rows start to stop - 1."""
    import torch

    d = form.own_d
    vectors = form.rows(start, stop).double()
    basis = torch.arange(start, stop, device="cpu") // d
    first, last = start // d, -(-stop // d)
    labels = vertices(size // d, 1, first, last)[basis - first]
    return (labels[:, :, None] * vectors[:, None]).flatten(1)


def _complement_by_qr(form: Tight, size: int, start: int, stop: int) -> "Tensor":
    """Take rows start to stop - 1 of the columns that complete those of the form, scaled to unit length."""
    return _orthogonal(form)[start:stop, form.own_d :] * math.sqrt(size / (size - form.own_d))


@lru_cache(maxsize=1)
def _orthogonal(form: Tight) -> "Tensor":
    """Factorise: an orthogonal matrix (own_n, own_n) float64 whose first own_d columns span the form's columns."""
    import torch

    orthogonal: Tensor = torch.linalg.qr(form.rows(0, form.own_n).double(), mode="complete").Q
    return orthogonal
