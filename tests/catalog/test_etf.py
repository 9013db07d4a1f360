"""Real equiangular tight frames: known sizes, Welch's bound met by every pair, and what reaches where."""

import math
from itertools import combinations

import pytest
import torch
from forms import check

from protogen.catalog import ClosedForm, from_label, label
from protogen.catalog.algebra import steiner
from protogen.catalog.algebra.conference import skew_core
from protogen.catalog.algebra.fields import field
from protogen.catalog.derived.blow_up import BlowUp
from protogen.catalog.direct.bent import Bent
from protogen.catalog.direct.conference import Conference
from protogen.catalog.direct.designs import Design
from protogen.catalog.direct.graphical import Graphical, hadamard_with_constant_diagonal
from protogen.catalog.direct.lifted_blocks import LiftedBlocks
from protogen.catalog.direct.mathon import Mathon, conference_core
from protogen.catalog.direct.paley import Paley
from protogen.catalog.direct.triples import Triples, _lines
from protogen.catalog.direct.unitary import Unitary
from protogen.catalog.family import Tight, preference
from protogen.errors import BadRequest

KNOWN: list[tuple[ClosedForm, int, int, float]] = [
    (Paley(5), 3, 6, math.sqrt(5)),
    (Paley(9), 5, 10, 3),
    (Paley(13), 7, 14, math.sqrt(13)),
    (Paley(25), 13, 26, 5),
    (Paley(49), 25, 50, 7),
    (Paley(81), 41, 82, 9),
    (Paley(101), 51, 102, math.sqrt(101)),
    (Paley(125), 63, 126, math.sqrt(125)),
    (Bent(1, 0), 3, 4, 3),
    (Bent(2, 0), 10, 16, 5),
    (Bent(2, 1), 6, 16, 3),
    (Bent(3, 0), 36, 64, 9),
    (Bent(3, 1), 28, 64, 7),
    (Bent(5, 1), 496, 1024, 31),
    (Unitary(3), 7, 28, 3),
    (Unitary(5), 21, 126, 5),
    (Unitary(7), 43, 344, 7),
    (Unitary(9), 73, 730, 9),
    (Unitary(13), 157, 2198, 13),
    (Conference(3, 0), 5, 10, 3),
    (Conference(3, 1), 25, 50, 7),
    (Conference(7, 1), 113, 226, 15),
    (Conference(19, 1), 761, 1522, 39),
    (Conference(35, 0), 613, 1226, 35),
    (Mathon(3), 23, 46, math.sqrt(45)),
    (Mathon(7), 221, 442, 21),
    (LiftedBlocks(2), 6, 16, 3),
    (LiftedBlocks(4), 28, 64, 7),
    (LiftedBlocks(5), 45, 100, 9),
    (LiftedBlocks(7), 91, 196, 13),
    (BlowUp(LiftedBlocks(7), 196, 196), 105, 196, 15),
    (Graphical(7), 15, 36, 5),
    (Graphical(11), 45, 100, 9),
    (Graphical(19), 153, 324, 17),
    (Triples(3, 1), 5, 10, 3),
    (Triples(7, 0), 7, 28, 3),
    (Triples(7, 1), 15, 36, 5),
    (Triples(15, 0), 35, 120, 7),
    (Triples(15, 1), 51, 136, 9),
    (Triples(31, 0), 155, 496, 15),
    (Triples(31, 1), 187, 528, 17),
    (Triples(39, 0), 247, 780, 19),
    (Triples(39, 1), 287, 820, 21),
]
FAMILIES: tuple[type[Tight], ...] = (Paley, Bent, Unitary, Triples, Conference, Graphical, Mathon, LiftedBlocks)


@pytest.mark.slow
@pytest.mark.parametrize(("form", "d", "n", "inverse"), KNOWN, ids=[label(form) for form, *_ in KNOWN])
def test_known_frames(form: ClosedForm, d: int, n: int, inverse: float) -> None:
    assert (form.own_d, form.own_n) == (d, n)
    assert form.cosine == pytest.approx(1 / inverse, rel=1e-15)
    assert form.cosine == pytest.approx(math.sqrt((n - d) / (d * (n - 1))), rel=1e-12)  # Welch
    check(form, attained=True, tight=True)
    rows = form.rows(0, n).double()
    gram = (rows @ rows.T).abs().fill_diagonal_(form.cosine)
    assert (gram - form.cosine).abs().max() < 1e-6


@pytest.mark.parametrize(("q", "sign"), [(9, 1), (13, 1), (25, -1), (125, 1)])
def test_paley_has_its_conference_matrix(q: int, sign: int) -> None:
    # The Gauss sum of F_q is sign sqrt(q): (-1)^(h-1) sqrt(q), or (-1)^(h-1) (-1)^(h/2) sqrt(q) for p = 3 mod 4.
    x = torch.arange(q)
    rows = Paley(q).rows(0, q + 1).double()
    conference = torch.ones(q + 1, q + 1).double().fill_diagonal_(0)
    conference[:q, :q] = sign * field(q).character[field(q).subtract(x[:, None], x)]
    assert (rows @ rows.T - torch.eye(q + 1) - conference / math.sqrt(q)).abs().max() < 1e-6


@pytest.mark.parametrize(("q", "doublings"), [(3, 0), (7, 1), (11, 2), (27, 0), (35, 0), (35, 1)])
def test_skew_cores(q: int, doublings: int) -> None:
    core = skew_core(q, doublings)
    order = len(core)
    assert order == 2**doublings * (q + 1) - 1
    assert torch.equal(core, -core.T)
    assert torch.equal(core.abs(), 1 - torch.eye(order).double())
    assert torch.equal(core @ core.T, order * torch.eye(order).double() - 1)


@pytest.mark.parametrize("q", [7, 11, 19, 31])
def test_hadamard_matrices_with_a_constant_diagonal(q: int) -> None:
    matrix = hadamard_with_constant_diagonal(q)
    order = (q - 1) ** 2
    assert torch.equal(matrix, matrix.T)
    assert torch.equal(matrix.abs(), torch.ones(order, order).double())
    assert torch.equal(matrix.diagonal(), torch.ones(order).double())
    assert torch.equal(matrix @ matrix, order * torch.eye(order).double())


@pytest.mark.parametrize("q", [3, 7])
def test_cores_of_conference_matrices_of_planes(q: int) -> None:
    core = conference_core(q)
    order = q * q * (q + 2)
    assert torch.equal(core, core.T)
    assert torch.equal(core.abs(), 1 - torch.eye(order).double())
    assert torch.equal(core @ core, order * torch.eye(order).double() - 1)


def test_bent_is_signs() -> None:
    rows = Bent(2, 1).rows(0, 16) * math.sqrt(6)
    # f(x) = x_1 x_3 + x_2 x_4 is 1 at 5, 7, 10, 11, 13, 14; row 1 is the parity of bit 0.
    assert torch.allclose(rows[:2], torch.tensor([[1.0] * 6, [-1, -1, 1, -1, -1, 1]]))
    assert torch.equal(rows.sign().abs(), torch.ones(16, 6))


@pytest.mark.parametrize("q", [5, 7])
def test_unitary_has_its_gram_matrix(q: int) -> None:
    f = field(q)
    index = torch.arange(q**3)
    u, w, z = (part[:, None] for part in (index // q**2, index // q % q, index % q))
    e, du, dw = f.powers[1], f.subtract(u, u.T), f.subtract(w, w.T)
    norm = f.subtract(f.power(du, 2), f.multiply(e, f.power(dw, 2)))
    t = f.add(f.subtract(z, z.T), f.multiply(f.add(u, u.T), dw))
    square = f.power(f.add(t, t), 2)
    signs = f.character[f.subtract(f.power(norm, 2), f.multiply(e, square))] * (1 if q % 4 == 1 else -1)
    rows = Unitary(q).rows(0, q**3 + 1).double()
    gram = rows @ rows.T
    assert (gram[:-1, :-1] - torch.eye(q**3) - signs / q).abs().max() < 1e-6
    assert (gram[-1, :-1] - 1 / q).abs().max() < 1e-6


def test_unitary_of_23() -> None:
    form = Unitary(23)
    assert (form.own_d, form.own_n, form.cosine) == (507, 12168, 1 / 23)
    rows = form.rows(0, form.own_n).double()
    some = torch.randperm(form.own_n, generator=torch.Generator().manual_seed(0))[:300]
    gram = (rows[some] @ rows.T).abs()
    assert (gram[torch.arange(300), some] - 1).abs().max() < 1e-6
    gram[torch.arange(300), some] = form.cosine
    assert (gram - form.cosine).abs().max() < 1e-6


def test_unitary_of_89_row_by_row() -> None:
    form = Unitary(89)
    assert (form.own_d, form.own_n) == (7833, 704970)
    rows = torch.cat([form.rows(start, start + 20) for start in (0, 89**2 - 10, 400000, form.own_n - 20)]).double()
    gram = (rows @ rows.T).abs()
    assert (gram.diagonal() - 1).abs().max() < 1e-6
    assert (gram.fill_diagonal_(form.cosine) - form.cosine).abs().max() < 1e-6


@pytest.mark.parametrize("v", [3, 7, 9, 13, 15, 19, 21, 31, 39, 55])
def test_every_two_points_are_on_one_triple(v: int) -> None:
    blocks, formed = steiner.triples(v)
    pairs = [frozenset(pair) for triple in blocks.tolist() for pair in combinations(triple, 2)]
    assert sorted(map(sorted, pairs)) == [list(pair) for pair in combinations(range(v), 2)]
    assert len({tuple(row) for row in formed.tolist()}) == len(blocks)
    shared = [{*lines} & {*others} for lines, others in combinations(_lines(v).tolist(), 2)]
    assert all(len(common) == 1 for common in shared)


def test_triples_without_a_simplex_are_read_and_never_chosen() -> None:
    form = from_label("triples(v=15,simplex=0)")
    equal = Design.reach(form.own_d, form.own_n)
    assert isinstance(equal, Design)
    assert (equal.own_d, equal.own_n, equal.cosine) == (form.own_d, form.own_n, form.cosine)
    assert all(other.simplex for other in Triples.sized(1, 1000))
    check(form, tight=True)


@pytest.mark.parametrize(
    ("family", "parameters"),
    [(Paley, (q,)) for q in (-3, 0, 1, 2, 4, 7, 8, 21, 27, 45)]
    + [(Bent, parameters) for parameters in ((0, 0), (-1, 0), (1, 1), (3, 2), (3, -1))]
    + [(Unitary, (q,)) for q in (-3, 0, 1, 2, 4, 8, 15, 21)]
    + [(Mathon, (q,)) for q in (5, 19, 23, 4, -3)]
    + [(LiftedBlocks, (k,)) for k in (1, 6, 9, 11, -2)]
    + [(Triples, parameters) for parameters in ((3, 0), (1, 1), (-3, 1), (9, 0), (11, 0), (23, 1), (7, 2), (7, -1))],
)
def test_no_other_members(family: type[ClosedForm], parameters: tuple[int, ...]) -> None:
    with pytest.raises(BadRequest, match=r"^\w+ is -?\d+; allowed is [^\n]+$"):
        family(*parameters)


def members(family: type[Tight]) -> list[Tight]:
    """All with own_d < 60."""
    values = {
        Paley: [(q,) for q in (5, 9, 13, 17, 25, 29, 37, 41, 49, 53, 61, 73, 81, 89, 97, 101, 109, 113)],
        Bent: [(1, 0), (2, 0), (2, 1), (3, 0), (3, 1)],
        Unitary: [(3,), (5,), (7,)],
        Triples: [(3, 1), (7, 1), (15, 1)],
        Conference: [],
        Graphical: [(7,), (11,)],
        Mathon: [(3,)],
        LiftedBlocks: [(k,) for k in (2, 3, 4, 5)],
    }
    return [family(*parameters) for parameters in values[family]]


@pytest.mark.parametrize("family", FAMILIES)
def test_members_of_a_range_of_dimensions(family: type[Tight]) -> None:
    for low, high in [(1, 59), (1, 2), (3, 3), (7, 43), (8, 42), (15, 51), (28, 36), (50, 40)]:
        sized = list(family.sized(low, high))
        assert sorted(sized, key=preference) == sorted(
            (form for form in members(family) if low <= form.own_d <= high), key=preference
        )


@pytest.mark.parametrize("family", FAMILIES)
def test_the_best_member_is_reached(family: type[Tight]) -> None:
    for d in range(1, 60):
        for n in (2, 6, 7, 16, 17, 28, 29, 36, 64, 65, 120, 126, 136, 344, 345):
            held = [form for form in members(family) if form.own_d <= d and form.own_n >= n]
            assert family.reach(d, n) == min(held, key=preference, default=None)


def test_large_sizes_are_reached() -> None:
    assert Paley.reach(8192, 16000) == Paley(16381)
    assert Bent.reach(8192, 16384) == Bent(7, 1)
    assert Bent.reach(8192, 4096) == Bent(7, 1)
    assert Unitary.reach(512, 10000) == Unitary(23)
    assert Unitary.reach(8192, 704970) == Unitary(89)
    assert Triples.reach(1000, 2080) == Triples(63, 1)
    assert all(family.reach(8192, 10**8) is None for family in FAMILIES)


def test_labels_are_golden() -> None:
    assert [label(form) for form in (Paley(9), Bent(3, 1), Unitary(9), Triples(15, 1))] == [
        "paley(q=9)",
        "bent(m=3,value=1)",
        "unitary(q=9)",
        "triples(v=15,simplex=1)",
    ]
