"""Several sets that descend at once, against autograd, against each alone, and at known optima."""

import math

import pytest
import torch
from draws import double_rows
from torch import Tensor

from protogen.descent.batch import Batch
from protogen.descent.smooth import of_lines, of_points, smooth_maximum

kinds = pytest.mark.parametrize("lines", [False, True])
STAGES = [20.0 * 3**stage for stage in range(8)]


def drawn(k: int, n: int, d: int) -> Tensor:
    return torch.stack([double_rows(n, d, seed=seed) for seed in range(k)])


def finished(rows: Tensor, lines: bool, stages: list[float] = STAGES, steps: int = 120) -> Batch:
    batch = Batch(rows, of_lines if lines else of_points, stages, steps)
    while batch.going:
        batch.advance()
    return batch


def by_definition(rows: Tensor, sharpness: Tensor, lines: bool) -> Tensor:
    """The smooth maximum of one set by its definition."""
    i, j = torch.triu_indices(len(rows), len(rows), 1)
    cosines = (rows[i] * rows[j]).sum(1)
    terms = torch.cat((cosines, -cosines)) if lines else cosines
    return torch.logsumexp(sharpness * terms, 0) / sharpness


@kinds
@pytest.mark.parametrize("sharpness", [(1.0, 20.0, 35.0), (300.0, 1e4, 1e7)])
def test_value_and_gradient_are_those_of_the_definition(lines: bool, sharpness: tuple[float, ...]) -> None:
    rows, sharp = drawn(3, 9, 4), torch.tensor(sharpness, dtype=torch.float64)
    at = smooth_maximum(rows, sharp, lines)
    for index, one in enumerate(rows):
        free = one.clone().requires_grad_()
        value = by_definition(torch.nn.functional.normalize(free, dim=1), sharp[index], lines)
        (gradient,) = torch.autograd.grad(value, free)
        assert at.values[index].item() == pytest.approx(value.item(), rel=1e-13)
        assert (at.gradients[index] - gradient).norm() <= 1e-12 * gradient.norm()
        cosines = (one @ one.T).fill_diagonal_(-1 if not lines else 0)
        assert at.largest[index] == (cosines.abs() if lines else cosines).max()


@pytest.mark.slow
@kinds
def test_a_set_goes_its_way_whatever_is_beside_it(lines: bool) -> None:
    rows = drawn(3, 7, 3)
    together = finished(rows, lines)
    for index, one in enumerate(rows):
        alone = finished(one[None], lines)
        assert together.largest[index].item() == pytest.approx(alone.largest.item(), abs=1e-9)


@kinds
def test_what_it_gives_are_unit_rows_with_the_largest_cosine_that_it_says(lines: bool) -> None:
    batch = finished(drawn(6, 10, 4), lines)
    cosines = batch.rows @ batch.rows.mT
    cosines = cosines.abs() if lines else cosines
    cosines.diagonal(dim1=1, dim2=2).fill_(-1.0)
    assert (batch.rows.norm(dim=-1) - 1).abs().max() < 1e-14
    assert (cosines.amax((1, 2)) - batch.largest).abs().max() < 1e-15


def test_where_a_set_ended_has_the_smooth_maximum_that_it_says() -> None:
    batch = Batch(drawn(4, 10, 4), of_lines, (20.0, 60.0), 40)
    batch.advance()
    assert batch.values.isinf().all()
    while batch.going:
        batch.advance()
    at = smooth_maximum(batch.ends, batch.ends.new_full((4,), 60.0), lines=True)
    assert (batch.values - at.values).abs().max() < 1e-12
    assert at.gradients.square().sum((1, 2)).max() < 0.01
    # Rows of the lowest largest cosine have been passed on the way.
    assert (batch.largest <= at.largest).all()


@pytest.mark.parametrize(
    ("lines", "d", "n", "optimum"),
    [
        (False, 3, 12, 1 / math.sqrt(5)),
        (False, 4, 10, 1 / 6),
        (False, 5, 16, 1 / 5),
        (True, 3, 6, 1 / math.sqrt(5)),
        (True, 7, 28, 1 / 3),
    ],
)
def test_known_optima(lines: bool, d: int, n: int, optimum: float) -> None:
    lowest = finished(drawn(8, n, d), lines).largest.min().item()
    assert lowest == pytest.approx(optimum, abs=2e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("lines", "d", "n", "published", "k"),
    [
        (False, 3, 13, 0.542637, 64),
        (False, 9, 32, 0.150222, 64),
        (True, 9, 48, 0.333334, 16),
    ],
)
def test_the_best_that_was_published(lines: bool, d: int, n: int, published: float, k: int) -> None:
    assert finished(drawn(k, n, d), lines).largest.min().item() < published + 3e-6


def test_a_state_goes_on_where_it_was() -> None:
    rows = drawn(6, 7, 3)
    whole, again = (Batch(rows, of_points, STAGES, 40) for _ in range(2))
    for _ in range(60):
        whole.advance()
    state = whole.state()
    while whole.going:
        whole.advance()
    again.restore(state)
    while again.going:
        again.advance()
    assert torch.equal(again.rows, whole.rows)
    assert torch.equal(again.largest, whole.largest)


def test_the_steps_of_a_stage_are_limited() -> None:
    batch, evaluations = Batch(drawn(2, 9, 3), of_points, STAGES[:2], 7), 0
    while batch.going:
        batch.advance()
        evaluations += 1
    assert evaluations <= 2 * 7


def test_what_rounding_moves_at_the_start_of_a_stage_is_no_step() -> None:
    batch = Batch(drawn(16, 60, 64).float(), of_lines, [48.0], 50)
    batch.advance()
    first = batch.largest
    for _ in range(20):
        batch.advance()
    assert (batch.largest < first - 0.05).all()


def test_sets_that_lie_at_a_stationary_point_stay_and_end() -> None:
    # The simplex in the plane: every gradient is zero.
    angles = torch.arange(3, dtype=torch.float64) * (2 * math.pi / 3)
    rows = torch.stack((angles.cos(), angles.sin()), 1)[None]
    batch = finished(rows, lines=False)
    assert batch.largest.item() == pytest.approx(-0.5, abs=1e-12)
