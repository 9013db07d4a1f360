"""Symmetric sets: orbits of a few vectors under a finite group, and the smooth largest cosine of all their pairs."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from protogen.measuring.tiles import blocks

from .smooth import Smooth, tangent

TILE = 2**22  # cosines worked on at a time
LEAST_EXPONENT = -60.0  # of a weight: what is smaller adds nothing, and numbers below the normal ones are slow


@dataclass(frozen=True)
class Matrices:
    """How m elements of a group, the identity first, act on R^d as orthogonal matrices, for each of s sets.

    `table` is (s, d, m, d): in [:, i, g, j] row i, column j of element g.
    """

    table: Tensor

    @classmethod
    def of(cls, elements: Tensor) -> "Matrices":
        """Take the matrices as they are usually written, (s, m, d, d)."""
        return cls(elements.transpose(1, 2).contiguous())

    @property
    def order(self) -> int:
        """The number of elements, m."""
        return self.table.shape[2]

    def moved(self, rows: Tensor) -> Tensor:
        """Return what the elements make of rows (s, k, d): (s, d, m k), in column g k + a element g of row a."""
        moved: Tensor = (self.table.flatten(1, 2) @ rows.mT).unflatten(1, self.table.shape[1:3])
        return moved.flatten(2)

    def gathered(self, moved: Tensor) -> Tensor:
        """Return the transpose of `moved`: from (s, d, m k) the sums (s, k, d) of what is moved back."""
        columns: Tensor = moved.unflatten(2, (self.order, -1))
        return (self.table.flatten(1, 2).mT @ columns.flatten(1, 2)).mT


class OrbitLoss:
    """The log-sum-exp of the cosines, or of their sizes, over all pairs of vectors of the orbits of rows (s, k, d).

    - `itself` (m, k): whether an element maps a row to itself, or for lines to its negative. Where it does, an
      orbit is short, and its vectors count as often as they are repeated.
    - `spaces` (s, k, d, d) or None: the projections on what the rows of short orbits must stay in.

    The sum over pairs of vectors is the sum over pairs of a row and a vector, m times. Work is done by tiles of
    the upper triangle of pairs of rows. A `Batch` calls it.
    """

    def __init__(self, action: Matrices, itself: Tensor, lines: bool, spaces: Tensor | None = None) -> None:
        self._all = (action, spaces)
        self._itself, self._lines = itself, lines
        self._index: Tensor | None = None
        self._action, self._spaces = self._all

    def __call__(self, rows: Tensor, sharpness: Tensor, index: Tensor) -> Smooth:
        """Evaluate the sets at these places among all, (s,)."""
        self._take(index)
        s, k, _ = rows.shape
        order = self._action.order
        edge = max(1, math.isqrt(TILE // (s * order)))
        sums, gradient = SmoothSums(sharpness), torch.zeros_like(rows)
        for j0, j1 in blocks(k, edge):
            right = self._action.moved(rows[:, j0:j1])
            back = torch.zeros_like(right) if j0 else None
            for i0, i1 in blocks(j1, edge):
                left = rows[:, i0:i1]
                cosines = left @ right
                sizes = cosines.abs() if self._lines else cosines
                if i0 == j0:
                    # No view of `cosines`, whose signs are still needed, where these are lines.
                    own = sizes.unflatten(2, (order, -1)).diagonal(dim1=1, dim2=3)
                    own.masked_fill_(self._itself[:, i0:i1], -math.inf)
                summed = (gradient,) if back is None else (gradient, back)
                weights = sums.weights(sizes, 1 if i0 == j0 else 2, summed)
                if self._lines:
                    weights.copysign_(cosines)
                gradient[:, i0:i1] += weights @ right.mT
                if i0 != j0:
                    assert back is not None
                    back += left.mT @ weights
            if back is not None:
                gradient[:, j0:j1] += self._action.gathered(back)
        values, factors = sums.close()
        gradient *= factors[:, None, None]
        if self._spaces is not None:
            gradient = (self._spaces @ gradient[..., None])[..., 0]
        return Smooth(values, tangent(rows, gradient), sums.top)

    def _take(self, index: Tensor) -> None:
        """Keep the action on the sets at these places at hand; a batch asks for the same ones most of the time."""
        if self._index is index:
            return
        action, spaces = self._all
        self._index = index
        self._action = Matrices(action.table[index])
        self._spaces = None if spaces is None else spaces[index]


class SmoothSums:
    """The sums of the weights of a log-sum-exp tile by tile, relative to the largest cosine so far of each set."""

    def __init__(self, sharpness: Tensor) -> None:
        self._sharpness = sharpness
        self.top = torch.full_like(sharpness, -math.inf)
        self._total = torch.zeros_like(sharpness)

    def weights(self, sizes: Tensor, times: int, summed: tuple[Tensor, ...]) -> Tensor:
        """Return the weights of a tile (s, ...), which count so many times.

        What was `summed` with the weights of tiles before, (s, ...) each, is brought to the largest cosine now.
        """
        top = torch.maximum(self.top, sizes.flatten(1).amax(1))
        shrink = ((self.top - top) * self._sharpness).exp()
        if bool((shrink < 1).any()):
            for sums in summed:
                sums.mul_(_beside(shrink, sums))
        self.top = top
        weights = sizes.sub(_beside(top, sizes)).mul_(_beside(self._sharpness, sizes))
        weights = weights.clamp_(min=LEAST_EXPONENT).exp_()
        self._total = self._total * shrink + times * weights.flatten(1).sum(1)
        return weights

    def close(self) -> tuple[Tensor, Tensor]:
        """Return the smooth maxima (s,), and what the sums of gradients are to be multiplied with, (s,)."""
        # Each pair of vectors was summed twice.
        return self.top + (self._total / 2).log() / self._sharpness, 2 / self._total


def _beside(numbers: Tensor, tensor: Tensor) -> Tensor:
    """Return one number a set (s,) so that it stands beside all that is of the set in a tensor (s, ...)."""
    return numbers.view(-1, *[1] * (tensor.dim() - 1))
