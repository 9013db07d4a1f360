"""What is summed over the orbits of turns of planes, against all pairs of vectors."""

import math

import pytest
import torch
from draws import double_rows
from torch import Tensor

from protogen.descent.correlations import TurnLoss


def plain_loss(vectors: Tensor, sharpness: Tensor, lines: bool, order: int) -> tuple[Tensor, Tensor]:
    """The log-sum-exp over the pairs of vectors, less log(m) / sharpness, and the largest cosine."""
    first, second = torch.triu_indices(vectors.shape[1], vectors.shape[1], 1)
    cosines = (vectors @ vectors.mT)[:, first, second]
    cosines = cosines.abs() if lines else cosines
    return (torch.logsumexp(cosines * sharpness[:, None], 1) - math.log(order)) / sharpness, cosines.amax(1)


def turned(rows: Tensor, frequencies: Tensor, order: int) -> Tensor:
    """All vectors of the orbits of rows (s, k, d) by turns of planes, (s, m k, d)."""
    planes = frequencies.shape[1]
    steps = torch.arange(order, dtype=torch.float64)[:, None, None]
    angles = steps * frequencies[:, None, None] * (2 * math.pi / order)
    cosines, sines, own = angles.cos(), angles.sin(), rows[:, None]
    left, right, last = own[..., :planes], own[..., planes : 2 * planes], own[..., 2 * planes :]
    last = last.expand(-1, order, -1, -1)
    return torch.cat((cosines * left - sines * right, cosines * right + sines * left, last), 3).flatten(1, 2)


# Orders that are odd and even; planes of one frequency, of its mirror image, of none and of half the order.
FREQUENCIES = {7: [[1, 3], [6, 1]], 8: [[1, 4], [3, 0]]}


@pytest.mark.parametrize("tile", [2**22, 40])
@pytest.mark.parametrize("lines", [False, True])
@pytest.mark.parametrize("order", FREQUENCIES)
@pytest.mark.parametrize("d", [4, 5])
def test_orbits_sum_to_all_pairs(order: int, d: int, lines: bool, tile: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("protogen.descent.correlations.TILE", {"cpu": tile})
    rows, sharpness = double_rows(2, 4, d), torch.tensor([3.0, 50.0], dtype=torch.float64)
    free = rows.clone().requires_grad_()
    unit = torch.nn.functional.normalize(free, dim=2)
    frequencies = torch.tensor(FREQUENCIES[order])
    objective, vectors = TurnLoss(frequencies, order, d, lines), turned(unit, frequencies, order)
    values, largest = plain_loss(vectors, sharpness, lines, order)
    (gradient,) = torch.autograd.grad(values.sum(), free)
    at = objective(rows, sharpness, torch.arange(2))
    assert (at.values - values).abs().max() < 1e-12
    assert (at.largest - largest).abs().max() < 1e-12
    assert (at.gradients - gradient).abs().max() < 1e-12
    one = objective(rows[1:], sharpness[1:], torch.tensor([1]))
    assert torch.allclose(one.gradients, at.gradients[1:], rtol=0, atol=1e-12)
