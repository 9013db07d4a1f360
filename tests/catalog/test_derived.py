"""Forms made from other forms: labels, blow-ups, projections, and points from lines."""

import math

import pytest
import torch
from forms import check

from protogen.bounds import coherence_bound, max_cos_bound
from protogen.catalog import LINES, POINTS, ClosedForm, choose, label
from protogen.catalog.derived.beside import Beside
from protogen.catalog.derived.blow_up import TIGHT, BlowUp
from protogen.catalog.derived.copies import Copies
from protogen.catalog.derived.labels import BASES, Labels
from protogen.catalog.derived.projection import ASKED, Projection
from protogen.catalog.derived.projections import Projections
from protogen.catalog.direct.bent import Bent
from protogen.catalog.direct.delsarte_goethals import DelsarteGoethals
from protogen.catalog.direct.kerdock import Kerdock
from protogen.catalog.direct.mub import ComplexMUB
from protogen.catalog.direct.nets import Net
from protogen.catalog.direct.orthonormal import Orthonormal
from protogen.catalog.direct.paley import Paley
from protogen.catalog.direct.simplex_lines import SimplexLines
from protogen.catalog.direct.triples import Triples
from protogen.catalog.direct.unitary import Unitary
from protogen.catalog.direct.z4_kerdock import Z4Kerdock
from protogen.catalog.family import Bases, Tight, best
from protogen.catalog.points.antipodes import Antipodes
from protogen.catalog.points.simplex_labels import SimplexLabels
from protogen.catalog.points.simplices import Simplices
from protogen.errors import BadRequest


@pytest.mark.parametrize("d", [2, 3, 10, 101])
def test_a_simplex_is_the_best_set_of_one_line_more(d: int) -> None:
    check(SimplexLines(d), tight=True)
    assert SimplexLines(d).cosine == pytest.approx(coherence_bound(d, d + 1).value)
    assert SimplexLines.reach(d, d + 1) == SimplexLines(d)
    assert SimplexLines.reach(d, d + 2) is None
    assert choose(LINES, d, d + 1) == SimplexLines(d)
    assert [form.d for form in SimplexLines.sized(0, d)] == [*range(2, d + 1)]


LABELS = [
    Labels(Kerdock(1), 2, 1),
    Labels(Kerdock(2), 2, 1),
    Labels(Kerdock(3), 16, 1),
    Labels(Kerdock(3), 16, 0),
    Labels(Kerdock(3), 33, 0),  # the standard basis is one of them
    Labels(Z4Kerdock(2), 4, 1),
    Labels(Z4Kerdock(4), 16, 1),
    Labels(ComplexMUB(5), 4, 0),
    Labels(ComplexMUB(9), 10, 0),
    Labels(DelsarteGoethals(5, 0), 20, 1),
]


@pytest.mark.parametrize("form", LABELS, ids=label)
def test_labels(form: Labels) -> None:
    check(form)
    mu = form.form.cosine
    assert form.cosine == pytest.approx(mu / (1 + mu))


def test_labels_as_known() -> None:
    form = Labels(Kerdock(3), 16, 1)
    assert (form.own_d, form.own_n, form.cosine) == (79, 1024, 1 / 9)
    assert Labels(Kerdock(3), 16, 0).own_d == 80
    assert Labels.reach(79, 1024) == Labels.reach(100, 1000) == form
    # Whether a coordinate is dropped or not, inner products are the same up to sign.
    whole = Labels(Kerdock(3), 16, 0).rows(0, 1024).double()
    cut = form.rows(0, 1024).double()
    assert ((whole @ whole.T).abs() - (cut @ cut.T).abs()).abs().max() < 1e-6


def members(d: int) -> list[Bases]:
    return [form for family in BASES if issubclass(family, Tight) for form in family.sized(2, d)]


def test_labels_reach_the_best_bases_and_no_more_of_them_than_needed() -> None:
    for d in range(3, 90, 4):
        bases = members(d)
        for n in [2, d // 2, *range(d - 1, 4 * d, 5), *range(4 * d, d * d // 4, 61)]:
            counted = [(form, max(2, -(-n // form.own_d)), cut) for form in bases for cut in (0, 1)]
            allowed = [
                Labels(form, count, cut)
                for form, count, cut in counted
                if 2 <= count <= (form.flat if cut else form.own_n // form.own_d) and form.own_d + count - cut <= d
            ]
            assert Labels.reach(d, n) == best(allowed), (d, n)


FRAMES: list[tuple[ClosedForm, int]] = [
    (SimplexLines(2), 3),
    (Paley(5), 6),
    (Triples(7, 0), 28),
    (Bent(2, 0), 16),
    (Kerdock(1), 12),
    (Kerdock(2), 32),
    (ComplexMUB(5), 30),
    (ComplexMUB(9), 36),
    (DelsarteGoethals(5, 0), 96),
]


@pytest.mark.parametrize(("form", "size"), FRAMES, ids=str)
def test_blow_up(form: ClosedForm, size: int) -> None:
    # Equal copies, then unequal ones: in one copy alone, and with all groups but one a copy larger.
    for n in (size, 2 * size, 2 * size + 1, 3 * size - 1, 5 * size):
        check(BlowUp(form, size, n))
    one = BlowUp(form, size, size)
    assert one.exact == hasattr(form, "flat")
    assert one.held_bytes == form.held_bytes + (0 if one.exact else 8 * size**2)


@pytest.mark.parametrize(("form", "size"), FRAMES, ids=str)
def test_one_copy_is_the_complement_of_the_frame(form: ClosedForm, size: int) -> None:
    frame, blown = form.rows(0, size).double(), BlowUp(form, size, size).rows(0, size).double()
    k = form.own_d
    projection = torch.eye(size) - k / size * frame @ frame.T
    assert (blown @ blown.T - size / (size - k) * projection).abs().max() < 1e-6


@pytest.mark.parametrize(("form", "size"), [(SimplexLines(2), 3), (Paley(5), 6), (Triples(7, 0), 28)], ids=str)
def test_blow_up_of_the_largest_equiangular_sets_is_optimal(form: ClosedForm, size: int) -> None:
    for copies in (2, 3, 10):
        blown = BlowUp(form, size, copies * size)
        assert blown.cosine == pytest.approx(coherence_bound(blown.own_d, blown.own_n).value)
        assert BlowUp.reach(blown.own_d, blown.own_n).cosine == pytest.approx(blown.cosine)


def test_blow_up_as_known() -> None:
    form = BlowUp(Kerdock(3), 15 * 64, 1000)
    assert (form.own_d, form.cosine, form.exact) == (936, 1 / 112, True)
    best = BlowUp.reach(950, 1000)
    assert best is not None
    assert best.cosine <= form.cosine
    form = BlowUp(Bent(2, 0), 16, 1000)
    best = BlowUp.reach(990, 1000)
    assert best is not None
    assert best.cosine <= form.cosine
    assert (form.own_d, form.cosine, form.exact) == (990, pytest.approx(1 / 247), False)
    check(form)


def test_blow_up_reaches_the_best_frame() -> None:
    for d in range(3, 40, 3):
        frames = [
            (form, size)
            for family in TIGHT
            for form in family.sized(2, d)
            for size in ([form.own_n] if not hasattr(form, "flat") else range(2 * form.own_d, 2 * d + 1, form.own_d))
            if size <= min(d + form.own_d, form.own_n)
        ]
        filled = [BlowUp(form, size, d + form.own_d) for form, size in frames]
        for n in (2, *range(d - 1, 2 * d + 3)):
            allowed = [form.cosine for form in filled if form.own_n >= n and form.cosine < 1 - 1e-9]
            reached = BlowUp.reach(d, n)
            assert (reached is None) == (not allowed), (d, n)
            assert reached is None or reached.cosine == pytest.approx(min(allowed)), (d, n)
            assert reached is None or (reached.own_d <= d and reached.own_n >= n)


COPIES = [
    Copies(Paley(5), 6, 12),
    Copies(Paley(5), 6, 17),
    Copies(Paley(13), 10, 31),
    Copies(Kerdock(1), 12, 27),
    Copies(Unitary(3), 28, 57),
    Copies(Net(((2, 3, 2),), 4), 16, 33),
    Copies(ComplexMUB(3), 24, 50),
]


@pytest.mark.parametrize("form", COPIES, ids=label)
def test_copies(form: Copies) -> None:
    check(form)
    assert form.exact
    assert form.own_n - form.own_d == form.size - form.form.own_d
    assert 1 / form.cosine == pytest.approx(form.n // form.size * (1 + 1 / form.form.cosine) - 1)


def test_copies_are_chosen_where_they_are_better() -> None:
    form = choose(LINES, 124, 150)
    assert isinstance(form, Copies)
    assert (form.own_d, form.own_n, form.form) == (124, 150, Paley(97))


def test_copies_never_rise() -> None:
    found = {(d, n): Copies.reach(d, n) for d in range(2, 40) for n in range(2, 60)}
    for (d, n), form in found.items():
        for other in ((d, n - 1), (d + 1, n)):
            if form is not None and other in found:
                less = found[other]
                assert less is not None
                assert less.cosine <= form.cosine + 1e-12


def test_rules_that_are_chained_in_another_order_have_one_coherence() -> None:
    form = Net(((4, 4, 4), (1, 1, 4)), 4)
    copies, beside, projected = Copies(form, form.own_n, 3 * form.own_n), Beside(form, 5), Projections(form, 2)
    assert Beside(copies, 15).cosine == pytest.approx(1 / (3 * (1 + 1 / beside.cosine) - 1))
    assert Projections(copies, 6).cosine == pytest.approx(1 / (3 * (1 + 1 / projected.cosine) - 1))
    check(Beside(copies, 15))
    check(Projections(copies, 6), attained=False)


def test_a_complement_has_more_lines_than_are_asked_for() -> None:
    # The complement of 28 lines in R^7, which 27 lines in R^21 had not found.
    form = BlowUp.reach(21, 27)
    assert (form.own_d, form.own_n, form.cosine) == (21, 28, pytest.approx(1 / 9))
    chosen = choose(LINES, 21, 27)
    assert chosen == choose(LINES, 21, 28)
    assert (chosen.own_n, chosen.cosine) == (28, form.cosine)


def test_blow_up_is_built_by_ranges_where_it_is_large() -> None:
    form = BlowUp.reach(8000, 9000)
    assert form == BlowUp(Kerdock(5), 8192, 9000)
    parts = torch.cat([form.rows(start, start + 40) for start in (0, 1600, 8960)]).double()  # two copies, and one
    gram = (parts @ parts.T).fill_diagonal_(0)
    assert (parts.norm(dim=1) - 1).abs().max() < 1e-6
    assert gram.abs().max() == pytest.approx(form.cosine, abs=1e-6)


PROJECTIONS = [
    Projection(Paley(9)),
    Projection(Paley(101)),
    Projection(Bent(3, 0)),
    Projection(Bent(3, 1)),
    Projection(Kerdock(2)),
    Projection(ComplexMUB(7)),
    Projection(SimplexLines(4)),
]


@pytest.mark.parametrize("form", PROJECTIONS, ids=label)
def test_projection(form: Projection) -> None:
    # Where all inner products with the last vector are +-mu, two of them meet in (mu + mu^2)/(1 - mu^2) or less.
    check(form, attained=type(form.form) in (Bent, Kerdock, Paley))
    assert form.exact


def test_projection_keeps_the_inner_products_beside_the_last_vector() -> None:
    for base in (Paley(13), Unitary(3), Z4Kerdock(3)):
        whole = base.rows(0, base.own_n).double()
        rest = whole[:-1] - whole[:-1] @ whole[-1:].T * whole[-1]
        rest /= rest.norm(dim=1, keepdim=True)
        rows = Projection(base).rows(0, base.own_n - 1).double()
        assert (rows @ rows.T - rest @ rest.T).abs().max() < 1e-6


@pytest.mark.slow
def test_projection_as_known() -> None:
    form = Projection.reach(50, 101)
    assert form == Projection(Paley(101))
    assert (form.own_d, form.own_n, round(form.cosine, 4)) == (50, 101, 0.1105)
    for d in range(3, 40, 4):
        for n in (2, d, *range(d + 1, 3 * d)):
            reached, base = Projection.reach(d, n), best(family.reach(d + 1, n + 1) for family in ASKED)
            assert (reached and reached.form) == (base if base and base.cosine < 1 / 2 else None)


@pytest.mark.parametrize(
    "form",
    [
        Antipodes(Paley(13)),
        Antipodes(Kerdock(2)),
        Antipodes(Labels(Kerdock(2), 3, 1)),
        Antipodes(Projection(Paley(17))),
    ],
    ids=label,
)
def test_antipodes(form: Antipodes) -> None:
    check(form)
    rows = form.rows(0, 8)
    assert torch.equal(rows[::2], form.form.rows(0, 4))
    assert torch.equal(rows[1::2], -rows[::2])
    assert form.exact


SIMPLEX_LABELS = [
    SimplexLabels(Kerdock(1), 3),
    SimplexLabels(Kerdock(2), 2),
    SimplexLabels(Kerdock(2), 9),
    SimplexLabels(Kerdock(3), 7),
    SimplexLabels(Z4Kerdock(2), 3),
    SimplexLabels(Z4Kerdock(4), 5),
    SimplexLabels(ComplexMUB(5), 3),
    SimplexLabels(ComplexMUB(9), 4),
]


@pytest.mark.parametrize("form", SIMPLEX_LABELS, ids=label)
def test_simplex_labels(form: SimplexLabels) -> None:
    check(form)
    assert (form.own_d, form.own_n) == (form.form.own_d + form.count - 1, 2 * form.form.own_d * form.count)
    if isinstance(form.form, Kerdock):  # 1/(1 + sqrt(D) B/(B - 1))
        ratio = form.count / (form.count - 1)
        assert form.cosine == pytest.approx(1 / (1 + math.sqrt(form.form.own_d) * ratio))


def test_simplex_labels_reach_the_best_bases() -> None:
    for d in range(3, 90, 4):
        bases = members(d)
        for n in [2, d, *range(2 * d - 1, 8 * d, 5), *range(8 * d, d * d // 2, 61)]:
            counted = [(form, max(2, -(-n // (2 * form.own_d)))) for form in bases]
            allowed = [
                SimplexLabels(form, count)
                for form, count in counted
                if 2 <= count <= form.own_n // form.own_d and form.own_d + count - 1 <= d
            ]
            assert SimplexLabels.reach(d, n) == best(allowed), (d, n)


@pytest.mark.slow
def test_simplices_are_the_choice_of_points_as_long_as_they_are_best() -> None:
    for d in range(2, 20):
        for n in range(2, 2 * d + 1):
            form = choose(POINTS, d, n)
            assert isinstance(form, Simplices)
            assert form.cosine == pytest.approx(max_cos_bound(d, n).value, abs=1e-9)
        form = choose(POINTS, d, 2 * d + 1)
        lines = choose(LINES, d, d + 1)
        assert form is None or form.cosine <= lines.cosine
        assert Antipodes.reach(d, 2 * d + 1) == Antipodes(lines)
        assert Antipodes.reach(d, 2 * d) == Antipodes(Orthonormal(d))


def test_what_is_made_from_exact_forms_is_exact() -> None:
    assert all(family.exact for family in BASES)
    inexact = BlowUp(Paley(5), 6, 12)
    assert not inexact.exact
    assert not Antipodes(inexact).exact


WRONG = [
    (SimplexLines, (1,)),
    (Labels, (Paley(5), 2, 0)),
    (Labels, (5, 2, 0)),
    (Labels, (Kerdock(2), 1, 0)),
    (Labels, (Kerdock(2), 10, 0)),
    (Labels, (Kerdock(2), 9, 1)),  # the standard basis is not flat
    (Labels, (Kerdock(2), 8, 2)),
    (Labels, (ComplexMUB(5), 2, 1)),
    (BlowUp, (Orthonormal(4), 4, 4)),
    (BlowUp, (Labels(Kerdock(2), 3, 0), 48, 48)),
    (BlowUp, (Paley(5), 5, 12)),
    (BlowUp, (Paley(5), 6, 5)),
    (BlowUp, (Kerdock(2), 16, 40)),
    (BlowUp, (Kerdock(2), 33, 40)),
    (BlowUp, (Kerdock(2), 160, 400)),
    (Copies, (Paley(5), 6, 11)),
    (Copies, (Paley(5), 7, 14)),
    (Copies, (SimplexLines(2), 3, 9)),
    (Copies, (Orthonormal(2), 2, 9)),
    (Projection, (Labels(Kerdock(2), 3, 0),)),
    (Projection, (Kerdock(1),)),  # coherence 1/2
    (Antipodes, (Simplices(4, 1),)),
    (SimplexLabels, (Paley(5), 2)),
    (SimplexLabels, (Kerdock(2), 1)),
    (SimplexLabels, (Kerdock(2), 10)),
]


@pytest.mark.parametrize(("family", "parameters"), WRONG, ids=str)
def test_other_parameters_are_none(family: type[ClosedForm], parameters: tuple[object, ...]) -> None:
    with pytest.raises(BadRequest, match=r"^\w+ (is|are) .*; allowed ") as caught:
        family(*parameters)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("family", [Beside, Projections])
def test_chains_of_small_sizes_never_rise(family: type[ClosedForm]) -> None:
    found = {(d, n): family.reach(d, n) for d in range(2, 13) for n in range(2, 2 * d + 2)}
    for (d, n), form in found.items():
        for other in ((d, n - 1), (d + 1, n)):
            if form is not None and other in found:
                less = found[other]
                assert less is not None
                assert less.cosine <= form.cosine + 1e-12
