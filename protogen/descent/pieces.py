"""Work that is done piece by piece, of which each piece is kept: what goes on after a break does none again."""

from collections.abc import Callable, Generator, Sequence

import torch
from torch import Tensor

Kept = list[list[Tensor]]  # of each piece its tensors, and at last the state of the generator
# Makes sets to start from, (g, n, d), beside what was kept of them before; yields after each piece.
Making = Callable[[Kept], Generator[None, None, Tensor]]


class Pieces:
    """Do pieces in their turn, or take those that were kept; `generator` is what the pieces draw by."""

    def __init__(self, kept: Kept, generator: torch.Generator) -> None:
        self._kept, self._generator, self._place = kept, generator, 0

    def do(self, work: Callable[[], Sequence[Tensor]]) -> list[Tensor]:
        """Return the tensors of the next piece, on the CPU."""
        if self._place == len(self._kept):
            self._kept.append([*work(), self._generator.get_state()])
        *made, state = (tensor.cpu() for tensor in self._kept[self._place])
        self._generator.set_state(state)
        self._place += 1
        return made
