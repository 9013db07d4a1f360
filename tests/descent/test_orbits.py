"""Groups, their representations, orbits and what is summed over them, against all pairs of vectors."""

import math

import pytest
import torch
from draws import double_rows
from torch import Tensor

from protogen.descent.groups import group, irreducibles, names
from protogen.descent.orbits import Action, Matrices, OrbitLoss, Turns
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


def all_vectors(action: Action, rows: Tensor) -> Tensor:
    """All vectors of the orbits of rows (s, k, d), (s, m k, d)."""
    return action.moved(rows).mT


def plain_loss(vectors: Tensor, sharpness: Tensor, lines: bool, order: int) -> tuple[Tensor, Tensor]:
    """The log-sum-exp over the pairs of vectors, less log(m) / sharpness, and the largest cosine."""
    first, second = torch.triu_indices(vectors.shape[1], vectors.shape[1], 1)
    cosines = (vectors @ vectors.mT)[:, first, second]
    cosines = cosines.abs() if lines else cosines
    return (torch.logsumexp(cosines * sharpness[:, None], 1) - math.log(order)) / sharpness, cosines.amax(1)


ACTIONS: dict[str, Action] = {
    "turns": Turns.of(torch.tensor([[1, 2], [3, 1]]), 7, torch.float64),
    "matrices": Matrices.of(irreducibles("symmetric(4)")[3].expand(2, 24, 3, 3)),
}


@pytest.mark.parametrize("tile", [2**22, 40])
@pytest.mark.parametrize("lines", [False, True])
@pytest.mark.parametrize("name", ["turns", "matrices"])
def test_orbits_sum_to_all_pairs(name: str, lines: bool, tile: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("protogen.descent.orbits.TILE", tile)
    action = ACTIONS[name]
    d = 5 if name == "turns" else 3
    rows, sharpness = double_rows(2, 4, d), torch.tensor([3.0, 50.0], dtype=torch.float64)
    free = rows.clone().requires_grad_()
    losses, largest = plain_loss(all_vectors(action, free), sharpness, lines, action.order)
    (gradient,) = torch.autograd.grad(losses.sum(), free)
    itself = torch.zeros(action.order, 4, dtype=torch.bool)
    itself[0] = True
    at = OrbitLoss(action, itself, lines)(rows, sharpness)
    assert (at.losses - losses).abs().max() < 1e-12
    assert (at.largest - largest).abs().max() < 1e-12
    assert (at.gradient - gradient).abs().max() < 1e-12
    one = OrbitLoss(action, itself, lines).take(torch.tensor([1]))(rows[1:], sharpness[1:])
    assert torch.allclose(one.gradient, at.gradient[1:], rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["turns", "matrices"])
def test_what_is_gathered_is_the_transpose_of_what_is_moved(name: str) -> None:
    action = ACTIONS[name]
    d = 5 if name == "turns" else 3
    rows, moved = double_rows(2, 4, d), double_rows(2, d, 4 * action.order)
    assert float((action.moved(rows) * moved).sum()) == pytest.approx(float((rows * action.gathered(moved)).sum()))
    assert torch.allclose(action.moved(rows)[:, :, :4], rows.mT)


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
