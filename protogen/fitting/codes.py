"""Class codes: a direction for each class, from one pass over the data.

Fisher 1936, The use of multiple measurements in taxonomic problems; Rao 1948 for several classes.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from protogen import catalog
from protogen.checks import check_between, check_whole
from protogen.errors import BadRequest
from protogen.measuring.geometry import random_rows
from protogen.rows import InMemory

from .statistics import ClassStatistics

RIDGE = 0.05  # of the mean variance within classes, added to each coordinate's
RANK = 1e-9  # directions whose share of the largest ratio is below this carry no class
PART = 4096  # classes that are worked on at a time
DRAWS = 4  # places that are drawn for a class without a sample, of which the freest is taken


@dataclass(frozen=True)
class ClassCodes:
    """Unit rows (n, d) float32, and the map that gave them: `normalize((mean of a class - mean) @ projection)`.

    `projection` is (width, d), `mean` (width,), both float32; columns of `projection` beyond `rank` are zero,
    and the rows are filled there from a set of low coherence. `seen` (n,) is whether a class had a sample: one
    without has a free place.
    """

    rows: Tensor
    projection: Tensor
    mean: Tensor
    rank: int
    seen: Tensor


@torch.no_grad()
def class_codes(
    statistics: ClassStatistics, d: int, *, power: float = 1.0, ridge: float = RIDGE, seed: int = 0
) -> ClassCodes:
    """Return the codes of the classes in R^d: their means in the d directions that tell classes apart best.

    1. Sw and Sb are the scatters within and between classes; Sw gets `ridge` times its mean diagonal.
    2. The directions are the eigenvectors of L^-1 Sb L^-T, Sw = L L^T, with the d largest eigenvalues.
    3. Each class mean, less the mean of all, is projected on them.
    4. Each column is raised to the power `power` of its scale: 1 keeps it, 0 makes all columns equally large.
    5. Rows are normalised.

    Where d is larger than the rank, the free coordinates are filled from a set of low coherence, each as large
    as the weakest direction. Worked out in float64 on the statistics' device; the rows come on the CPU.

    Raises BadRequest where d is below 2, `ridge` or `power` are not allowed, or no class has a sample.
    """
    check_whole("d", d, 2)
    check_between("ridge", ridge, 0, 1e9)
    if not 0 <= power <= 10:
        raise BadRequest(f"power is {power}; allowed is 0 to 10; 1 keeps the scale of each direction")
    if not statistics.samples:
        raise BadRequest("no class has a sample; allowed are statistics of one sample at least: add a batch first")
    directions = _directions(statistics, d, ridge)
    rank = directions.shape[1]
    mean = statistics.mean
    rows = torch.zeros(statistics.classes, d, dtype=torch.float64, device=directions.device)
    for start in range(0, statistics.classes, PART):
        counts = statistics.counts[start : start + PART, None]
        means = statistics.sums[start : start + PART] / counts.clamp(min=1) - mean
        rows[start : start + PART, :rank] = (means @ directions) * (counts > 0)
    seen = statistics.seen
    scale = rows[seen, :rank].square().mean(0).sqrt()
    grown = scale ** (power - 1)
    rows[:, :rank] *= grown
    if rank < d:
        weakest = float((scale * grown).min()) if rank else 1.0
        rows[:, rank:] = weakest * _filling(statistics.classes, d - rank, seed).to(rows)
    projection = torch.zeros(statistics.width, d, dtype=torch.float32, device="cpu")
    projection[:, :rank] = (directions * grown).float().cpu()
    placed = normalize(rows, dim=1).float().cpu()
    seen = seen.cpu()
    # A class whose mean is the mean of all has no direction.
    free = ~seen | (torch.linalg.vector_norm(placed, dim=1) < 0.5)
    if free.any():
        placed[free] = free_places(placed[~free], int(free.sum()), d, seed)
    return ClassCodes(placed, projection, mean.float().cpu(), rank, seen)


@torch.no_grad()
def later_codes(statistics: ClassStatistics, projection: Tensor, mean: Tensor, seed: int = 0) -> Tensor:
    """Return codes (n, d) of other classes by the map of earlier ones, each from its own mean alone.

    Free coordinates, which are zero columns of `projection`, are filled at random, as large as the weakest
    direction. Raises BadRequest where the width of the features is another.
    """
    if statistics.width != len(projection):
        raise BadRequest(
            f"features have width {statistics.width}, those of the earlier classes {len(projection)}; "
            "take the features of the same network"
        )
    map_ = projection.to(statistics.sums)
    rows = (statistics.means - mean.to(map_)) @ map_
    free = (projection == 0).all(0).to(rows.device)
    if free.any():
        scale = rows[statistics.seen][:, ~free].square().mean(0).sqrt()
        weakest = float(scale.min()) if scale.numel() else 1.0
        filled = random_rows(1, len(rows), int(free.sum()), seed).to(rows)
        rows[:, free] = weakest * float(free.sum()) ** 0.5 * filled
    placed, lacking = normalize(rows, dim=1).float().cpu(), (~statistics.seen).cpu()
    if lacking.any():
        placed[lacking] = free_places(placed[~lacking], int(lacking.sum()), placed.shape[1], seed)
    return placed


def free_places(beside: Tensor, count: int, d: int, seed: int) -> Tensor:
    """Draw `count` unit rows (count, d), of a few draws each the one farthest, as a line, from rows (m, d)."""
    draws = random_rows(1, DRAWS * count, d, seed)
    nearest = torch.zeros(len(draws), dtype=torch.float32, device="cpu")
    for start in range(0, len(draws), PART):
        for stop in range(0, len(beside), PART):
            cosines = draws[start : start + PART] @ beside[stop : stop + PART].T
            nearest[start : start + PART] = nearest[start : start + PART].maximum(cosines.abs().amax(1))
    best = nearest.view(count, DRAWS).argmin(1)
    return draws.view(count, DRAWS, d)[torch.arange(count, device="cpu"), best]


def _directions(statistics: ClassStatistics, d: int, ridge: float) -> Tensor:
    """The directions (width, rank) that tell classes apart, at most d, the best first, the ridged Sw unit on each."""
    within, between = statistics.scatter()
    variance, between_variance = within.diagonal().mean(), between.diagonal().mean()
    if variance > RANK * between_variance:
        within.diagonal().add_(ridge * variance)
    else:  # No class varies, as with one sample each: what is there is rounding, and all directions are alike.
        within = torch.eye(statistics.width, dtype=within.dtype, device=within.device)
    root, failed = torch.linalg.cholesky_ex(within)
    if failed:
        raise BadRequest(f"ridge is {ridge}, and the scatter within classes has no inverse; raise it: {RIDGE} is usual")
    half = torch.linalg.solve_triangular(root, between, upper=False)
    ratio = torch.linalg.solve_triangular(root, half.T, upper=False)
    values, vectors = torch.linalg.eigh((ratio + ratio.T) / 2)
    most = min(d, statistics.width, int(statistics.seen.sum()) - 1)
    # What is left of a zero in float64 lies far below the share that counts.
    floor = max(float(values[-1]) * RANK, torch.finfo(values.dtype).tiny)
    rank = min(most, int((values > floor).sum()))
    best = vectors[:, vectors.shape[1] - rank :].flip(1)
    # An eigenvector and its opposite are the same: the largest coordinate is made positive.
    largest = best.abs().argmax(0, keepdim=True)
    best = best * best.gather(0, largest).sign()
    directions: Tensor = torch.linalg.solve_triangular(root.T, best, upper=True)
    return directions


def _filling(n: int, d: int, seed: int) -> Tensor:
    """Rows (n, d), each coordinate of mean square 1, of low coherence: a closed form's, else drawn."""
    if d < 2:
        signs = torch.randint(2, (n, d), generator=torch.Generator().manual_seed(seed), device="cpu")
        return signs.float().mul_(2).sub_(1)
    form = catalog.seek(d, n) if n >= 2 else None
    rows = InMemory.of(catalog.Padded(form, n, d)).tensor if form else random_rows(1, n, d, seed)
    return rows.mul(d**0.5)
