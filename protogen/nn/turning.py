"""Products with orbits of a cyclic group that turns planes: Fourier transforms."""

from collections.abc import Iterable, Iterator
from typing import ClassVar

import torch
from torch import Tensor

from protogen.descent.correlations import Places, places_of
from protogen.descent.turned import Orbits

from .transforms import Transform


class TurnedOrbits(Transform):
    """Orbits of vectors, a block each: the products of a feature with an orbit are a correlation.

    With one complex number for each plane, the product of x with element g of the orbit of z is
    Re sum_p conj(x_p) z_p exp(2 pi i g f_p / m): a Fourier transform of the products of the planes.
    """

    by_block: ClassVar[str] = "spectra"

    def __init__(self, orbits: Orbits) -> None:
        super().__init__()
        turns = orbits.turns
        self.own_d, self.size, self.last = orbits.shape[1], turns.order, -(-orbits.n // turns.order)
        frequencies = torch.tensor([turns.frequencies], dtype=torch.int64, device="cpu")
        own = places_of(frequencies, turns.order, self.own_d)
        self.layers = own.layers
        vectors = orbits.vectors[: self.last].float().cpu()
        spectra = Places(own.places[0], own.signs[0], own.order, own.layers).spectra(vectors)
        self._hold(spectra=torch.view_as_real(spectra), places=own.places[0], signs=own.signs[0])

    def products(self, features: Tensor, parts: Iterable[slice]) -> Iterator[Tensor]:
        places, spectra = self._tables(features)
        own = places.spectra(features).conj() * places.parts(features)
        for part in parts:
            product = own[:, None, 0] * spectra[self._here(part), 0]
            for layer in range(1, self.layers):
                product = torch.addcmul(product, own[:, None, layer], spectra[self._here(part), layer])
            yield torch.fft.irfft(product, n=self.size, norm="forward")

    def total(self, parts: Iterable[tuple[slice, Tensor]], zeros: Tensor) -> Tensor:
        places, spectra = self._tables(zeros)
        total = spectra.new_zeros(zeros.shape[0], *spectra.shape[1:])
        for part, weights in parts:
            found = torch.fft.rfft(weights).conj()
            total = total + torch.einsum("abf,blf->alf", found, spectra[self._here(part)])
        return places.rows(total, self.own_d)

    def _tables(self, x: Tensor) -> tuple[Places, Tensor]:
        spectra, places, signs = (self.constant(name, x.device) for name in ("spectra", "places", "signs"))
        own = Places(places.round().long(), signs, self.size, self.layers)
        return own, torch.view_as_complex(spectra.to(x.dtype))
