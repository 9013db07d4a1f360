"""Sources of rows: in memory or by formula, given out block by block."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import torch


FILL = 2**22  # numbers that are built at a time


HELD = 2**30  # bytes of rows that a formula gives and that are held in memory all the same


class Rows(Protocol):
    """A source of rows: float32 vectors (n, d), or (n, s, d), given out block by block."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def rows(self, start: int, stop: int) -> "torch.Tensor":
        """Return rows start to stop - 1, (stop - start, ..., d) float32, contiguous, on the CPU."""
        ...


def pieces(shape: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    """Cut the first dimension so that a piece has at most FILL numbers, or one row."""
    step = max(1, FILL // max(1, math.prod(shape[1:])))
    for start in range(0, shape[0], step):
        yield start, min(start + step, shape[0])


def has_classes(source: Rows) -> bool:
    """Whether each class has several rows, hence pairs of its own."""
    return len(source.shape) == 3 and source.shape[1] > 1


@dataclass(frozen=True)
class InMemory:
    """Rows that lie in one tensor."""

    tensor: "torch.Tensor"

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.tensor.shape)

    @classmethod
    def of(cls, source: Rows) -> "InMemory":
        """Build all rows of a source, block by block, so that no block's work lies beside another's."""
        import torch

        if isinstance(source, cls):
            return source
        tensor = torch.empty(source.shape, dtype=torch.float32, device="cpu")
        for start, stop in pieces(source.shape):
            tensor[start:stop] = source.rows(start, stop)
        return cls(tensor)

    def rows(self, start: int, stop: int) -> "torch.Tensor":
        return self.tensor[start:stop]
