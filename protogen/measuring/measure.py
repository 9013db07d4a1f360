"""Exact angle statistics over all pairs of a set, in one pass over the tiles of its Gram matrix."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn.functional import normalize

from protogen.rows import InMemory, Rows

from .geometry import angles_deg
from .stats import BINS, AngleStats, Extreme
from .tiles import blocks, gram_tile, tile_edge

CANDIDATES = 1024
TWIN_COS = 1 - 1e-6
WITHIN_TILE = 128  # pairs within a class lie near the diagonal: larger tiles would be empty for the most part


@contextmanager
def _full_precision() -> Iterator[None]:
    """Keep out TF32 and bfloat16, which this process may use for its other products."""
    # torch sets mkldnn.matmul at run time and leaves it out of its types.
    kinds = (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul)  # type: ignore[attr-defined]
    lowered = [(kind, kind.fp32_precision) for kind in kinds if kind.fp32_precision not in ("none", "ieee")]
    for kind, _ in lowered:
        kind.fp32_precision = "ieee"
    try:
        yield
    finally:
        for kind, precision in lowered:
            kind.fp32_precision = precision


@_full_precision()
def measure(
    source: Rows,
    device: str = "cpu",
    tile: int | None = None,
    report: Callable[[float], None] | None = None,
    *,
    within: bool = False,
) -> AngleStats:
    """Measure unit rows (n, d), n >= 2, over all pairs; each pair is visited once.

    Of (n, s, d), s vectors of any length above 0 for each of n classes, the pairs of different classes
    are measured, on a copy of length one, or with `within` (s >= 2) those of one class; i and j count
    the n s rows.

    Cosines are float32, by tiles; the 1,024 most extreme segments (a row of a tile) of each kind
    are computed again in float64. `report` gets the share done after each block of rows. Memory
    beside the source: a few tiles and two blocks of rows, whatever n.
    """
    group = math.prod(source.shape[1:-1])
    if len(source.shape) > 2:
        source = InMemory(normalize(InMemory.of(source).tensor.flatten(0, -2), dim=1))
    n = source.shape[0]
    where = torch.device(device)
    if isinstance(source, InMemory):
        source = InMemory(source.tensor.to(where))  # once, not tile by tile
    edge = min(tile_edge(where, tile), WITHIN_TILE if within else n)
    cuts = blocks(n, max(1, edge // group) * group)  # no class lies in two tiles
    sums = _Sums(where, cuts[0][1])
    nearest = torch.full((2, n), -math.inf, device=where)  # of each row: largest cos, largest -cos
    extremes = [_Extremes(source, cuts, sign, where, group, within) for sign in (1, -1)]
    buffer = torch.empty(cuts[0][1] ** 2, device=where)

    for index, (i0, i1) in enumerate(cuts):
        left = source.rows(i0, i1).to(where)
        columns = cuts[index : index + 1] if within else cuts[index:]
        peaks = torch.full((2, i1 - i0, len(columns)), -math.inf, device=where)
        for column, (j0, j1) in enumerate(columns):
            right = left if column == 0 else source.rows(j0, j1).to(where)
            cosines = gram_tile(left, right, buffer)
            if column == 0:
                # The diagonal is masked, not zeroed: a simplex has no cosine of 0.
                own = torch.arange(i0, i1, device=where)
                masked = _masked(own[:, None], own, group, within)
                sums.add(cosines[(~masked).triu_()])
                peaks[0, :, 0] = cosines.masked_fill_(masked, -math.inf).amax(1)
                peaks[1, :, 0] = -cosines.masked_fill_(masked, math.inf).amin(1)
            else:
                sums.add(cosines.view(-1))
                peaks[0, :, column] = cosines.amax(1)
                peaks[1, :, column] = -cosines.amin(1)
                _raise_to(nearest[:, j0:j1], torch.stack((cosines.amax(0), -cosines.amin(0))))
        _raise_to(nearest[:, i0:i1], peaks.amax(2))
        for kind, extreme in enumerate(extremes):
            extreme.offer(peaks[kind], index)
        if report:
            report(1 - (n - i1) * (n - i1 - 1) / (n * (n - 1)))

    pairs = n * (group - 1) // 2 if within else n * (n - group) // 2
    return _assemble(source, pairs, sums, nearest.double().cpu(), *extremes)


def _masked(i: Tensor, j: Tensor, group: int, within: bool) -> Tensor:
    """Where rows i and j make no pair: one row, one class, or with `within` two classes."""
    return (i == j) | ((i // group == j // group) != within)


def _raise_to(maximum: Tensor, values: Tensor) -> None:
    torch.maximum(maximum, values, out=maximum)


class _Sums:
    """Everything that adds up over the pairs, kept on the device: no tile waits for the host."""

    def __init__(self, where: torch.device, edge: int) -> None:
        self._work = torch.empty(edge * edge, device=where)
        self._double = torch.empty(edge * edge, dtype=torch.float64, device=where)
        self._bins = torch.empty(edge * edge, dtype=torch.int64, device=where)
        self._one = torch.ones((), dtype=torch.int64, device=where)
        self.histogram = torch.zeros(BINS + 1, dtype=torch.int64, device=where)
        self.twins = torch.zeros(2, dtype=torch.int64, device=where)
        # Of the cosines, of their squares, of exp(-2 |u - v|^2) and of |angle - 90| in bins.
        self.totals = torch.zeros(4, dtype=torch.float64, device=where)

    def add(self, cosines: Tensor) -> None:
        """Take in one tile's cosines (pairs,)."""
        pairs = cosines.numel()
        work, double, bins = self._work[:pairs], self._double[:pairs], self._bins[:pairs]
        self.twins[0] += (cosines >= TWIN_COS).sum()
        self.twins[1] += (cosines <= -TWIN_COS).sum()
        # Squares rounded to float32 would give equal cosines a deviation.
        double.copy_(cosines)
        self.totals[0] += double.sum()
        self.totals[1] += double.dot(double)
        self.totals[2] += torch.sub(cosines, 1, out=work).mul_(4).exp_().sum(dtype=torch.float64)
        # Rounding may carry a cosine past 1, where acos has no value.
        torch.clamp(cosines, -1, 1, out=work).acos_().mul_(BINS / math.pi)
        bins.copy_(work)
        self.histogram.scatter_add_(0, bins, self._one.expand_as(bins))
        self.totals[3] += work.sub_(BINS / 2).abs_().sum(dtype=torch.float64)


class _Extremes:
    """The segments with the largest cosines (sign 1) or the smallest (sign -1), on the device."""

    def __init__(
        self, source: Rows, cuts: list[tuple[int, int]], sign: int, where: torch.device, group: int, within: bool
    ) -> None:
        self._source, self._cuts, self._sign, self._where = source, cuts, sign, where
        self._group, self._within = group, within
        self._values = torch.empty(0, device=where)
        self._ids = torch.empty(0, dtype=torch.int64, device=where)
        self._dropped = False

    def offer(self, peaks: Tensor, index: int) -> None:
        """Take in the peaks (rows, tiles) of the block of rows `index`, its tiles from the diagonal on."""
        rows = torch.arange(peaks.shape[0], device=self._where)[:, None] + self._cuts[index][0]
        tiles = torch.arange(index, index + peaks.shape[1], device=self._where)
        values = torch.cat((self._values, peaks.reshape(-1)))
        ids = torch.cat((self._ids, (rows * len(self._cuts) + tiles).view(-1)))
        self._dropped |= len(values) > CANDIDATES
        self._values, order = values.topk(min(CANDIDATES, len(values)))
        self._ids = ids[order]

    def refine(self) -> tuple[Extreme, float]:
        """The extreme in float64, and by how much float32 leaves room for a worse one."""
        best, i, j = -math.inf, -1, -1
        ids = self._ids.sort().values
        for tile in (ids % len(self._cuts)).unique().tolist():
            j0, j1 = self._cuts[tile]
            rows = (ids[ids % len(self._cuts) == tile] // len(self._cuts)).tolist()
            left = torch.cat([self._source.rows(row, row + 1) for row in rows])
            cosines = self._sign * (_unit64(left, self._where) @ _unit64(self._source.rows(j0, j1), self._where).T)
            left_ids = torch.tensor(rows, device=self._where)[:, None]
            right_ids = torch.arange(j0, j1, device=self._where)
            cosines[_masked(left_ids, right_ids, self._group, self._within)] = -math.inf
            if (value := cosines.max().item()) > best:
                row, column = (cosines == value).nonzero()[0].tolist()
                # In a tile on the diagonal the peak of a row may lie before it.
                best, (i, j) = value, sorted((rows[row], j0 + column))
        d = self._source.shape[1]
        # A float32 sum of d products of unit vectors errs by less than d 2^-24 (Higham 2002, Section 3.1),
        # and the rows' own rounding adds a little.
        room = self._values[-1].item() + 1.01 * (d + 8) * 2**-24 - best if self._dropped else 0.0
        return Extreme(self._sign * best, i, j), max(0.0, room)


def _unit64(rows: Tensor, where: torch.device) -> Tensor:
    return normalize(rows.to(where, torch.float64), dim=1)


def _assemble(source: Rows, pairs: int, sums: _Sums, nearest: Tensor, high: _Extremes, low: _Extremes) -> AngleStats:
    n, d = source.shape
    every = pairs == n * (n - 1) // 2
    (max_cos, max_room), (min_cos, min_room) = high.refine(), low.refine()
    coherence = max_cos if max_cos.value >= -min_cos.value else Extreme(-min_cos.value, min_cos.i, min_cos.j)
    closest, widest = (_pair_angle(source, pair) for pair in (max_cos, min_cos))
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
        frame_potential_min=max(n, n * n / d) if every else None,
        uniformity_t2=math.log(potential / pairs),
        duplicate_pairs=int(sums.twins[0]),
        antipodal_pairs=int(sums.twins[1]),
        error_bound=max(max_room, min_room),
        # An angle of exactly 180 degrees belongs to the last bin.
        histogram=(*histogram[: BINS - 1], histogram[BINS - 1] + histogram[BINS]),
    )


def _pair_angle(source: Rows, pair: Extreme) -> float:
    return angles_deg(source.rows(pair.i, pair.i + 1), source.rows(pair.j, pair.j + 1)).item()
