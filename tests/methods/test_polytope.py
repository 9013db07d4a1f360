"""Polytopes: vertices, angles and dimensions that are known, and cubes whose vertices lie far apart."""

import hashlib
import math
from itertools import combinations_with_replacement

import pytest
import torch
from torch import Tensor

from protogen.catalog.algebra import linear
from protogen.catalog.algebra.linear import LinearCode
from protogen.catalog.points import cube
from protogen.catalog.points.cube import CubeVertices, best_code
from protogen.errors import BadRequest
from protogen.generating import generate
from protogen.methods import METHODS, Task, resolve
from protogen.methods.polytope import Cube, Orthoplex, Polytope, Simplex

KINDS = (Simplex, Orthoplex, Cube)


def vertices(kind: type[Polytope], n: int, d: int | None = None) -> Tensor:
    """All rows in float64."""
    d = kind.least_d(n) if d is None else d
    assert d is not None
    return kind().solve(Task(d, n)).source.rows(0, n).double()


def largest_cos(rows: Tensor) -> float:
    return (rows @ rows.T).fill_diagonal_(-math.inf).max().item()


@pytest.mark.parametrize(
    ("n", "dimensions"),
    # Of ten classes the paper's Figure 2 has 9, 5 and 4.
    [
        (10, (9, 5, 4)),
        (2, (1, 1, 1)),
        (3, (2, 2, 2)),
        (100, (99, 50, 7)),
        (1024, (1023, 512, 10)),
        (1025, (1024, 513, 11)),
    ],
)
def test_smallest_dimensions_are_those_of_eq_7(n: int, dimensions: tuple[int, ...]) -> None:
    assert tuple(kind.least_d(n) for kind in KINDS) == dimensions
    assert tuple(resolve(kind.name, n=n).d for kind in KINDS) == dimensions


@pytest.mark.parametrize(("kind", "phi_deg"), [(Simplex, 96.37937), (Orthoplex, 90.0), (Cube, 60.0)])
def test_phi_is_that_of_eq_10_to_12(kind: type[Polytope], phi_deg: float) -> None:
    # n = 10: acos(-1/9), pi/2, and acos((4 - 2) / 4) of the cube of R^4.
    facts = kind().solve(Task(kind.least_d(10) or 0, 10)).facts
    assert facts.phi_deg == pytest.approx(phi_deg, abs=1e-5)
    assert facts.phi == math.radians(facts.phi_deg)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("own_d", [2, 3, 4, 7])
def test_the_whole_polytope_has_phi_as_its_smallest_angle(kind: type[Polytope], own_d: int) -> None:
    n = {"simplex": own_d + 1, "orthoplex": 2 * own_d, "cube": 2**own_d}[kind.name]
    made = generate(resolve(kind.name, n=n))
    assert made.d == made.facts.own_d == own_d
    assert made.stats is not None
    assert made.stats.min_angle_points_deg == pytest.approx(made.facts.phi_deg, abs=1e-5)


def test_the_triangle() -> None:
    # kappa = (1 - sqrt 3) / 2; the mean of (1, 0), (0, 1), (kappa, kappa) is c (1, 1), c = (1 + kappa) / 3 = .211325,
    # and the first corner less the mean is (.788675, -.211325) of length sqrt(2/3).
    a, b = 0.7886751 / math.sqrt(2 / 3), 0.2113249 / math.sqrt(2 / 3)
    expected = torch.tensor([[a, -b], [-b, a], [-math.sqrt(0.5), -math.sqrt(0.5)]], dtype=torch.float64)
    assert torch.allclose(vertices(Simplex, 3), expected, atol=1e-6)


def test_an_odd_orthoplex_lacks_the_last_opposite() -> None:
    expected = torch.tensor([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1]], dtype=torch.float64)
    assert torch.equal(vertices(Orthoplex, 5), expected)


@pytest.mark.parametrize("n", [2, 3, 4, 9, 50, 301])
def test_every_cosine_of_a_simplex_is_the_same(n: int) -> None:
    rows = vertices(Simplex, n)
    gram = rows @ rows.T
    assert (gram - torch.eye(n) * (1 + 1 / (n - 1)) + 1 / (n - 1)).abs().max() < 1e-6
    assert rows.sum(0).abs().max() < 1e-5


@pytest.mark.parametrize("d", [1, 2, 5, 9])
def test_the_small_cube_is_whole(d: int) -> None:
    rows = vertices(Cube, 2**d)
    assert len(rows.unique(dim=0)) == 2**d
    assert torch.allclose(rows.abs(), torch.full_like(rows, 1 / math.sqrt(d)))


@pytest.mark.parametrize("kind", [Simplex, Orthoplex])
@pytest.mark.parametrize("n", [2, 5, 8])
def test_a_larger_d_pads_with_zeros(kind: type[Polytope], n: int) -> None:
    own = kind.least_d(n) or 0
    rows = vertices(kind, n, own + 3)
    assert torch.equal(rows[:, :own], vertices(kind, n))
    assert not rows[:, own:].any()
    assert kind().solve(Task(own + 3, n)).facts.own_d == own


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_never_the_same_vector_twice(kind: type[Polytope]) -> None:
    for n in range(2, 65):
        least = kind.least_d(n) or 0
        for d in sorted({least, least + 1, least + 2, 2 * least + 1, max(least, 40), max(least, 64)}):
            rows = vertices(kind, n, d)
            assert (rows.norm(dim=1) - 1).abs().max() < 1e-6
            guaranteed = kind().solve(Task(d, n)).facts.guaranteed_max_cos
            # A code of which not all words are taken may be better than it is known to be.
            assert largest_cos(rows) <= guaranteed + 1e-6 < 1, (n, d)
            if kind is Cube:
                bits = (n - 1).bit_length()
                assert guaranteed <= 1 - 2 * (d // bits) / d, (n, d)
                assert torch.allclose(rows.abs(), torch.full_like(rows, 1 / math.sqrt(d)))


@pytest.mark.parametrize(
    ("d", "n", "distance"),
    [
        # Optimal: first-order Reed-Muller, Golay, extended Hamming, Hadamard of order 12 (Plotkin's bound).
        (8, 16, 4),
        (16, 32, 8),
        (64, 128, 32),
        (24, 4096, 8),
        (16, 2**11, 4),
        (11, 12, 6),
        (10, 6, 6),
        # The best linear codes that are known (Grassl, codetables.de).
        (16, 256, 5),
        (15, 2**11, 3),
        (32, 2**11, 12),
        (100, 256, 46),
        (128, 10_000, 56),
        (512, 100_000, 240),
        (512, 1000, 256),
    ],
)
def test_cubes_with_the_largest_known_distance(d: int, n: int, distance: int) -> None:
    assert best_code(d, n).peak == d - 2 * distance


@pytest.mark.slow
@pytest.mark.parametrize(("d", "n"), [(512, 100), (512, 10), (100, 200), (1000, 2000), (24, 2**16), (20, 10**6)])
def test_large_cubes_are_no_worse_than_the_small_one_repeated(d: int, n: int) -> None:
    code, bits = best_code(d, n), (n - 1).bit_length()
    assert code.peak <= d - 2 * (d // bits)
    sample = torch.cat(
        [code.signs(0, 500 if n >= 1000 else n), code.signs(n - 500, n) if n >= 1000 else torch.empty(0, d)]
    )
    assert largest_cos(sample.double()) <= code.peak


@pytest.mark.parametrize(("d", "n"), [(4, 3), (9, 12), (16, 100), (13, 64), (31, 20), (40, 90), (24, 200)])
def test_every_construction_is_as_good_as_it_says(d: int, n: int) -> None:
    codes = [*cube.codes(d, n)]
    assert "repetition" in {code.name for code in codes}
    for code in codes:
        words = code.signs(0, n).double()
        assert words.shape == (n, d)
        assert (words.abs() == 1).all()
        assert largest_cos(words) <= code.peak, code.name
        whole = 1 << (n - 1).bit_length()
        if isinstance(code, LinearCode) and code.name != "lexicode":
            assert largest_cos(code.signs(0, whole).double()) == code.peak, code.name
        for start, stop in combinations_with_replacement(sorted({0, 1, 2, n // 2, n - 1, n}), 2):
            assert torch.equal(code.signs(start, stop).double(), words[start:stop]), code.name


# One size for each construction.
SIZES = [(64, 10), (5, 30), (16, 100), (32, 1000), (15, 2**11), (16, 256), (24, 4096)]


def test_all_constructions_are_taken_somewhere() -> None:
    names = {best_code(d, n).name for d, n in SIZES}
    assert names == {
        "Hadamard codes",
        "repetition",
        "columns chosen one by one",
        "columns chosen one by one, closed under negation",
        "dual BCH code, extended",
        "dual BCH code, cut",
        "lexicode",
    }


def test_the_cubes_are_the_same_everywhere() -> None:
    # Where this changes, files that are exact are no longer made again: the method's version goes up.
    digest = hashlib.sha256()
    for d, n in SIZES:
        digest.update(best_code(d, n).signs(0, n).to(torch.int8).numpy().tobytes())
    assert digest.hexdigest() == "54e155f6adf384ea1a96da109eed3036564f92b421da79be10d07f1e14f2fc16"


def test_the_search_that_is_too_long_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "EFFORT", 0)
    assert {code.name for code in linear.linear_codes(40, 8)} == {
        "repetition",
        "dual BCH code, repeated",
        "dual BCH code, cut",
    }


def test_the_vertices_are_a_closed_form() -> None:
    form = CubeVertices(9, 20)
    assert (form.own_d, form.own_n) == (9, 20)
    assert form.cosine == best_code(9, 20).peak / 9
    assert CubeVertices.reach(9, 512) == CubeVertices(9, 512)
    assert CubeVertices.reach(9, 513) is None


@pytest.mark.parametrize("kind", KINDS)
def test_a_polytope_is_exact_and_has_no_seed(kind: type[Polytope]) -> None:
    spec = resolve(kind.name, n=12, d=20, seed=7)
    assert (spec.seed, spec.options) == (0, {})
    made, again = generate(spec), generate(resolve(kind.name, n=12, d=20))
    assert spec == again.spec
    assert torch.equal(made.tensor, again.tensor)
    assert made.provenance.reproducible == "exact"
    assert made.stats is not None
    assert made.facts.guaranteed_max_cos == pytest.approx(made.stats.max_cos.value, abs=1e-6)
    assert kind.rank(made.stats, made.facts) == made.stats.max_cos.value
    assert kind.rank(None, made.facts) == made.facts.guaranteed_max_cos


@pytest.mark.parametrize(("kind", "least"), [("simplex", 9), ("orthoplex", 5), ("cube", 4)])
def test_a_smaller_d_is_refused_with_the_smallest(kind: str, least: int) -> None:
    with pytest.raises(BadRequest, match=rf"d for n=10 is {least - 1}; allowed is a whole number, at least {least} "):
        resolve(kind, n=10, d=least - 1)
    assert resolve(kind, n=10, d=least) == resolve(kind, n=10)


def test_the_three_share_a_group() -> None:
    assert {name for name, method in METHODS.items() if method.group == "polytope"} == {"simplex", "orthoplex", "cube"}
