"""The largest and the smallest cosine of a set, in float64."""

import math

import torch
from torch import Tensor

from protogen.ranks.group import Ranks

from .stats import Extreme
from .tiles import pairless
from .vectors import Vectors

CANDIDATES = 1024  # segments that are computed again in float64


class Extremes:
    """Keep the segments with the largest cosines (sign 1) or the smallest (sign -1), on the device.

    A segment is a row of a tile: a vector against a block of vectors. `cuts` are the blocks.
    """

    def __init__(self, vectors: Vectors, cuts: list[tuple[int, int]], sign: int, within: bool) -> None:
        self._vectors, self._cuts, self._sign, self._within = vectors, cuts, sign, within
        self._values = torch.empty(0, dtype=torch.float64, device="cpu")
        self._ids = torch.empty(0, dtype=torch.int64, device="cpu")
        self._dropped = False

    def offer(self, peaks: Tensor, index: int, tiles: Tensor) -> None:
        """Take in the peaks (rows, tiles) of the block of rows `index` in the blocks of columns `tiles`, rising.

        A peak is the largest of sign times cosine in a segment, -inf where that has no pair.
        """
        rows = torch.arange(peaks.shape[0], device=peaks.device)[:, None] + self._cuts[index][0]
        self._keep(peaks.reshape(-1), (rows * len(self._cuts) + tiles).view(-1))

    def join(self, ranks: Ranks) -> None:
        """Take in what the other ranks have kept."""
        found = ranks.gathered((self._values.cpu(), self._ids.cpu(), self._dropped))
        dropped = any(each[2] for each in found)
        values, ids = (torch.cat([each[part] for each in found]) for part in (0, 1))
        order = ids.argsort()
        self._values, self._ids = self._values.cpu()[:0], self._ids.cpu()[:0]
        self._keep(values[order], ids[order])
        self._dropped |= dropped

    def _keep(self, values: Tensor, ids: Tensor) -> None:
        """Keep the largest values of those held and these, of equal ones those of the lowest ids.

        Ids rise, from call to call too, so that it matters to nothing in how many parts segments come.
        """
        values = torch.cat((self._values.to(values.device), values))
        ids = torch.cat((self._ids.to(ids.device), ids))
        if len(values) > CANDIDATES:
            self._dropped = True
            least = values.topk(CANDIDATES).values[-1]
            above, equal = values > least, values == least
            kept = above | (equal & (equal.cumsum(0) <= CANDIDATES - above.sum()))
            # The number of those kept is known: the host waits for no count of them.
            places = torch.where(kept, kept.cumsum(0) - 1, CANDIDATES)
            values = values.new_empty(CANDIDATES + 1).scatter_(0, places, values)[:CANDIDATES]
            ids = ids.new_empty(CANDIDATES + 1).scatter_(0, places, ids)[:CANDIDATES]
        self._values, self._ids = values, ids

    def refine(self, doubt: float) -> tuple[Extreme, float]:
        """Compute the extreme in float64; return it, and by how much a segment that was dropped may exceed it.

        `doubt` is by how much a peak may be off. No cosine exceeds 1, whatever the doubt.
        """
        best, i, j = -math.inf, -1, -1
        ids = self._ids
        for tile in (ids % len(self._cuts)).unique().tolist():
            j0, j1 = self._cuts[tile]
            rows = (ids[ids % len(self._cuts) == tile] // len(self._cuts)).tolist()
            left = torch.cat([self._vectors.block(row, row + 1).double for row in rows])
            cosines = self._sign * (left @ self._vectors.block(j0, j1).double.T)
            left_ids = torch.tensor(rows, device=left.device)[:, None]
            right_ids = torch.arange(j0, j1, device=left.device)
            cosines[pairless(left_ids, right_ids, self._vectors.group, self._within)] = -math.inf
            if (value := cosines.max().item()) > best:
                row, column = (cosines == value).nonzero()[0].tolist()
                # In a tile on the diagonal the peak of a row may lie before it.
                best, (i, j) = value, sorted((rows[row], j0 + column))
        room = min(1.0, self._values.min().item() + doubt) - best if self._dropped else 0.0
        return Extreme(self._sign * best, i, j), max(0.0, room)
