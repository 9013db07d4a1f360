"""Regular simplices in orthogonal spaces, row by row."""

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def vertices(n: int, k: int, start: int, stop: int) -> "Tensor":
    """Return rows start to stop - 1 of the vertices of k regular simplices, (stop - start, n - k) float64.

    The sizes differ by one at most, the larger simplices first. A simplex in R^m is
    {e_1, ..., e_m, kappa (e_1 + ... + e_m)}, kappa = (1 - sqrt(m + 1)) / m, centred and scaled to
    length one (Pernici, Bruni, Baecchi and Del Bimbo 2019, Maximally Compact and Separated Features with
    Regular Polytope Networks, Eq. 3, which prints R^(m-1); there it is not regular). A single vertex has no
    coordinates.
    """
    import torch

    rows = torch.zeros(stop - start, n - k, dtype=torch.float64, device="cpu")
    small, larger = divmod(n, k)
    first = column = 0
    for index in range(k):
        size = small + (index < larger)
        low, high = max(start, first), min(stop, first + size)
        if low < high and size > 1:
            block = rows[low - start : high - start, column : column + size - 1]
            block[:] = _simplex(size - 1, low - first, high - first)
        first, column = first + size, column + size - 1
    return rows


def _simplex(m: int, start: int, stop: int) -> "Tensor":
    """Rows start to stop - 1 of the m + 1 vertices of a regular simplex in R^m."""
    import torch

    kappa = (1 - math.sqrt(m + 1)) / m
    centre = (1 + kappa) / (m + 1)
    length = math.sqrt((1 - centre) ** 2 + (m - 1) * centre**2)
    rows = torch.full((stop - start, m), -centre / length, dtype=torch.float64, device="cpu")
    peak = torch.arange(start, min(stop, m), device="cpu")
    rows[peak - start, peak] = (1 - centre) / length
    if stop == m + 1:
        rows[-1] = (kappa - centre) / length
    return rows
