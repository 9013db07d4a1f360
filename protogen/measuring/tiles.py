"""Tiles of the Gram matrix: how pairs of rows are cut, and one product."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from protogen.checks import check_tile

CPU_TILE, ACCELERATOR_TILE = 1024, 4096


def tile_edge(device: torch.device, tile: int | None) -> int:
    """The edge of a Gram tile in rows: as asked, else the largest that suits the device's cache. Raises BadRequest."""
    check_tile(tile)
    return tile or (CPU_TILE if device.type == "cpu" else ACCELERATOR_TILE)


def blocks(n: int, edge: int) -> list[tuple[int, int]]:
    """Cut n rows into blocks (start, stop) of at most `edge` rows."""
    return [(start, min(start + edge, n)) for start in range(0, n, edge)]


def upper_tiles(n: int, edge: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield the tiles (i0, i1, j0, j1), j0 >= i0, that cover every pair of n rows once."""
    cuts = blocks(n, edge)
    for index, (i0, i1) in enumerate(cuts):
        for j0, j1 in cuts[index:]:
            yield i0, i1, j0, j1


def gram_tile(left: Tensor, right: Tensor, buffer: Tensor) -> Tensor:
    """Compute left @ right.T, (..., b, d) and (..., c, d) to (..., b, c), into a flat buffer that is large enough."""
    shape = (*left.shape[:-1], right.shape[-2])
    return torch.matmul(left, right.mT, out=buffer[: math.prod(shape)].view(shape))


def pairless(i: Tensor, j: Tensor, group: int, within: bool) -> Tensor:
    """Whether vectors i and j make no pair: they are one, or of one class, or with `within` of two classes.

    The vectors of a class, `group` of them, follow one another.
    """
    return (i == j) | ((i // group == j // group) != within)
