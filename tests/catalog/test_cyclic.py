"""Cyclic packings: known members, the table, and the search."""

import pytest
from find_packings import Target, written
from forms import check

from protogen.catalog import label
from protogen.catalog.algebra.blocks import check as check_blocks
from protogen.catalog.algebra.blocks import fit, lines_on_a_point, pack, read
from protogen.catalog.direct.cyclic import CyclicPacking, _table, search_packing
from protogen.catalog.family import Blocks
from protogen.errors import BadRequest

FANO = ((0, 1, 3),)
BIBD_91_7 = ((0, 8, 29, 51, 54, 61, 63), (0, 11, 16, 17, 31, 35, 58), (0, 13, 26, 39, 52, 65, 78))
KNOWN = [  # v, blocks, order, own_d, own_n, r
    (7, FANO, 4, 7, 28, 3),
    (7, FANO, 2, 7, 14, 3),
    (15, ((0, 1, 4), (0, 2, 9), (0, 5, 10)), 8, 35, 120, 7),  # a Steiner triple system, with a short block
    (91, BIBD_91_7, 16, 195, 1456, 15),
    (6, ((0, 1), (0, 2), (0, 3), (0,), (0,)), 8, 27, 48, 7),
    (25, ((0, 15, 17), (0, 13, 6), (0, 14, 9), (0, 21, 22)), 12, 100, 300, 12),
    (50, ((0, 4, 7, 36), (0, 38, 40, 49), (0, 13, 30), (0, 26, 45), (0, 28, 34), (0, 15, 23)), 20, 300, 1000, 20),
    (
        50,
        ((0, 44, 9), (0, 33, 40), (0, 2, 24), (0, 37, 21), (0, 12, 1), (0, 32, 46), (0, 31, 23)),
        20,
        350,
        1000,
        21,
    ),
    (
        42,
        ((0, 1, 40), (0, 18, 37), (0, 26, 32), (0, 31, 35), (0, 9, 29), (0, 27), (0, 25), (0, 12), (0, 34), (0, 21)),
        24,
        399,
        1008,
        24,
    ),
]


def developed(v: int, u: int, bases: Blocks) -> Blocks:
    """Blocks and their products with u and u^2."""
    return tuple(tuple(x * u**power % v for x in base) for base in bases for power in range(3))


@pytest.mark.parametrize(("v", "blocks", "order", "own_d", "own_n", "r"), KNOWN)
def test_known_members(v: int, blocks: Blocks, order: int, own_d: int, own_n: int, r: int) -> None:
    form = CyclicPacking(v, blocks, order)
    assert (form.own_d, form.own_n, form.r, form.cosine) == (own_d, own_n, r, 1 / r)
    check(form, tight=order >= r and len({*map(len, blocks)}) == 1)


def test_a_multiplier_makes_blocks() -> None:
    bases = ((0, 44, 197, 101, 47, 190), (0, 209, 29, 85, 91), (0, 81, 136, 158, 41))
    form = CyclicPacking(211, developed(211, 14, bases), 48)
    assert (form.own_d, form.own_n, form.r) == (1899, 10128, 48)


@pytest.mark.parametrize(
    ("v", "blocks", "order"),
    [
        (7, ((0, 1, 2),), 4),  # 1 twice
        (7, ((0, 1, 3), (0, 2)), 4),
        (8, ((0, 1), (0, 4, 6)), 4),  # 4 is its own negative
        (8, ((1, 5),), 2),  # not written as the short block
        (15, ((0, 1, 6), (0, 5, 10)), 4),
        (7, ((0, 1, 1),), 4),
        (7, ((0, 1, 10),), 4),
        (7, ((0, 1, -4),), 4),
        (7, ((0, 1, 3), ()), 4),
        (7, (), 1),
        (0, ((0,),), 1),
        (-7, FANO, 4),
        (7, FANO, 3),
        (7, FANO, 8),
    ],
)
def test_wrong_parameters(v: int, blocks: Blocks, order: int) -> None:
    with pytest.raises(BadRequest) as caught:
        CyclicPacking(v, blocks, order)
    assert "\n" not in str(caught.value)


def test_labels_are_golden() -> None:
    form = CyclicPacking(6, ((0, 1), (0, 2), (0, 3), (0,), (0,)), 8)
    assert label(form) == "cyclic(v=6,blocks=[0.1;0.2;0.3;0;0],order=8)"


def members() -> list[CyclicPacking]:
    return [CyclicPacking(int(v), read(blocks), int(order)) for _, v, order, blocks in map(str.split, lines())]


def lines() -> list[str]:
    return [line for _, _, line in _table()]


def test_every_member_of_the_table_stands_in_its_place() -> None:
    found = members()
    assert len(found) > 1000
    assert [(form.own_d, form.own_n) for form in found] == [(own_d, own_n) for own_d, own_n, _ in _table()]
    places = [(-form.r, form.own_d) for form in found]
    assert places == sorted(places)
    for form in found:  # none is better than another in everything
        assert CyclicPacking.reach(form.own_d, form.own_n) == form


def test_members_of_the_table() -> None:
    small = [form for form in members() if form.own_n <= 400]
    assert {form.order - form.r for form in small} == {-1, 0, 1}
    for form in small[::12]:
        check(form)


def test_reach_finds_the_lowest_coherence_in_the_least_dimension() -> None:
    found = members()
    for d, n in [(20, 40), (50, 200), (100, 300), (300, 1000), (399, 1008), (994, 3000), (1899, 10128), (2048, 5000)]:
        reaching = [form for form in found if form.own_d <= d and form.own_n >= n]
        form = CyclicPacking.reach(d, n)
        assert (form is None) == (not reaching)
        assert form is None or (form.cosine, form.own_d) == min((form.cosine, form.own_d) for form in reaching)
    assert CyclicPacking.reach(100, 300).cosine <= 1 / 12
    assert CyclicPacking.reach(8192, 10**8) is None


def test_sized_yields_the_tight_frames() -> None:
    tight = [form for form in members() if form.order >= form.r and len({*map(len, form.blocks)}) == 1]
    assert list(CyclicPacking.sized(1, 2048)) == tight
    assert list(CyclicPacking.sized(100, 200)) == [form for form in tight if 100 <= form.own_d <= 200]
    for form in tight:
        if form.own_n <= 250:
            check(form, tight=True)


@pytest.mark.parametrize(
    ("v", "r", "d", "sizes", "short"),
    [
        (7, 3, 7, (3,), ()),
        (15, 7, 35, (3, 3), (3,)),
        (25, 12, 100, (3, 3, 3, 3), ()),
        (25, 12, 104, (3, 3, 3, 3), ()),
        (6, 6, 21, (2, 2, 1), (2,)),
        (84, 36, 994, (4,) + (3,) * 10, (2, 3)),
    ],
)
def test_a_shape_is_found(v: int, r: int, d: int, sizes: tuple[int, ...], short: tuple[int, ...]) -> None:
    shape = fit(v, r, d)
    assert shape
    assert (shape.sizes, shape.short) == (sizes, short)
    blocks = pack(shape, 20)
    assert blocks == pack(shape, 20)
    assert blocks
    check_blocks(v, blocks)
    assert lines_on_a_point(v, blocks) == r
    assert sorted(map(len, blocks)) == sorted((*sizes, *short))


def test_shapes_that_are_too_full() -> None:
    assert fit(7, 4, 7) is None
    assert fit(8, 7, 24) is None  # 4 is its own negative: no pairs of it but the short one
    assert fit(8, 7, 28)
    assert fit(8, 2, 7) is None  # no block


def test_a_difference_family_with_a_multiplier_of_order_seven() -> None:
    shape = fit(211, 42, 7 * 211)
    assert shape
    assert (shape.sizes, shape.fill) == ((6,) * 7, 210 / 211)
    blocks = pack(shape, 20)
    assert blocks
    assert len({(b - a) % 211 for block in blocks for a in block for b in block}) == 211


@pytest.mark.parametrize(("d", "n", "r"), [(100, 300, 12), (300, 1000, 20), (350, 1000, 21), (399, 1008, 24)])
def test_search_beats_a_coherence(d: int, n: int, r: int) -> None:
    form = search_packing(d, n, 1 / (r - 0.5))
    assert form
    assert form == search_packing(d, n, 1 / (r - 0.5))
    assert form.own_d <= d
    assert form.own_n >= n
    assert form.r >= r
    check(form)


def test_search_ends_with_nothing() -> None:
    assert search_packing(100, 300, 1 / 14) is None  # Welch's bound is 1/12.2
    assert search_packing(100, 10**8) is None
    assert search_packing(40, 120, 1 / 7, nodes=0) is None


def test_the_table_is_what_the_script_finds() -> None:
    with_blocks = {line.rpartition(" ")[0]: line for line in lines()}
    for form in members()[-60:]:
        shape = fit(form.v, form.r, form.own_d)
        assert shape
        blocks = next(found for rounds in (1, 4, 16, 64) if (found := pack(shape, rounds)))
        target = Target(form.own_d, form.own_n, form.r, shape)
        assert written(target, blocks).strip() == with_blocks[f"{form.own_d} {form.v} {form.order}"]
