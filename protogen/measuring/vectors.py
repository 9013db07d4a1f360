"""The vectors that are measured: blocks of a source, of length one, in float32 and in float64."""

import math
from functools import cached_property

import torch
from torch import Tensor
from torch.nn.functional import normalize

from protogen.rows import InMemory, Rows


class Block:
    """Hold some vectors of a source (b, d), on the device."""

    def __init__(self, given: Tensor, scale: bool) -> None:
        self._given, self._scale = given, scale

    @cached_property
    def single(self) -> Tensor:
        """The vectors in float32: as they are, or scaled to length one where they may have any length."""
        return normalize(self._given, dim=1) if self._scale else self._given

    @cached_property
    def double(self) -> Tensor:
        """The vectors as they are, scaled to length one in float64."""
        return normalize(self._given.double(), dim=1)


class Vectors:
    """Give out the vectors of a source (n, d), or of n classes of `group` vectors each (n, group, d), by number.

    Those of classes may have any length above 0; the others have length one but for rounding.
    """

    def __init__(self, source: Rows, where: torch.device) -> None:
        if isinstance(source, InMemory):
            source = InMemory(source.tensor.to(where))  # once, not block by block
        self._source, self._where = source, where
        self._classes = len(source.shape) > 2
        self.group = math.prod(source.shape[1:-1])
        self.n, self.d = source.shape[0] * self.group, source.shape[-1]

    def block(self, start: int, stop: int) -> Block:
        """Read vectors start to stop - 1."""
        first, end = start // self.group, -(-stop // self.group)
        rows = self._source.rows(first, end).to(self._where)
        if self._classes:
            rows = rows.flatten(0, -2)[start - first * self.group : stop - first * self.group]
        return Block(rows, self._classes)
