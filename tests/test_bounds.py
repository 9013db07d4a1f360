"""Bounds against the exact table, against sets that exist, and against themselves turned round."""

import math
import random
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import binom, eval_jacobi, poch

from protogen.bounds import (
    LARGEST,
    Bound,
    Limit,
    coherence_bound,
    line_bounds,
    line_limits,
    max_cos_bound,
    max_lines,
    max_points,
    may_meet_welch,
    point_bounds,
    point_limits,
)
from protogen.errors import BadRequest

Best = Callable[[int, int], Bound]
Most = Callable[[int, float], Limit | None]
PHI = (1 + math.sqrt(5)) / 2
PALEY = [5, 9, 13, 17, 25, 29, 37, 41, 49, 53, 61, 73, 81, 89, 97, 101, 109, 113]

LINES = [
    (1, 1, 0.0),
    (1, 2, 1.0),
    (2, 3, 1 / 2),
    (2, 4, math.cos(math.pi / 4)),
    (2, 17, math.cos(math.pi / 17)),
    (3, 3, 0.0),
    (3, 4, 1 / 3),
    (3, 6, 1 / math.sqrt(5)),
    (4, 6, 1 / 3),  # blow-ups of 3, 6 and 28 equiangular lines: Bukh-Cox
    (9, 12, 1 / (2 * (1 + math.sqrt(5)) - 1)),
    (49, 56, 1 / 19),
    (4, 12, 1 / 2),
    (5, 10, 1 / 3),
    (6, 16, 1 / 3),
    (7, 28, 1 / 3),
    (6, 36, 1 / 2),
    (7, 63, 1 / 2),
    (8, 120, 1 / 2),
    (15, 36, 1 / 5),
    (21, 126, 1 / 5),
    (22, 176, 1 / 5),
    (23, 276, 1 / 5),
    (28, 64, 1 / 7),
    (35, 120, 1 / 7),
    (43, 344, 1 / 7),
    (23, 2300, 1 / 3),
    (24, 98280, 1 / 2),
    (64, 2112, 1 / 8),
    (256, 33024, 1 / 16),
    (1024, 525312, 1 / 32),
    (1000, 1000, 0.0),
    (1000, 1001, 1 / 1000),
    *(((q + 1) // 2, q + 1, 1 / math.sqrt(q)) for q in PALEY),
]
POINTS = [
    (1, 1, -1.0),
    (1, 2, -1.0),
    (1, 3, 1.0),
    (2, 3, -1 / 2),
    (2, 4, 0.0),
    (2, 5, math.cos(2 * math.pi / 5)),
    (2, 1001, math.cos(2 * math.pi / 1001)),
    (50, 2, -1.0),
    (50, 51, -1 / 50),
    (50, 52, 0.0),
    (50, 100, 0.0),
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
EXTREMES = [(10000, 10**9), (8192, 10**8), (2, 10**9), (3, 10**9), (5000, 5001), (10000, 10001), (1, 10**9)]


@pytest.mark.parametrize(("d", "n", "mu"), LINES)
def test_lines_of_the_exact_table_meet_the_bound(d: int, n: int, mu: float) -> None:
    assert coherence_bound(d, n).value == pytest.approx(mu, abs=1e-14)


@pytest.mark.parametrize(("d", "n", "s"), POINTS)
def test_points_of_the_exact_table_meet_the_bound(d: int, n: int, s: float) -> None:
    assert max_cos_bound(d, n).value == pytest.approx(s, abs=1e-14)


@pytest.mark.parametrize(("d", "n", "s"), [(4, 10, 1 / 6), (4, 24, 1 / 2), (4, 120, PHI / 2), (21, 336, 1 / 5)])
def test_good_sets_that_are_not_tight_lie_above_the_bound(d: int, n: int, s: float) -> None:
    assert 0.8 * s < max_cos_bound(d, n).value < s - 1e-3


@pytest.mark.parametrize(("d", "n"), [(3, 7), (7, 28), (7, 29), (7, 60), (7, 84), (64, 1000), (5000, 10**5)])
def test_pieces_are_the_named_closed_forms(d: int, n: int) -> None:
    lines = {bound.name: bound.value for bound in line_bounds(d, n)}
    points = {bound.name: bound.value for bound in point_bounds(d, n)}
    assert lines["Welch"] ** 2 == pytest.approx((n - d) / (d * (n - 1)), rel=1e-14)
    if "Levenshtein 2" in lines:
        squared = (3 * n - d * d - 2 * d) / ((d + 2) * (n - d))
        assert lines["Levenshtein 2"] ** 2 == pytest.approx(squared, rel=1e-13)
        assert d * (d + 1) / 2 <= n <= d * (d + 1) * (d + 2) / 6
    if "Levenshtein 3" in points:
        root = math.sqrt((d * (d - 1)) ** 2 + 4 * d * (n - d - 1) * (n - 2 * d))
        assert points["Levenshtein 3"] == pytest.approx((root - d * (d - 1)) / (2 * d * (n - d - 1)), rel=1e-12)
        assert 2 * d <= n <= d * (d + 3) / 2
    assert ("orthoplex" in lines) == (n > d * (d + 1) / 2)


@pytest.mark.parametrize("lines", [True, False])
def test_levenshtein_satisfies_its_equation(lines: bool) -> None:
    """Put the value back into Levenshtein's function of t, as he writes it, evaluated by scipy."""

    def jacobi(j: int, alpha: float, beta: float, t: float) -> float:
        return float(eval_jacobi(j, alpha, beta, t) / binom(j + alpha, j))

    rng = random.Random(0)
    for _ in range(500):
        d = rng.randint(6, 60)
        n = d * (d + 1) + round(10 ** rng.uniform(0, 8))
        bounds = line_bounds(d, n) if lines else point_bounds(d, n)
        name, value = next((b.name, b.value) for b in bounds if b.name.startswith("Levenshtein"))
        k, e = divmod(int(name.removeprefix("Levenshtein ")) + 1, 2)
        t = 2 * value**2 - 1 if lines else value
        a = (d - 3) / 2
        b = -1 / 2 if lines else a
        factor = (a + b + 2) / (b + 1) if e else 1.0
        b += e
        factor *= poch(a + b + 2, k - 1) / poch(b + 1, k - 1) * poch(a + 2, k - 1) / math.factorial(k - 1)
        ratio = jacobi(k - 1, a + 1, b, t) / jacobi(k, a, b, t)
        assert factor * (1 - ratio) == pytest.approx(n, rel=1e-9), (d, n)


def test_bukh_cox_is_listed_exactly_where_it_is_not_below_welch() -> None:
    for d in (1, 2, 5, 28, 100):
        for k in range(1, 3 * d):
            values = {bound.name: bound.value for bound in line_bounds(d, d + k)}
            assert ("Bukh-Cox" in values) == (k * (k - 1) < 2 * d)
            assert values.get("Bukh-Cox", 1.0) >= values["Welch"] - 1e-15


def test_bounds_grow_with_n() -> None:
    rng = random.Random(0)
    sizes = [(d, n) for d in range(1, 13) for n in range(1, 300)]
    sizes += [(rng.randint(1, 5000), round(10 ** rng.uniform(0, 7))) for _ in range(2000)]
    for d, n in sizes:
        for best in (coherence_bound, max_cos_bound):
            assert best(d, n + 1).value >= best(d, n).value - 1e-15, (best, d, n)


@pytest.mark.parametrize("best", [coherence_bound, max_cos_bound])
@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.integers(1, 5000), st.integers(1, 10**7), st.integers(0, 500), st.integers(0, 10**6))
def test_a_bound_never_rises_where_there_is_more_room(best: Best, d: int, n: int, wider: int, fewer: int) -> None:
    assert best(d + wider, max(1, n - fewer)).value <= best(d, n).value + 1e-14


@pytest.mark.parametrize(("best", "most"), [(coherence_bound, max_lines), (max_cos_bound, max_points)])
@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.integers(1, 5000), st.integers(2, 10**7))
def test_a_limit_is_the_inverse_of_its_bound(best: Best, most: Most, d: int, n: int) -> None:
    """A limit at the bound for n holds n, and the bound for one more than the limit lies above the cosine."""
    cosine = best(d, n).value
    limit = most(d, cosine)
    assert limit is None or limit.n >= n
    if limit is not None and limit.n < LARGEST:
        assert best(d, limit.n).value <= cosine + 1e-12
        assert best(d, limit.n + 1).value > cosine


def test_lists_run_from_the_largest_and_from_the_smallest() -> None:
    for d, n in [(1, 2), (2, 9), (5, 6), (7, 28), (24, 30), (64, 3000), (100, 10**6)]:
        for bounds in (line_bounds(d, n), point_bounds(d, n)):
            assert bounds
            assert bounds == sorted(bounds, key=lambda bound: -bound.value)
            assert all(bound.name and bound.validity and bound.source for bound in bounds)
    for limits in (line_limits(23, 0.2), line_limits(100, 0.05), point_limits(8, 0.5), point_limits(8, 0.0)):
        assert limits
        assert limits == sorted(limits, key=lambda limit: limit.n)
        assert all(limit.name and limit.validity and limit.source for limit in limits)


def _mub(q: int) -> np.ndarray:
    """The 2q(q+1) lines in R^2q from the complex mutually unbiased bases, q an odd prime."""
    x = np.arange(q)
    chirps = (x[:, None, None] * x * x + x[None, :, None] * x) % q
    bases = np.concatenate([np.exp(2j * np.pi * chirps / q).reshape(q * q, q) / np.sqrt(q), np.eye(q)])
    return np.concatenate([np.hstack([v.real, v.imag]) for v in (bases, 1j * bases)])


def _paley(q: int) -> np.ndarray:
    """The Gram matrix of the q + 1 equiangular lines in R^((q+1)/2), q a prime, 1 mod 4."""
    squares = {x * x % q for x in range(1, q)}
    conference = np.ones((q + 1, q + 1))
    conference[1:, 1:] = [[1 if (i - j) % q in squares else -1 for j in range(q)] for i in range(q)]
    return np.where(np.eye(q + 1) == 1, 1.0, conference / math.sqrt(q))


def _octads() -> np.ndarray:
    """The Gram matrix of 176 equiangular lines in R^22: octads of the Golay code through 0 and not 1."""
    residues = {x * x % 23 for x in range(1, 23)}
    rows = [sum(1 << (i + j) % 23 for j in range(23) if j not in residues) for i in range(23)]
    words = {0, (1 << 24) - 1}
    for row in rows:
        words |= {word ^ (row | row.bit_count() % 2 << 23) for word in words}
    octads = [[word >> i & 1 for i in range(24)] for word in words if word.bit_count() == 8 and word & 3 == 1]
    sets = np.array(octads, float)
    gram: np.ndarray = (sets @ sets.T - 3) / 5
    return gram


def _known_lines() -> list[tuple[int, np.ndarray]]:
    """Gram matrices of good sets of lines, each with its dimension."""
    pairs = [(i, j) for i in range(8) for j in range(i)]
    signs = np.array([[(-1) ** (i >> j & 1) for j in range(8)] for i in range(0, 256, 2)])
    roots = [np.eye(8)[i] + sign * np.eye(8)[j] for i, j in pairs for sign in (1, -1)]
    e8 = np.concatenate([roots, signs[signs.prod(axis=1) == 1] / 2]) / math.sqrt(2)
    seven = np.array([4 * (np.eye(8)[i] + np.eye(8)[j]) - 1 for i, j in pairs]) / math.sqrt(24)
    known = [(8, e8 @ e8.T), (7, seven @ seven.T), (22, _octads())]
    known += [(d, np.eye(d)) for d in range(1, 65)]
    known += [(d, np.eye(d + 1) * (1 + 1 / d) - 1 / d) for d in range(1, 65)]
    known += [((q + 1) // 2, _paley(q)) for q in (5, 13, 17, 29, 37, 41, 53, 61, 73, 89, 97, 101, 109, 113)]
    known += [(2 * q, (v := _mub(q)) @ v.T) for q in (3, 5, 7, 11, 13, 17)]
    # Blow-ups of 3, 6 and 28 equiangular lines in R^2, R^3, R^7: m copies of each, and the complement.
    for k, lines, eigenvalue in [
        (2, 2 * np.eye(3) - 1, 1),
        (3, _paley(5), math.sqrt(5)),
        (7, known[1][1], 9),
    ]:
        for m in range(2, (64 + k) // len(lines) + 1):
            mu = 1 / (m * (1 + eigenvalue) - 1)
            gram = (1 + mu) * np.eye(m * len(lines)) - mu * np.kron(np.sign(lines), np.ones((m, m)))
            known.append((len(gram) - k, gram))
    return known


def _assert_not_above(d: int, gram: np.ndarray) -> int:
    """Check both bounds against a set with this Gram matrix; count those that it attains."""
    cosines = gram[~np.eye(len(gram), dtype=bool)]
    gaps = [
        np.abs(cosines).max() - coherence_bound(d, len(gram)).value,
        cosines.max() - max_cos_bound(d, len(gram)).value,
    ]
    assert min(gaps) >= -1e-9, (d, len(gram), gaps)
    return sum(gap < 1e-9 for gap in gaps)


@pytest.mark.slow
def test_no_bound_lies_above_a_set_that_exists() -> None:
    """Try good sets, then 10,000 random (d, n), d <= 64: their subsets, with signs, and random vectors."""
    known = _known_lines()
    attained = 0
    for d, gram in known:
        assert np.diag(gram) == pytest.approx(1)
        assert len(gram) > 300 or np.linalg.matrix_rank(gram, tol=1e-9) <= d
        attained += _assert_not_above(d, gram) if len(gram) > 1 else 0
        attained += _assert_not_above(d, np.kron([[1, -1], [-1, 1]], gram))
    assert attained > 200
    rng, draw = random.Random(0), np.random.default_rng(0)
    for trial in range(10_000):
        own_d, gram = rng.choice(known)
        d = rng.choice([own_d, rng.randint(own_d, 64)])
        signed = np.array(rng.sample(range(2 * len(gram)), rng.randint(2, min(2 * len(gram), 80))))
        subset, signs = signed // 2, 1 - 2 * (signed % 2)
        gram = gram[np.ix_(subset, subset)] * np.outer(signs, signs)
        if trial % 4 == 0:
            vectors = draw.standard_normal((len(signed), d))
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            gram = vectors @ vectors.T
        _assert_not_above(d, gram)


@pytest.mark.parametrize(("d", "n", "mu"), [case for case in LINES if 0 < case[2] < 1])
def test_exact_lines_turned_round(d: int, n: int, mu: float) -> None:
    limit = max_lines(d, mu)
    assert limit is not None
    assert limit.n == n


@pytest.mark.parametrize(("d", "n", "s"), [case for case in POINTS if case[0] > 1 and case[1] != 52])
def test_exact_points_turned_round(d: int, n: int, s: float) -> None:
    limit = max_points(d, s)
    assert limit is not None
    assert limit.n == n


@pytest.mark.parametrize("lines", [True, False])
def test_turned_round_agrees_with_the_bounds(lines: bool) -> None:
    best, most = (coherence_bound, max_lines) if lines else (max_cos_bound, max_points)
    rng, finite = random.Random(0), 0
    for _ in range(3000):
        d = round(10 ** rng.uniform(0, 3.7))
        cosine = rng.choice([rng.uniform(0, 1), rng.uniform(0, 3) / math.sqrt(d), rng.uniform(0, 2) / d])
        cosine = min(cosine, 1.0) if lines else min(cosine, 1.0) * rng.choice([1, 1, -1])
        limit = most(d, cosine)
        if limit is None:
            assert cosine > 1 - 1e-12 or best(d, LARGEST).value <= cosine + 1e-12
        else:
            finite += 1
            assert best(d, limit.n).value <= cosine + 1e-12, (d, cosine, limit)
            assert best(d, min(limit.n + 1, LARGEST)).value > cosine or limit.n == LARGEST, (d, cosine, limit)
    assert finite > 2000


@pytest.mark.parametrize("lines", [True, False])
def test_the_n_of_a_bound_comes_back(lines: bool) -> None:
    best, most = (coherence_bound, max_lines) if lines else (max_cos_bound, max_points)
    rng = random.Random(0)
    for _ in range(1000):
        d = rng.randint(3, 5000)
        n = 2 * d + round(10 ** rng.uniform(0, 6))
        bound = best(d, n)
        limit = most(d, bound.value)
        assert limit is not None or bound.name == "orthoplex"  # constant in n
        if limit is not None and bound.name != "orthoplex":
            assert limit.n == n, (d, n)


def test_every_limit_is_its_bound_turned_round() -> None:
    """Each bound alone: it allows the n of its own limit and not the next one."""
    for d, mu in [(2, 0.4), (10, 0.1), (23, 0.19), (50, 0.03), (100, 0.0123), (700, 0.01), (64, 0.13)]:
        for limit in line_limits(d, mu):
            here = {bound.name: bound.value for bound in line_bounds(d, limit.n)}
            after = {bound.name: bound.value for bound in line_bounds(d, limit.n + 1)}
            assert here.get(limit.name, 0) <= mu < after[limit.name]
    relative = next(limit.n for limit in line_limits(100, 0.09) if limit.name == "Welch")
    assert relative == math.floor(100 * (1 - 0.09**2) / (1 - 100 * 0.09**2))


def test_nothing_is_unbounded_but_what_reaches_one() -> None:
    assert max_lines(5, 1.0) is None
    assert max_points(5, 1.0) is None
    assert max_points(1, 1.0) is None
    assert max_lines(10_000, 0.9999) is None  # above 10^12
    for d in (1, 2, 3, 100):
        nothing, least = max_lines(d, 0.0), max_points(d, -1.0)
        assert nothing is not None
        assert nothing.n == d
        assert least is not None
        assert least.n == 2
    pair = max_points(1, 0.3)
    assert pair is not None
    assert pair.n == 2


@pytest.mark.parametrize(("d", "n"), EXTREMES)
def test_extremes_are_finite_in_range_and_silent(d: int, n: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        coherence, cosine = coherence_bound(d, n).value, max_cos_bound(d, n).value
        assert 0 <= coherence <= 1
        assert -1 <= cosine <= coherence
        assert coherence_bound(d, n - 1).value <= coherence <= coherence_bound(d, n + n // 10).value
        assert max_cos_bound(d, n - 1).value <= cosine <= max_cos_bound(d, n + n // 10).value


def test_many_points_in_space_meet_the_asymptote() -> None:
    """For d = 3, n (1 - cos) tends to j^2 / 2, j = 3.8317 the first zero of the Bessel function J_1."""
    for n in (10**6, 10**8):
        assert (1 - max_cos_bound(3, n).value) * n == pytest.approx(3.8317059702**2 / 2, rel=1e-5)


@pytest.mark.parametrize("sizes", [(0, 5), (-3, 5), (5, 0), (5, LARGEST + 1)])
def test_sizes_out_of_range_are_refused_with_the_value(sizes: tuple[int, int]) -> None:
    wrong = sizes[0] if sizes[0] < 1 else sizes[1]
    for bounds in (line_bounds, point_bounds):
        with pytest.raises(BadRequest, match=rf"= {wrong}: must be from 1 to {LARGEST}$"):
            bounds(*sizes)


@pytest.mark.parametrize("cosine", [-1.5, 1.01, math.inf, math.nan])
def test_cosines_out_of_range_are_refused_with_the_value(cosine: float) -> None:
    with pytest.raises(BadRequest, match=rf"mu = {cosine}: must be from 0 to 1$"):
        max_lines(5, cosine)
    with pytest.raises(BadRequest, match=rf"s = {cosine}: must be from -1 to 1$"):
        max_points(5, cosine)
    with pytest.raises(BadRequest, match="dimension d = 0"):
        max_points(0, 0.5)


def test_importing_bounds_loads_no_heavy_library() -> None:
    code = "import sys, protogen.bounds; print({'torch', 'numpy', 'scipy'} & set(sys.modules))"
    root = Path(__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_the_numbers_of_equiangular_tight_frames_are_as_printed_but_for_two_slips() -> None:
    """EBV, Section 3.3 and supplement, Eq. 2: n < min(d (d+1)/2, (n-d)(n-d+1)/2)."""
    differ = set()
    for d in range(2, 30):
        for n in range(d + 1, 300):
            printed = n < min(d * (d + 1) / 2, (n - d) * (n - d + 1) / 2)
            if may_meet_welch(d, n) != printed:
                differ.add((d, n))
                equal = n == min(d * (d + 1) / 2, (n - d) * (n - d + 1) / 2)
                assert equal or n == d + 1, (d, n)
    # All of these exist: simplices, the diagonals of the icosahedron, 28 lines in R^7 and in R^21, 276 in R^23.
    assert {(2, 3), (9, 10), (3, 6), (7, 28), (21, 28), (23, 276)} <= differ
    # So do these, which both allow, and of 7 lines in R^3 both know that they do not.
    assert may_meet_welch(6, 16)
    assert may_meet_welch(15, 36)
    assert not may_meet_welch(3, 7)
    assert not may_meet_welch(4, 4)
