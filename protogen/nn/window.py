"""Some classes of prototypes, as prototypes of their own."""

import torch
from torch import Tensor

from .fingerprint import Fingerprint
from .fixed import FixedPrototypes


class Window(FixedPrototypes):
    """Some classes of prototypes that another module holds: those of a rank's share."""

    def __init__(self, prototypes: FixedPrototypes, first: int, n: int) -> None:
        super().__init__()
        self._held, self._first, self._n = (prototypes,), first, n  # in a tuple: the head registers them

    @property
    def prototypes(self) -> FixedPrototypes:
        """What the rows are of."""
        return self._held[0]

    @property
    def n(self) -> int:
        return self._n

    @property
    def d(self) -> int:
        return self.prototypes.d

    def rows(self, start: int, stop: int) -> Tensor:
        return self.prototypes.rows(self._first + start, self._first + stop)

    def vectors(self, classes: Tensor) -> Tensor:
        return self.prototypes.vectors(self._first + classes)

    def zeros(self, classes: Tensor) -> Tensor:
        """Return a zero vector for each class (N,)."""
        return torch.zeros(len(classes), self.d, dtype=torch.float32, device=classes.device)

    def firsts(self, n: int) -> list[Fingerprint]:
        return []

    def _product(self, features: Tensor, start: int, stop: int) -> Tensor:
        return self.prototypes.product(features, self._first + start, self._first + stop)

    def _combine(self, weights: Tensor, start: int, stop: int) -> Tensor:
        return self.prototypes.combine(weights, self._first + start, self._first + stop)

    def _agrees(self, saved: Fingerprint | None, rows: Tensor) -> bool:
        return True
