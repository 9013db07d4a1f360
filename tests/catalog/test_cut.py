"""Cut packing frames: guarantees over all pairs, the sizes that they were built for, and what is refused."""

import pytest
import torch
from forms import check

from protogen.catalog import LINES, ClosedForm, choose
from protogen.catalog.algebra.blocks import check as check_blocks
from protogen.catalog.derived.beside import Beside
from protogen.catalog.derived.projections import Projections
from protogen.catalog.direct.cut_cyclic import CutCyclic
from protogen.catalog.direct.cut_net import CutNet
from protogen.catalog.direct.cut_pairs import CutPairs
from protogen.catalog.direct.cut_triples import CutTriples, _blocks
from protogen.errors import BadRequest

BLOCKS = ((0, 1, 3, 24), (0, 4, 26, 32), (0, 10, 18, 30))  # all 36 differences modulo 37: a design
FORMS = [
    CutPairs(9, 8, 8, 1),  # as many pairs on a point as rows
    CutPairs(10, 3, 4, 1),  # an odd degree: opposite points
    CutPairs(7, 2, 2, 5),
    CutTriples(7, 1, 4, 1),
    CutTriples(13, 2, 8, 2),
    CutTriples(25, 4, 12, 1),
    CutCyclic(37, BLOCKS, 12, 1),
    CutCyclic(37, BLOCKS[:1], 8, 2),
    CutCyclic(21, ((0, 1, 4, 14, 16),), 8, 1),  # a plane
    CutNet(5, 3, 4, 4, 1),
    CutNet(4, 4, 5, 4, 1),  # as many slopes as q: one column more
    CutNet(6, 2, 2, 2, 3),
]
BOUNDS = [(800, 1000, 61), (1000, 1200, 73), (1024, 1400, 57), (1500, 2000, 65), (400, 500, 41)]
BOUNDS += [(656, 729, 80), (300, 343, 48), (252, 275, 54), (153, 175, 34), (104, 125, 24)]
NO_MEMBERS = [
    (CutPairs, (9, 9, 12, 1)),  # more pairs on a point than other points
    (CutPairs, (9, 3, 4, 1)),  # an odd number of ends
    (CutPairs, (9, 4, 3, 1)),  # no Hadamard order
    (CutPairs, (9, 4, 2, 1)),  # an order below the pairs on a point
    (CutPairs, (9, 4, 4, 0)),
    (CutTriples, (14, 2, 8, 1)),  # 3 count + 1 is half of v
    (CutTriples, (12, 2, 8, 1)),
    (CutTriples, (7, 0, 4, 1)),
    (CutCyclic, (31, ((0, 1, 3), (0, 5, 12, 27)), 8, 1)),  # two sizes
    (CutCyclic, (31, ((0, 1, 2, 9),), 8, 1)),  # 1 recurs
    (CutCyclic, (30, ((0, 10, 20),), 8, 1)),  # a short orbit
    (CutNet, (6, 2, 3, 4, 1)),  # three columns of Z_2 x Z_3
    (CutNet, (5, 6, 4, 8, 1)),
    (CutNet, (5, 3, 1, 4, 1)),
]


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_guarantee_and_rank(form: ClosedForm) -> None:
    check(form)
    rows = form.rows(0, form.own_n).double()
    assert torch.linalg.matrix_rank(rows, rtol=1e-5) == form.own_d  # no dimension is wasted


@pytest.mark.parametrize(("d", "n", "one_over"), BOUNDS)
def test_the_choice_among_all_families(d: int, n: int, one_over: int) -> None:
    form = choose(LINES, d, n)
    assert form is not None
    assert form.cosine <= 1 / one_over + 1e-12


def test_blocks_of_skolem_sequences_have_distinct_differences() -> None:
    for count in range(1, 60):
        check_blocks(6 * count + 1, _blocks(count))
        check_blocks(6 * count + (2 if count % 4 in (0, 1) else 3), _blocks(count))


@pytest.mark.parametrize(("family", "parameters"), NO_MEMBERS, ids=str)
def test_parameters_of_no_member(family: type[CutPairs], parameters: tuple[int, ...]) -> None:
    with pytest.raises(BadRequest, match="allowed"):
        family(*parameters)


@pytest.mark.parametrize(
    "form",
    [
        Beside(CutPairs(9, 8, 8, 1), 3),
        Beside(CutTriples(13, 2, 8, 2), 1),
        Beside(CutNet(5, 3, 4, 4, 1), 7),
        Projections(CutPairs(9, 8, 8, 1), 2),
        Projections(CutTriples(13, 2, 8, 2), 3),
        Projections(CutNet(5, 3, 4, 4, 1), 5),
    ],
    ids=str,
)
def test_lines_beside_and_projected_several_times(form: ClosedForm) -> None:
    check(form, attained=isinstance(form, Beside))


def test_rules_are_chosen_where_they_are_better() -> None:
    form = choose(LINES, 815, 894)
    assert isinstance(form, Beside)
    assert form.cosine <= 1 / 85 + 1e-12
    form = choose(LINES, 1900, 1950)
    assert isinstance(form, Projections)
    assert form.cosine <= 1 / 240 + 1e-12


def test_steps_and_extra_lines_that_no_rule_has() -> None:
    for family, form, number in ((Beside, CutPairs(9, 8, 8, 1), 0), (Projections, CutPairs(9, 8, 8, 1), 12)):
        with pytest.raises(BadRequest, match="allowed"):
            family(form, number)
