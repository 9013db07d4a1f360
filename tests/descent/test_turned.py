"""Large symmetric sets: their rows by formula, and what they say of all pairs."""

import pytest
import torch

from protogen.descent.batched import Stages
from protogen.descent.turned import turned_descent
from protogen.measuring.measure import measure

pytestmark = pytest.mark.usefixtures("one_thread")
SHORT = Stages((40.0, 200.0), steps=30)


@pytest.mark.parametrize(("d", "lines"), [(8, True), (9, True), (8, False)])
def test_rows_are_whole_orbits_whose_largest_cosine_is_that_of_all_pairs(d: int, lines: bool) -> None:
    found = turned_descent(d, 60, order=12, lines=lines, seed=3, stages=SHORT)
    assert found.orbits.shape == (60, d)
    stats = measure(found.orbits)
    assert (stats.coherence if lines else stats.max_cos).value == pytest.approx(found.largest, abs=2e-6)
    rows = found.orbits.rows(0, 60).unflatten(0, (5, 12))
    # The map that takes each vector of the first orbits to the next is orthogonal, and takes all orbits to themselves.
    step = torch.linalg.lstsq(rows.flatten(0, 1).double(), rows.roll(-1, 1).flatten(0, 1).double()).solution
    assert (step.mT @ step - torch.eye(d)).abs().max() < 1e-5
    assert (rows.double() @ step - rows.roll(-1, 1)).abs().max() < 1e-5


def test_any_range_of_rows_is_that_of_all() -> None:
    orbits = turned_descent(6, 31, order=7, lines=True, seed=0, stages=Stages((20.0,), steps=3)).orbits
    whole = orbits.rows(0, 31)
    assert whole.shape == (31, 6)
    assert whole.dtype == torch.float32
    assert torch.equal(torch.cat([orbits.rows(start, start + 4) for start in range(0, 31, 4)]), whole)
    assert orbits.text.startswith("cyclic(7); frequencies ")


def test_the_same_seed_gives_the_same_set_and_descends() -> None:
    first, again = (turned_descent(12, 400, order=20, lines=True, seed=5, stages=SHORT) for _ in range(2))
    assert torch.equal(first.orbits.vectors, again.orbits.vectors)
    start = turned_descent(12, 400, order=20, lines=True, seed=5, stages=Stages((40.0,), steps=1))
    assert start.evaluations == 1
    assert first.largest < start.largest - 0.1
