"""Orbits of a cyclic group that turns planes, whose Gram matrix is a correlation: cosines by Fourier transforms."""

import math
from collections import Counter

import torch
from torch import Tensor

from protogen.measuring.tiles import upper_tiles

from .orbits import SmoothSums
from .smooth import Smooth, tangent

TILE = 2**18  # cosines worked on at a time: about as many as a cache holds


class TurnLoss:
    """The log-sum-exp of the cosines, or of their sizes, over all pairs of vectors of orbits of rows (s, k, d).

    Element g of the cyclic group of order m turns plane p, of coordinates p and p + d // 2, by the angle
    2 pi g f_p / m, and leaves the last coordinate as it is where d is odd. With z_p of a row, a complex number for each
    plane, the cosine of row a and element g of row b is

        Re sum_p conj(z_a,p) z_b,p exp(2 pi i g f_p / m).

    All m of these are a Fourier transform of the products, summed over the planes of one frequency. So are the sums
    for the gradient, the other way. A tile of pairs takes about m log m operations a pair in place of the m d of a
    product of matrices, three times. A `Batch` calls it.
    """

    def __init__(self, frequencies: Tensor, order: int, d: int, lines: bool) -> None:
        """Take the frequencies (s, d // 2), whole numbers from 0 to order - 1, of each set."""
        self._order, self._d, self._lines = order, d, lines
        if d % 2:
            frequencies = torch.cat((frequencies, frequencies.new_zeros(len(frequencies), 1)), 1)
        # A plane turned by the frequency m - f is its mirror image turned by f.
        turned = 2 * frequencies > order
        folded = torch.where(turned, order - frequencies, frequencies)
        self._signs = torch.where(turned, -1.0, 1.0)
        # Planes of one frequency lie in layers above each other: layer t, frequency f is place t (m // 2 + 1) + f.
        self._bins = order // 2 + 1
        places = [_places(numbers, self._bins) for numbers in folded.tolist()]
        self._places = torch.tensor(places, dtype=torch.int64, device=frequencies.device)
        self._layers = 1 + int(self._places.max()) // self._bins

    def __call__(self, rows: Tensor, sharpness: Tensor, index: Tensor) -> Smooth:
        """Evaluate the sets at these places among all, (s,)."""
        s, k, _ = rows.shape
        right = self._spectra(rows, index)
        left = right.conj() * self._parts(right.real)
        gradient, sums = torch.zeros_like(right), SmoothSums(sharpness)
        summed = (torch.view_as_real(gradient),)
        for i0, i1, j0, j1 in upper_tiles(k, max(1, math.isqrt(TILE // (s * self._order)))):
            cosines = self._cosines(left[:, i0:i1], right[:, j0:j1])
            sizes = cosines.abs() if self._lines else cosines
            if i0 == j0:
                sizes.diagonal(dim1=1, dim2=2)[:, 0] = -math.inf  # a vector and itself
            weights = sums.weights(sizes, 1 if i0 == j0 else 2, summed)
            if self._lines:
                weights.copysign_(cosines)
            found = torch.fft.rfft(weights)
            for layer in range(self._layers):
                if i0 != j0:
                    gradient[:, j0:j1, layer] += (found * right[:, i0:i1, None, layer]).sum(1)
                gradient[:, i0:i1, layer] += (found.conj() * right[:, None, j0:j1, layer]).sum(2)
        values, factors = sums.close()
        return Smooth(values, tangent(rows, self._rows(gradient, index) * factors[:, None, None]), sums.top)

    def _cosines(self, left: Tensor, right: Tensor) -> Tensor:
        """Return the cosines (s, a, b, m) of rows of the left and all elements of rows of the right."""
        products = left[:, :, None, 0] * right[:, None, :, 0]
        for layer in range(1, self._layers):
            products.addcmul_(left[:, :, None, layer], right[:, None, :, layer])
        cosines: Tensor = torch.fft.irfft(products, n=self._order, norm="forward")
        return cosines

    def _parts(self, like: Tensor) -> Tensor:
        """Return by how much each frequency counts: half, since it stands for its mirror image as well, or once."""
        parts = torch.full((self._bins,), 0.5, dtype=like.dtype, device=like.device)
        parts[0] = 1.0
        if self._order % 2 == 0:
            parts[-1] = 1.0
        return parts

    def _spectra(self, rows: Tensor, index: Tensor) -> Tensor:
        """Return the planes of rows (s, k, d) at their places, (s, k, layers, bins) complex."""
        planes = self._d // 2
        across = rows[..., planes : 2 * planes]
        if self._d % 2:
            across = torch.nn.functional.pad(across, (0, 1))
        signs = self._signs[index, None].to(rows)
        along = torch.cat((rows[..., :planes], rows[..., 2 * planes :]), 2)
        values = torch.complex(along, across * signs)
        spectra = values.new_zeros(*rows.shape[:2], self._layers * self._bins)
        spectra.scatter_(2, self._places[index, None].expand_as(values), values)
        whole: Tensor = spectra.unflatten(2, (self._layers, self._bins))
        return whole

    def _rows(self, spectra: Tensor, index: Tensor) -> Tensor:
        """Return the transpose of `_spectra`: rows (s, k, d) from what stands at the places of their planes."""
        places = self._places[index, None].expand(*spectra.shape[:2], -1)
        values = spectra.flatten(2).gather(2, places)
        planes = self._d // 2
        across = values.imag * self._signs[index, None].to(values.imag)
        return torch.cat((values.real[..., :planes], across[..., :planes], values.real[..., planes:]), 2)


def _places(folded: list[int], bins: int) -> list[int]:
    """Return the place of each plane: in the lowest layer in which its frequency is free."""
    seen: Counter[int] = Counter()
    places = []
    for frequency in folded:
        places.append(seen[frequency] * bins + frequency)
        seen[frequency] += 1
    return places
