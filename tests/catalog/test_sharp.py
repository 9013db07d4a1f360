"""Sporadic sets and quadrics: known distances, strongly regular graphs, and the optimal values of the literature."""

import hashlib
import math

import pytest
import torch
from forms import check

from protogen.bounds import coherence_bound, max_cos_bound
from protogen.catalog import LINES, POINTS, ClosedForm, choose, label
from protogen.catalog.algebra.leech import e8, golay, leech
from protogen.catalog.derived.blow_up import BlowUp
from protogen.catalog.direct.sharp import OCTAD, SharpLines, SharpPoints
from protogen.catalog.family import preference
from protogen.catalog.points.quadric import QuadricPoints
from protogen.catalog.points.simplices import Simplices
from protogen.errors import BadRequest

PHI = (1 + math.sqrt(5)) / 2

# (d, n): the cosines from a point, the largest first, and how many points there are at each.
POINT_SETS: dict[tuple[int, int], dict[float, int]] = {
    (4, 10): {1 / 6: 6, -2 / 3: 3},
    (4, 120): {PHI / 2: 12, 1 / 2: 20, 1 / PHI / 2: 12, 0: 30, -1 / PHI / 2: 12, -1 / 2: 20, -PHI / 2: 12, -1: 1},
    (5, 40): {1 / 2: 12, 0: 14, -1 / 2: 12, -1: 1},
    (6, 72): {1 / 2: 20, 0: 30, -1 / 2: 20, -1: 1},
    (7, 126): {1 / 2: 32, 0: 60, -1 / 2: 32, -1: 1},
    (8, 240): {1 / 2: 56, 0: 126, -1 / 2: 56, -1: 1},
    (16, 4320): {1 / 2: 280, 1 / 4: 1024, 0: 1710, -1 / 4: 1024, -1 / 2: 280, -1: 1},
    (20, 56): {1 / 15: 45, -2 / 5: 10},
    (20, 105): {1 / 8: 72, -5 / 16: 32},
    (21, 50): {1 / 21: 42, -3 / 7: 7},
    (21, 77): {1 / 12: 60, -3 / 8: 16},
    (21, 162): {1 / 7: 105, -2 / 7: 56},
    (21, 336): {1 / 5: 170, -1 / 5: 160, -3 / 5: 5},
    (22, 100): {1 / 11: 77, -4 / 11: 22},
    (22, 275): {1 / 6: 162, -1 / 4: 112},
    (22, 352): {1 / 5: 175, -1 / 5: 175, -1: 1},
    (22, 891): {1 / 4: 336, -1 / 8: 512, -1 / 2: 42},
    (22, 49896): {1 / 2: 1492, 1 / 4: 12160, 0: 22590, -1 / 4: 12160, -1 / 2: 1492, -1: 1},
    (23, 552): {1 / 5: 275, -1 / 5: 275, -1: 1},
    (23, 4600): {1 / 3: 891, 0: 2816, -1 / 3: 891, -1: 1},
    (23, 93150): {1 / 2: 2464, 1 / 4: 22528, 0: 43164, -1 / 4: 22528, -1 / 2: 2464, -1: 1},
    (24, 196560): {1 / 2: 4600, 1 / 4: 47104, 0: 93150, -1 / 4: 47104, -1 / 2: 4600, -1: 1},
}
LINE_SETS = [(d, n // 2) for (d, n), cosines in POINT_SETS.items() if -1 in cosines]
ALL: list[SharpPoints | SharpLines] = [
    *(SharpPoints(d, n) for d, n in POINT_SETS),
    *(SharpLines(d, n) for d, n in LINE_SETS),
]
LARGEST = 4000  # vectors to check over all pairs

EXACT_LINES = [
    (3, 6, 1 / math.sqrt(5)),
    (5, 10, 1 / 3),
    (6, 16, 1 / 3),
    (6, 36, 1 / 2),
    (7, 28, 1 / 3),
    (7, 63, 1 / 2),
    (8, 120, 1 / 2),
    (15, 36, 1 / 5),
    (21, 126, 1 / 5),
    (22, 176, 1 / 5),
    (23, 276, 1 / 5),
    (23, 2300, 1 / 3),
    (24, 98280, 1 / 2),
    (28, 64, 1 / 7),
    (35, 120, 1 / 7),
    (43, 344, 1 / 7),
    (64, 2112, 1 / 8),
    (256, 33024, 1 / 16),
    (1024, 525312, 1 / 32),
    *(((q + 1) // 2, q + 1, 1 / math.sqrt(q)) for q in (5, 9, 13, 17, 25, 29, 37, 41, 49, 81, 101, 125)),
]
EXACT_POINTS = [
    (3, 12, 1 / math.sqrt(5)),
    (5, 16, 1 / 5),
    (6, 27, 1 / 4),
    (7, 56, 1 / 3),
    (8, 240, 1 / 2),
    (21, 162, 1 / 7),
    (22, 100, 1 / 11),
    (22, 275, 1 / 6),
    (22, 891, 1 / 4),
    (23, 552, 1 / 5),
    (23, 4600, 1 / 3),
    (24, 196560, 1 / 2),
    *((q * (q * q - q + 1), (q + 1) * (q**3 + 1), 1 / q**2) for q in (2, 3, 4, 5, 7, 8, 9)),
]
# Optimal by other means: Andreev 1999, Bachoc and Vallentin 2009, Musin 2008; or the best known.
OTHER_POINTS = [(4, 10, 1 / 6), (4, 24, 1 / 2), (4, 120, PHI / 2), (21, 336, 1 / 5)]


@pytest.mark.parametrize(("d", "n", "mu"), EXACT_LINES)
def test_every_optimal_set_of_lines_is_the_choice(d: int, n: int, mu: float) -> None:
    form = choose(LINES, d, n)
    assert form
    assert form.cosine == pytest.approx(mu, rel=1e-15)
    assert form.cosine == pytest.approx(coherence_bound(d, n).value, rel=1e-12)


@pytest.mark.parametrize(("d", "n", "s"), EXACT_POINTS + OTHER_POINTS)
def test_every_optimal_set_of_points_is_the_choice(d: int, n: int, s: float) -> None:
    form = choose(POINTS, d, n)
    assert form
    assert form.cosine == pytest.approx(s, rel=1e-15)
    if (d, n, s) in EXACT_POINTS:
        assert form.cosine == pytest.approx(max_cos_bound(d, n).value, rel=1e-12)


@pytest.mark.parametrize("form", ALL, ids=label)
def test_sharp_sets_are_the_choice_at_their_size(form: ClosedForm) -> None:
    assert choose(LINES if isinstance(form, SharpLines) else POINTS, form.own_d, form.own_n) == form


@pytest.mark.slow
@pytest.mark.parametrize(("d", "n"), POINT_SETS)
def test_sharp_sets(d: int, n: int) -> None:
    form = SharpPoints(d, n)
    rows = form.rows(0, n)
    gram = rows[:: n // 40 + 1] @ rows.T
    assert form.cosine == max(POINT_SETS[d, n])
    assert sum(POINT_SETS[d, n].values()) == n - 1
    for cosine, count in POINT_SETS[d, n].items():
        assert (((gram - cosine).abs() < 1e-6).sum(1) == count).all()
    if (d, n // 2) in LINE_SETS:
        lines = SharpLines(d, n // 2)
        assert lines.cosine == form.cosine
        assert lines.held_bytes == form.held_bytes == rows.nbytes
        assert torch.equal(rows[::2], lines.rows(0, n // 2))
        assert torch.equal(rows[1::2], -rows[::2])
        if n < LARGEST:
            check(lines, tight=True)
    if n < LARGEST:
        check(form, tight=True)
    else:
        assert (rows.norm(dim=1) - 1).abs().max() < 1e-6
        assert (rows.T @ rows * (d / n) - torch.eye(d)).abs().max() < 1e-5
        for start, stop in [(0, 1), (7, 7), (n // 2 - 3, n // 2 + 4), (n - 1, n)]:
            part = form.rows(start, stop)
            assert part.is_contiguous()
            assert torch.equal(part, rows[start:stop])


@pytest.mark.parametrize("form", [SharpPoints(7, 126), SharpLines(7, 63)], ids=label)
def test_rows_are_copies(form: ClosedForm) -> None:
    rows = form.rows(0, 1)
    rows.zero_()
    assert form.rows(0, 1).norm() > 0.9


@pytest.mark.slow
def test_leech_vectors() -> None:
    vectors = leech()
    assert vectors.shape == (196560, 24)
    assert vectors.short().square().sum(1).eq(32).all()
    rows = SharpLines(24, 98280).rows(0, 98280) * math.sqrt(32)
    whole = rows.round()
    assert (rows - whole).abs().max() < 1e-5
    counts = sum(torch.histc(part @ whole.T, bins=65, min=-32.5, max=32.5) for part in whole[::49].split(250))
    assert (counts.nonzero().flatten() - 32).tolist() == [-16, -8, 0, 8, 16, 32]
    assert counts[-1] == len(whole[::49])  # no vector twice, none with its negative


def test_the_golay_code() -> None:
    words = golay()
    weights = words.sum(1)
    assert {int(w): int((weights == w).sum()) for w in weights.unique()} == {0: 1, 8: 759, 12: 2576, 16: 759, 24: 1}
    numbers = (words.long() << torch.arange(24)).sum(1)
    assert len(numbers.unique()) == 4096
    assert torch.isin(numbers[:, None] ^ numbers[:64], numbers).all()
    assert torch.isin(torch.tensor(sum(1 << place for place in OCTAD)), numbers)
    assert len(e8().unique(dim=0)) == 240


@pytest.mark.parametrize(
    ("form", "degree", "triangles", "others"),
    [  # of Higman and Sims, of McLaughlin, its subconstituent, of Petersen, and generalised quadrangles
        (SharpPoints(22, 100), 22, 0, 6),
        (SharpPoints(22, 275), 112, 30, 56),
        (SharpPoints(21, 162), 56, 10, 24),
        (SharpPoints(4, 10), 3, 0, 1),
        *((QuadricPoints(q), q * (q**2 + 1), q - 1, q**2 + 1) for q in (2, 3, 4, 5)),
    ],
    ids=str,
)
def test_two_distances_are_a_strongly_regular_graph(form: ClosedForm, degree: int, triangles: int, others: int) -> None:
    rows = form.rows(0, form.own_n)
    gram = rows @ rows.T
    edges = (gram < 0).float()
    joined = edges @ edges - degree * torch.eye(form.own_n)
    assert torch.equal(joined, triangles * edges + others * (1 - edges).fill_diagonal_(0))


@pytest.mark.parametrize("q", [2, 3, 4, 5])
def test_quadrics(q: int) -> None:
    form = QuadricPoints(q)
    assert (form.own_d, form.own_n, form.cosine) == (q * (q**2 - q + 1), (q + 1) * (q**3 + 1), 1 / q**2)
    check(form, tight=True)


@pytest.mark.parametrize("q", [8, 9, 19])
def test_large_quadrics_row_by_row(q: int) -> None:
    form = QuadricPoints(q)
    n, largest = form.own_n, 1 / q**2
    rows = torch.cat([form.rows(start, start + 60) for start in (0, n // 2, q**4 - 30, n - 60)]).double()
    gram = rows @ rows.T
    assert (gram.diagonal() - 1).abs().max() < 1e-6
    gram.fill_diagonal_(largest)
    assert torch.minimum((gram - largest).abs(), (gram + 1 / q).abs()).max() < 1e-6


def test_quadrics_reach_the_largest_field() -> None:
    members = [QuadricPoints(q) for q in (2, 3, 4, 5, 7)]
    for d in [*range(1, 60), 104, 105, 300, 301, 455]:
        for n in (2, 27, 28, 112, 113, 325, 326, 2752, 2753):
            held = [form for form in members if form.own_d <= d and form.own_n >= n]
            assert QuadricPoints.reach(d, n) == min(held, key=preference, default=None), (d, n)
    assert QuadricPoints.reach(8192, 137200) == QuadricPoints(19)
    assert QuadricPoints.reach(8192, 10**8) is None


def test_sharp_sets_reach_the_lowest_cosine() -> None:
    for d in [*range(1, 26), 100]:
        for n in (2, 10, 11, 16, 60, 100, 101, 163, 177, 300, 337, 600, 1000, 4601, 50000, 98281, 200000):
            for family, sizes in ((SharpPoints, POINT_SETS), (SharpLines, LINE_SETS)):
                held = [form for form in (family(*size) for size in sizes) if form.d <= d and form.n >= n]
                assert family.reach(d, n) == min(held, key=preference, default=None), (d, n)
    assert SharpPoints.reach(8, 200) == SharpPoints(8, 240)
    assert SharpPoints.reach(100, 110) == SharpPoints(21, 162)
    assert [(form.d, form.n) for form in SharpLines.sized(6, 8)] == [(6, 36), (7, 63), (8, 120)]


@pytest.mark.slow
def test_simplices_remain_the_choice_up_to_twice_the_dimension() -> None:
    for d in range(20, 24):
        assert all(isinstance(choose(POINTS, d, n), Simplices) for n in range(2, 2 * d + 1))


def test_blow_ups_of_276_lines_are_optimal() -> None:
    form = BlowUp.reach(276 * 2 - 23, 276 * 2)
    assert form == BlowUp(SharpLines(23, 276), 276, 552)
    assert form.cosine == pytest.approx(coherence_bound(form.own_d, form.own_n).value)


def test_sets_stay_as_they_are() -> None:
    # Files that are exact rest on it.
    digest = hashlib.sha256()
    for form in (SharpPoints(4, 120), SharpPoints(4, 10), SharpPoints(22, 275), SharpLines(23, 276), QuadricPoints(4)):
        digest.update(form.rows(0, form.own_n).numpy().tobytes())
    assert digest.hexdigest() == "7ff1c2f83d7abc8726f0f1b348602bcca4cfab18e9f3239061b9f758e6e295e3"


def test_labels_are_golden() -> None:
    assert [label(form) for form in (SharpPoints(24, 196560), SharpLines(7, 63), QuadricPoints(9))] == [
        "sharp-points(d=24,n=196560)",
        "sharp-lines(d=7,n=63)",
        "quadric-points(q=9)",
    ]


@pytest.mark.parametrize(
    ("family", "parameters"),
    [
        *((SharpPoints, parameters) for parameters in ((4, 24), (6, 27), (7, 63), (0, 0), (-8, 240), (8, 239))),
        *((SharpLines, parameters) for parameters in ((7, 126), (22, 275), (5, 8), (-8, 120), (8, 119))),
        *((QuadricPoints, (q,)) for q in (-2, 0, 1, 6, 15)),
    ],
)
def test_no_other_members(family: type[ClosedForm], parameters: tuple[int, ...]) -> None:
    with pytest.raises(BadRequest, match=r"^\w+ is .*; allowed is [^\n]+$"):
        family(*parameters)
