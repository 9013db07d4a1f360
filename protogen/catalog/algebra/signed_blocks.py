"""Rows of equal entries on blocks of coordinates, in all signs."""

import math
from typing import TYPE_CHECKING

from ..family import Blocks

if TYPE_CHECKING:
    from torch import Tensor


def signed_rows(blocks: Blocks, v: int) -> "Tensor":
    """Make the unit rows on blocks of k of v coordinates, (b 2^(k - 1), v) float32, block by block.

    On a block are all rows of 1 / sqrt(k) and its negative that begin with the positive one.
    """
    import torch

    k = len(blocks[0])
    entries = torch.tensor([1 / math.sqrt(k), -1 / math.sqrt(k)], dtype=torch.float32, device="cpu")
    signs = torch.cartesian_prod(entries[:1], *(k - 1) * [entries])
    places = torch.tensor(blocks, device="cpu")
    rows = torch.zeros(len(places), len(signs), v, dtype=torch.float32, device="cpu")
    rows.scatter_(2, places[:, None].expand(-1, len(signs), -1), signs.expand(len(places), -1, -1))
    return rows.flatten(0, 1)
