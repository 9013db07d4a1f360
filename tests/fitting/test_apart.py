"""Codes pushed apart: the coherence asked for, as little moved as can be, and rows that stay."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from protogen.descent.evaluate import evaluate
from protogen.descent.thresholds import SquaredThreshold
from protogen.fitting import apart
from protogen.fitting.apart import NearPairs, push_apart
from protogen.run import Run
from protogen.solution import Status


def clustered(groups: int = 12, each: int = 6, d: int = 10, spread: float = 0.4) -> Tensor:
    """Unit rows in groups whose members lie near each other."""
    generator = torch.Generator().manual_seed(0)
    centers = torch.randn(groups, 1, d, generator=generator)
    return normalize((centers + spread * torch.randn(groups, each, d, generator=generator)).flatten(0, 1), dim=1)


def coherence(rows: Tensor) -> float:
    double = normalize(rows.double(), dim=1)
    return float((double @ double.T).fill_diagonal_(0).abs().max())


@pytest.mark.parametrize("alpha", [0.9, 0.7])
def test_coherence_comes_down_to_alpha(alpha: float) -> None:
    codes = clustered()
    assert coherence(codes) > 0.95
    found = push_apart(codes, alpha)
    assert found.status == Status.REACHED
    assert coherence(found.rows) <= alpha + 1e-6
    assert float((codes * found.rows).sum(1).mean()) > 0.9


@pytest.mark.slow
def test_two_rows_move_as_little_as_they_can() -> None:
    # Each turns by half of what the angle between them lacks, in their plane.
    angle, alpha = 0.3, 0.8
    codes = torch.tensor([[1.0, 0, 0], [math.cos(angle), math.sin(angle), 0]])
    found = push_apart(codes, alpha)
    lacking = (math.acos(alpha) - angle) / 2
    assert (codes * found.rows).sum(1).tolist() == pytest.approx([math.cos(lacking)] * 2, abs=2e-3)
    assert not found.rows[:, 2].any()


def test_opposite_rows_are_one_line() -> None:
    codes = normalize(torch.tensor([[1.0, 0.0, 0.1], [-1.0, 0.1, 0.0]]), dim=1)
    found = push_apart(codes, 0.5)
    assert coherence(found.rows) <= 0.5 + 1e-6
    assert float((codes * found.rows).sum(1).min()) > 0.8


def test_less_is_moved_than_without_the_pull(monkeypatch: pytest.MonkeyPatch) -> None:
    codes = clustered()
    held = push_apart(codes, 0.7).rows
    monkeypatch.setattr(apart, "FIRST_PULL", 0.0)
    loose = push_apart(codes, 0.7).rows
    moved = [float((codes - rows).square().sum()) for rows in (held, loose)]
    assert moved[0] < 0.9 * moved[1]


def test_a_set_within_alpha_comes_back_as_it_is() -> None:
    codes = clustered()
    found = push_apart(codes, coherence(codes) + 0.003)
    assert found.status == Status.REACHED
    assert torch.equal(found.rows, codes)


def test_rows_beside_stay_and_are_kept_away_from() -> None:
    codes = clustered()
    beside = push_apart(codes[:30], 0.7).rows
    found = push_apart(codes[30:], 0.7, beside=beside)
    assert found.rows.shape == (42, 10)
    assert coherence(torch.cat((beside, found.rows))) <= 0.7 + 1e-6


def test_free_rows_are_not_held_back() -> None:
    codes = clustered()
    free = torch.zeros(len(codes), dtype=torch.bool)
    free[::6] = True  # one of each group makes room for the others
    tied, loose = push_apart(codes, 0.8).rows, push_apart(codes, 0.8, free=free).rows
    kept = [float((codes * rows).sum(1)[~free].mean()) for rows in (tied, loose)]
    assert coherence(loose) <= 0.8 + 1e-6
    assert kept[1] > kept[0]


@pytest.mark.parametrize("sign", [1, -1])
def test_equal_and_opposite_rows_come_apart(sign: int) -> None:
    codes = torch.cat((clustered()[:20], sign * clustered()[:20]))
    assert coherence(codes) == pytest.approx(1)
    found = push_apart(codes, 0.8)
    assert found.status == Status.REACHED
    assert coherence(found.rows) <= 0.8 + 1e-6
    assert float((codes * found.rows).sum(1).min()) > 0.7


def test_what_cannot_be_reached_ends_with_the_best() -> None:
    codes = clustered(groups=10, each=5, d=2)  # 50 lines in the plane: at best cos(pi / 50)
    found = push_apart(codes, 0.9, steps=60)
    assert found.status != Status.REACHED
    assert coherence(found.rows) > math.cos(math.pi / 50) - 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("edge", [7, 100])
def test_near_pairs_give_what_all_pairs_give(edge: int) -> None:
    rows = clustered().double()
    objective = SquaredThreshold()
    objective.threshold = 0.8
    near = NearPairs(objective, rows, 0.0, Run(tile=edge))
    near.pull = 0.0
    got, expected = near(rows), evaluate(objective, rows, 100)
    torch.testing.assert_close(got.loss, expected.loss, rtol=1e-10, atol=0)
    torch.testing.assert_close(got.gradient, expected.gradient, rtol=1e-10, atol=1e-12)
    assert float(got.coherence) == pytest.approx(float(expected.coherence), rel=1e-12)


def test_the_gradient_is_that_of_the_loss_with_its_pull() -> None:
    origin, rows = clustered(spread=0.3).double(), clustered(spread=0.4).double()
    objective = SquaredThreshold()
    objective.threshold = 0.8
    beside = clustered(groups=3).double()
    free = torch.zeros(len(rows), dtype=torch.bool)
    free[5] = True

    near = NearPairs(objective, origin, 0.0, Run(), free, beside)
    near.pull = 0.03
    x = rows.clone().requires_grad_()
    pairs = torch.triu(torch.ones(len(rows), len(rows)), 1).bool()
    cosines = torch.cat([(x @ x.T)[pairs], (x @ beside.T).flatten()])
    loss = (cosines.abs() - 0.8).clamp(min=0).square().sum() / 2
    loss = loss + 0.03 / 2 * (x - origin).square().sum(1)[~free].sum()
    loss.backward()
    at = near(rows)
    assert at.loss == pytest.approx(float(loss.detach()), rel=1e-10)
    torch.testing.assert_close(at.gradient, x.grad, rtol=1e-9, atol=1e-12)


def test_where_too_many_pairs_are_near_all_are_worked_through(monkeypatch: pytest.MonkeyPatch) -> None:
    codes = clustered()
    monkeypatch.setattr(apart, "MOST_PAIRS", 10)
    found = push_apart(codes, 0.7)
    assert found.status == Status.REACHED
    assert coherence(found.rows) <= 0.7 + 1e-6


def test_a_pair_that_comes_near_on_the_way_is_seen() -> None:
    # Two rows are pushed apart, one of them towards a third that was far from both at first.
    angles = torch.tensor([0.0, 0.05, 0.9])
    codes = torch.stack([angles.cos(), angles.sin()], 1)
    found = push_apart(codes, math.cos(0.8))
    assert coherence(found.rows) <= math.cos(0.8) + 1e-6
