"""Exact angle statistics over all pairs of a set, in one pass over the tiles of its Gram matrix."""

import math
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from protogen.ranks.group import Ranks
from protogen.rows import FILL, InMemory, Rows

from .extremes import Extremes
from .geometry import angles_deg
from .memory import least_free
from .precision import full_precision
from .stats import BINS, AngleStats, Extreme
from .sums import Sums
from .tiles import blocks, gram_tile, pairless, tile_edge
from .vectors import Block, Vectors

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

WITHIN_TILE = 128  # pairs within a class lie near the diagonal: larger tiles would be empty for the most part
# Angles of less than acos(1 - CLOSE) = 1.8 degrees, or of so little less than 180, are computed in float64: there
# an error of 1e-7 in a cosine is one of 2e-4 degrees and more.
CLOSE = 2**-11
DENSE = 1 / 64  # of a tile's pairs: where more are close, a product in float64 is cheaper than pair by pair
ALONE = 2**20  # so many pairs are measured by one rank while several would agree on who does what
TURN = 16  # tiles of a rank between two moments at which all agree that they go on


def measure(
    source: Rows,
    device: str = "cpu",
    tile: int | None = None,
    report: Callable[[float], None] | None = None,
    *,
    within: bool = False,
    group: "ProcessGroup | None" = None,
) -> AngleStats:
    """Measure unit rows (n, d), n >= 2, over all pairs; each pair is visited once.

    Of (n, s, d), s vectors of any length above 0 for each of n classes, the pairs of different classes
    are measured, or with `within` (s >= 2) those of one class; i and j count the n s vectors.

    - Cosines are float32, by tiles. Those near 1 and -1 are computed again in float64, from the vectors as they
      are, and so are the 1,024 most extreme segments (a row of a tile) of each kind.
    - `report` gets the share done after each block of rows.
    - Of a `group` of processes, all of which make this call, each takes its share of the tiles. The source is that
      of rank 0. Extremes and counts are those of one process, sums but for rounding.
    - Memory beside the source: a few tiles and two blocks of rows, whatever n.
    """
    ranks = Ranks.of(group)
    if ranks is None:
        return _assemble(_gram(None, source, device, tile, within, report))
    return ranks.led(lambda: _assemble(_led(ranks, source, device, tile, within, report)))


def _led(
    ranks: Ranks,
    source: Rows,
    device: str,
    tile: int | None,
    within: bool,
    report: Callable[[float], None] | None,
) -> "_Gram":
    """Pass over all pairs with all ranks, or alone where there is little to do or rows fit this rank alone."""
    n = math.prod(source.shape[:-1])
    alone = n * (n - 1) // 2 <= ALONE
    if not alone and isinstance(source, InMemory):
        alone = source.tensor.nbytes > ranks.together(least_free, device)
    if alone:
        return _gram(None, source, device, tile, within, report)
    return ranks.together(_gram, source, device, tile, within, report=report)


@full_precision()
def _gram(
    ranks: Ranks | None,
    source: Rows,
    device: str,
    tile: int | None,
    within: bool,
    report: Callable[[float], None] | None = None,
) -> "_Gram":
    """Pass over the pairs; where there are several ranks over this one's share, and join what they have found."""
    where = torch.device(device)
    vectors = Vectors(source, where)
    edge = min(tile_edge(where, tile), WITHIN_TILE if within else vectors.n)
    cuts = blocks(vectors.n, max(1, edge // vectors.group) * vectors.group)  # no class lies in two tiles
    gram = _Gram(vectors, cuts, where, within)
    for turn, mine in _turns(len(cuts), within, ranks):
        with ranks.agreeing() if ranks else nullcontext():
            for index, columns in zip(turn, mine, strict=True):
                gram.add_row(index, columns)
        if report:
            left = vectors.n - cuts[turn[-1]][1]
            report(1 - left * (left - 1) / (vectors.n * (vectors.n - 1)))
    if ranks:
        gram.join(ranks)
    return gram


def _turns(count: int, within: bool, ranks: Ranks | None) -> Iterator[tuple[list[int], list[list[int]]]]:
    """Yield blocks of rows of the Gram matrix, and for each the columns of tiles that are this rank's.

    The tiles of the upper triangle, with `within` of the diagonal, are dealt in turn. One block of rows at a time
    where there is one rank; else so many that each rank has TURN tiles.
    """
    world, rank = (ranks.world, ranks.rank) if ranks else (1, 0)
    turn: list[int] = []
    mine: list[list[int]] = []
    before = tiles = 0
    for index in range(count):
        stop = index + 1 if within else count
        turn.append(index)
        mine.append([column for column in range(index, stop) if (before + column - index) % world == rank])
        before, tiles = before + stop - index, tiles + stop - index
        if ranks is None or tiles >= TURN * world or index == count - 1:
            yield turn, mine
            turn, mine, tiles = [], [], 0


class _Gram:
    """Take in the Gram matrix of vectors, tile by tile: what is known of the pairs so far.

    `nearest` (2, n): the largest cos and the largest -cos of each vector.
    """

    def __init__(self, vectors: Vectors, cuts: list[tuple[int, int]], where: torch.device, within: bool) -> None:
        edge = cuts[0][1]
        self.vectors, self.within = vectors, within
        self._cuts, self._where = cuts, where
        self._buffer = torch.empty(edge * edge, device=where, dtype=torch.float32)
        self._deviation = torch.zeros((), dtype=torch.float64, device=where)  # of the lengths in float32 from one
        # A cosine above it may belong to a close pair. A float32 sum of d products of unit vectors errs by less than
        # d 2^-24 (Higham 2002, Section 3.1), and the rounding of the vectors adds a little.
        self._error = 1.01 * (vectors.d + 8) * 2**-24
        self._close = max(0.5, 1 - CLOSE - self._error)
        self.sums = Sums(where, edge)
        self.nearest = torch.full((2, vectors.n), -math.inf, dtype=torch.float64, device=where)
        self.high, self.low = (Extremes(vectors, cuts, sign, within) for sign in (1, -1))

    def add_row(self, index: int, columns: list[int]) -> None:
        """Take in tiles of one block of rows: those of some columns of blocks, from the diagonal on."""
        if not columns:
            return
        i0, i1 = self._cuts[index]
        left = self.vectors.block(i0, i1)
        lengths = torch.linalg.vector_norm(left.single, dim=1, dtype=torch.float64)
        self._deviation = torch.maximum(self._deviation, (lengths - 1).abs().max())
        peaks = torch.full((2, i1 - i0, len(columns)), -math.inf, dtype=torch.float64, device=self._where)
        for place, column in enumerate(columns):
            if column == index:
                own = torch.arange(i0, i1, device=self._where)
                masked = pairless(own[:, None], own, self.vectors.group, self.within)
                peaks[:, :, place], _ = self._add_tile(left, left, masked)
            else:
                j0, j1 = self._cuts[column]
                peaks[:, :, place], others = self._add_tile(left, self.vectors.block(j0, j1))
                _raise_to(self.nearest[:, j0:j1], others)
        _raise_to(self.nearest[:, i0:i1], peaks.amax(2))
        tiles = torch.tensor(columns, device=self._where)
        self.high.offer(peaks[0], index, tiles)
        self.low.offer(peaks[1], index, tiles)

    def join(self, ranks: Ranks) -> None:
        """Put what all ranks have found together, on each of them."""
        self.sums.join(ranks)
        ranks.raise_to_largest(self.nearest)
        ranks.raise_to_largest(self._deviation)
        self.high.join(ranks)
        self.low.join(ranks)

    def _add_tile(self, left: Block, right: Block, masked: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Add up the pairs of a tile (b, c); return the peaks of its rows (2, b) and of its columns (2, c).

        `masked` (b, b) is where a tile on the diagonal has no pair; of the others each pair counts once.
        """
        cosines = gram_tile(left.single, right.single, self._buffer)
        above = None if masked is None else (~masked).triu_()
        peaks = _peaks(cosines, 1, masked)
        if not (peaks.amax() >= self._close):
            # The diagonal is left out, not zeroed: a simplex has no cosine of 0.
            self.sums.add(cosines.view(-1) if above is None else cosines[above])
            return peaks, _peaks(cosines, 0, masked)
        close = cosines.abs() >= self._close
        if masked is not None:
            close &= ~masked
        i, j = close.nonzero().T
        exact = _exact(left, right, i, j)
        self.sums.add(cosines[~close if above is None else above & ~close])
        self.sums.add(exact if above is None else exact[above[i, j]])
        inexact = close if masked is None else masked | close
        both = torch.stack((exact, -exact))
        rows, columns = _peaks(cosines, 1, inexact), _peaks(cosines, 0, inexact)
        rows.scatter_reduce_(1, i.expand(2, -1), both, "amax")
        columns.scatter_reduce_(1, j.expand(2, -1), both, "amax")
        return rows, columns

    def doubt(self) -> float:
        """By how much a float32 cosine may be off: the sum's error, and twice the deviation of a length."""
        deviation = self._deviation.item()
        return self._error * (1 + deviation) ** 2 + deviation * (2 + deviation)


def _exact(left: Block, right: Block, i: Tensor, j: Tensor) -> Tensor:
    """Compute the cosines (pairs,) of vectors i of one block and j of another in float64."""
    if len(i) > DENSE * len(left.double) * len(right.double):
        return (left.double @ right.double.T)[i, j]
    step = max(1, FILL // left.double.shape[1])
    parts = zip(i.split(step), j.split(step), strict=True)
    return torch.cat([(left.double[one] * right.double[other]).sum(1) for one, other in parts])


def _peaks(tile: Tensor, dim: int, masked: Tensor | None) -> Tensor:
    """Return the largest cos and the largest -cos of a tile (b, c) along a dimension, (2, ...), float64.

    The tile is overwritten where it has no pair.
    """
    if masked is None:
        return torch.stack((tile.amax(dim), -tile.amin(dim))).double()
    high = tile.masked_fill_(masked, -math.inf).amax(dim)
    return torch.stack((high, -tile.masked_fill_(masked, math.inf).amin(dim))).double()


def _raise_to(maximum: Tensor, values: Tensor) -> None:
    torch.maximum(maximum, values, out=maximum)


def _assemble(gram: _Gram) -> AngleStats:
    """Turn what was added up into the record."""
    vectors, sums, nearest = gram.vectors, gram.sums, gram.nearest.cpu()
    n, group = vectors.n, vectors.group
    pairs = n * (group - 1) // 2 if gram.within else n * (n - group) // 2
    every = pairs == n * (n - 1) // 2
    (max_cos, max_room), (min_cos, min_room) = (each.refine(gram.doubt()) for each in (gram.high, gram.low))
    coherence = max_cos if max_cos.value >= -min_cos.value else Extreme(-min_cos.value, min_cos.i, min_cos.j)
    closest, widest = (_pair_angle(vectors, pair) for pair in (max_cos, min_cos))
    total, squares, potential, deviation = sums.totals.tolist()
    histogram = sums.histogram.tolist()
    mean = total / pairs
    return AngleStats(
        pairs=pairs,
        max_cos=max_cos,
        min_cos=min_cos,
        coherence=coherence,
        min_angle_points_deg=closest,
        min_angle_lines_deg=min(closest, 180 - widest),
        mean_deviation_deg=deviation / pairs * 180 / BINS,
        mean_cos=mean,
        std_cos=math.sqrt(max(0.0, squares / pairs - mean**2)),
        mean_nearest_cos_points=nearest[0].mean().item(),
        mean_nearest_cos_lines=nearest.amax(0).mean().item(),
        frame_potential=n + 2 * squares if every else None,
        frame_potential_min=max(n, n * n / vectors.d) if every else None,
        uniformity_t2=math.log(potential / pairs),
        duplicate_pairs=int(sums.twins[0]),
        antipodal_pairs=int(sums.twins[1]),
        error_bound=max(max_room, min_room),
        # An angle of exactly 180 degrees belongs to the last bin.
        histogram=(*histogram[: BINS - 1], histogram[BINS - 1] + histogram[BINS]),
    )


def _pair_angle(vectors: Vectors, pair: Extreme) -> float:
    u, v = (vectors.block(index, index + 1).double for index in (pair.i, pair.j))
    return angles_deg(u, v).item()
