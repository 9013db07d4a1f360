"""Binary linear codes with a large smallest distance, for every length and dimension."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .fields import field
from .hadamard import sylvester

if TYPE_CHECKING:
    from torch import Tensor

EFFORT = 2**33  # multiplications that one greedy search may take
MEASURED = 22  # up to which dimension all words of a linear code are measured
REDUNDANCY = 13  # up to which a lexicode is tried


@dataclass(frozen=True)
class LinearCode:
    """Word u has the bit parity(u & c) at each column c; `peak` is the largest inner product of two words."""

    name: str
    peak: int
    columns: tuple[int, ...]

    def signs(self, start: int, stop: int) -> "Tensor":
        """Words start to stop - 1, (stop - start, d), of 1 and -1."""
        import torch

        bits = torch.arange(max(self.columns).bit_length(), device="cpu")
        words = torch.arange(start, stop, device="cpu")[:, None] >> bits & 1
        columns = torch.tensor(self.columns, device="cpu") >> bits[:, None] & 1
        return 1 - 2 * (words.float() @ columns.float() % 2)


def linear_codes(d: int, k: int) -> Iterator[LinearCode]:
    """Yield linear codes of length d and dimension k <= d; the first, repetition, is always there."""
    yield LinearCode("repetition", d - 2 * (d // k), tuple(1 << index % k for index in range(d)))
    for name, columns in _searched(d, k):
        yield LinearCode(name, int(_dots(columns, k).flatten()[1:].max()), tuple(columns))
    if d - k <= REDUNDANCY:
        yield from _lexicodes(d, k)


def _searched(d: int, k: int) -> Iterator[tuple[str, list[int]]]:
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

    left, right = sylvester(k - k // 2), sylvester(k // 2)
    count = torch.bincount(torch.tensor(columns, dtype=torch.int64, device="cpu"), minlength=1 << k).double()
    return left @ count.view(len(left), len(right)) @ right


def _extended(columns: Sequence[int], d: int, k: int, closed: bool) -> list[int]:
    """Add columns one by one up to d, each the one after which the sum over words of 2^-weight is least.

    All sums are of whole numbers below 2^53, hence exact whatever their order. `closed` takes only
    columns with the top bit, so that a word's negative is a word.
    """
    import torch

    left, right = sylvester(k - k // 2), sylvester(k // 2)
    dots, chosen, top = _dots(columns, k), list(columns), 52 - k
    powers = torch.tensor([2.0 ** (top - lag) for lag in range(top)] + [0.0], dtype=torch.float64, device="cpu")
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
    powers = field(2**m).powers.tolist()
    columns = [0]
    for exponent in range(len(powers)):
        parts = [powers[exponent * (2 * part + 1) % len(powers)] << m * part for part in range(-(-(k - 1) // m))]
        columns.append(sum(parts))
    return [column % (1 << k - 1) | 1 << k - 1 for column in columns]


def _lexicodes(d: int, k: int) -> Iterator[LinearCode]:
    """Lexicodes of growing distance, by their parity checks, as long as these have enough bits.

    Each column of the checks is the smallest that is no sum of fewer than distance - 1 before it, so
    that any distance - 1 are independent (Brualdi and Pless 1993, Greedy codes).
    """
    for distance in range(2, d + 1):
        checks = _parity_checks(d, d - k, distance)
        if checks is None:
            return
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

    index = torch.arange(1 << bits, device="cpu")
    sums = torch.zeros(distance - 1, 1 << bits, dtype=torch.bool, device="cpu")  # row t: sums of at most t columns
    sums[:, 0] = True
    columns: list[int] = []
    while len(columns) < d:
        if sums[-1].all():
            return None
        columns.append(int((~sums[-1]).byte().argmax()))
        sums[1:] |= sums[:-1, index ^ columns[-1]]
    return columns
