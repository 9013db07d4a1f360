"""Lines of signs in exactly d coordinates: what is listed keeps its coherence and its Hamming distance."""

from pathlib import Path

import pytest
import torch
from commands import Command, done
from forms import check
from hypothesis import given, settings
from hypothesis import strategies as st

from protogen.catalog import (
    SIGNS,
    ClosedForm,
    Padded,
    from_label,
    label,
    listed_signs,
    seek_signs,
    sign_rows,
    smallest_distance,
)
from protogen.catalog.derived.signs import Joined, Lengthened
from protogen.catalog.direct.bent import Bent
from protogen.catalog.direct.hadamard_rows import HadamardRows
from protogen.catalog.direct.kerdock import Kerdock
from protogen.catalog.direct.paley import Paley
from protogen.errors import BadRequest

FORMS: list[ClosedForm] = [
    HadamardRows(12, 0),
    HadamardRows(20, 3),
    HadamardRows(92, 2),
    Lengthened(Kerdock(1), 3),
    Lengthened(Bent(2, 1), 1),
    Lengthened(Kerdock(2), 2),
    Joined(Kerdock(2), Bent(2, 0)),
    Joined(Kerdock(2), Lengthened(HadamardRows(12, 1), 2)),
    Joined(HadamardRows(12, 0), HadamardRows(16, 1)),
]


@pytest.mark.parametrize("form", FORMS, ids=label)
def test_rows_are_signs_of_the_coherence_that_is_said(form: ClosedForm) -> None:
    check(form, attained=False)
    rows = form.rows(0, form.own_n)
    assert torch.equal(rows.abs(), torch.full_like(rows, float(rows[0, 0].abs())))
    assert sign_rows(form) == form.own_n


@pytest.mark.parametrize(
    ("d", "n"), [(100, 1000), (64, 1000), (60, 500), (37, 30), (24, 24), (120, 256), (3, 4), (256, 700)]
)
def test_all_that_is_listed_keeps_its_distance(d: int, n: int) -> None:
    listed = listed_signs(d, n)
    assert listed
    assert [form.cosine for form in listed] == sorted(form.cosine for form in listed)
    for form in listed:
        assert form.own_d == d
        assert sign_rows(form) >= n
        assert from_label(label(form)) == form
        rows = Padded(form, n, d, signed=True).rows(0, n)
        bits = (rows < 0).double()
        assert torch.equal(rows.abs(), torch.full_like(rows, float(rows[0, 0].abs())))
        distance = bits.sum(1)[:, None] + bits.sum(1) - 2 * bits @ bits.T
        distance = torch.minimum(distance, d - distance).fill_diagonal_(d)
        assert distance.min() >= smallest_distance(form), label(form)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(2, 2000), st.integers(2, 10**6), st.integers(0, 10**6))
def test_more_rows_are_no_closer(d: int, n: int, fewer: int) -> None:
    form, other = seek_signs(d, n), seek_signs(d, max(2, n - fewer))
    if form is not None:
        assert other is not None
        assert other.cosine <= form.cosine + 1e-12


def test_known_distances() -> None:
    assert [seek_signs(d, n) for d, n in [(64, 2048), (96, 96), (1, 2)]] == [Kerdock(3), HadamardRows(96, 0), None]
    assert smallest_distance(Kerdock(3)) == 28
    form = seek_signs(100, 1000)
    assert form is not None
    assert (form.cosine, smallest_distance(form)) == (pytest.approx(0.2), 40)
    assert {family.family for family in SIGNS} == {"hadamard-rows", "lengthened", "joined"}


@pytest.mark.parametrize(
    ("family", "values"),
    [
        (HadamardRows, (12, 6)),
        (HadamardRows, (10, 0)),
        (Lengthened, (Paley(5), 2)),
        (Lengthened, (Kerdock(2), 0)),
        (Joined, (Kerdock(1), Paley(5))),
    ],
)
def test_what_is_no_set_of_signs_is_refused(family: type[ClosedForm], values: tuple[object, ...]) -> None:
    with pytest.raises(BadRequest, match="allowed"):
        family(*values)


def test_commands_list_make_and_pack_signs(run: Command, tmp_path: Path) -> None:
    import numpy

    listed = done(run("catalog", "--d", "20", "--n", "20", "--signs"))
    assert "hadamard-rows(order=20,drop=0)" in listed
    path = done(run("ebv", "--d", "20", "--n", "20", "--signs", "--store", str(tmp_path), "--quiet")).strip()
    assert "20 rows of 20 bits, 3 bytes a row" in done(
        run("export", path, "--bits", "--to", str(tmp_path / "bits.npy"))
    )
    packed = numpy.load(tmp_path / "bits.npy")
    assert (packed.dtype, packed.shape) == (numpy.uint8, (20, 3))
    signs = 1 - 2 * torch.tensor(numpy.unpackbits(packed, axis=1, count=20)).double()
    assert torch.equal(signs @ signs.T, 20 * torch.eye(20).double())


def test_what_is_no_set_of_signs_is_not_packed(run: Command, tmp_path: Path) -> None:
    path = done(run("ebv", "--d", "5", "--n", "10", "--store", str(tmp_path), "--quiet")).strip()
    refused = run("export", path, "--bits", "--to", str(tmp_path / "bits.npy"))
    assert refused.code == 2
    assert "bits have 1/sqrt(d)" in refused.err
    assert not (tmp_path / "bits.npy").exists()
    assert run("export", path).code == 2
    assert run("catalog", "--d", "5", "--n", "10", "--points", "--signs").code == 2
    assert run("ebv", "--d", "20", "--n", "20", "--signs", "--start", "random").code == 2
