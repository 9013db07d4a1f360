"""The best sets that a search has found so far."""

from typing import ClassVar

import torch
from torch import Tensor

from .checkpoint import Changing

POOL = 8  # sets
SAME = 1e-5  # figures by so little apart are those of one set


class Pool(Changing):
    """Hold the best sets so far whose figures differ, the best first.

    - `rows` (p, n, d): the sets, at most POOL.
    - `figures` (p,): their largest cosines or |cosines|.
    - `groups`: the finite groups that they were found by, in words, or "".
    """

    changes: ClassVar[tuple[str, ...]] = ("rows", "figures", "groups")

    def __init__(self, like: Tensor) -> None:
        """Begin with none; `like` (any number, n, d) has the shape, type and device of the sets."""
        self.rows, self.figures, self.groups = like[:0], like.new_zeros(0), list[str]()

    def take_in(self, rows: Tensor, figures: Tensor, groups: list[str]) -> None:
        """Keep the best of those held and of these sets (k, n, d)."""
        rows, figures = torch.cat((self.rows, rows)), torch.cat((self.figures, figures))
        groups = [*self.groups, *groups]
        kept: list[int] = []
        numbers = figures.tolist()
        for place in sorted(range(len(numbers)), key=numbers.__getitem__):
            if not kept or numbers[place] > numbers[kept[-1]] + SAME:
                kept.append(place)
        places = torch.tensor(kept[:POOL], device=rows.device)
        self.rows, self.figures = rows[places], figures[places]
        self.groups = [groups[place] for place in kept[:POOL]]
