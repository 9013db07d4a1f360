"""What is summed over all pairs of the vectors of orbits, tile by tile."""

import math

import torch
from torch import Tensor

from .smooth import LEAST_EXPONENT


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
        if shrink.is_cuda or bool((shrink < 1).any()):  # to look would be to wait for a GPU
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
