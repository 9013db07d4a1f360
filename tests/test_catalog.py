"""Closed forms: sizes, guarantees held over all pairs, rows by any range, and names."""

import math
from itertools import combinations_with_replacement

import pytest
import torch
from torch import Tensor

from protogen import solution
from protogen.catalog import FAMILIES, LINES, ClosedForm, Padded, choose, from_label, label
from protogen.catalog.mub import ComplexMUB
from protogen.catalog.orthonormal import Orthonormal
from protogen.errors import BadRequest
from protogen.solution import InMemory

PRIMES = [3, 5, 7, 11, 13]


def gram64(rows: Tensor) -> Tensor:
    return rows.double() @ rows.double().T


@pytest.mark.parametrize("p", PRIMES)
def test_mub_has_its_size_and_coherence(p: int) -> None:
    form = ComplexMUB(p)
    rows = form.rows(0, form.own_n)
    assert rows.shape == (form.own_n, form.own_d) == (2 * p * (p + 1), 2 * p)
    assert rows.dtype == torch.float32
    assert rows.is_contiguous()
    gram = gram64(rows)
    assert (gram.diagonal() - 1).abs().max() < 1e-6
    assert gram.fill_diagonal_(0).abs().max().item() == pytest.approx(1 / math.sqrt(p), abs=1e-6)
    assert form.cosine == 1 / math.sqrt(p)


@pytest.mark.parametrize("p", PRIMES)
def test_mub_is_mutually_unbiased_bases(p: int) -> None:
    gram = gram64(ComplexMUB(p).rows(0, 2 * p * (p + 1)))
    # Rows 2k and 2k + 1 stand for one complex vector: their inner products with another row are the real and the
    # imaginary part of one in C^p. Within a basis it is 0 or 1, between two |<u, v>|^2 = 1/p.
    squares = gram.view(p * (p + 1), 2, p * (p + 1), 2)[:, 0].square().sum(2)
    basis = torch.arange(p * (p + 1)) // p
    same = basis[:, None] == basis
    expected = torch.where(same, torch.eye(len(basis)).double(), torch.tensor(1 / p).double())
    assert (squares - expected).abs().max() < 1e-6


def test_mub_of_3_stands_as_printed() -> None:
    # v_{0,0} = (1, 1, 1) / sqrt(3); times i it is (i, i, i) / sqrt(3).
    third = 1 / math.sqrt(3)
    rows = ComplexMUB(3).rows(0, 24)
    assert torch.allclose(rows[:2], torch.tensor([[third] * 3 + [0] * 3, [0] * 3 + [third] * 3]), atol=1e-7)
    # v_{2,1}(x) = exp(2 pi i (2 x^2 + x) / 3) / sqrt(3): phases 0, 3, 10 = 0, 0, 1 in thirds of a turn.
    real, imaginary = math.cos(2 * math.pi / 3) * third, math.sin(2 * math.pi / 3) * third
    assert torch.allclose(rows[2 * 7], torch.tensor([third, third, real, 0, 0, imaginary]), atol=1e-7)
    # The standard basis comes last.
    assert torch.equal(rows[18:].abs().sort(dim=1).values, torch.eye(6)[5].expand(6, 6))
    assert torch.equal(rows[18::2, :3], torch.eye(3))


FORMS: list[ClosedForm] = [
    ComplexMUB(3),
    ComplexMUB(7),
    Orthonormal(9),
    *(form for family in FAMILIES.values() if (form := family.reach(10, 14))),
]


@pytest.mark.parametrize("form", FORMS, ids=label)
def test_any_range_of_rows_is_a_slice_of_the_whole(form: ClosedForm) -> None:
    n = form.own_n
    whole = form.rows(0, n)
    # Around the edges of bases and odd places in the larger, everywhere in the smaller.
    cuts = range(n + 1) if n <= 60 else [0, 1, 2, 13, 14, 15, 29, 83, 84, 97, 98, 99, 105, n - 1, n]
    for start, stop in combinations_with_replacement(cuts, 2):
        part = form.rows(start, stop)
        assert torch.equal(part, whole[start:stop]), (start, stop)
        assert part.is_contiguous()


@pytest.mark.parametrize("form", FORMS, ids=label)
def test_what_is_guaranteed_is_kept(form: ClosedForm) -> None:
    rows = form.rows(0, form.own_n)
    assert rows.shape == (form.own_n, form.own_d)
    gram = gram64(rows)
    assert (gram.diagonal() - 1).abs().max() < 1e-6
    cosines = gram[tuple(torch.triu_indices(len(rows), len(rows), 1))]
    largest = cosines.abs().max() if type(form) in LINES else cosines.max()
    assert largest.item() == pytest.approx(form.cosine, abs=1e-6)


@pytest.mark.parametrize("d", [*range(2, 70), 1000, 1001])
def test_mub_reaches_by_the_largest_prime(d: int) -> None:
    # 2p <= d, p an odd prime.
    primes = [p for p in range(3, d // 2 + 1) if all(p % q for q in range(2, p))]
    if not primes:
        assert ComplexMUB.reach(d, 2) is None
        return
    p = primes[-1]
    enough = 2 * p * (p + 1)
    assert ComplexMUB.reach(d, 2) == ComplexMUB.reach(d, enough) == ComplexMUB(p)
    assert ComplexMUB.reach(d, enough + 1) is None


def test_orthonormal_reaches_up_to_d() -> None:
    assert Orthonormal.reach(5, 5) == Orthonormal(5)
    assert Orthonormal.reach(5, 2) == Orthonormal(2)
    assert Orthonormal.reach(5, 6) is None
    assert torch.equal(Orthonormal(4).rows(0, 4), torch.eye(4))
    assert torch.equal(Orthonormal(4).rows(1, 3), torch.eye(4)[1:3])


def test_the_choice_is_the_lowest_that_reaches() -> None:
    assert choose(LINES, 1000, 1000) == Orthonormal(1000)
    assert choose(LINES, 4, 5) is None
    for d in range(2, 24):
        for n in range(2, 300, 7):
            reached = [form for family in LINES if (form := family.reach(d, n))]
            assert all(form.own_d <= d and form.own_n >= n for form in reached)
            chosen = choose(LINES, d, n)
            assert (chosen is None) == (not reached)
            assert chosen is None or chosen.cosine == min(form.cosine for form in reached)


def test_padding_takes_the_first_rows_and_adds_zeros(monkeypatch: pytest.MonkeyPatch) -> None:
    form = ComplexMUB(5)
    padded = Padded(form, n=33, d=13)
    assert padded.shape == (33, 13)
    part = padded.rows(7, 21)
    assert part.shape == (14, 13)
    assert part.is_contiguous()
    assert torch.equal(part[:, :10], form.rows(7, 21))
    assert not part[:, 10:].any()
    monkeypatch.setattr(solution, "FILL_ROWS", 8)  # 33 is no multiple of it
    whole = InMemory.of(padded)
    assert whole.shape == (33, 13)
    assert torch.equal(whole.tensor, padded.rows(0, 33))
    assert InMemory.of(whole) is whole


def test_labels_are_golden() -> None:
    # They stand in Specs, hence in keys.
    assert label(ComplexMUB(499)) == "mub(p=499)"
    assert label(Orthonormal(10)) == "orthonormal(k=10)"


@pytest.mark.parametrize("form", FORMS, ids=label)
def test_labels_are_read_back(form: ClosedForm) -> None:
    assert from_label(label(form)) == form


@pytest.mark.parametrize(
    "text",
    [
        "",
        "mub",
        "mub()",
        "mub(p=)",
        "mub(5)",
        "mub(p=5",
        "mub(p=-5)",
        "mub(p=5.0)",
        "mub(p=05)",
        "mub(p=\u0665)",
        "mub(p=5,)",
        "mub(p=5,p=7)",
        "mub(p=5, p=7)",
        "mub(k=5)",
        "mub(p=5,k=5)",
        " mub(p=5)",
        "mub(p=5)\n",
        "MUB(p=5)",
        "nothing(p=5)",
        "mub(p=2)",  # no odd prime
        "mub(p=1)",
        "mub(p=9)",
    ],
)
def test_anything_else_is_no_label(text: str) -> None:
    with pytest.raises(BadRequest) as caught:
        from_label(text)
    assert "\n" not in str(caught.value)
