"""Groups, their representations, orbits and what is summed over them, against all pairs of vectors."""

import math

import pytest
import torch
from draws import double_rows
from torch import Tensor

from protogen.descent.correlations import TurnLoss
from protogen.descent.groups import group, irreducibles, names
from protogen.descent.orbits import Matrices, OrbitLoss
from protogen.descent.symmetric import orbit_descent

pytestmark = pytest.mark.usefixtures("one_thread")

# The sizes of the real irreducible parts follow from the degrees, and from which of them are real.
GROUPS = {
    "cyclic(5)": [1, 2, 2],
    "cyclic(6)": [1, 1, 2, 2],
    "cyclic(2)xcyclic(4)": [1, 1, 1, 1, 2, 2],
    "dihedral(5)": [1, 1, 2, 2],
    "heisenberg(2)": [1, 1, 1, 1, 2],
    "heisenberg(3)": [1, 2, 2, 2, 2, 6],
    "affine(7,3)": [1, 2, 6],
    "symmetric(4)": [1, 1, 2, 3, 3],
    "alternating(5)": [1, 3, 3, 4, 5],
    "special(3)": [1, 2, 3, 4, 4],
}


@pytest.mark.parametrize("name", GROUPS)
def test_irreducible_parts_are_representations_and_all_there_are(name: str) -> None:
    own, parts = group(name), irreducibles(name)
    assert [part.shape[1] for part in parts] == GROUPS[name]
    for part in parts:
        products = torch.einsum("gij,hjk->ghik", part, part)
        assert (products - part[own.table]).abs().max() < 1e-9
        assert (part @ part.mT - torch.eye(part.shape[1])).abs().max() < 1e-9
    assert (parts[0] - 1).abs().max() < 1e-9
    characters = [part.diagonal(dim1=1, dim2=2).sum(1) for part in parts]
    for i, first in enumerate(characters):
        assert all(abs(float((first * second).mean())) < 1e-9 for second in characters[:i])


def test_every_group_of_a_search_is_there_in_the_order_that_was_asked_for() -> None:
    listed = list(names(30))
    assert len(listed) == len(set(listed))
    assert max(group(name).order for name in listed) <= 30
    with pytest.raises(ValueError, match="names no group"):
        group("cyclic(3)ycyclic(2)")


def test_subgroups_are_closed() -> None:
    own = group("symmetric(4)")
    found = own.generated([1])
    assert {int(own.table[g, h]) for g in found for h in found} == set(found)
    assert own.generated([]) == (0,)
    assert all(own.table[g, inverse] == 0 for g, inverse in enumerate(own.inverses.tolist()))


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


ACTION = Matrices.of(irreducibles("symmetric(4)")[3].expand(2, 24, 3, 3))
# Orders that are odd and even; planes of one frequency, of its mirror image, of none and of half the order.
FREQUENCIES = {7: [[1, 3], [6, 1]], 8: [[1, 4], [3, 0]]}


@pytest.mark.parametrize("tile", [2**22, 40])
@pytest.mark.parametrize("lines", [False, True])
@pytest.mark.parametrize("order", [24, *FREQUENCIES])
@pytest.mark.parametrize("d", [4, 5])
def test_orbits_sum_to_all_pairs(order: int, d: int, lines: bool, tile: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("protogen.descent.orbits.TILE", tile)
    monkeypatch.setattr("protogen.descent.correlations.TILE", tile)
    rows, sharpness = double_rows(2, 4, d if order < 24 else 3), torch.tensor([3.0, 50.0], dtype=torch.float64)
    free = rows.clone().requires_grad_()
    unit = torch.nn.functional.normalize(free, dim=2)
    objective: OrbitLoss | TurnLoss
    if order < 24:
        frequencies = torch.tensor(FREQUENCIES[order])
        objective, vectors = TurnLoss(frequencies, order, d, lines), turned(unit, frequencies, order)
    else:
        itself = torch.zeros(order, 4, dtype=torch.bool)
        itself[0] = True
        objective, vectors = OrbitLoss(ACTION, itself, lines), ACTION.moved(unit).mT
    values, largest = plain_loss(vectors, sharpness, lines, order)
    (gradient,) = torch.autograd.grad(values.sum(), free)
    at = objective(rows, sharpness, torch.arange(2))
    assert (at.values - values).abs().max() < 1e-12
    assert (at.largest - largest).abs().max() < 1e-12
    assert (at.gradients - gradient).abs().max() < 1e-12
    one = objective(rows[1:], sharpness[1:], torch.tensor([1]))
    assert torch.allclose(one.gradients, at.gradients[1:], rtol=0, atol=1e-12)


def test_what_is_gathered_is_the_transpose_of_what_is_moved() -> None:
    rows, moved = double_rows(2, 4, 3), double_rows(2, 3, 4 * ACTION.order)
    assert float((ACTION.moved(rows) * moved).sum()) == pytest.approx(float((rows * ACTION.gathered(moved)).sum()))
    assert torch.allclose(ACTION.moved(rows)[:, :, :4], rows.mT)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("lines", "d", "n", "best"),
    [(True, 3, 6, 5**-0.5), (False, 4, 10, None)],
)
def test_a_search_finds_symmetric_sets(lines: bool, d: int, n: int, best: float | None) -> None:
    found = orbit_descent(d, n, lines=lines, seed=2, multiplications=2 * 10**8)
    assert found is not None
    assert found.rows.shape == (n, d)
    cosines = found.rows @ found.rows.T
    cosines.fill_diagonal_(-1 + lines)
    assert float((cosines.abs() if lines else cosines).max()) == pytest.approx(found.largest, abs=1e-9)
    assert best is None or found.largest == pytest.approx(best, abs=1e-6)
    again = orbit_descent(d, n, lines=lines, seed=2, multiplications=2 * 10**8)
    assert again is not None
    assert torch.equal(again.rows, found.rows)


def test_a_search_ends_when_told_to() -> None:
    told: list[int] = []

    def go_on(best: float, work: int) -> bool:
        told.append(work)
        return len(told) < 30

    found = orbit_descent(3, 8, lines=False, seed=0, multiplications=10**12, go_on=go_on)
    assert found is not None
    assert len(told) == 30
    assert told == sorted(told)
