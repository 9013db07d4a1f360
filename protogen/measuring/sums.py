"""What adds up over the pairs of a set."""

import math

import torch
from torch import Tensor

from protogen.ranks.group import Ranks

from .stats import BINS

TWIN_COS = 1 - 1e-6


class Sums:
    """Add up over pairs, on the device: no tile waits for the host.

    - `histogram` (BINS + 1,): the angles in bins; the last bin has those of exactly 180 degrees.
    - `twins` (2,): the pairs of a cosine within 1e-6 of 1, and of -1.
    - `totals` (4,): of the cosines, of their squares, of exp(-2 |u - v|^2), of |angle - 90| in bins.
    """

    def __init__(self, where: torch.device, edge: int) -> None:
        """`edge` is that of the largest tile: tiles are worked on in memory that is held."""
        self._work = torch.empty(edge * edge, device=where, dtype=torch.float32)
        self._double = torch.empty(edge * edge, dtype=torch.float64, device=where)
        self._bins = torch.empty(edge * edge, dtype=torch.int64, device=where)
        self._one = torch.ones((), dtype=torch.int64, device=where)
        self.histogram = torch.zeros(BINS + 1, dtype=torch.int64, device=where)
        self.twins = torch.zeros(2, dtype=torch.int64, device=where)
        self.totals = torch.zeros(4, dtype=torch.float64, device=where)

    def add(self, cosines: Tensor) -> None:
        """Take in cosines (pairs,), float32 or float64, of a tile at the most."""
        pairs = cosines.numel()
        double, bins = self._double[:pairs], self._bins[:pairs]
        self.twins[0] += (cosines >= TWIN_COS).sum()
        self.twins[1] += (cosines <= -TWIN_COS).sum()
        # Squares rounded to float32 would give equal cosines a deviation.
        double.copy_(cosines)
        self.totals[0] += double.sum()
        self.totals[1] += double.dot(double)
        work = self._work[:pairs] if cosines.dtype == torch.float32 else double
        self.totals[2] += torch.sub(cosines, 1, out=work).mul_(4).exp_().sum(dtype=torch.float64)
        # Rounding may carry a cosine past 1, where acos has no value.
        torch.clamp(cosines, -1, 1, out=work).acos_().mul_(BINS / math.pi)
        bins.copy_(work)
        self.histogram.scatter_add_(0, bins, self._one.expand_as(bins))
        self.totals[3] += work.sub_(BINS / 2).abs_().sum(dtype=torch.float64)

    def join(self, ranks: Ranks) -> None:
        """Put the sums of all ranks together, on each of them."""
        for sums in (self.histogram, self.twins, self.totals):
            ranks.add(sums)
