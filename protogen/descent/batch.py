"""Several sets that descend at once, each with its own curvature, step, sharpness and end."""

from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import normalize

from .checkpoint import Changing
from .smooth import Smooth, tangent
from .steppers import ENOUGH, LEAST_CURVATURE, SHORTEST

MEMORY = 8  # steps, from which the curvature is taken
FIRST_MOVE = 0.1  # the length of a set's first step along its gradient, over all its rows together
WINDOW = 10  # steps, over which a set has to gain
# A gain by less than this, over the sharpness, ends a set's stage. It is small, since what a set reaches while the
# maximum is blunt decides what it ends at: (13, 59) points end at .1883 with 1e-2, at .1808 with 1e-3.
GAIN = 3e-4


# What is lowered: rows (k, n, d), the sharpness of each set (k,), and which of all sets these are (k,).
Objective = Callable[[Tensor, Tensor, Tensor], Smooth]


class Batch(Changing):
    """Descend from k sets of unit rows (k, n, d), each on a smooth maximum of its cosines, in stages.

    A stage has one sharpness. A set passes to the next stage where it gains too little, finds no way down, or has
    taken `steps` steps in the stage. Sets that have passed all stages are evaluated no more.

    The rule is L-BFGS on unit rows (Nocedal and Wright 2006, Algorithm 7.4). Each evaluation is one trial of every
    set: a set whose value falls enough (Armijo) takes the step, another tries half of it the next time. Where a
    set enters a stage, its trial is the place where it stands.

    `gain` ends a set's stage where it gains less, over the sharpness, in WINDOW steps.

    `rows` (k, n, d) are the best of each set by its largest cosine, `largest` (k,). `ends` (k, n, d) are those where
    a set ended, `values` (k,) their smooth maxima; infinite, where it goes on.
    """

    # What there is of each set that goes on, and what there is of all.
    going_on: ClassVar[tuple[str, ...]] = (
        "_index",
        "_base",
        "_values",
        "_gradients",
        "_directions",
        "_slopes",
        "_lengths",
        "_scales",
        "_stage",
        "_taken",
        "_earlier",
    )
    changes: ClassVar[tuple[str, ...]] = ("rows", "largest", "ends", "values", "_history", *going_on)

    def __init__(
        self, rows: Tensor, objective: Objective, sharpnesses: Sequence[float], steps: int, gain: float = GAIN
    ) -> None:
        self._sharpnesses, self._objective = rows.new_tensor(sharpnesses), objective
        self._steps, self._gain = steps, gain
        self.rows, self.largest = rows, rows.new_full((len(rows),), torch.inf)
        self.ends, self.values = self.rows, self.largest
        # Of each step remembered: the step, the change of the gradient along it, 1 / (their inner product), which is
        # 0 for a set that did not take the step.
        self._history: list[tuple[Tensor, Tensor, Tensor]] = []
        self._index = torch.arange(len(rows), dtype=torch.int64, device=rows.device)
        self._base = rows
        self._gradients, self._directions = torch.zeros_like(rows), torch.zeros_like(rows)
        self._values, self._earlier = self.largest, self.largest  # `_earlier`: the value WINDOW steps ago
        self._slopes, self._lengths = torch.zeros_like(self.largest), torch.ones_like(self.largest)
        self._scales = torch.zeros_like(self.largest)  # of the inverse curvature; 0: nothing is known of it
        self._stage, self._taken = torch.zeros_like(self._index), torch.zeros_like(self._index)

    @property
    def going(self) -> int:
        """The number of sets that go on."""
        return len(self._index)

    @property
    def stage(self) -> int:
        """The earliest stage that a set is in, from 0 on; the number of stages where none goes on."""
        return int(self._stage.min()) if self.going else len(self._sharpnesses)

    @property
    def most_left(self) -> int:
        """How many evaluations are left at the most."""
        if not self.going:
            return 0
        whole = (len(self._sharpnesses) - self._stage) * self._steps
        return int((whole - self._taken).max())

    def advance(self) -> None:
        """Evaluate a trial of each set that goes on, and take what comes of it."""
        trial = normalize(self._base + self._lengths[:, None, None] * self._directions, dim=-1)
        at = self._objective(trial, self._sharpnesses[self._stage], self._index)
        self._keep_best(trial, at.largest)
        taken = at.values <= self._values + ENOUGH * self._lengths * self._slopes
        self._remember(trial, at, taken)
        self._base = torch.where(taken[:, None, None], trial, self._base)
        self._gradients = torch.where(taken[:, None, None], at.gradients, self._gradients)
        self._values = torch.where(taken, at.values, self._values)
        self._taken = self._taken + 1
        stuck = ~taken & (self._lengths < SHORTEST)
        again = stuck & (self._scales > 0)  # the curvature leads nowhere: the gradient has its turn
        self._forget(again)
        passing = self._passing(stuck & ~again)
        self._set_out(taken | again)
        self._pass(passing)

    def _keep_best(self, trial: Tensor, largest: Tensor) -> None:
        better = largest < self.largest[self._index]
        if bool(better.any()):
            self.rows = self.rows.index_copy(0, self._index[better], trial[better])
            self.largest = self.largest.index_copy(0, self._index[better], largest[better])

    def _remember(self, trial: Tensor, at: Smooth, taken: Tensor) -> None:
        """Add the step and the change of the gradient along it, for the sets that take the step.

        A set that enters a stage takes none: it stands where it stood, but for rounding.
        """
        step, change = trial - self._base, at.gradients - self._gradients
        curvature, square = (step * change).sum((-2, -1)), change.square().sum((-2, -1))
        told = taken & self._values.isfinite() & (curvature > LEAST_CURVATURE * square)
        self._scales = torch.where(told, curvature / square, self._scales)
        self._history.append((step, change, torch.where(told, 1 / curvature, 0.0)))
        del self._history[:-MEMORY]

    def _passing(self, lost: Tensor) -> Tensor:
        """Return which sets have done with their stage: those that are lost, and those that gain too little."""
        due = self._taken % WINDOW == 0
        idle = due & (self._earlier - self._values < self._gain / self._sharpnesses[self._stage])
        self._earlier = torch.where(due, self._values, self._earlier)
        return lost | idle | (self._taken >= self._steps)

    def _set_out(self, taken: Tensor) -> None:
        """Give a new direction to the sets that took a step, and half the step to the others."""
        directions = tangent(self._base, self._downward())
        slopes = (directions * self._gradients).sum((-2, -1))
        up = taken & (slopes >= 0)
        if bool(up.any()):  # the curvature of these leads nowhere
            self._forget(up)
            directions = torch.where(up[:, None, None], self._plain(), directions)
            slopes = (directions * self._gradients).sum((-2, -1))
        self._directions = torch.where(taken[:, None, None], directions, self._directions)
        self._slopes = torch.where(taken, slopes, self._slopes)
        self._lengths = torch.where(taken, 1.0, self._lengths / 2)

    def _pass(self, passing: Tensor) -> None:
        """Move sets to the next stage; those that have no other go on no more."""
        if not bool(passing.any()):
            return
        ending = passing & (self._stage == len(self._sharpnesses) - 1)
        self.ends = self.ends.index_copy(0, self._index[ending], self._base[ending])
        self.values = self.values.index_copy(0, self._index[ending], self._values[ending])
        self._stage = self._stage + passing
        self._taken = self._taken.masked_fill(passing, 0)
        for name in ("_values", "_earlier"):
            setattr(self, name, getattr(self, name).masked_fill(passing, torch.inf))
        self._slopes = self._slopes.masked_fill(passing, 0.0)
        self._directions = self._directions.masked_fill(passing[:, None, None], 0.0)
        on = self._stage < len(self._sharpnesses)
        if not bool(on.all()):
            for name in self.going_on:
                setattr(self, name, getattr(self, name)[on])
            self._history = [(step[on], change[on], inverse[on]) for step, change, inverse in self._history]

    def _forget(self, sets: Tensor) -> None:
        """Drop the curvature of some sets."""
        if not bool(sets.any()):
            return
        self._scales = self._scales.masked_fill(sets, 0.0)
        self._history = [(step, change, inverse.masked_fill(sets, 0.0)) for step, change, inverse in self._history]

    def _plain(self) -> Tensor:
        """Return a short step along each negative gradient."""
        norms = self._gradients.square().sum((-2, -1), keepdim=True).sqrt().clamp_min(1e-30)
        return self._gradients * (-FIRST_MOVE / norms)

    def _downward(self) -> Tensor:
        """Return the directions that the curvature gives (Algorithm 7.4), or a short step where nothing is known."""
        direction, factors = -self._gradients, []
        for step, change, inverse in reversed(self._history):
            factor = inverse * (step * direction).sum((-2, -1))
            direction = direction.addcmul(factor[:, None, None], change, value=-1)
            factors.append(factor)
        direction = direction * self._scales[:, None, None]
        for (step, change, inverse), factor in zip(self._history, reversed(factors), strict=True):
            factor = factor - inverse * (change * direction).sum((-2, -1))
            direction = direction.addcmul(factor[:, None, None], step)
        unknown = self._scales == 0
        return torch.where(unknown[:, None, None], self._plain(), direction) if bool(unknown.any()) else direction
