"""Mutually orthogonal simplices: the points whose largest cosine Rankin proves best up to n = 2d."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Simplices:
    """k regular simplices in orthogonal spaces, n points together in R^(n - k) (Rankin 1955).

    One simplex (k = 1) has all cosines -1/(n-1); pairs of opposite points (n = 2k) are the
    orthoplex; between, points of different simplices are orthogonal. The sizes differ by one at
    most, the larger simplices first. A simplex in R^m is {e_1, ..., e_m, kappa (e_1 + ... + e_m)},
    kappa = (1 - sqrt(m + 1)) / m, centred and scaled to length one (Pernici et al. 2021, Eq. 3,
    which prints R^(m-1); there it is not regular).
    """

    family: ClassVar[str] = "simplices"
    exact: ClassVar[bool] = True
    n: int
    k: int

    @classmethod
    def reach(cls, d: int, n: int) -> Self | None:
        """One simplex for n <= d + 1, else the n - d simplices that fill R^d, for n <= 2d."""
        return cls(n, max(1, n - d)) if n <= 2 * d else None

    @property
    def own_d(self) -> int:
        return self.n - self.k

    @property
    def own_n(self) -> int:
        return self.n

    @property
    def cosine(self) -> float:
        return -1 / (self.n - 1) if self.k == 1 else 0.0

    @property
    def held_bytes(self) -> int:
        return 0

    def rows(self, start: int, stop: int) -> "torch.Tensor":
        """Return rows start to stop - 1, (stop - start, n - k) float32, by formula."""
        import torch

        rows = torch.zeros(stop - start, self.own_d)
        small, larger = divmod(self.n, self.k)
        first = column = 0
        for index in range(self.k):
            size = small + (index < larger)
            low, high = max(start, first), min(stop, first + size)
            if low < high:
                rows[low - start : high - start, column : column + size - 1] = _simplex(
                    size - 1, low - first, high - first
                )
            first, column = first + size, column + size - 1
        return rows


def _simplex(m: int, start: int, stop: int) -> "torch.Tensor":
    """Rows start to stop - 1 of the m + 1 vertices of a regular simplex in R^m, float32."""
    import torch

    kappa = (1 - math.sqrt(m + 1)) / m
    centre = (1 + kappa) / (m + 1)
    length = math.sqrt((1 - centre) ** 2 + (m - 1) * centre**2)
    rows = torch.full((stop - start, m), -centre / length)
    peak = torch.arange(start, min(stop, m))
    rows[peak - start, peak] = (1 - centre) / length
    if stop == m + 1:
        rows[-1] = (kappa - centre) / length
    return rows
