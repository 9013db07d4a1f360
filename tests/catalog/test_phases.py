"""Polynomial phases of degree three and above."""

import cmath
import math

import pytest
import torch
from forms import check

from protogen.catalog import label
from protogen.catalog.direct.phases import HigherPhases
from protogen.errors import BadRequest


def largest_of_first(form: HigherPhases, start: int, stop: int) -> float:
    """The largest |cos| between row 0 and rows start to stop - 1."""
    return float((form.rows(start, stop).double() @ form.rows(0, 1)[0].double()).abs().max())


def cubic_sum(p: int, a: int, c: int) -> float:
    """The sum of exp(2 pi i (a x^3 + c x) / p) over F_p, which is real, over p."""
    return sum(math.cos(2 * math.pi * (a * x**3 + c * x) / p) for x in range(p)) / p


@pytest.mark.parametrize("p", [5, 7, 11])
def test_cubics_keep_what_they_say(p: int) -> None:
    form = HigherPhases(p, 3)
    assert (form.own_d, form.own_n, form.cosine) == (2 * p, 2 * p**3, 2 / math.sqrt(p))
    assert label(form) == f"phases(p={p},degree=3)"
    check(form, attained=False, tight=True)
    # Up to a shift of x, which turns the sum, every cubic is a x^3 + c x; quadratics have 1/sqrt(p) at most.
    largest = max(abs(cubic_sum(p, a, c)) for a in range(1, p) for c in range(p))
    assert largest_of_first(form, 2, form.own_n) == pytest.approx(largest, abs=1e-6)


def test_quartics_keep_what_they_say() -> None:
    form = HigherPhases(11, 4)
    assert (form.own_d, form.own_n, form.cosine) == (22, 2 * 11**4, 3 / math.sqrt(11))
    # The polynomials are a group: what one has with the others, each has.
    assert 2 / math.sqrt(11) < largest_of_first(form, 2, form.own_n) <= form.cosine


def test_cubics_of_251_are_a_little_better_than_guaranteed() -> None:
    # 251 = 2 mod 3: scaling x leaves x^3 + c x alone to be seen.
    form = HigherPhases(251, 3)
    assert round(form.cosine, 4) == 0.1262
    assert round(largest_of_first(form, 2 * 251**2, 2 * 251**2 + 2 * 251), 4) == 0.1241


@pytest.mark.parametrize(
    ("p", "degree", "index"),
    [(7, 3, 0), (7, 3, 342), (251, 4, 251**4 - 1), (4093, 3, 4093**3 - 2), (4093, 6, 2**61 + 12345)],
)
def test_rows_are_the_polynomials(p: int, degree: int, index: int) -> None:
    coefficients = [index // p**power % p for power in range(degree)]
    values = [sum(c * x ** (power + 1) for power, c in enumerate(coefficients)) % p for x in range(p)]
    vector = [cmath.exp(2j * math.pi * value / p) / math.sqrt(p) for value in values]
    real, imaginary = torch.tensor([v.real for v in vector]), torch.tensor([v.imag for v in vector])
    expected = torch.stack((torch.cat((real, imaginary)), torch.cat((-imaginary, real))))
    form = HigherPhases(p, degree)
    assert torch.allclose(form.rows(2 * index, 2 * index + 2), expected, rtol=0, atol=1e-7)
    assert torch.allclose(form.rows(2 * index + 1, 2 * index + 2), expected[1:], rtol=0, atol=1e-7)


def test_rows_run_in_bases() -> None:
    form = HigherPhases(7, 3)
    for first in range(0, form.own_n, 14):
        basis = form.rows(first, first + 14)
        assert torch.allclose(basis @ basis.T, torch.eye(14), atol=1e-6)


def test_the_reach_is_the_lowest_there_is() -> None:
    primes = [p for p in range(2, 60) if all(p % q for q in range(2, p))]
    members = [HigherPhases(p, degree) for p in primes for degree in range(3, 9) if p > (degree - 1) ** 2]
    for d in range(2, 118):
        for n in (2, 250, 251, 5000, 10**5, 10**8):
            enough = [form for form in members if form.own_d <= d and form.own_n >= n]
            best = min(enough, key=lambda form: (form.cosine, form.own_d), default=None)
            assert HigherPhases.reach(d, n) == best, (d, n)


@pytest.mark.parametrize(
    ("p", "degree", "message"),
    [
        (7, 2, "degree is 2; allowed is 3 to 40"),
        (7, 4, r"p is 7; allowed is a prime above \(degree - 1\)\^2 = 9"),
        (9, 3, r"p is 9; allowed is a prime above \(degree - 1\)\^2 = 4"),
        (-7, 3, "p is -7;"),
    ],
)
def test_what_no_member_has(p: int, degree: int, message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        HigherPhases(p, degree)
