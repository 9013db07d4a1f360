"""Frames of strongly regular graphs and equiangular lines of coherence 1/5: the cosines that the literature lists."""

import math

import pytest
import torch
from forms import check

from protogen.catalog import LINES, ClosedForm, choose, label
from protogen.catalog.direct.centred_blocks import CentredBlocks
from protogen.catalog.direct.centred_net import CentredNet
from protogen.catalog.direct.equiangular import Equiangular
from protogen.errors import BadRequest

# form, d, n, and the two cosines of different rows
TWO_DISTANCES: list[tuple[ClosedForm, int, int, float, float]] = [
    (CentredNet(4, 2), 6, 16, 1 / 3, -1 / 3),
    (CentredNet(8, 3), 21, 64, 5 / 21, -1 / 7),
    (CentredNet(9, 5), 40, 81, 1 / 10, -1 / 8),
    (CentredNet(11, 5), 50, 121, 3 / 25, -1 / 10),
    (CentredNet(13, 6), 72, 169, 7 / 72, -1 / 12),
    (CentredNet(7, 7), 42, 49, 0, -1 / 6),
    (CentredBlocks(7, 2), 6, 21, 3 / 10, -2 / 5),
    (CentredBlocks(9, 2), 8, 36, 5 / 14, -2 / 7),
    (CentredBlocks(19, 3), 18, 57, 5 / 24, -3 / 16),
    (CentredBlocks(45, 5), 44, 99, 1 / 10, -1 / 8),
    (CentredBlocks(41, 5), 40, 82, 4 / 45, -5 / 36),
]


@pytest.mark.parametrize(("form", "d", "n", "near", "far"), TWO_DISTANCES, ids=[label(row[0]) for row in TWO_DISTANCES])
def test_rows_have_two_cosines(form: ClosedForm, d: int, n: int, near: float, far: float) -> None:
    assert (form.own_d, form.own_n) == (d, n)
    assert form.cosine == pytest.approx(max(abs(near), abs(far)), rel=1e-12)
    check(form, tight=True)
    rows = form.rows(0, n).double()
    cosines = (rows @ rows.T)[~torch.eye(n).bool()]
    assert torch.minimum((cosines - near).abs(), (cosines - far).abs()).max() < 1e-6
    assert (cosines - near).abs().min() < 1e-6
    assert (cosines - far).abs().min() < 1e-6


@pytest.mark.parametrize(("d", "n"), [(16, 40), (17, 48), (19, 72), (20, 90)])
def test_lines_at_one_fifth(d: int, n: int) -> None:
    form = Equiangular(d, n)
    check(form)
    rows = form.rows(0, n).double()
    assert ((rows @ rows.T).abs().fill_diagonal_(1 / 5) - 1 / 5).abs().max() < 1e-6
    assert torch.linalg.matrix_rank(rows) == d
    assert choose(LINES, d, n) == form


@pytest.mark.parametrize(
    ("d", "n", "cosine"),
    [
        (45, 100, 1 / 9),
        (55, 100, 1 / 11),
        (44, 99, 1 / 8),
        (72, 169, 7 / 72),
        (113, 226, 1 / 15),
        (20, 27, 1 / 8),
        (153, 324, 1 / 17),
        (171, 324, 1 / 19),
        (8, 36, 5 / 14),
    ],
)
def test_what_is_chosen(d: int, n: int, cosine: float) -> None:
    form = choose(LINES, d, n)
    assert form is not None
    assert form.cosine == pytest.approx(cosine, rel=1e-12)
    rows = form.rows(0, n).double()
    assert math.isclose((rows @ rows.T).abs().fill_diagonal_(0).max().item(), cosine, abs_tol=1e-6)


@pytest.mark.parametrize(
    ("family", "values"),
    [
        (CentredNet, (6, 3)),
        (CentredNet, (7, 8)),
        (CentredBlocks, (8, 3)),
        (CentredBlocks, (37, 3)),
        (Equiangular, (18, 60)),
    ],
)
def test_what_is_none_is_refused(family: type[ClosedForm], values: tuple[int, int]) -> None:
    with pytest.raises(BadRequest, match="allowed is"):
        family(*values)  # type: ignore[call-arg]
