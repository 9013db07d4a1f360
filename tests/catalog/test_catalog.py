"""Closed forms: sizes, guarantees held over all pairs, rows by any range, and names."""

import random

import pytest
import torch
from forms import check

from protogen import rows
from protogen.catalog import FAMILIES, LINES, POINTS, ClosedForm, Padded, choose, from_label, label, reaching
from protogen.catalog.direct.mub import ComplexMUB
from protogen.catalog.direct.orthonormal import Orthonormal
from protogen.errors import BadRequest
from protogen.rows import InMemory

FORMS: list[ClosedForm] = [
    ComplexMUB(3),
    ComplexMUB(7),
    Orthonormal(9),
    *(form for family in FAMILIES.values() if (form := family.reach(10, 14))),
]


@pytest.mark.parametrize("form", FORMS, ids=label)
def test_a_form_keeps_what_it_says(form: ClosedForm) -> None:
    check(form, attained=False)  # whether it is attained, the tests of each family say


def test_orthonormal_reaches_up_to_d() -> None:
    assert Orthonormal.reach(5, 5) == Orthonormal(5)
    assert Orthonormal.reach(5, 2) == Orthonormal(2)
    assert Orthonormal.reach(5, 6) is None
    assert torch.equal(Orthonormal(4).rows(0, 4), torch.eye(4))
    assert torch.equal(Orthonormal(4).rows(1, 3), torch.eye(4)[1:3])


@pytest.mark.slow
def test_the_choice_is_the_lowest_that_reaches() -> None:
    assert choose(LINES, 1000, 1000) == Orthonormal(1000)
    assert choose(LINES, 4, 500) is None
    for d in range(2, 24):
        for n in range(2, 300, 7):
            reached = [form for family in LINES if (form := family.reach(d, n))]
            assert all(form.own_d <= d and form.own_n >= n for form in reached)
            chosen = choose(LINES, d, n)
            assert (chosen is None) == (not reached)
            assert chosen is None or chosen.cosine == pytest.approx(min(form.cosine for form in reached))


@pytest.mark.parametrize("families", [LINES, POINTS], ids=["lines", "points"])
def test_what_is_listed_is_what_is_built(families: tuple[type[ClosedForm], ...]) -> None:
    drawn = random.Random(5)
    for _ in range(20):
        d, n = drawn.randint(2, 80), drawn.randint(2, 500)
        listed = reaching(families, d, n)
        assert [form.cosine for form in listed] == pytest.approx(sorted(form.cosine for form in listed), abs=1e-12)
        for form in listed[:2]:
            rows = Padded(form, n, d).rows(0, n).double()
            cosines = (rows @ rows.T).fill_diagonal_(-1 if families is POINTS else 0)
            figure = cosines.max() if families is POINTS else cosines.abs().max()
            assert figure <= form.cosine + 1e-6, (d, n, label(form))


def test_padding_takes_the_first_rows_and_adds_zeros(monkeypatch: pytest.MonkeyPatch) -> None:
    form = ComplexMUB(5)
    padded = Padded(form, n=33, d=13)
    assert padded.shape == (33, 13)
    part = padded.rows(7, 21)
    assert part.shape == (14, 13)
    assert part.is_contiguous()
    assert torch.equal(part[:, :10], form.rows(7, 21))
    assert not part[:, 10:].any()
    monkeypatch.setattr(rows, "FILL", 8 * 13)  # 33 is no multiple of it
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
        "mub(p=2)",  # no odd prime power
        "mub(p=1)",
        "mub(p=15)",
    ],
)
def test_anything_else_is_no_label(text: str) -> None:
    with pytest.raises(BadRequest) as caught:
        from_label(text)
    assert "\n" not in str(caught.value)
