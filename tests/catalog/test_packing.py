"""Packing frames: nested nets, spaces and block designs."""

import math
from collections.abc import Iterator
from functools import cache
from itertools import combinations

import pytest
import torch
from forms import check

from protogen.catalog import ClosedForm, label
from protogen.catalog.algebra.fields import prime_power
from protogen.catalog.direct.designs import Design, exists
from protogen.catalog.direct.nets import Net
from protogen.catalog.direct.packing import Packing, orders
from protogen.catalog.direct.spaces import Space
from protogen.catalog.family import Blocks, Tight, preference
from protogen.errors import BadRequest

FAMILIES: tuple[type[Tight], ...] = (Net, Space, Design)


def incidence(form: Packing) -> torch.Tensor:
    """1 where a point, a row, is on a line, a column."""
    return torch.zeros(form.points, form.own_d).scatter_(1, form.lines(torch.arange(form.points)), 1)


@pytest.mark.parametrize(
    ("levels", "order", "size", "tight"),
    [
        (((7, 6, 3), (1, 1, 7)), 8, (45, 168), False),  # order = r + 1
        (((7, 7, 3), (1, 1, 7)), 8, (52, 168), False),  # r
        (((8, 8, 3), (1, 1, 8)), 8, (67, 192), False),  # r - 1
        (((7, 7, 7), (1, 1, 7)), 8, (56, 392), True),
        (((9, 3, 5),), 4, (27, 180), True),  # a field that is not prime
        (((12, 12, 3),), 12, (144, 432), True),  # a product of fields
        (((15, 2, 3), (1, 1, 15)), 4, (33, 180), False),
        (((4, 4, 5),), 4, (16, 80), True),  # the column at infinity
        (((6, 6, 3), (1, 1, 6)), 8, (39, 144), False),
        (((20, 4, 3), (5, 3, 5), (1, 1, 5)), 8, (140, 480), False),
        (((9, 9, 3), (3, 3, 3)), 12, (108, 324), True),
        (((8, 15, 2),), 16, (120, 256), True),  # rounds of pairs
        (((6, 6, 2), (3, 5, 2)), 12, (66, 144), True),
        (((7, 4, 2), (4, 7, 2)), 12, (84, 168), False),  # 7 of 8 points
        (((5, 2, 1), (3, 5, 2)), 8, (25, 40), False),  # lines with single points
        (((3, 8, 1), (2, 3, 2)), 12, (30, 36), False),
        (((1, 7, 1),), 8, (7, 8), True),
    ],
    ids=str,
)
def test_nets(levels: Blocks, order: int, size: tuple[int, int], tight: bool) -> None:
    form = Net(levels, order)
    assert (form.own_d, form.own_n) == size
    assert form.cosine == 1 / sum(s for _, s, _ in levels)
    check(form, tight=tight)


def test_the_last_column_is_at_infinity() -> None:
    # ((3, 3, 4), (1, 1, 3)) is PG(2, 3) without a point: 13 lines, all of which meet.
    on = incidence(Net(((3, 3, 4), (1, 1, 3)), 4))
    assert on.shape == (12, 13)
    assert sorted(on.sum(0).tolist()) == [3] * 4 + [4] * 9
    assert (on @ on.T).fill_diagonal_(1).min() == 1


def test_rounds_pair_all_points() -> None:
    on = incidence(Net(((6, 11, 2),), 12))
    assert torch.equal(on @ on.T, torch.ones(12, 12) + 10 * torch.eye(12))
    for line in range(0, 66, 6):
        assert (on[:, line : line + 6].sum(1) == 1).all()


@pytest.mark.parametrize("infinity", [0, 1])
@pytest.mark.parametrize(
    ("k", "q", "order"), [(2, 2, 4), (2, 2, 2), (2, 3, 4), (2, 4, 4), (2, 7, 8), (2, 8, 8), (3, 3, 12), (4, 2, 16)]
)
def test_spaces(k: int, q: int, infinity: int, order: int) -> None:
    form = Space(k, q, infinity, order)
    r = (q**k - 1) // (q - 1)
    assert form.cosine == 1 / r
    assert form.own_n == order * (q**k + infinity * r)
    check(form, tight=order >= r)
    on = incidence(form)
    assert (on.sum(0) == q + infinity).all()
    assert torch.equal(on @ on.T, torch.ones(form.points, form.points) + (r - 1) * torch.eye(form.points))


@pytest.mark.parametrize(("k", "q"), [(2, 4), (3, 2), (3, 3)])
def test_lines_of_projective_space_span_planes(k: int, q: int) -> None:
    # Veblen and Young: lines ab and cd that meet make ac and bd meet. Any line in the plane of two that meet
    # is in it, or meets it in a point: two lines span q^2 + q + 1 points.
    form = Space(k, q, 1, orders((q**k - 1) // (q - 1))[0])
    on = incidence(form).bool()
    first, second = next((i, j) for i, j in combinations(range(form.own_d), 2) if (on[:, i] & on[:, j]).any())
    plane = on[:, first] | on[:, second]
    plane = on[:, on[plane].sum(0) >= 2].any(1)
    assert plane.sum() == q * q + q + 1
    assert set(on[plane].sum(0).tolist()) <= {0, 1, q + 1}


@pytest.mark.parametrize(
    ("v", "k"),
    [
        *((v, 2) for v in (3, 4, 5, 8, 12)),
        *((v, 3) for v in (7, 9, 13, 15, 25, 27, 33)),
        *((13, 4), (73, 4), (41, 5), (141, 5), (181, 6), (91, 7), (73, 9)),  # shifts of base blocks
        *((28, 4), (65, 5), (126, 6)),  # unitals
        *((25, 4), (121, 6), (175, 7), (289, 9)),  # shifts in groups that are not cyclic
        *((52, 4), (120, 8), (100, 4), (232, 8)),  # maximal arcs
    ],
)
def test_designs(v: int, k: int) -> None:
    for order in orders((v - 1) // (k - 1)):
        form = Design(v, k, order)
        on = incidence(form)
        assert (on.sum(0) == k).all()
        assert torch.equal(on @ on.T, torch.ones(v, v) + (form.r - 1) * torch.eye(v))
        assert form.cosine == (k - 1) / (v - 1)
        if form.own_n < 1500:
            check(form, tight=order >= form.r)


@pytest.mark.parametrize(
    ("form", "d", "n", "one_over"),
    [
        (Design(45, 5, 12), 99, 540, 11),
        (Design(91, 7, 16), 195, 1456, 15),
        (Design(141, 5, 36), 987, 5076, 35),
        (Net(((43, 43, 12), (1, 1, 43)), 44), 1861, 22704, 44),
        (Space(2, 83, 1, 84), 6973, 585732, 84),
    ],
)
def test_sizes(form: ClosedForm, d: int, n: int, one_over: int) -> None:
    assert (form.own_d, form.own_n, form.cosine) == (d, n, 1 / one_over)


@pytest.mark.parametrize(("v", "k", "order"), [(4, 2, 4), (7, 3, 4), (31, 3, 16), (91, 7, 16)])
def test_order_above_r_is_equiangular(v: int, k: int, order: int) -> None:
    rows = Design(v, k, order).rows(0, v * order)
    gram = (rows @ rows.T).abs().fill_diagonal_((k - 1) / (v - 1))
    assert (gram - (k - 1) / (v - 1)).abs().max() < 1e-6


@cache
def fewest(points: int, r: int, d: int, inner: bool = True) -> int:
    """The fewest lines of levels with r lines on a point, at most d slopes and columns; over d if there are none."""
    if r == 0:
        return 0
    found = d + 1
    for g in range(1, points + 1):
        for q in range(-(-points // g), d + 1):
            powers = (e for e in range(2, q + 1) if q % e == 0 and prime_power(e) and math.gcd(e, q // e) == 1)
            columns = min(powers, default=points)
            for s in range(1, min(r, d // q) + 1):
                if g == 1 or (s <= q and g <= columns + (s == q)) or (g == 2 and s == r < 2 * q):
                    found = min(found, s * q + g * fewest(q, r - s, d))
    turned = (
        q for q in range(r + 1, d + 1) if inner and r > 1 and exists(q, r) and q * (q - 1) >= points * r * (r - 1)
    )
    return min([found, *turned])


@pytest.mark.slow
@pytest.mark.parametrize("d", [*range(2, 17), 21])
def test_nets_reach_by_the_best_levels(d: int) -> None:
    for n in (d + 1, d + 2, d + 1 + d // 4, d + 1 + d // 2, 2 * d, 3 * d, 4 * d, 5 * d, 6 * d, 8 * d, 20 * d):
        sizes = ((r, fewest(-(-n // order), r, d, False)) for r in range(2, d + 1) for order in orders(r))
        expected = max(((r, -lines) for r, lines in sizes if lines <= d), default=None)
        form = Net.reach(d, n)
        assert (form and (form.r, -form.own_d)) == expected, n
        assert form is None or form.own_n >= n


@pytest.mark.parametrize("levels", [((5, 3, 2), (5, 2, 0)), ((7, 6, 7), (7, 3, 0)), ((25, 25, 4), (25, 4, 0))])
def test_a_design_turned_round_is_a_level(levels: Blocks) -> None:
    order = next(iter(orders(sum(s for _, s, _ in levels))))
    form = Net(levels, order)
    on = incidence(form)
    assert (on.sum(1) == form.r).all()
    assert ((on @ on.T).fill_diagonal_(0) <= 1).all()
    if form.own_n < 1500:
        check(form)


def test_nets_reach() -> None:
    for d, n, r in ((200, 1000, 15), (300, 1000, 19), (2048, 21841, 45), (5000, 100000, 71), (8192, 81920, 93)):
        form = Net.reach(d, n)
        assert form
        assert (form.own_d <= d, form.own_n >= n, form.r) == (True, True, r)
    assert [form.r for n in (2, 5, 6) if (form := Net.reach(5, n))] == [5, 3, 3]
    assert Net.reach(8192, 10**8) is None


def members(family: type[Tight], most: int) -> Iterator[ClosedForm]:
    """Spaces and designs with at most so many lines, however they are made."""
    for a in range(2, most):
        for b in range(2, 11):
            for order in orders((a - 1) // (b - 1) if family is Design else (b**a - 1) // (b - 1) if a < 9 else 0):
                for parameters in ((a, b, order),) if family is Design else ((a, b, 0, order), (a, b, 1, order)):
                    try:
                        form = family(*parameters)
                    except BadRequest:
                        continue
                    if form.own_d <= most:
                        yield form


@pytest.mark.parametrize("family", [Space, Design])
def test_spaces_and_designs_reach_the_best(family: type[Tight]) -> None:
    forms = list(members(family, 70))
    for d in range(2, 71):
        for n in (2, d, 2 * d, 3 * d, 5 * d, 7 * d, 10 * d):
            enough = [form for form in forms if form.own_d <= d and form.own_n >= n]
            reached = family.reach(d, n)
            assert (reached and preference(reached)) == min(map(preference, enough), default=None), (d, n)


@pytest.mark.parametrize("family", [Space, Design])
def test_all_tight_spaces_and_designs_are_sized(family: type[Tight]) -> None:
    for low, high in ((2, 70), (6, 6), (7, 30), (31, 34)):
        expected = [form for form in members(family, high) if low <= form.own_d]
        tight = [form for form in expected if isinstance(form, Packing) and form.order >= form.r]
        assert sorted(map(label, family.sized(low, high))) == sorted(map(label, tight))


def test_nets_with_all_slopes_are_sized() -> None:
    sized = list(Net.sized(4, 110))
    for form in sized:
        assert 4 <= form.own_d <= 110
        if form.own_n < 700:
            check(form, tight=True)
    levels = {form.levels for form in sized}
    assert levels >= {((4, 4, 5),), ((8, 8, 8),), ((7, 7, 7), (1, 1, 7)), ((9, 9, 3), (3, 3, 3)), ((6, 11, 2),)}
    assert {form.levels for form in Net.sized(66, 66)} == {((6, 11, 2),)}
    assert list(Net.sized(1, 3)) == []


@pytest.mark.parametrize(
    ("levels", "order"),
    [
        ((), 4),
        (((7, 6),), 8),
        (((7, 0, 3), (1, 1, 7)), 2),
        (((7, 8, 3),), 8),  # more slopes than elements
        (((7, 7, 9),), 8),  # more columns than there are
        (((7, 3, 8),), 4),
        (((15, 3, 4),), 4),
        (((7, 7, 3), (3, 3, 2)), 12),  # 7 points in 6
        (((4, 7, 2), (1, 1, 4)), 8),  # rounds that are no last level
        (((4, 8, 2),), 8),
        (((5, 2, 0), (1, 1, 5)), 4),  # a design turned round that is not the last level
        (((5, 2, 0),), 2),  # alone
        (((5, 5, 2), (8, 3, 0)), 8),  # no design
        (((5, 5, 2), (3, 3, 0)), 8),
        (((5, 5, 2), (2000, 2, 0)), 8),  # too many points
        (((5, 5, 2), (7, 3, -1)), 8),
        (((7, 7, 3),), 4),  # the order
        (((7, 7, 3),), 7),
        (((1, 1, 7),), 1),
        (((92, 92, 3),), 91),
    ],
)
def test_other_nets_are_refused(levels: Blocks, order: int) -> None:
    with pytest.raises(BadRequest) as caught:
        Net(levels, order)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("family", "parameters"),
    [
        (Space, (1, 7, 0, 8)),
        (Space, (2, 6, 0, 8)),
        (Space, (2, 7, 2, 8)),
        (Space, (2, 7, 0, 7)),
        (Design, (2, 2, 1)),
        (Design, (3, 3, 2)),
        (Design, (11, 3, 4)),
        (Design, (16, 4, 4)),
        (Design, (37, 4, 12)),
        (Design, (4, 1, 4)),
        (Design, (91, 7, 15)),
    ],
)
def test_other_parameters_are_refused(family: type[ClosedForm], parameters: tuple[int, ...]) -> None:
    with pytest.raises(BadRequest) as caught:
        family(*parameters)
    assert "\n" not in str(caught.value)
