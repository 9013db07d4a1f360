"""Descend from many starts at once, each with its own curvature, step, sharpness and stop.

L-BFGS on unit rows in its compact form: Byrd, Nocedal and Schnabel 1994, Representations of quasi-Newton
matrices and their use in limited memory methods, Theorem 2.2.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Protocol, Self

import torch
from torch import Tensor
from torch.nn.functional import normalize

ENOUGH = 1e-4  # of the slope along a step, by which the loss must fall at least (Armijo's condition)
SHORTEST = 1e-5  # a step cut to less leads nowhere
LEAST_CURVATURE = 1e-12  # a step along which the gradient changed by less tells nothing
FARTHEST = 0.5  # what a row moves at most in a step


@dataclass(frozen=True)
class Smooth:
    """What was evaluated of sets (s, k, d): losses (s,), their gradients (s, k, d), the largest cosines (s,)."""

    losses: Tensor
    gradient: Tensor
    largest: Tensor


class Smoothed(Protocol):
    """A loss of several sets, smooth in their rows, that nears the largest cosine where its sharpness grows."""

    def __call__(self, rows: Tensor, sharpness: Tensor) -> Smooth:
        """Evaluate unit rows (s, k, d), each set at its own sharpness (s,)."""
        ...

    def take(self, places: Tensor) -> Self:
        """Return the loss of the sets at these places alone."""
        ...


@dataclass(frozen=True)
class Stages:
    """Say how sharpness grows on the way of a start.

    - `sharpness`: one number a stage.
    - `steps`: the most evaluations of a stage.
    - `patience`, `gain`: a stage ends where so many evaluations lower the loss by less than gain / sharpness.
    - `memory`: how many steps the curvature is taken from.
    """

    sharpness: tuple[float, ...]
    steps: int = 120
    patience: int = 10
    gain: float = 1e-2
    memory: int = 10

    @classmethod
    def growing(cls, first: float, last: float, count: int, steps: int = 120, gain: float = 1e-2) -> Self:
        """Return `count` stages, each sharper than the one before by the same factor."""
        growth = (last / first) ** (1 / max(1, count - 1))
        return cls(tuple(first * growth**stage for stage in range(count)), steps, gain=gain)


@dataclass(frozen=True)
class Found:
    """Where each start came to: its best rows (s, k, d), their largest cosines (s,), sets evaluated in all.

    `interrupted`: whether a KeyboardInterrupt ended the descent.
    """

    rows: Tensor
    largest: Tensor
    evaluations: int
    interrupted: bool = False


@dataclass
class _Starts:
    """Where the starts stand that are still on their way, (s, ...) each."""

    place: Tensor  # among all starts
    rows: Tensor  # the last that were accepted
    loss: Tensor
    tangent: Tensor
    direction: Tensor
    slope: Tensor
    length: Tensor  # of the step from `rows` along `direction` that is tried
    fresh: Tensor  # whether the next evaluation counts as accepted, whatever it gives
    stage: Tensor
    ended: Tensor  # whether the start has come through its stages
    spent: Tensor  # evaluations in this stage
    mark: Tensor  # the loss as it was when patience began
    steps: Tensor  # (s, memory, k d)
    changes: Tensor  # (s, memory, k d)
    across: Tensor  # (s, memory, memory), steps by changes
    among: Tensor  # (s, memory, memory), changes by changes
    best_rows: Tensor
    best: Tensor

    @classmethod
    def of(cls, rows: Tensor, memory: int) -> Self:
        s, numbers = len(rows), rows[0].numel()
        one = rows.new_ones(s)
        whole = torch.zeros(s, dtype=torch.long, device=rows.device)
        return cls(
            place=torch.arange(s, device=rows.device),
            rows=rows,
            loss=one * math.inf,
            tangent=torch.zeros_like(rows),
            direction=torch.zeros_like(rows),
            slope=one * 0,
            length=one,
            fresh=torch.ones(s, dtype=torch.bool, device=rows.device),
            stage=whole,
            ended=torch.zeros(s, dtype=torch.bool, device=rows.device),
            spent=whole.clone(),
            mark=one * math.inf,
            steps=rows.new_zeros(s, memory, numbers),
            changes=rows.new_zeros(s, memory, numbers),
            across=rows.new_zeros(s, memory, memory),
            among=rows.new_zeros(s, memory, memory),
            best_rows=rows,
            best=one * math.inf,
        )

    def take(self, places: Tensor) -> "_Starts":
        return _Starts(**{field.name: getattr(self, field.name)[places] for field in fields(self)})


def descend_batch(
    rows: Tensor, smoothed: Smoothed, stages: Stages, go_on: Callable[[float, int], bool] | None = None
) -> Found:
    """Lower the largest cosine of each of the sets of unit rows (s, k, d), one apart from the others.

    `go_on` is told the lowest largest cosine so far and the evaluations of a set made, after each evaluation of
    all. Where `go_on` says False the descent ends, as where every start has come through its stages. It ends with
    its best on a KeyboardInterrupt as well, which is raised where nothing was evaluated yet.
    """
    sharpness = rows.new_tensor(stages.sharpness)
    final_rows, final = rows.clone(), rows.new_full((len(rows),), math.inf)
    at = _Starts.of(rows, stages.memory)
    evaluations, more, interrupted = 0, True, False
    while more and len(at.place):
        try:
            evaluations += len(at.place)
            _advance(at, smoothed, stages, sharpness)
            more = go_on is None or go_on(min(float(final.min()), float(at.best.min())), evaluations)
        except KeyboardInterrupt:
            if evaluations == len(rows):
                raise
            more, interrupted = False, True
        # Starts that have ended are worked on along with the others until they are half of all.
        if not more or 2 * int(at.ended.sum()) >= len(at.ended):
            final_rows[at.place], final[at.place] = at.best_rows, at.best
            left = (~at.ended).nonzero()[:, 0]
            at, smoothed = at.take(left), smoothed.take(left)
    return Found(final_rows, final, evaluations, interrupted)


def _advance(at: _Starts, smoothed: Smoothed, stages: Stages, sharpness: Tensor) -> None:
    """Evaluate a trial of each start, and take what comes of it."""
    trial = normalize(at.rows + at.length[:, None, None] * at.direction, dim=-1)
    found = smoothed(trial, sharpness[at.stage])
    _keep_best(at, trial, found.largest)
    _accept(at, trial, found, sharpness)
    _next_stages(at, stages, sharpness)


def _keep_best(at: _Starts, trial: Tensor, largest: Tensor) -> None:
    better = largest < at.best
    at.best = torch.where(better, largest, at.best)
    at.best_rows = torch.where(better[:, None, None], trial, at.best_rows)


def _accept(at: _Starts, trial: Tensor, found: Smooth, sharpness: Tensor) -> None:
    """Accept the steps that lower their loss enough, and set out anew there; make the others shorter."""
    tangent = tangent_of(trial, found.gradient)
    accepted = at.fresh | (found.losses <= at.loss + ENOUGH * at.length * at.slope)
    _remember(at, trial, tangent, accepted & ~at.fresh)
    # A parabola through both losses and the slope has its lowest point there.
    low = -at.slope * at.length / (2 * (found.losses - at.loss - at.slope * at.length))
    at.length = at.length * low.nan_to_num(0.5, 0.5, 0.5).clamp(0.1, 0.5)
    wide = accepted[:, None, None]
    at.rows, at.tangent = torch.where(wide, trial, at.rows), torch.where(wide, tangent, at.tangent)
    at.loss = torch.where(accepted, found.losses, at.loss)
    # Where curvature leads nowhere, it is dropped, and the gradient has its turn.
    lost = ~accepted & (at.length < SHORTEST)
    _forget(at, lost)
    direction, slope = _departure(at, sharpness)
    anew = accepted | lost
    at.direction = torch.where(anew[:, None, None], direction, at.direction)
    at.slope, at.length = torch.where(anew, slope, at.slope), torch.where(anew, 1.0, at.length)


def _next_stages(at: _Starts, stages: Stages, sharpness: Tensor) -> None:
    """Let starts whose stage is over begin the next, and end after the last."""
    at.spent = at.spent + 1
    judged = at.spent % stages.patience == 0
    over = (at.spent >= stages.steps) | (judged & ~(at.mark - at.loss > stages.gain / sharpness[at.stage]))
    at.mark = torch.where(judged, at.loss, at.mark).masked_fill(over, math.inf)
    at.spent, at.length = at.spent.masked_fill(over, 0), at.length.masked_fill(over, 0.0)
    at.fresh = over
    last = at.stage == len(sharpness) - 1
    at.ended = at.ended | (over & last)
    at.stage = torch.where(over & ~last, at.stage + 1, at.stage)


def _remember(at: _Starts, rows: Tensor, tangent: Tensor, which: Tensor) -> None:
    """Put a step and the change of the tangent along it behind the others, of which the first is dropped."""
    step, change = (rows - at.rows).flatten(1), (tangent - at.tangent).flatten(1)
    which = which & ((step * change).sum(1) > LEAST_CURVATURE * change.square().sum(1))
    if not which.any():
        return
    places = which.nonzero()[:, 0]
    everyone = len(places) == len(which)
    steps, changes = (at.steps, at.changes) if everyone else (at.steps[places], at.changes[places])
    steps = torch.cat((steps[:, 1:], step[places, None]), 1)
    changes = torch.cat((changes[:, 1:], change[places, None]), 1)
    row = (changes @ step[places, :, None])[..., 0]
    column = (steps @ change[places, :, None])[..., 0]
    square = (changes @ change[places, :, None])[..., 0]
    across, among = (_shifted(table[places]) for table in (at.across, at.among))
    across[:, -1], across[:, :, -1] = row, column
    among[:, -1], among[:, :, -1] = square, square
    if everyone:
        at.steps, at.changes, at.across, at.among = steps, changes, across, among
        return
    at.steps[places], at.changes[places] = steps, changes
    at.across[places], at.among[places] = across, among


def _shifted(table: Tensor) -> Tensor:
    """Return a table (s, memory, memory) without its first row and column, and with a new last of each."""
    return torch.nn.functional.pad(table[:, 1:, 1:], (0, 1, 0, 1))


def _forget(at: _Starts, which: Tensor) -> None:
    if which.any():
        places = which.nonzero()[:, 0]
        for table in (at.steps, at.changes, at.across, at.among):
            table[places] = 0


def _departure(at: _Starts, sharpness: Tensor) -> tuple[Tensor, Tensor]:
    """Return the direction in which each start sets out, and the slope of the loss along it."""
    plain = -at.tangent
    direction = tangent_of(at.rows, _curved(at, plain))
    slope = (direction * at.tangent).sum((1, 2))
    steep = (at.among[:, -1, -1] > 0) & (slope < 0)
    # Nothing is known of the curvature, but that it is about as large as the sharpness.
    farthest = plain.norm(dim=-1).amax(1).clamp(min=1e-30)
    first = 1 / (sharpness[at.stage] * farthest)
    direction = torch.where(steep[:, None, None], direction, plain * first[:, None, None])
    farthest = direction.norm(dim=-1).amax(1)
    direction = direction * (FARTHEST / farthest.clamp(min=FARTHEST))[:, None, None]
    return direction, (direction * at.tangent).sum((1, 2))


def _curved(at: _Starts, plain: Tensor) -> Tensor:
    """Return the inverse curvature times `plain` (s, k, d), by the compact form; zeros where none is known."""
    vector = plain.flatten(1)[..., None]
    empty = at.across.diagonal(dim1=1, dim2=2) == 0
    upper = at.across.triu() + torch.diag_embed(empty.to(plain.dtype))
    scale = (at.across[:, -1, -1] / at.among[:, -1, -1]).nan_to_num(0.0)[:, None, None]
    along, change = at.steps @ vector, at.changes @ vector
    inner = torch.linalg.solve_triangular(upper, along, upper=True)
    middle = torch.diag_embed(at.across.diagonal(dim1=1, dim2=2)) + scale * at.among
    outer = torch.linalg.solve_triangular(upper.mT, middle @ inner - scale * change, upper=False)
    result = scale * vector + at.steps.mT @ outer - scale * (at.changes.mT @ inner)
    direction: Tensor = result[..., 0].view_as(plain)
    return direction


def tangent_of(rows: Tensor, vectors: Tensor) -> Tensor:
    """Return what is tangential of vectors at unit rows (..., d)."""
    return vectors - (vectors * rows).sum(-1, keepdim=True) * rows
