"""Cut packing frames whose lines are the shifts of blocks of equal size, from a table."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

from protogen.errors import BadRequest

from ..algebra.blocks import check, develop, is_short, read
from ..family import Blocks
from .cut import Cut, Kind

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class CutCyclic(Cut):
    """v points modulo v and b blocks of c numbers, all of whose differences are distinct; each has v shifts.

    v R lines in R^(v R - v b), of coherence 1 / (c R - r). The blocks are an optical orthogonal code
    (Chung, Salehi and Wei 1989, Optical orthogonal codes). The table has, for each v and c, as many as a search found;
    a member can have fewer.
    """

    family: ClassVar[str] = "cut-cyclic"
    v: int
    blocks: Blocks
    order: int
    copies: int

    def __post_init__(self) -> None:
        check(self.v, self.blocks)
        if len({len(block) for block in self.blocks}) > 1 or any(is_short(self.v, block) for block in self.blocks):
            raise BadRequest(f"blocks are {self.blocks}; allowed are blocks of one size that have {self.v} shifts each")
        super().__post_init__()

    @classmethod
    def kinds(cls, lines: int, longest: int) -> Iterator[Kind]:
        listed = (kind for kind, _ in _table() if kind.size <= longest)
        return (kind for kind in listed if kind.points * kind.most >= lines * kind.size)

    @classmethod
    def rounded(cls, kind: Kind, degree: int) -> int:
        return -(-degree // kind.size) * kind.size

    @classmethod
    def of(cls, kind: Kind, degree: int, order: int, copies: int) -> Self:
        blocks = next(blocks for each, blocks in _table() if each == kind)
        return cls(kind.points, read(blocks)[: degree // kind.size], order, copies)

    @property
    def points(self) -> int:
        return self.v

    @property
    def size(self) -> int:
        return len(self.blocks[0])

    @property
    def lines_on_point(self) -> int:
        return self.size * len(self.blocks)

    def incidence(self, points: "Tensor") -> "tuple[Tensor, Tensor]":
        import torch

        places = torch.arange(self.size, device="cpu").repeat(len(self.blocks)).expand(len(points), -1)
        return develop(self.v, self.blocks, points), places


@lru_cache(maxsize=1)
def _table() -> list[tuple[Kind, str]]:
    """The packings of cuts.txt, by rising points / size, and their blocks."""
    members = []
    for line in (Path(__file__).parent / "cuts.txt").read_text("ascii").splitlines():
        v, blocks = line.split(" ")
        size = 1 + len(blocks.partition(",")[0]) // 2
        members.append((Kind(int(v), size, size * (1 + blocks.count(","))), blocks))
    return sorted(members, key=lambda member: (member[0].points / member[0].size, member[0]))
