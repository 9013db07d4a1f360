"""Symmetric sets: what is drawn, what is summed over orbits of several groups at once, and what a search finds."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from protogen.descent.groups import group
from protogen.descent.layouts import Design, Draws, Stabiliser
from protogen.descent.symmetric import HEATS, OrbitSets, SymmetricSearch, Tried


def drawn(d: int, n: int, lines: bool, count: int) -> list[Design]:
    draws = Draws(d, n, lines, seed=3)
    designs: list[Design] = []
    while len(designs) < count:
        design = draws.design()
        if design is not None:
            designs += [design, *(again for again in [draws.again(design)] if again is not None)]
    return designs


def starts(sets: OrbitSets) -> Tensor:
    rows = torch.randn(sets.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return normalize((sets.spaces @ rows[..., None])[..., 0], dim=2)


@pytest.mark.parametrize("lines", [False, True])
def test_what_is_drawn_is_mapped_to_itself_and_has_about_n_vectors(lines: bool) -> None:
    designs = drawn(5, 14, lines, 40)
    sets = OrbitSets(designs, lines)
    assert {sum(design.sizes) for design in designs} <= {12, 13, 14, 15}
    for design, rows in zip(designs, starts(sets), strict=True):
        own = design.vectors(rows[: len(design.layout)])
        assert len(own) == sum(design.sizes)
        matrices = Design(design.group, (Stabiliser((0,), (1,)),), design.parts).tables()[0]
        assert len(matrices) == group(design.group).order
        cosines = own @ matrices @ own.T  # (m, N, N)
        nearest = (cosines.abs() if lines else cosines).amax(2)
        assert (nearest - 1).abs().max() < 1e-9  # what an element makes of a vector is one of the set again


@pytest.mark.parametrize("lines", [False, True])
def test_sums_over_orbits_are_those_over_all_pairs(lines: bool) -> None:
    designs = drawn(4, 9, lines, 12)
    sets = OrbitSets(designs, lines)
    rows, sharpness = starts(sets), torch.linspace(1, 40, len(designs), dtype=torch.float64)
    at = sets(rows, sharpness, torch.arange(len(designs)))
    some = torch.tensor([1, 4])
    assert torch.equal(sets(rows[some], sharpness[some], some).gradients, at.gradients[some])
    for place, design in enumerate(designs):
        alone = OrbitSets([design], lines)
        free = rows[place : place + 1, : len(design.layout)].clone().requires_grad_()
        vectors = design.vectors(free[0])
        cosines = vectors @ vectors.T
        first, second = torch.triu_indices(len(cosines), len(cosines), 1)
        sizes = cosines[first, second].abs() if lines else cosines[first, second]
        value = torch.logsumexp(sizes * sharpness[place], 0) / sharpness[place]
        assert float(at.values[place]) == pytest.approx(float(value.detach()), abs=1e-12)
        assert float(at.largest[place]) == pytest.approx(float(sizes.detach().max()), abs=1e-12)
        (gradient,) = torch.autograd.grad(value, free)
        spaces, own = alone.spaces, free.detach()
        gradient = (spaces @ gradient[..., None])[..., 0]
        gradient = gradient - (gradient * own).sum(-1, keepdim=True) * own
        assert (at.gradients[place, : len(design.layout)] - gradient[0]).abs().max() < 1e-9


@pytest.mark.parametrize("lines", [False, True])
def test_a_row_that_its_stabiliser_leaves_nothing_of_is_worse_than_any(lines: bool) -> None:
    designs = [design for design in drawn(4, 9, lines, 150) if len(design.layout[0].elements) > 1]
    designs = [design for design in designs if float(design.tables()[2][0].trace()) < 3.5]
    sets = OrbitSets(designs, lines)
    rows, sharpness, index = starts(sets), torch.ones(len(designs), dtype=torch.float64), torch.arange(len(designs))
    before = sets(rows, sharpness, index)
    left = sets.spaces[:, 0]
    off = torch.eye(4, dtype=torch.float64) - left
    noise = normalize((off @ torch.ones(4, 1, dtype=torch.float64))[..., 0] + 1e-3 * off[..., 0], dim=1)
    rows[:, 0] = noise + 1e-13 * rows[:, 0]  # as a step may leave it
    at = sets(rows, sharpness, index)
    assert len(designs) > 3
    assert (before.largest <= 1 + 1e-12).all()
    assert (at.largest > 2).all()
    assert (at.values > before.values + 2).all()


def found(lines: bool, d: int, n: int, seed: int = 3) -> SymmetricSearch:
    search = SymmetricSearch(d, n, lines=lines, seed=seed, multiplications=3e8)
    while not search.ended:
        search.advance()
    return search


@pytest.mark.parametrize(("lines", "d", "n", "best"), [(True, 3, 6, 5**-0.5), (False, 3, 6, 0.0), (True, 4, 8, None)])
def test_a_search_finds_symmetric_sets(lines: bool, d: int, n: int, best: float | None) -> None:
    search = found(lines, d, n)
    (first, *_) = sets = search.best(4)
    assert first.rows.shape == (n, d)
    assert [one.largest for one in sets] == sorted(one.largest for one in sets)
    noted = [tried.largest for tried in search._tried]
    # The heats are in float32.
    assert noted == pytest.approx([search._whole(tried).largest for tried in search._tried], abs=1e-6)
    cosines = (first.rows @ first.rows.T).fill_diagonal_(-1 + lines)
    assert float((cosines.abs() if lines else cosines).max()) == pytest.approx(first.largest, abs=1e-9)
    assert best is None or first.largest == pytest.approx(best, abs=1e-6)
    assert torch.equal(found(lines, d, n).best()[0].rows, first.rows)
    assert search.spent > 3e8 * 0.7


def test_the_sets_of_lowest_smooth_maximum_go_on_to_the_next_heat() -> None:
    search = SymmetricSearch(4, 12, lines=True, seed=0, multiplications=1e8)
    design = next(one for one in drawn(4, 12, True, 9) if sum(one.sizes) == 12)
    rows = torch.zeros(len(design.layout), 4, dtype=torch.float64)
    # The largest cosines rank them the other way round.
    search._screened = [Tried(1 - place / 10, design, rows + place, place / 10) for place in (3, 0, 7, 5, 1, 6, 4, 2)]
    assert [float(start[0, 0]) for _, start in search._promising() if start is not None] == [0, 1]
    assert HEATS[0].promising == 0.25


def test_draws_are_of_all_kinds() -> None:
    designs = drawn(8, 24, True, 150)
    assert any(len(set(design.layout)) > 1 for design in designs)
    assert any(-1 in stabiliser.signs for design in designs for stabiliser in design.layout)
    numbers = {sum(design.sizes) for design in designs}
    assert numbers <= set(range(21, 28))
    assert len(numbers) > 4
    assert max(len(set(design.sizes)) for design in designs) > 2
    assert {"cyclic", "dihedral", "affine"} < {design.group.split("(")[0] for design in designs}
