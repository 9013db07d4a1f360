"""Groups and their representations."""

import pytest
import torch

from protogen.descent.groups import OTHERS, families, generated, group, irreducibles

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
    "dicyclic(3)": [1, 1, 2, 2, 4],
    "projective(5)": [1, 3, 3, 4, 5],
    "affine(8,7)": [1, 2, 2, 2, 7],
    "affine(9,4)": [1, 1, 2, 4, 4],
    "pauli(1)": [1, 1, 1, 1, 2],
    "semidirect(8,2,3)": [1, 1, 1, 1, 2, 4],
    "semidirect(3,4,2)": [1, 1, 2, 2, 4],
    "wreath(3,2)": [1, 1, 2, 2, 2, 4],
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
    listed = [of_name for family in families(30).values() for of_name in family.items()]
    assert len(listed) == len({name for name, _ in listed})
    assert [group(name).order for name, _ in listed] == [order for _, order in listed]
    assert max(order for _, order in listed) <= 30
    with pytest.raises(ValueError, match="names no group"):
        group("cyclic(3)ycyclic(2)")


def test_subgroups_are_closed() -> None:
    own = group("symmetric(4)")
    found = generated(own.table.tolist(), [1])
    assert {int(own.table[g, h]) for g in found for h in found} == set(found)
    assert generated(own.table.tolist(), []) == (0,)
    assert all(own.table[g, inverse] == 0 for g, inverse in enumerate(own.inverses.tolist()))


def test_orders_are_those_that_are_listed() -> None:
    small = {name: order for name, order in OTHERS.items() if order < 130}
    assert {name: group(name).order for name in small} == small
