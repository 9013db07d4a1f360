"""Plain functions on unit rows: random starts, tiles of the Gram matrix, angles."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import normalize

from .errors import BadRequest

CPU_TILE = 1024
ACCELERATOR_TILE = 4096


def random_rows(sets: int, n: int, d: int, seed: int) -> Tensor:
    """Draw rows uniformly from the unit sphere, float32, on the CPU: (n, d), or (sets, n, d) for several.

    The same seed gives the same rows on every device, one set or the first of several; the global
    generator is not touched.
    """
    generator = torch.Generator().manual_seed(seed)
    drawn = [torch.randn(n, d, generator=generator) for _ in range(sets)]
    return normalize(torch.stack(drawn) if sets > 1 else drawn[0], dim=-1)


def random_signs(rows: Tensor, seed: int = 0) -> Tensor:
    """Turn random ones of the rows (n, d) round: the same lines, of the same coherence.

    To train on lines by their signed cosines. Many closed forms have a direction to which all rows have the
    same cosine: there the cross entropy is flat and far lower than around it, and a network that comes there
    learns nothing more (tests/SCIENCE.md). The same seed gives the same signs to the first rows of more.
    """
    signs = torch.randint(2, (len(rows), 1), generator=torch.Generator().manual_seed(seed))
    return rows * (2 * signs - 1).to(rows)


def pick_device(name: str) -> torch.device:
    """The torch device of a name: cpu, cuda or cuda:<index>. Raises BadRequest on any other."""
    there = ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    if name not in there and not (name == "cuda" and len(there) > 1):
        raise BadRequest(f"device is {name!r}; this machine has {', '.join(there)}")
    return torch.device(name)


def tile_edge(device: torch.device, tile: int | None) -> int:
    """The edge of a Gram tile in rows: as asked, else the largest that suits the device's cache."""
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


def angles_deg(u: Tensor, v: Tensor) -> Tensor:
    """The angles between vectors (..., d) in degrees, 0 to 180: (...), float64.

    2 atan2(|u - v|, |u + v|) on unit vectors, which keeps its digits near 0 and near 180
    (Kahan 2006, How futile are mindless assessments of roundoff).
    """
    u, v = normalize(u.double(), dim=-1), normalize(v.double(), dim=-1)
    norm = torch.linalg.vector_norm
    return torch.rad2deg(2 * torch.atan2(norm(u - v, dim=-1), norm(u + v, dim=-1)))
