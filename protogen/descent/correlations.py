"""Orbits of a cyclic group that turns planes, whose Gram matrix is a correlation: cosines by Fourier transforms."""

import math
from collections import Counter
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from protogen.measuring.tiles import upper_tiles

from .orbits import SmoothSums
from .smooth import Smooth, tangent

# Cosines worked on at a time, by the kind of device: about as many as a cache of a CPU holds; a GPU has more to do.
TILE = {"cpu": 2**18, "cuda": 2**25}


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
        self._order, self._lines = order, lines
        self._all = places_of(frequencies, order, d)

    def __call__(self, rows: Tensor, sharpness: Tensor, index: Tensor) -> Smooth:
        """Evaluate the sets at these places among all, (s,)."""
        s, k, d = rows.shape
        places = self._all.at(index)
        right = places.spectra(rows)
        left = right.conj() * places.parts(right.real)
        gradient, sums = torch.zeros_like(right), SmoothSums(sharpness)
        summed = (torch.view_as_real(gradient),)
        for i0, i1, j0, j1 in upper_tiles(k, max(1, math.isqrt(TILE[rows.device.type] // (s * self._order)))):
            cosines = self._cosines(left[:, i0:i1], right[:, j0:j1])
            sizes = cosines.abs() if self._lines else cosines
            if i0 == j0:
                sizes.diagonal(dim1=1, dim2=2)[:, 0] = -math.inf  # a vector and itself
            weights = sums.weights(sizes, 1 if i0 == j0 else 2, summed)
            if self._lines:
                weights.copysign_(cosines)
            found = torch.fft.rfft(weights)
            for layer in range(places.layers):
                if i0 != j0:
                    gradient[:, j0:j1, layer] += (found * right[:, i0:i1, None, layer]).sum(1)
                gradient[:, i0:i1, layer] += (found.conj() * right[:, None, j0:j1, layer]).sum(2)
        values, factors = sums.close()
        return Smooth(values, tangent(rows, places.rows(gradient, d) * factors[:, None, None]), sums.top)

    def _cosines(self, left: Tensor, right: Tensor) -> Tensor:
        """Return the cosines (s, a, b, m) of rows of the left and all elements of rows of the right."""
        products = left[:, :, None, 0] * right[:, None, :, 0]
        for layer in range(1, left.shape[2]):
            products.addcmul_(left[:, :, None, layer], right[:, None, :, layer])
        cosines: Tensor = torch.fft.irfft(products, n=self._order, norm="forward")
        return cosines


@dataclass(frozen=True)
class Places:
    """Where the planes of rows stand in a spectrum of `layers` times `bins` numbers.

    Planes of one frequency lie in layers above each other: layer t, frequency f is place t bins + f. A plane that the
    frequency m - f turns is taken for its mirror image, which f turns. Where d is odd, the last coordinate is the
    first of one more plane, of frequency 0.

    - `places` (..., planes), whole numbers; `signs` (..., planes), -1 where it is the mirror image;
    - `order`: m, and bins = m // 2 + 1.
    """

    places: Tensor
    signs: Tensor
    order: int
    layers: int

    @property
    def bins(self) -> int:
        return self.order // 2 + 1

    def at(self, index: Tensor) -> "Places":
        """Return those of some sets (s,), to stand beside their rows (s, k, d)."""
        return Places(self.places[index, None], self.signs[index, None], self.order, self.layers)

    def parts(self, like: Tensor) -> Tensor:
        """Return by how much each frequency counts: half, since it stands for its mirror image as well, or once."""
        parts = torch.full((self.bins,), 0.5, dtype=like.dtype, device=like.device)
        parts[0] = 1.0
        if self.order % 2 == 0:
            parts[-1] = 1.0
        return parts

    def spectra(self, rows: Tensor) -> Tensor:
        """Return the planes of rows (..., d) at their places, (..., layers, bins) complex."""
        planes = rows.shape[-1] // 2
        across = rows[..., planes : 2 * planes]
        if rows.shape[-1] % 2:
            across = pad(across, (0, 1))
        along = torch.cat((rows[..., :planes], rows[..., 2 * planes :]), -1)
        values = torch.complex(along, across * self.signs.to(rows.dtype))
        spectra = values.new_zeros(*rows.shape[:-1], self.layers * self.bins)
        whole: Tensor = spectra.scatter(-1, self.places.expand(values.shape), values)
        return whole.view(*rows.shape[:-1], self.layers, self.bins)

    def rows(self, spectra: Tensor, d: int) -> Tensor:
        """Return the transpose of `spectra`: rows (..., d) from what stands at the places of their planes."""
        values = spectra.flatten(-2)
        values = values.gather(-1, self.places.expand(*values.shape[:-1], -1))
        planes = d // 2
        across = values.imag * self.signs.to(values.real.dtype)
        return torch.cat((values.real[..., :planes], across[..., :planes], values.real[..., planes:]), -1)


def places_of(frequencies: Tensor, order: int, d: int) -> Places:
    """Place the planes of R^d that turn by these frequencies (s, d // 2), whole numbers from 0 to order - 1."""
    if d % 2:
        frequencies = torch.cat((frequencies, frequencies.new_zeros(len(frequencies), 1)), 1)
    mirrored = 2 * frequencies > order
    folded = torch.where(mirrored, order - frequencies, frequencies)
    bins = order // 2 + 1
    table = [_stacked(numbers, bins) for numbers in folded.tolist()]
    places = torch.tensor(table, dtype=torch.int64, device=frequencies.device)
    signs = torch.where(mirrored, -1.0, 1.0)
    return Places(places, signs, order, 1 + int(places.max()) // bins)


def _stacked(folded: list[int], bins: int) -> list[int]:
    """Return the place of each plane: in the lowest layer in which its frequency is free."""
    seen: Counter[int] = Counter()
    places = []
    for frequency in folded:
        places.append(seen[frequency] * bins + frequency)
        seen[frequency] += 1
    return places
