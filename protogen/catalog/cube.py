"""Vertices of the cube {-1/sqrt(d), 1/sqrt(d)}^d far from one another: binary codes as points."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar, Self

from ..bounds import max_cos_bound
from . import hadamard

if TYPE_CHECKING:
    from torch import Tensor

EFFORT = 2**33  # multiplications that one greedy search may take
MEASURED = 22  # up to which dimension all words of a linear code are measured
REDUNDANCY = 13  # up to which a lexicode is tried
PUNCTURE = 32  # coordinates that juxtaposed Hadamard codes may lose


@dataclass(frozen=True)
class CubeVertices:
    """n vertices of the cube in R^d: the best binary code of length d that one of these gives.

    Words at Hamming distance h have the cosine 1 - 2h/d, so a code of n words with a large smallest
    distance is sought, and the one with the lowest largest cosine taken, the first of equals:
    Hadamard matrices side by side (Levenshtein 1961, The application of Hadamard matrices to a
    problem in coding); the small cube's coordinates repeated; linear codes built column by column, each
    column the one that lowers the sum over words of 2^-weight most (Gilbert-Varshamov by conditional
    expectations), from nothing, from nothing and closed under negation, or after a dual BCH code
    (MacWilliams and Sloane 1977, Section 9.8; with x alone first-order Reed-Muller); a longer dual
    BCH code cut; where few coordinates are left to choose, lexicodes (Conway and Sloane 1986).
    """

    family: ClassVar[str] = "cube"
    d: int
    n: int

    @classmethod
    def reach(cls, d: int, n: int) -> Self | None:
        """The code of n words, where there are so many vertices."""
        return cls(d, n) if n <= 2**d else None

    @property
    def own_d(self) -> int:
        return self.d

    @property
    def own_n(self) -> int:
        return self.n

    @property
    def cosine(self) -> float:
        """The largest cosine, known from the code; the first question makes the search."""
        return best_code(self.d, self.n).peak / self.d

    @property
    def construction(self) -> str:
        """Which kind of code it is."""
        return best_code(self.d, self.n).name

    def rows(self, start: int, stop: int) -> "Tensor":
        """Return rows start to stop - 1, (stop - start, d) float32."""
        return best_code(self.d, self.n).signs(start, stop).float() / math.sqrt(self.d)


@dataclass(frozen=True)
class LinearCode:
    """Word u has the bit parity(u & c) at each column c; `peak` is the largest inner product of two words."""

    name: str
    peak: int
    columns: tuple[int, ...]

    def signs(self, start: int, stop: int) -> "Tensor":
        """Words start to stop - 1, (stop - start, d), of 1 and -1."""
        import torch

        bits = torch.arange(max(self.columns).bit_length())
        words = torch.arange(start, stop)[:, None] >> bits & 1
        columns = torch.tensor(self.columns) >> bits[:, None] & 1
        return 1 - 2 * (words.float() @ columns.float() % 2)


@dataclass(frozen=True)
class HadamardCode:
    """Codes of Hadamard matrices side by side, cut to d columns or filled with ones; `peak` as above.

    Of a matrix of order m whose first column is made of ones, word i of the piece (m, drop) is row i
    without the first `drop` columns: drop 0 the rows and their negatives (2m words), 1 the rows
    (m words), 2 the rows that have a one in the second column (m/2 words).
    """

    name: ClassVar[str] = "Hadamard codes"
    peak: int
    d: int
    pieces: tuple[tuple[int, int], ...]

    def signs(self, start: int, stop: int) -> "Tensor":
        """Words start to stop - 1, (stop - start, d), of 1 and -1."""
        import torch

        signs = torch.ones(stop - start, self.d)
        first = 0
        for order, drop in self.pieces:
            last = min(self.d, first + order - drop)
            signs[:, first:last] = _piece(order, drop, start, stop)[:, : last - first]
            first = last
        return signs


def _piece(order: int, drop: int, start: int, stop: int) -> "Tensor":
    import torch

    rows, columns = torch.arange(order)[:, None], torch.arange(order)
    if drop == 2:
        both = hadamard.entries(order, rows, columns[:2])
        rows = rows[both[:, 0] == both[:, 1]]
    index = torch.arange(start, stop)
    rows = rows[index % len(rows)]
    signs = hadamard.entries(order, rows, columns) * hadamard.entries(order, rows, columns[:1])
    return torch.where(index[:, None] < order, signs, -signs)[:, drop:]


@lru_cache(maxsize=8)
def best_code(d: int, n: int) -> LinearCode | HadamardCode:
    """Find the code of n words of length d with the lowest peak; a code that meets a bound ends the search."""
    k = (n - 1).bit_length()
    best: LinearCode | HadamardCode | None = None
    for code in _codes(d, n, k):
        if best is None or code.peak < best.peak:
            best = code
        if best.peak <= max_cos_bound(d, n).value * d + 1e-9:
            break
    else:
        if best is None or d - k > REDUNDANCY:
            ...
    assert best
    return best
