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
    """Find the code of n words of length d with the lowest peak; one that meets a bound ends the search."""
    least = max_cos_bound(d, n).value * d + 1e-9
    best: LinearCode | HadamardCode | None = None
    for code in _codes(d, n):
        if best is None or code.peak < best.peak:
            best = code
        if best.peak <= least:
            break
    assert best is not None  # the repetition is always there
    return best


def _codes(d: int, n: int) -> Iterator[LinearCode | HadamardCode]:
    k = (n - 1).bit_length()
    if n <= 2 * (d + PUNCTURE):
        yield from _hadamard_codes(d, n)
    yield LinearCode("repetition", d - 2 * (d // k), tuple(1 << index % k for index in range(d)))
    for name, columns in _linear_codes(d, k):
        yield LinearCode(name, int(_dots(columns, k).flatten()[1:].max()), tuple(columns))
    if d - k <= REDUNDANCY:
        yield from _lexicodes(d, k)


def _hadamard_codes(d: int, n: int) -> Iterator[HadamardCode]:
    """The pieces of n words whose lengths add up to about d with the lowest sum of inner products.

    Two words of a piece have the inner product -drop, or less; a column of ones adds 1, a column cut
    off takes at most 1 away.
    """
    import torch

    orders = [order for order in (1, 2, *range(4, d + PUNCTURE + 3, 4)) if hadamard.exists(order)]
    words = [(order, drop) for order in orders for drop in range(3) if n << drop <= 2 * order and drop < order]
    pieces = [(order, drop) for order, drop in words if order - drop <= d + PUNCTURE]
    if not pieces:
        return
    lengths, drops = (torch.tensor(column) for column in zip(*((m - drop, drop) for m, drop in pieces), strict=True))
    sums = torch.full((d + PUNCTURE + 1,), d + 1)
    sums[0] = 0
    last: list[int | None] = [None]  # of the best way to each length: its last piece, or None for a one
    for length in range(1, d + PUNCTURE + 1):
        before = length - lengths
        way = torch.where(before >= 0, sums[before.clamp(0)] - drops, d + 1)
        piece, filled = int(way.argmin()), int(sums[length - 1]) + 1
        last.append(piece if int(way[piece]) <= filled else None)
        sums[length] = min(int(way[piece]), filled)
    cut = sums[d:] + torch.arange(PUNCTURE + 1)
    length = d + int(cut.argmin())
    taken = []
    while length > 0:
        piece_or_one = last[length]
        if piece_or_one is not None:
            taken.append(pieces[piece_or_one])
        length -= 1 if piece_or_one is None else int(lengths[piece_or_one])
    yield HadamardCode(int(cut.min()), d, tuple(taken))


def _linear_codes(d: int, k: int) -> Iterator[tuple[str, list[int]]]:
    """Linear codes of length d and dimension k, each by its columns, whole numbers of k bits."""
    if _affordable(d, k):
        yield "columns chosen one by one", _extended([], d, k, closed=False)
        yield "columns chosen one by one, closed under negation", _extended([], d, k, closed=True)
    m = d.bit_length() - 1
    if 2 <= m <= 13 and k <= MEASURED:
        short = _dual_bch(m, k)
        if _affordable(d - len(short), k):
            yield "dual BCH code, extended", _extended(short, d, k, closed=True)
        else:
            yield "dual BCH code, repeated", (short * 2)[:d]
        yield "dual BCH code, cut", _dual_bch(m + 1, k)[:d]


def _affordable(columns: int, k: int) -> bool:
    return k <= MEASURED and columns * 2 ** (1.5 * k) <= EFFORT


def _dots(columns: Sequence[int], k: int) -> "Tensor":
    """The inner products of word 0 with all words of the code with these columns, by two Hadamard transforms."""
    import torch

    left, right = _sylvester(k - k // 2), _sylvester(k // 2)
    count = torch.bincount(torch.tensor(columns, dtype=torch.int64), minlength=1 << k).double()
    return left @ count.view(len(left), len(right)) @ right


def _sylvester(m: int) -> "Tensor":
    """The matrix of (-1)^(i . j), i and j of m bits."""
    import torch

    matrix = torch.ones(1, 1, dtype=torch.float64)
    for _ in range(m):
        matrix = torch.cat((torch.cat((matrix, matrix), 1), torch.cat((matrix, -matrix), 1)))
    return matrix


def _extended(columns: Sequence[int], d: int, k: int, closed: bool) -> list[int]:
    """Add columns one by one up to d, each the one after which the sum over words of 2^-weight is least.

    All sums are of whole numbers below 2^53, hence exact whatever their order. `closed` takes only
    columns with the top bit, so that a word's negative is a word.
    """
    import torch

    left, right = _sylvester(k - k // 2), _sylvester(k // 2)
    dots, chosen, top = _dots(columns, k), list(columns), 52 - k
    powers = torch.tensor([2.0 ** (top - lag) for lag in range(top)] + [0.0], dtype=torch.float64)
    while len(chosen) < d:
        lag = (dots.flatten()[1:].max() - dots) / 2
        weights = powers[lag.clamp_(0, top).long()]
        weights[0, 0] = 0
        sums = (left @ weights @ right).flatten()
        sums[: len(sums) // 2 if closed else 1] = math.inf
        column = int(sums.argmin())
        chosen.append(column)
        dots += torch.outer(left[column // len(right)], right[column % len(right)])
    return chosen


def _dual_bch(m: int, k: int) -> list[int]:
    """Columns (x, x^3, x^5, ...) cut to k - 1 bits, then a one, for all x in GF(2^m): k <= 1 + m t for t powers."""
    powers = _field(m)
    columns = [0]
    for exponent in range(len(powers)):
        parts = [powers[exponent * (2 * part + 1) % len(powers)] << m * part for part in range(-(-(k - 1) // m))]
        columns.append(sum(parts))
    return [column % (1 << k - 1) | 1 << k - 1 for column in columns]


def _field(m: int) -> list[int]:
    """The powers x^0, x^1, ... of a generator x of GF(2^m), m >= 2, as polynomials: bit i stands for x^i."""
    for modulus in range((1 << m) + 1, 2 << m, 2):
        powers, power = [1], 2
        while power != 1 and len(powers) < (1 << m) - 1:
            powers.append(power)
            power <<= 1
            if power >> m:
                power ^= modulus
        if power == 1 and len(powers) == (1 << m) - 1:
            return powers
    raise AssertionError("every field has a generator")


def _lexicodes(d: int, k: int) -> Iterator[LinearCode]:
    """Lexicodes by their parity checks: each column the smallest that is no sum of fewer than distance - 1 before.

    Any distance - 1 columns are independent then (Brualdi and Pless 1993, Greedy codes).
    """
    for distance in range(2, d + 1):
        if checks := _parity_checks(d, d - k, distance):
            units = [checks.index(1 << bit) for bit in range(max(checks).bit_length())]
            free = [index for index in range(d) if index not in units][:k]
            columns = [0] * d
            for bit, index in enumerate(free):
                columns[index] = 1 << bit
            for unit in units:
                columns[unit] = sum(1 << bit for bit, index in enumerate(free) if checks[index] & checks[unit])
            yield LinearCode("lexicode", d - 2 * distance, tuple(columns))


def _parity_checks(d: int, bits: int, distance: int) -> list[int] | None:
    """The d columns of a lexicode's parity checks, or None where they need more bits."""
    import torch

    index = torch.arange(1 << bits)
    sums = torch.zeros(distance - 1, 1 << bits, dtype=torch.bool)  # row t: sums of at most t columns
    sums[:, 0] = True
    columns: list[int] = []
    while len(columns) < d:
        if sums[-1].all():
            return None
        columns.append(int((~sums[-1]).byte().argmax()))
        sums[1:] |= sums[:-1, index ^ columns[-1]]
    return columns
