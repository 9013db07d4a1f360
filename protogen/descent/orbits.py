"""Symmetric sets: orbits of a few vectors under a finite group, and the smooth largest cosine of all their pairs."""

import math
from dataclasses import dataclass
from typing import Protocol, Self

import torch
from torch import Tensor

from protogen.measuring.tiles import blocks

from .batched import Smooth

TILE = 2**22  # cosines worked on at a time


class Action(Protocol):
    """How m elements of a group, the identity first, act on R^d, for each of s sets."""

    @property
    def order(self) -> int:
        """The number of elements, m."""
        ...

    def moved(self, rows: Tensor) -> Tensor:
        """Return what the elements make of rows (s, k, d): (s, d, m k), in column g k + a element g of row a."""
        ...

    def gathered(self, moved: Tensor) -> Tensor:
        """Return the transpose of `moved`: from (s, d, m k) the sums (s, k, d) of what is moved back."""
        ...

    def take(self, places: Tensor) -> Self:
        """Return the action on the sets at these places alone."""
        ...


@dataclass(frozen=True)
class Matrices:
    """Elements as orthogonal matrices, `table` (s, d, m, d): in [:, i, g, j] row i, column j of element g."""

    table: Tensor

    @classmethod
    def of(cls, elements: Tensor) -> "Matrices":
        """Take the matrices as they are usually written, (s, m, d, d)."""
        return cls(elements.transpose(1, 2).contiguous())

    @property
    def order(self) -> int:
        return self.table.shape[2]

    def moved(self, rows: Tensor) -> Tensor:
        moved: Tensor = (self.table.flatten(1, 2) @ rows.mT).unflatten(1, self.table.shape[1:3])
        return moved.flatten(2)

    def gathered(self, moved: Tensor) -> Tensor:
        columns: Tensor = moved.unflatten(2, (self.order, -1))
        return (self.table.flatten(1, 2).mT @ columns.flatten(1, 2)).mT

    def take(self, places: Tensor) -> "Matrices":
        return Matrices(self.table[places])


@dataclass(frozen=True)
class Turns:
    """The cyclic group of order m as turns of planes: coordinates p and p + d // 2 span plane p.

    Element g turns plane p by the angle 2 pi g f_p / m; `cosines` and `sines` are (s, d // 2, m). Where d is odd,
    each element leaves the last coordinate as it is.
    """

    cosines: Tensor
    sines: Tensor

    @classmethod
    def of(cls, frequencies: Tensor, order: int, dtype: torch.dtype) -> "Turns":
        """Take the frequencies (s, d // 2), whole numbers."""
        steps = torch.arange(order, device=frequencies.device)
        angles = (frequencies[..., None] * steps % order).double() * (2 * math.pi / order)
        return cls(angles.cos().to(dtype), angles.sin().to(dtype))

    @property
    def order(self) -> int:
        return self.cosines.shape[2]

    def moved(self, rows: Tensor) -> Tensor:
        left, right, last = self._parts(rows.mT[:, :, None])
        cosines, sines = self.cosines[..., None], self.sines[..., None]
        whole = (cosines * left - sines * right, cosines * right + sines * left, last.expand(-1, -1, self.order, -1))
        return torch.cat(whole, 1).flatten(2)

    def gathered(self, moved: Tensor) -> Tensor:
        left, right, last = self._parts(moved.unflatten(2, (self.order, -1)))
        cosines, sines = self.cosines[:, :, None], self.sines[:, :, None]
        first, second = cosines @ left + sines @ right, cosines @ right - sines @ left
        return torch.cat((first[:, :, 0], second[:, :, 0], last.sum(2)), 1).mT

    def take(self, places: Tensor) -> "Turns":
        return Turns(self.cosines[places], self.sines[places])

    def _parts(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        planes = self.cosines.shape[1]
        return x[:, :planes], x[:, planes : 2 * planes], x[:, 2 * planes :]


@dataclass(frozen=True)
class OrbitLoss:
    """The log-sum-exp of the cosines, or of their sizes, over all pairs of vectors of the orbits of rows (s, k, d).

    - `itself` (m, k): whether an element maps a row to itself, or for lines to its negative. Where it does, an
      orbit is short, and its vectors count as often as they are repeated.
    - `spaces` (k, s, d, d) or None: the projections on what the rows of short orbits must stay in.

    The sum over pairs of vectors is the sum over pairs of a row and a vector, m times. Work is done by tiles of
    the upper triangle of pairs of rows.
    """

    action: Action
    itself: Tensor
    lines: bool
    spaces: Tensor | None = None

    def take(self, places: Tensor) -> "OrbitLoss":
        spaces = None if self.spaces is None else self.spaces[:, places]
        return OrbitLoss(self.action.take(places), self.itself, self.lines, spaces)

    def __call__(self, rows: Tensor, sharpness: Tensor) -> Smooth:
        s, k, _ = rows.shape
        edge = max(1, math.isqrt(TILE // (s * self.action.order)))
        sums = _Sums(rows, sharpness)
        for j0, j1 in blocks(k, edge):
            right = self.action.moved(rows[:, j0:j1])
            back = torch.zeros_like(right) if j0 else None
            for i0, i1 in blocks(j1, edge):
                left = rows[:, i0:i1]
                cosines = left @ right
                sizes = cosines.abs() if self.lines else cosines
                if i0 == j0:
                    # No view of `cosines`, whose signs are still needed, where these are lines.
                    own = sizes.unflatten(2, (self.action.order, -1)).diagonal(dim1=1, dim2=3)
                    own.masked_fill_(self.itself[:, i0:i1], -math.inf)
                weights = sums.weights(sizes, 1 if i0 == j0 else 2, back)
                if self.lines:
                    weights.copysign_(cosines)
                sums.gradient[:, i0:i1] += weights @ right.mT
                if i0 != j0:
                    assert back is not None
                    back += left.mT @ weights
            if back is not None:
                sums.gradient[:, j0:j1] += self.action.gathered(back)
        losses, gradient = sums.close()
        if self.spaces is not None:
            gradient = torch.einsum("ksij,skj->ski", self.spaces, gradient)
        return Smooth(losses, gradient, sums.top)


class _Sums:
    """The sums of the weights and of their products, relative to the largest cosine so far of each set."""

    def __init__(self, rows: Tensor, sharpness: Tensor) -> None:
        self._sharpness = sharpness
        self.top = rows.new_full((len(rows),), -math.inf)
        self.gradient = torch.zeros_like(rows)
        self._total = rows.new_zeros(len(rows))

    def weights(self, sizes: Tensor, times: int, back: Tensor | None) -> Tensor:
        """Return the weights of a tile, which count so many times; bring what was summed to the largest cosine now."""
        top = torch.maximum(self.top, sizes.amax((1, 2)))
        shrink = ((self.top - top) * self._sharpness).exp()
        self.top = top
        for summed in (self.gradient, back):
            if summed is not None:
                summed.mul_(shrink[:, None, None])
        weights = sizes.sub(top[:, None, None]).mul_(self._sharpness[:, None, None]).exp_()
        self._total = self._total * shrink + times * weights.sum((1, 2))
        return weights

    def close(self) -> tuple[Tensor, Tensor]:
        # Each pair of vectors was summed twice.
        losses = self.top + (self._total / 2).log() / self._sharpness
        return losses, self.gradient * (2 / self._total)[:, None, None]
