"""Which class takes which prototype: against all permutations, hidden rotations, structured sets, checkpoints."""

import itertools

import pytest
import torch
from draws import double_rows, unit_rows
from torch import Tensor

from protogen.errors import BadRequest
from protogen.nn import CosineHead, FrozenPrototypes, StructuredPrototypes
from protogen.nn.placement import PlacedPrototypes, place


def turned(rows: Tensor, seed: int = 3) -> Tensor:
    """Rows under a random rotation."""
    d = rows.shape[1]
    rotation = torch.linalg.qr(torch.randn(d, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))[0]
    return (rows.double() @ rotation).float()


def reached(rows: Tensor, codes: Tensor) -> float:
    """The largest mean cosine of codes to rows that a rotation gives: the nuclear norm of their product."""
    return float(torch.linalg.matrix_norm(codes.double().T @ rows.double(), "nuc")) / len(codes)


@pytest.mark.parametrize("candidates", [None, 12])
def test_a_hidden_rotation_and_order_are_found(candidates: int | None) -> None:
    rows = unit_rows(60, 5)
    order = torch.randperm(60, generator=torch.Generator().manual_seed(1))
    wished = turned(rows, seed=1)[order] if candidates is None else (rows + 0.05 * unit_rows(60, 5, seed=9))[order]
    index = place(FrozenPrototypes(rows), wished, candidates=candidates)
    assert index.sort().values.tolist() == list(range(60))
    by_chance = reached(rows, wished)
    assert reached(rows[index], wished) > by_chance + 0.3


def test_where_codes_are_the_prototypes_each_finds_its_own() -> None:
    rows = unit_rows(40, 6)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(2))
    assert torch.equal(place(FrozenPrototypes(rows), rows[order]), order)


def test_of_few_classes_it_is_near_the_best_of_all_permutations() -> None:
    rows, codes = unit_rows(6, 3), unit_rows(6, 3, seed=5)
    found = reached(rows[place(FrozenPrototypes(rows), codes)], codes)
    every = [reached(rows[list(order)], codes) for order in itertools.permutations(range(6))]
    assert found <= max(every) + 1e-9
    assert found >= sorted(every)[-len(every) // 10]  # among the best tenth


def test_turns_never_lower_the_sum() -> None:
    rows, codes = unit_rows(80, 6), unit_rows(80, 6, seed=5)
    sums = [reached(rows[place(FrozenPrototypes(rows), codes, turns=turns)], codes) for turns in (1, 2, 4, 30)]
    assert sums == sorted(sums)
    assert sums[-1] > sums[0]


def test_fewer_classes_and_coordinates_than_the_prototypes_have() -> None:
    rows, codes = unit_rows(50, 6), unit_rows(20, 4, seed=5)
    index = place(FrozenPrototypes(rows), codes)
    assert len(index.unique()) == 20
    wide = torch.cat((codes, torch.zeros(20, 2)), 1)
    assert reached(rows[index], wide) > reached(rows[:20], wide) + 0.1


def test_a_structured_set_is_placed_as_its_rows_are() -> None:
    structured = StructuredPrototypes("mub(p=5)", n=50)
    rows = structured.rows(0, 50)
    codes = unit_rows(50, structured.d, seed=4)
    index = place(structured, codes)
    assert reached(rows[index], codes) == pytest.approx(
        reached(rows[place(FrozenPrototypes(rows), codes)], codes), abs=0.02
    )
    placed = PlacedPrototypes(structured, index)
    features = unit_rows(7, structured.d, seed=6)
    torch.testing.assert_close(placed.product(features), features @ rows[index].T, rtol=0, atol=1e-5)


def test_placed_prototypes_are_the_rows_in_the_order_of_the_classes() -> None:
    rows, index = unit_rows(9, 4), torch.tensor([4, 0, 8, 2])
    placed = PlacedPrototypes(FrozenPrototypes(rows), index)
    features = double_rows(5, 4).float().requires_grad_()
    assert (placed.n, placed.d) == (4, 4)
    assert torch.equal(placed.rows(1, 3), rows[[0, 8]])
    assert torch.equal(placed.vectors(torch.tensor([[2, 0]])), rows[torch.tensor([[8, 4]])])
    torch.testing.assert_close(placed.product(features, 1, 4), features @ rows[[0, 8, 2]].T)
    values, classes = placed.topk(features, 2)
    expected = (features @ rows[index].T).topk(2)
    torch.testing.assert_close(values, expected.values)
    assert torch.equal(classes, expected.indices)
    head = CosineHead(placed)
    head(features).sum().backward()
    assert features.grad is not None
    assert not list(head.parameters())


def test_a_checkpoint_of_another_placement_is_refused() -> None:
    rows = FrozenPrototypes(unit_rows(5, 3))
    first, other = (PlacedPrototypes(rows, torch.tensor(index)) for index in ([0, 1, 2], [2, 1, 0]))
    same = PlacedPrototypes(rows, torch.tensor([0, 1, 2]))
    same.load_state_dict(first.state_dict())
    with pytest.raises(BadRequest, match="the checkpoint was trained with placed"):
        other.load_state_dict(first.state_dict())


@pytest.mark.parametrize("index", [[0, 0], [0, 5], [-1, 0], [], [[0, 1]]])
def test_an_index_that_is_none_is_refused(index: list[int]) -> None:
    with pytest.raises(BadRequest, match="one prototype from 0 to 4 for each class"):
        PlacedPrototypes(FrozenPrototypes(unit_rows(5, 3)), torch.tensor(index))


@pytest.mark.parametrize("shape", [(6, 3), (4, 4), (3,), (0, 3)])
def test_codes_that_do_not_fit_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(BadRequest, match="allowed is up to 5 codes of up to 3 coordinates"):
        place(FrozenPrototypes(unit_rows(5, 3)), torch.zeros(shape))
