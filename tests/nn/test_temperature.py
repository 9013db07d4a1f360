"""The temperature that fits: against the loss of drawn features, and in the known cases."""

import math

import pytest
import torch
from draws import unit_rows
from torch.nn import functional as F

from protogen.errors import BadRequest
from protogen.nn import CosineHead, StructuredPrototypes
from protogen.nn.temperature import fitting_temperature


@pytest.mark.parametrize(("n", "d"), [(10, 9), (100, 16), (1000, 16), (1000, 64), (3000, 48)])
def test_the_loss_of_random_features_begins_near_that_of_a_guess(n: int, d: int) -> None:
    rows, features = unit_rows(n, d), unit_rows(2000, d, seed=7)
    labels = torch.randint(n, (2000,), generator=torch.Generator().manual_seed(0))
    losses = [
        float(F.cross_entropy(features @ rows.T / tau, labels)) - math.log(n)
        for tau in (fitting_temperature(n, d), 0.07)
    ]
    assert losses[0] < 2
    assert losses[0] < losses[1]


@pytest.mark.parametrize(("n", "d"), [(10, 9), (1000, 16), (1000, 64), (3000, 48)])
def test_perfect_features_come_near_to_no_loss(n: int, d: int) -> None:
    rows = unit_rows(n, d)
    loss = F.cross_entropy(rows @ rows.T / fitting_temperature(n, d), torch.arange(n))
    assert float(loss) < math.log(n) / 3


def test_it_falls_with_the_classes_and_with_the_dimension() -> None:
    by_n = [fitting_temperature(n, 64) for n in (10, 100, 1000, 10_000, 100_000)]
    by_d = [fitting_temperature(1000, d) for d in (8, 16, 64, 256, 1024)]
    assert by_n == sorted(by_n, reverse=True)
    assert by_d == sorted(by_d, reverse=True)
    assert 0.2 < fitting_temperature(10, 9) < 0.5
    assert 0.05 < fitting_temperature(10_000, 256) < 0.1


def test_one_near_neighbour_matters_less_than_the_number_of_classes() -> None:
    for n, d in ((10, 9), (1000, 16), (1000, 64)):
        least, most = (fitting_temperature(n, d, coherence) for coherence in (0.0, 0.9))
        assert most == pytest.approx(least, rel=0.2)
    assert fitting_temperature(2, 64, 0.9) != fitting_temperature(2, 64, 0.0)


@pytest.mark.parametrize(("n", "d", "coherence"), [(1, 9, 0.0), (10, 1, 0.0), (10, 9, -0.1), (10, 9, 1.1)])
def test_sizes_that_no_set_has_are_refused(n: int, d: int, coherence: float) -> None:
    with pytest.raises(BadRequest, match="allowed is"):
        fitting_temperature(n, d, coherence)


def test_a_head_takes_it_by_name_and_may_learn_from_there() -> None:
    rows = unit_rows(100, 16)
    head = CosineHead(rows, "auto")
    coherence = float((rows @ rows.T).fill_diagonal_(0).abs().max())
    assert head.temperature == fitting_temperature(100, 16, coherence)
    learning = CosineHead(rows, "auto", learn_scale=True)
    assert float(torch.as_tensor(learning.temperature).detach()) == pytest.approx(head.temperature, rel=1e-6)
    learning.loss(unit_rows(20, 16, seed=3), torch.arange(20)).backward()
    assert learning.log_scale is not None
    assert learning.log_scale.grad is not None
    with pytest.raises(BadRequest, match="a positive and finite number or 'auto'"):
        CosineHead(rows, "fit")  # type: ignore[arg-type]


def test_a_structured_set_gives_its_own() -> None:
    head = CosineHead(StructuredPrototypes("mub(p=5)", n=50), "auto")
    assert head.temperature == pytest.approx(fitting_temperature(50, 10, 5**-0.5), rel=1e-6)
