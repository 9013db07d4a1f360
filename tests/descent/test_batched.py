"""Descents of many starts at once: each goes its own way, and known optima are met."""

import math
from typing import Self

import pytest
import torch
from draws import double_rows
from torch import Tensor

from protogen.descent.batched import Smooth, Stages, descend_batch

pytestmark = pytest.mark.usefixtures("one_thread")


class Pairs:
    """The log-sum-exp of the cosines of all pairs, or of their sizes, by autograd."""

    def __init__(self, lines: bool) -> None:
        self.lines = lines

    def take(self, places: Tensor) -> Self:
        return self

    def __call__(self, rows: Tensor, sharpness: Tensor) -> Smooth:
        free = rows.detach().requires_grad_()
        first, second = torch.triu_indices(rows.shape[1], rows.shape[1], 1)
        cosines = (free @ free.mT)[:, first, second]
        cosines = cosines.abs() if self.lines else cosines
        losses = torch.logsumexp(cosines * sharpness[:, None], 1) / sharpness
        (gradient,) = torch.autograd.grad(losses.sum(), free)
        return Smooth(losses.detach(), gradient, cosines.detach().amax(1))


@pytest.mark.parametrize(
    ("lines", "d", "n", "best"),
    [(True, 3, 6, 5**-0.5), (True, 7, 28, 1 / 3), (False, 3, 12, 5**-0.5), (False, 5, 16, 0.2)],
)
def test_known_optima_are_met(lines: bool, d: int, n: int, best: float) -> None:
    found = descend_batch(double_rows(8, n, d), Pairs(lines), Stages.growing(20, 1e7, 6))
    assert found.largest.min() == pytest.approx(best, abs=1e-7)
    cosines = found.rows @ found.rows.mT
    cosines.diagonal(dim1=1, dim2=2).fill_(-1 + lines)
    reached = (cosines.abs() if lines else cosines).amax((1, 2))
    assert (reached - found.largest).abs().max() < 1e-14
    assert found.rows.norm(dim=-1).sub(1).abs().max() < 1e-12


def test_a_start_goes_its_way_whatever_the_others_do() -> None:
    rows, stages = double_rows(5, 7, 3), Stages.growing(20, 1e4, 3)
    together = descend_batch(rows, Pairs(False), stages)
    alone = [descend_batch(rows[place : place + 1], Pairs(False), stages) for place in range(5)]
    assert together.largest.tolist() == pytest.approx([float(one.largest) for one in alone], abs=1e-9)
    assert together.evaluations >= sum(one.evaluations for one in alone)


def test_the_descent_ends_when_told_to() -> None:
    told: list[tuple[float, int]] = []

    def go_on(best: float, evaluations: int) -> bool:
        told.append((best, evaluations))
        return len(told) < 5

    found = descend_batch(double_rows(4, 9, 3), Pairs(True), Stages.growing(20, 1e4, 3), go_on)
    assert [evaluations for _, evaluations in told] == [4, 8, 12, 16, 20]
    assert [best for best, _ in told] == sorted((best for best, _ in told), reverse=True)
    assert found.evaluations == 20
    assert float(found.largest.min()) == told[-1][0]


def test_losses_that_are_no_numbers_lead_nowhere() -> None:
    class Cliff(Pairs):
        """A loss that is no number once rows have moved."""

        def __call__(self, rows: Tensor, sharpness: Tensor) -> Smooth:
            at = super().__call__(rows, sharpness)
            moved = (rows - start).abs().amax((1, 2)) > 0
            return Smooth(at.losses.masked_fill(moved, math.nan), at.gradient, at.largest.masked_fill(moved, math.inf))

    start = double_rows(2, 5, 3)
    found = descend_batch(start, Cliff(False), Stages((20.0,), steps=15))
    assert torch.equal(found.rows, start)
