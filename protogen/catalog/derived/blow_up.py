"""Lines where n is little above d: the complement of a tight frame, its vectors copied and set apart by simplices."""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar, Self

from protogen.errors import BadRequest

from ..algebra.simplex import vertices
from ..direct import DIRECT
from ..family import Bases, ClosedForm, Tight

if TYPE_CHECKING:
    from torch import Tensor

TIGHT = tuple(family for family in DIRECT if issubclass(family, Tight))
LARGEST = 2**14  # vectors of a frame whose complement is factorised: 2 GiB


@dataclass(frozen=True)
class BlowUp(ClosedForm):
    """n vectors in R^(n - k) from N = `size` vectors x that are a tight frame of R^k, of coherence mu_0.

    The frame is the first N rows of a form: two or more bases, or all rows if it is not made of bases.

    1. The frame's Naimark complement is N unit vectors z in R^(N - k) with <z_i, z_j> = -<x_i, x_j> k/(N - k).
       Their coherence is 1/L, where L = (N/k - 1)/mu_0.
    2. Each z has m = floor(n/N) copies or one more. A copy is sqrt(L mu) z and sqrt(1 - L mu) times a vertex of a
       regular simplex in m - 1 coordinates of its own, where mu = 1/(m (1 + L) - 1).
    3. Copies of one z meet in L mu - (1 - L mu)/(m - 1) = -mu. Copies of two meet in L mu / L = mu at most.

    The coherence is mu. It is the least there is if the frame is equiangular with k(k+1)/2 lines and N divides n.

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
    def reach(cls, d: int, n: int) -> Self | None:
        """Return the copies of lowest coherence that fill R^d, of frames of R^k with n - d <= k <= d.

        Of copies that are as good it is those of the fewest vectors.
        """
        found, low, key = None, max(2, n - d), (-2 - 1e-9, 0)
        while low <= d and -_most_merit(low, d) < key[0]:
            high = min(d, 3 * low // 2 + 32)
            for form in (form for family in TIGHT for form in family.sized(low, high)):
                for size in _sizes(form, d + form.own_d):
                    if _in_bases(form) or size <= LARGEST:
                        enough = max(n, (d + form.own_d) // size * size)
                        new = -_merit(form, size, enough), enough - form.own_d
                        if new < key:
                            found, key = (form, size, enough), new
            low = high + 1
        return cls(*found) if found else None

    @property
    def own_d(self) -> int:
        return self.n - self.form.own_d

    @property
    def own_n(self) -> int:
        return self.n

    @property
    def cosine(self) -> float:
        return 1 / (_merit(self.form, self.size, self.n) - 1)

    @property
    def exact(self) -> bool:
        return _in_bases(self.form)

    @property
    def held_bytes(self) -> int:
        return self.form.held_bytes + (0 if _in_bases(self.form) else 8 * self.size**2)

    def rows(self, start: int, stop: int) -> "Tensor":
        """Return rows start to stop - 1, (stop - start, n - k) float32, all copies of one vector after another."""
        import torch

        m, larger = divmod(self.n, self.size)
        index = torch.arange(start, stop, device="cpu")
        source = torch.maximum(index // (m + 1), (index - larger) // m)  # the first `larger` have a copy more
        first, last = (int(source[0]), int(source[-1]) + 1) if start < stop else (0, 0)
        part = _complement_of_bases if _in_bases(self.form) else _complement_by_qr
        complement = part(self.form, self.size, first, last)[source - first]
        ratio = _ratio(self.form, self.size)
        share = (ratio / ((m + (source < larger)).float() * (1 + ratio) - 1))[:, None]
        rows = torch.empty(stop - start, self.own_d, dtype=torch.float32, device="cpu")
        rows[:, : self.n - self.size] = vertices(self.n, self.size, start, stop) * (1 - share).clamp(min=0).sqrt()
        rows[:, self.n - self.size :] = complement * share.sqrt()
        return rows


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
