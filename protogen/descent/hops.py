"""Sets changed in one go: rows that hop into holes, and sets brought to n vectors by what is jammed or deep."""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import normalize

from .batch import Batch
from .smooth import LEAST_EXPONENT, Smooth, tangent

SHARPNESS = 300.0  # of the weights by which a row counts as jammed
PLACES = 20  # drawn for each coordinate, among which the deepest hole is looked for
SHARE = 0.15  # of the rows, that hop at most
TIE = 1e-9  # of a row's jam: rows that differ by less are equally jammed
FILLING = 2 * 10**9  # multiplications, that looking for holes among random vectors may take for one set
HOLES = 4  # the deepest, of which one is filled
DESCENDING, DRAWN = 512, 32  # vectors that descend into holes at most, and random ones for each, which are less deep
HOLE_STAGES, HOLE_STEPS = (20.0, 80.0, 320.0, 1280.0, 5120.0), 40
HOLE_EVALUATIONS = len(HOLE_STAGES) * HOLE_STEPS  # that a descent into holes takes at the most
SAME_HOLE = 0.995  # the least cosine of places in one hole, where descents from several sides end
UNEVEN = 0.01  # is added to the figures of holes at most, so that not always the same are filled
CHOICES = 64  # of holes, of which the best is taken
TAKEN = 2.0  # the figure of a hole that is filled
NEAR_HOLE = 0.8  # the largest cosine of a hole that is filled with others
LITTLE = 1e-3  # the length by which a coordinate moves, of a set that may leave its symmetry
NOISE = 0.1  # the length by which every row is moved, where they are


def hopped(rows: Tensor, lines: bool, noise: float, generator: torch.Generator) -> Tensor:
    """Move some rows of each of k sets (k, n, d) from where they are most jammed into the deepest holes.

    Which rows hop is drawn: each with a probability in proportion to the weight of its pairs. How many is drawn
    too, one to SHARE of all, and the same for every set. Then each row moves by a random vector of about the length
    `noise`.
    """
    k, n, d = rows.shape
    count = int(torch.randint(1, max(2, int(SHARE * n) + 1), (), generator=generator, device="cpu"))
    cosines = _sizes(rows @ rows.mT, lines)
    cosines.diagonal(dim1=-2, dim2=-1).fill_(-1.0)
    weights = ((cosines - cosines.amax((-2, -1), keepdim=True)) * SHARPNESS).exp().sum(-1)
    # The largest of log weight plus Gumbel noise are a draw without replacement by weight.
    gumbel = -torch.log(-torch.log(_uniform((k, n), rows, generator)))
    chosen = (weights.clamp_min(1e-300).log() + gumbel).argsort(dim=1, descending=True)[:, :count]
    sets = torch.arange(k, device=rows.device)
    moved = rows.clone()
    away = torch.zeros(k, n, dtype=torch.bool, device=rows.device).scatter_(1, chosen, True)
    for place in chosen.T:
        drawn = normalize(_normal((k, PLACES * d, d), rows, generator), dim=-1)
        nearest = _sizes(drawn @ moved.mT, lines).masked_fill(away[:, None, :], -1.0).amax(-1)
        moved[sets, place] = drawn[sets, nearest.argmin(1)]
        away[sets, place] = False
    if noise:
        moved = normalize(moved + noise / math.sqrt(d) * _normal((k, n, d), rows, generator), dim=-1)
    return moved


class Holes(NamedTuple):
    """The deepest holes of a set that were found: unit vectors (h, d), the deepest first, and their figures (h,).

    The figure of a hole is the largest cosine, or |cosine|, that a vector there has with those of the set.
    """

    places: Tensor
    figures: Tensor


def deepest_holes(rows: Tensor, lines: bool, generator: torch.Generator, allowed: float) -> Holes:
    """Find the deepest holes of a set (N, d) for so many multiplications: of random vectors the deepest descend."""
    each = HOLE_EVALUATIONS * len(rows) * (2.0 * rows.shape[1] + 12)
    descending = max(1, min(DESCENDING, int(allowed / each)))
    drawn = normalize(_normal((DRAWN * descending, rows.shape[1]), rows, generator), dim=1)
    starts = drawn[_sizes(drawn @ rows.T, lines).amax(1).argsort()[:descending]]

    def evaluate(places: Tensor, sharpness: Tensor, index: Tensor) -> Smooth:
        cosines = places[:, 0] @ rows.T
        sizes = _sizes(cosines, lines)
        largest = sizes.amax(1)
        weights = ((sizes - largest[:, None]) * sharpness[:, None]).clamp_(min=LEAST_EXPONENT).exp_()
        total = weights.sum(1)
        towards = (weights.copysign_(cosines) if lines else weights) @ rows / total[:, None]
        return Smooth(largest + total.log() / sharpness, tangent(places, towards[:, None]), largest)

    batch = Batch(starts[:, None], evaluate, HOLE_STAGES, HOLE_STEPS)
    while batch.going:
        batch.advance()
    order = batch.largest.argsort()
    places, figures = batch.rows[order, 0], batch.largest[order]
    same = (_sizes(places @ places.T, lines) > SAME_HOLE).tril(-1).any(1)
    return Holes(places[~same], figures[~same])


def fitted(rows: Tensor, n: int, lines: bool, generator: torch.Generator, holes: Holes | None = None) -> Tensor:
    """Make a set of n vectors of one of more or fewer, (N, d).

    - Too many: the most jammed are taken out, one after the other; which of those that are equally jammed is drawn.
    - Too few: `holes` are filled, as far as these go; then each time one of the deepest of random vectors.

    Then each row moves a little, so that a symmetric set may leave its symmetry.
    """
    if len(rows) > n:
        rows = rows[_least_jammed(rows, n, lines, generator)]
    elif holes is not None:
        rows = torch.cat((rows, _chosen(holes, n - len(rows), lines, generator)))
    d = rows.shape[1]
    places = min(PLACES * d, max(HOLES, FILLING // (n * d * max(1, n - len(rows)))))
    while len(rows) < n:
        drawn = normalize(_normal((places, d), rows, generator), dim=1)
        deepest = _sizes(drawn @ rows.T, lines).amax(1).argsort()[:HOLES]
        place = torch.randint(len(deepest), (), generator=generator, device="cpu")
        rows = torch.cat((rows, drawn[deepest[place]][None]))
    return normalize(rows + LITTLE * _normal(tuple(rows.shape), rows, generator), dim=1)


def _chosen(holes: Holes, most: int, lines: bool, generator: torch.Generator) -> Tensor:
    """Choose holes that are deep and far from each other, the best of CHOICES; none nearer to another than NEAR_HOLE.

    Each choice takes the deepest hole that is left, where those taken before count as vectors of the set.
    """
    nearness = _sizes(holes.places @ holes.places.T, lines).fill_diagonal_(TAKEN)
    figures = holes.figures.expand(CHOICES, -1)
    uneven = UNEVEN * _uniform(tuple(figures.shape), figures, generator)
    chosen, worst = list[Tensor](), figures.new_full((CHOICES,), -1.0)
    while len(chosen) < most:
        places = (figures + uneven).argmin(1)
        taken = figures.gather(1, places[:, None])[:, 0]
        if taken.min() > NEAR_HOLE:
            break
        chosen.append(places)
        worst = worst.maximum(taken)
        figures = figures.maximum(nearness[places])
    best = worst.argmin()
    return holes.places[[int(places[best]) for places in chosen]]


def _least_jammed(rows: Tensor, n: int, lines: bool, generator: torch.Generator) -> Tensor:
    """Take rows out until n are left; return the places of these, (n,)."""
    cosines = _sizes(rows @ rows.T, lines).fill_diagonal_(-1.0)
    weights = ((cosines - cosines.max()) * SHARPNESS).exp_()
    ties = 1 + TIE * _uniform((len(rows),), rows, generator)
    left = torch.ones(len(rows), dtype=torch.bool, device=rows.device)
    for _ in range(len(rows) - n):
        jam = (weights.sum(1) * ties).masked_fill_(~left, -1.0)
        place = jam.argmax()
        left[place] = False
        weights[place], weights[:, place] = 0.0, 0.0
    return left.nonzero()[:, 0]


def _sizes(cosines: Tensor, lines: bool) -> Tensor:
    return cosines.abs() if lines else cosines


def _normal(shape: tuple[int, ...], like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float64, device="cpu").to(like)


def _uniform(shape: tuple[int, ...], like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=generator, dtype=torch.float64, device="cpu").clamp_(1e-12, 1 - 1e-12).to(like)
