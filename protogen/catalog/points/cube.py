"""Vertices of the cube {-1/sqrt(d), 1/sqrt(d)}^d far from one another: binary codes as points."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar, Self

from protogen.bounds import max_cos_bound

from ..algebra import hadamard
from ..algebra.linear import LinearCode, linear_codes
from ..family import Sized

if TYPE_CHECKING:
    from torch import Tensor

PUNCTURE = 32  # coordinates that juxtaposed Hadamard codes may lose


@dataclass(frozen=True)
class CubeVertices(Sized):
    """n vertices of the cube in R^d: the best of several binary codes of n words of length d.

    Words at Hamming distance h have the cosine 1 - 2h/d. The code with the lowest largest cosine is taken, the
    first of equals. The codes are:

    - Hadamard matrices side by side (Levenshtein 1961, The application of Hadamard matrices to a problem in
      coding).
    - The coordinates of the small cube, repeated.
    - Linear codes built column by column. They begin from nothing, from nothing and closed under negation, or after
      a dual BCH code (MacWilliams and Sloane 1977, Section 9.8), of which the smallest is the first-order Reed-Muller
      code. Each column is the one that lowers the sum over words of 2^-weight most (Gilbert-Varshamov by
      conditional expectations).
    - A longer dual BCH code, cut.
    - Lexicodes, where few coordinates are left to choose (Conway and Sloane 1986).
    """

    family: ClassVar[str] = "cube"
    d: int
    n: int

    @classmethod
    def reach(cls, d: int, n: int) -> Self | None:
        """Return the code of n words, where there are so many vertices."""
        return cls(d, n) if n <= 2**d else None

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
class HadamardCode:
    """Codes of Hadamard matrices side by side, cut to d columns or filled with ones.

    `peak` is the largest inner product of two words. A piece (m, drop) is of a matrix of order m whose first column
    is made of ones. Its word i is a row without the first `drop` columns:

    - drop 0: of the rows and their negatives, 2m words.
    - drop 1: of the rows, m words.
    - drop 2: of the rows that have a one in the second column, m/2 words.
    """

    name: ClassVar[str] = "Hadamard codes"
    peak: int
    d: int
    pieces: tuple[tuple[int, int], ...]

    def signs(self, start: int, stop: int) -> "Tensor":
        """Return words start to stop - 1, (stop - start, d) float32, of 1 and -1."""
        import torch

        signs = torch.ones(stop - start, self.d, dtype=torch.float32, device="cpu")
        first = 0
        for order, drop in self.pieces:
            last = min(self.d, first + order - drop)
            signs[:, first:last] = _piece(order, drop, start, stop)[:, : last - first]
            first = last
        return signs


def _piece(order: int, drop: int, start: int, stop: int) -> "Tensor":
    """Return words start to stop - 1 of one piece, (stop - start, order - drop), of 1 and -1."""
    import torch

    rows, columns = torch.arange(order, device="cpu")[:, None], torch.arange(order, device="cpu")
    if drop == 2:
        both = hadamard.entries(order, rows, columns[:2])
        rows = rows[both[:, 0] == both[:, 1]]
    index = torch.arange(start, stop, device="cpu")
    rows = rows[index % len(rows)]
    signs = hadamard.entries(order, rows, columns) * hadamard.entries(order, rows, columns[:1])
    return torch.where(index[:, None] < order, signs, -signs)[:, drop:]


@lru_cache(maxsize=8)
def best_code(d: int, n: int) -> LinearCode | HadamardCode:
    """Find the code of n words of length d with the lowest peak; one that meets a bound ends the search."""
    least = max_cos_bound(d, n).value * d + 1e-9
    best: LinearCode | HadamardCode | None = None
    for code in codes(d, n):
        if best is None or code.peak < best.peak:
            best = code
        if best.peak <= least:
            break
    assert best is not None  # the repetition is always there
    return best


def codes(d: int, n: int) -> Iterator[LinearCode | HadamardCode]:
    """Yield the codes to choose from, of n <= 2^d words of length d."""
    if n <= 2 * (d + PUNCTURE):
        yield from _hadamard_codes(d, n)
    yield from linear_codes(d, (n - 1).bit_length())


def _hadamard_codes(d: int, n: int) -> Iterator[HadamardCode]:
    """Find the pieces of n words whose lengths add up to about d with the lowest sum of inner products.

    - Two words of a piece have the inner product -drop, or less.
    - A column of ones adds 1.
    - A column that is cut off takes 1 away at most.
    """
    import torch

    orders = [order for order in (1, 2, *range(4, d + PUNCTURE + 3, 4)) if hadamard.exists(order)]
    words = [(order, drop) for order in orders for drop in range(3) if n << drop <= 2 * order and drop < order]
    pieces = [(order, drop) for order, drop in words if order - drop <= d + PUNCTURE]
    if not pieces:
        return
    lengths, drops = (
        torch.tensor(column, device="cpu") for column in zip(*((m - drop, drop) for m, drop in pieces), strict=True)
    )
    unreached = 2 * (d + PUNCTURE)
    sums = torch.full((d + PUNCTURE + 1,), unreached, device="cpu")
    sums[0] = 0
    last: list[int | None] = [None]  # of the best way to each length: its last piece, or None for a one
    for length in range(1, d + PUNCTURE + 1):
        before = length - lengths
        way = torch.where(before >= 0, sums[before.clamp(0)] - drops, unreached)
        piece, filled = int(way.argmin()), int(sums[length - 1]) + 1
        last.append(piece if int(way[piece]) <= filled else None)
        sums[length] = min(int(way[piece]), filled)
    cut = sums[d:] + torch.arange(PUNCTURE + 1, device="cpu")
    length = d + int(cut.argmin())
    taken = []
    while length > 0:
        piece_or_one = last[length]
        if piece_or_one is not None:
            taken.append(pieces[piece_or_one])
        length -= 1 if piece_or_one is None else int(lengths[piece_or_one])
    yield HadamardCode(int(cut.min()), d, tuple(taken))
