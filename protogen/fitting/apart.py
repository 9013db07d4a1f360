"""Rows pushed apart as lines until their coherence is low enough, staying as near to where they were as they can."""

import math
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import normalize

from protogen.bounds import TOLERANCE
from protogen.descent.checkpoint import Changing, Checkpoint
from protogen.descent.evaluate import Evaluation, Sliced
from protogen.descent.loop import Descent, descend
from protogen.descent.states import State
from protogen.descent.steppers import LBFGS
from protogen.descent.thresholds import COHERENCE, SquaredThreshold
from protogen.measuring.geometry import random_rows
from protogen.measuring.tiles import blocks, gram_tile, tile_edge
from protogen.run import Run

STEPS = 5000  # evaluations that a push may take
FIRST_PULL, LAST_PULL, WEAKER = 0.1, 5e-4, 0.25  # of the spring to the first place, in turns; at the end none
PATIENCE, GAIN = 8, 0.01  # a turn ends when so many steps lowered the loss by less than this share
MARGIN = 0.002  # of alpha: the threshold lies so far below it
SLACKS = (0.5, 0.25, 0.1)  # of the threshold: pairs so far below it are listed too, of the first share that can be
REACH = 0.2  # how far a row moves in a step at the most
MOST_PAIRS = 2**26  # that are listed; where more are near, all pairs are worked through
HISTORY = 6  # steps that L-BFGS remembers
ONE_LINE, NUDGE = 1e-6, 1e-2  # of rows on one line: how far |cos| is from 1, and how far one is moved
CHUNK = 2**22  # numbers of the rows that are gathered at a time


class NearPairs(Changing):
    """The evaluator of a threshold, on the pairs near it alone, with a pull of each row (n, d) to its origin.

        loss = sum over pairs of 1/2 max(|cos| - threshold, 0)^2 + pull / 2 * sum of |row - origin|^2

    Pairs are listed by a pass over all, and worked through alone. A new pass looks for others when a row has moved so
    far that an unlisted pair may be near, and, once there is no pull, when all that are listed are mended. So what is
    at most `target` then has been seen on all pairs. `beside` (m, d) do not move. Rows where `free` is True
    have no origin.
    """

    changes: ClassVar[tuple[str, ...]] = ("pull",)

    def __init__(
        self,
        objective: SquaredThreshold,
        origin: Tensor,
        target: float,
        run: Run,
        free: Tensor | None = None,
        beside: Tensor | None = None,
    ) -> None:
        self.pull = FIRST_PULL
        self._objective, self._origin, self._target = objective, origin, target
        self._held = torch.ones(len(origin), dtype=torch.float32, device="cpu") if free is None else (~free).float()
        self._beside = origin[:0] if beside is None else beside
        self._edge = tile_edge(torch.device(run.device), run.tile)
        self._all = Sliced(objective, run, beside)
        self._pairs: Tensor | None = None  # (2, pairs), the first of rows, the second of rows and those beside
        self._slack = 0.0  # how far below the threshold pairs were listed
        self._listed: Tensor | None = None  # the rows at that time

    def __call__(self, rows: Tensor) -> Evaluation:
        every = torch.cat((rows, self._beside.to(rows)))
        fresh = self._is_stale(rows)
        if fresh:
            self._list(every, len(rows))
        at = self._at(rows, every)
        if not (fresh or self.pull or self._pairs is None) and float(at.coherence) <= self._target:
            self._list(every, len(rows))
            at = self._at(rows, every)
        return at

    def apart(self, rows: Tensor) -> Tensor:
        """Return rows (n, d), of those that are one line with another each moved a little, in a random direction.

        Two rows on one line push each other along it, and would stay. Random by a fixed seed.
        """
        every = torch.cat((rows, self._beside.to(rows)))
        self._list(every, len(rows))
        if self._pairs is None:
            return rows
        twins = [
            part[0, (every[part[0]] * every[part[1]]).sum(1).abs() > 1 - ONE_LINE]
            for part in self._pairs.long().split(max(1, CHUNK // rows.shape[1]), dim=1)
        ]
        own = torch.cat(twins).unique()
        noise = random_rows(1, len(own), rows.shape[1], 0).to(rows)
        return rows.index_copy(0, own, normalize(rows[own] + NUDGE * noise, dim=1))

    def _is_stale(self, rows: Tensor) -> bool:
        """Whether an unlisted pair may have come near by now."""
        if self._listed is None:
            return True
        return float(torch.linalg.vector_norm(rows - self._listed, dim=1).max()) > self._slack

    def _at(self, rows: Tensor, every: Tensor) -> Evaluation:
        at = self._all(rows) if self._pairs is None else self._near(rows, every)
        apart = (rows - self._origin.to(rows)) * self._held.to(rows)[:, None]
        loss = at.loss + self.pull / 2 * float(apart.square().sum())
        return Evaluation(loss, at.losses, at.max_cos, at.coherence, at.gradient.add_(apart, alpha=self.pull))

    def _near(self, rows: Tensor, every: Tensor) -> Evaluation:
        """Evaluate the listed pairs."""
        assert self._pairs is not None
        gradient = torch.zeros_like(every)
        loss = rows.new_zeros((), dtype=torch.float64)
        low, high = rows.new_zeros(()), rows.new_zeros(())
        for part in self._pairs.split(max(1, CHUNK // rows.shape[1]), dim=1):
            i, j = part.long()
            cosines = (every[i] * every[j]).sum(1)
            low, high = torch.cat((low[None], cosines)).amin(), torch.cat((high[None], cosines)).amax()
            share, weights = self._objective.weigh(cosines[None])
            loss += share
            wrong = weights[0].nonzero().flatten()
            i, j, weight = i[wrong], j[wrong], weights[0, wrong, None]
            gradient.index_add_(0, i, weight * every[j])
            gradient.index_add_(0, j, weight * every[i])
        return Evaluation(float(loss), loss, high, torch.maximum(high, -low), gradient[: len(rows)].clone())

    def _list(self, every: Tensor, count: int) -> None:
        """List the near pairs of the first `count` rows, and of these with the others; none where they are too many."""
        self._listed, self._pairs = every[:count], None
        for share in SLACKS:
            self._slack = share * self._objective.threshold
            self._pairs = self._pass(every, count, self._objective.threshold - self._slack)
            if self._pairs is not None:
                return
        self._slack = math.inf  # all pairs are worked through, whatever moves

    def _pass(self, every: Tensor, count: int, floor: float) -> Tensor | None:
        """Pass over all pairs and return those above the floor, None where they are more than MOST_PAIRS."""
        found: list[Tensor] = []
        total = 0
        buffer = every.new_empty(self._edge**2)
        for i0, i1 in blocks(count, self._edge):
            for j0, j1 in blocks(len(every), self._edge):
                if j1 <= i0:
                    continue
                tile = gram_tile(every[i0:i1], every[j0:j1], buffer)
                i, j = (tile.abs_() > floor).nonzero().int().unbind(1)
                once = (j + j0 > i + i0).nonzero().flatten()
                found.append(torch.stack((i[once] + i0, j[once] + j0)))
                total += len(once)
                if total > MOST_PAIRS:
                    return None
        return torch.cat(found, 1)

    def restore(self, state: State) -> None:
        super().restore(state)
        self._listed = None


class Patient(LBFGS):
    """L-BFGS in steps that move no row further than REACH.

    As long as there is a pull that can become weaker, it stays where it is instead of ending. Another pull is another
    loss: what was learned of its curvature is forgotten.
    """

    def __init__(self, pairs: NearPairs) -> None:
        super().__init__(HISTORY, first=0.5)
        self._held = pairs

    def next(self, rows: Tensor, at: Evaluation) -> Tensor | None:
        following = super().next(rows, at)
        return rows if following is None and self._held.pull else following

    def restart(self) -> None:
        super().restart()
        self._forget()

    def _descent_direction(self, tangent: Tensor) -> Tensor:
        direction = super()._descent_direction(tangent)
        lengths = torch.linalg.vector_norm(direction, dim=-1, keepdim=True)
        return direction.mul_(REACH / lengths.clamp(min=REACH))


class LeastMoved(Changing):
    """Come down to alpha with the pull weaker and weaker, and without it at the end.

    The figure is the coherence, but at least alpha and the pull: a set that is still held back does not count.
    """

    changes: ClassVar[tuple[str, ...]] = ("_losses",)
    name = COHERENCE
    keeps_last = False

    def __init__(self, objective: SquaredThreshold, pairs: NearPairs, alpha: float) -> None:
        objective.threshold = alpha * (1 - MARGIN)
        self.target = alpha
        self._pairs = pairs
        self._losses: list[float] = []

    def figure(self, at: Evaluation) -> Tensor:
        return at.coherence.clamp(min=self.target + self._pairs.pull)

    def reached(self, best: float) -> bool:
        # Half the tolerance is left for what float32 adds to the float64 figure.
        return best <= self.target + TOLERANCE / 2

    def watched(self, at: Evaluation, best: float) -> float:
        return at.loss + self._pairs.pull  # it falls with the pull too, whatever the loss was

    def stalled(self, before: float, now: float) -> bool:
        return self._pairs.pull == 0 and now > 0.999 * before

    def advance(self, at: Evaluation, best: float) -> bool:
        self._losses.append(at.loss)
        if self._pairs.pull == 0:
            return False
        if at.loss == 0:  # nothing is to be mended
            self._pairs.pull = 0.0
            return True
        lowest = min(self._losses)
        # A trial that leads up is no place to go on from.
        if len(self._losses) <= PATIENCE or at.loss > lowest or lowest < (1 - GAIN) * min(self._losses[:-PATIENCE]):
            return False
        self._losses.clear()
        weaker = self._pairs.pull * WEAKER
        self._pairs.pull = weaker if weaker >= LAST_PULL else 0.0
        return True


def push_apart(
    codes: Tensor,
    alpha: float,
    *,
    free: Tensor | None = None,
    beside: Tensor | None = None,
    steps: int = STEPS,
    run: Run | None = None,
    checkpoint: Checkpoint | None = None,
) -> Descent:
    """Move unit rows (n, d) until |cos| of every two is at most alpha, and each as little as can be.

    A descent of the squared threshold with a pull of each row to where it was, which is made weaker in turns and
    then taken away. `free` (n,) are rows that may go anywhere, `beside` (m, d) rows that stay and are kept away
    from. The status says whether alpha was reached. A set that is within alpha comes back as it is.
    """
    run = run or Run()
    objective = SquaredThreshold()
    codes = codes.to(run.device)
    pairs = NearPairs(objective, codes, alpha + TOLERANCE / 2, run, free, beside)
    goal = LeastMoved(objective, pairs, alpha)
    return descend(pairs.apart(codes), pairs, goal, partial(Patient, pairs), steps, run, checkpoint)
