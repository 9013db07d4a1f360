"""Mutually unbiased bases of C^q as lines, whole and by halves."""

import hashlib
import math

import pytest
import torch
from forms import check

from protogen.catalog import label
from protogen.catalog.direct.mub import ComplexMUB, TernaryMUB
from protogen.errors import BadRequest

ODD_PRIME_POWERS = sorted(
    p**h for p in range(3, 520, 2) if all(p % q for q in range(3, p, 2)) for h in range(1, 7) if p**h < 520
)


@pytest.mark.parametrize("q", [3, 5, 7, 9, 13, 25, 27])
def test_mub_keeps_what_it_says(q: int) -> None:
    form = ComplexMUB(q)
    assert (form.own_d, form.own_n, form.cosine) == (2 * q, 2 * q * (q + 1), 1 / math.sqrt(q))
    check(form, tight=True)


@pytest.mark.parametrize("q", [3, 7, 9, 27])
def test_mub_is_mutually_unbiased_bases(q: int) -> None:
    rows = ComplexMUB(q).rows(0, 2 * q * (q + 1)).double()
    # Rows 2k and 2k + 1 stand for one complex vector: their inner products with another row are the real and the
    # imaginary part of one in C^q. Within a basis it is 0 or 1, between two |<u, v>|^2 = 1/q.
    squares = (rows @ rows.T).view(q * (q + 1), 2, q * (q + 1), 2)[:, 0].square().sum(2)
    basis = torch.arange(q * (q + 1)) // q
    same = basis[:, None] == basis
    expected = torch.where(same, torch.eye(len(basis)).double(), torch.tensor(1 / q).double())
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


def test_mub_over_prime_fields_stays_as_it_is() -> None:
    # Files that are exact rest on it.
    digest = hashlib.sha256()
    for p in (3, 7, 31):
        digest.update(ComplexMUB(p).rows(0, 2 * p * (p + 1)).numpy().tobytes())
    assert digest.hexdigest() == "717d3906583ed9546ceaed2943c77b8045774278e0917e12203d9129f35d3c35"


@pytest.mark.parametrize("d", [*range(2, 70), 1000, 1001])
def test_mub_reaches_by_the_largest_field(d: int) -> None:
    fields = [q for q in ODD_PRIME_POWERS if 2 * q <= d]
    if not fields:
        assert ComplexMUB.reach(d, 2) is None
        return
    q = fields[-1]
    enough = 2 * q * (q + 1)
    assert ComplexMUB.reach(d, 2) == ComplexMUB.reach(d, enough) == ComplexMUB(q)
    assert ComplexMUB.reach(d, enough + 1) is None


@pytest.mark.parametrize(("low", "high"), [(0, 5), (0, 6), (6, 18), (7, 19), (19, 21), (800, 1000)])
def test_mub_by_size(low: int, high: int) -> None:
    expected = [ComplexMUB(q) for q in ODD_PRIME_POWERS if low <= 2 * q <= high]
    assert sorted(ComplexMUB.sized(low, high), key=lambda form: form.p) == expected


def test_mub_has_no_flat_basis() -> None:
    assert ComplexMUB(9).flat == 0
    assert (ComplexMUB(9).rows(0, 1).abs() - 1 / math.sqrt(18)).abs().max() > 0.1


@pytest.mark.parametrize("p", [-3, 0, 1, 2, 4, 15, 45])
def test_mub_needs_an_odd_field(p: int) -> None:
    with pytest.raises(BadRequest, match=f"p is {p}; allowed is an odd prime power"):
        ComplexMUB(p)


@pytest.mark.parametrize(("m", "d", "n", "cosine"), [(1, 6, 12, 1 / 2), (3, 54, 756, 1 / 6)])
def test_ternary_half_keeps_what_it_says(m: int, d: int, n: int, cosine: float) -> None:
    form = TernaryMUB(m)
    assert (form.own_d, form.own_n) == (d, n)
    assert form.cosine == pytest.approx(cosine)
    assert label(form) == f"ternary-mub(m={m})"
    check(form)


def test_ternary_half_of_486_dimensions() -> None:
    form = TernaryMUB(5)
    assert (form.own_d, form.own_n, round(form.cosine, 4)) == (486, 59292, 0.0556)
    some = torch.cat([form.rows(243 * basis, 243 * (basis + 1)) for basis in (0, 1, 2, 100, 242, 243)]).double()
    gram = some @ some.T
    assert (gram.diagonal() - 1).abs().max() < 1e-6
    assert float(gram.fill_diagonal_(0).abs().max()) == pytest.approx(form.cosine, abs=1e-6)


def test_ternary_half_is_one_of_each_pair() -> None:
    pairs = ComplexMUB(27).rows(0, 2 * 27 * 28)
    rows = TernaryMUB(3).rows(0, 27 * 28)
    assert torch.equal(rows[: 27**2], pairs[: 2 * 27**2 : 2])
    assert torch.equal(rows[27**2 :, 27:], torch.eye(27))


@pytest.mark.parametrize(
    ("d", "n", "m"),
    [
        *((5, 2, None), (6, 12, 1), (6, 13, None), (53, 12, 1), (53, 13, None), (54, 756, 3), (54, 757, None)),
        *((485, 500, 3), (486, 59292, 5), (4373, 59293, None), (4374, 59293, 7), (8192, 2, 7)),
    ],
)
def test_ternary_half_reaches_by_the_largest(d: int, n: int, m: int | None) -> None:
    assert TernaryMUB.reach(d, n) == (TernaryMUB(m) if m else None)


@pytest.mark.parametrize("m", [-1, 0, 2])
def test_ternary_half_needs_an_odd_degree(m: int) -> None:
    with pytest.raises(BadRequest, match=f"m is {m}; allowed is an odd number"):
        TernaryMUB(m)
