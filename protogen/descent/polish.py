"""The last digits of a set: linear programs on its active pairs, and what they say of it."""

import math
from typing import ClassVar

import numpy as np
import scipy
import torch
from torch import Tensor
from torch.nn.functional import normalize

from protogen.files.facts import Jammed

from .checkpoint import Changing

REACH, LEAST_REACH = 1e-3, 1e-7  # how far a coordinate of a row may move in a step, at first and at last
ENOUGH, GOOD = 0.1, 0.75  # of what a program promises, to take its step, and to reach farther
FLAT = 1e-8  # a slope by less leads nowhere
ACTIVE = 1e-7  # a pair counts as active, whose cosine lies under the largest by no more


class Polishing(Changing):
    """Lower the largest cosine of one set of unit rows (n, d), float64, by at most so many linear programs.

    Each program moves the rows along their tangents, within a box, so that the largest of the cosines is lowest to
    first order. A step that does not lower the largest cosine as promised is not taken, and the box shrinks; the
    set never gets worse. Where the optimum is a vertex, that is where the active pairs leave no freedom, the steps
    converge quadratically. One program more tells at the end how `jammed` the set is; till then that is None.

    `largest` is the largest cosine of the rows, of lines the largest |cosine|.
    """

    changes: ClassVar[tuple[str, ...]] = ("rows", "largest", "_reach", "_left")

    def __init__(self, rows: Tensor, lines: bool, steps: int) -> None:
        self.rows, self._lines, self._reach, self._left = rows, lines, REACH, steps
        self.largest = _cosines(rows, lines)[0].max().item()
        self.jammed: Jammed | None = None

    def advance(self) -> None:
        """Solve one program, and take its step; the last one says how jammed the set is."""
        if self._left <= 0 or self._reach < LEAST_REACH or not self._step():
            self._left = 0
            self.jammed = self._stated()

    def _step(self) -> bool:
        """Take a step if it is good; return whether there was a way down."""
        self._left -= 1
        moves, slope = steepest(self.rows, self._lines, self._reach)
        if slope < FLAT:
            return False
        trial = normalize(self.rows + _unturned(self.rows, moves), dim=1)
        now = _cosines(trial, self._lines)[0].max().item()
        share = (self.largest - now) / (slope * self._reach)
        if share > ENOUGH:
            self.rows, self.largest = trial, now
            farther = share > GOOD and bool(moves.abs().max() > self._reach / 2)
            self._reach = min(2 * self._reach, 10 * REACH) if farther else self._reach
        else:
            self._reach /= 4
        return True

    def _stated(self) -> Jammed:
        _, slope = steepest(self.rows, self._lines, ACTIVE)
        active = int((_cosines(self.rows, self._lines)[0] >= self.largest - ACTIVE).sum()) // 2
        return Jammed(active, ACTIVE, max(0.0, slope))


def steepest(rows: Tensor, lines: bool, reach: float) -> tuple[Tensor, float]:
    """Find the moves (n, d), tangential, that lower the largest cosine most to first order.

    No coordinate in the rows' tangent spaces moves by more than `reach`. Returns the moves, and by how much the
    largest cosine falls, over `reach`. Where no program is solved, no move is found, and the fall is 0.
    """
    sizes, signs = _cosines(rows, lines)
    n, d = rows.shape
    largest = sizes.max()
    first, second = (
        (sizes.triu(1) + torch.full_like(sizes, -2.0).tril() >= largest - 4 * reach * math.sqrt(d)).nonzero().T
    )
    bases = _bases(rows)  # (n, d, d - 1)
    sign = signs[first, second][:, None]
    # By the coordinates of the one row and of the other.
    slopes = torch.stack(
        (
            torch.einsum("pd,pdk->pk", rows[second] * sign, bases[first]),
            torch.einsum("pd,pdk->pk", rows[first] * sign, bases[second]),
        ),
        1,
    )
    places = torch.stack((first, second), 1)[..., None] * (d - 1) + torch.arange(d - 1, device="cpu")
    pairs, width = len(first), n * (d - 1)
    matrix = scipy.sparse.csr_array(
        (
            torch.cat((slopes.flatten(1), -torch.ones(pairs, 1, dtype=rows.dtype, device="cpu")), 1).flatten().numpy(),
            torch.cat((places.flatten(1), torch.full((pairs, 1), width, device="cpu")), 1).flatten().numpy(),
            np.arange(pairs + 1) * (2 * d - 1),
        ),
        shape=(pairs, width + 1),
    )
    room = ((largest - sizes[first, second]) / reach).numpy()
    costs = np.zeros(width + 1)
    costs[-1] = 1.0
    bounds = np.full((width + 1, 2), (-1.0, 1.0))
    bounds[-1] = -np.inf, np.inf
    found = scipy.optimize.linprog(costs, A_ub=matrix, b_ub=room, bounds=bounds, method="highs-ipm")
    if found.x is None or not np.isfinite(found.x).all():
        return torch.zeros_like(rows), 0.0
    moved = torch.from_numpy(found.x[:-1]).view(n, d - 1, 1)
    return reach * (bases @ moved)[..., 0], -float(found.x[-1])


def _cosines(rows: Tensor, lines: bool) -> tuple[Tensor, Tensor]:
    """Return the cosines (|cosines| of lines) of all pairs, -1 on the diagonal, and their signs."""
    cosines = (rows @ rows.T).fill_diagonal_(-1.0)
    signs = torch.where(cosines < 0, -1.0, 1.0) if lines else torch.ones_like(cosines)
    return (cosines * signs).fill_diagonal_(-1.0), signs


def _bases(rows: Tensor) -> Tensor:
    """Return an orthonormal basis of the tangent space at each row, (n, d, d - 1): a reflection's columns."""
    d = rows.shape[1]
    axes = torch.eye(d, dtype=rows.dtype, device="cpu")
    # The reflection that takes the last axis to the row, or to its opposite, takes the other axes to its tangents.
    normals = rows + torch.where(rows[:, -1:] < 0, -1.0, 1.0) * axes[-1]
    normals = normalize(normals, dim=1)
    bases: Tensor = axes - 2 * normals[:, :, None] * normals[:, None, :]
    return bases.narrow(-1, 0, d - 1)


def _unturned(rows: Tensor, moves: Tensor) -> Tensor:
    """Take out of moves (n, d) what turns all rows together, which changes no cosine.

    Of all skew matrices A, x -> A x is nearest to the moves where A M + M A is the skew part of sum (u x^T - x u^T),
    M the sum of x x^T.
    """
    values, vectors = torch.linalg.eigh(rows.T @ rows)
    skew = vectors.T @ (moves.T @ rows - rows.T @ moves) @ vectors
    turn = vectors @ (skew / (values[:, None] + values[None, :]).clamp_min(1e-12)) @ vectors.T
    left: Tensor = moves - rows @ turn.T
    return left
