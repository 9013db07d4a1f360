"""Sub-centres: how they are drawn, where their centres come from, and statistics by class."""

import math
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

import protogen
from protogen.errors import BadRequest, NotFound
from protogen.files.facts import Facts
from protogen.files.prototypes import Prototypes
from protogen.files.reading import read
from protogen.files.verify import differences
from protogen.generating import generate
from protogen.measuring.measure import measure
from protogen.methods import resolve
from protogen.methods.subcenters import Subcenters
from protogen.report.lines import artifact_lines
from protogen.report.record import record_of
from protogen.rows import InMemory
from protogen.run import Run


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PROTOGEN_STORE", str(tmp_path / "store"))
    return tmp_path / "store"


def made(d: int, n: int, **options: Any) -> Prototypes:
    return generate(resolve("subcenters", d=d, n=n, **options))


def test_centers_are_uniform_by_kaimings_rule() -> None:
    # U(-b, b), b = sqrt(6/d) = .25 for d = 96, has variance b^2 / 3; over 48,000 draws the standard error of
    # the mean is b / sqrt(3 * 48000) = .0007, and that of the variance sqrt(4/5 / 48000) = .4 % of it.
    centers = made(96, 500, per_class=1).tensors["centers"].double()
    assert centers.shape == (500, 96)
    assert 0.2499 < centers.max() <= 0.25
    assert -0.25 <= centers.min() < -0.2499
    assert abs(centers.mean()) < 5 * 0.0007
    assert centers.var() == pytest.approx(0.25**2 / 3, rel=0.02)
    quarters = torch.histc(centers, 4, -0.25, 0.25) / centers.numel()
    assert (quarters - 0.25).abs().max() < 0.01


@pytest.mark.parametrize("variance", [1e-3, 0.04])
def test_sub_centers_are_normal_around_their_centers(variance: float) -> None:
    found = made(64, 100, per_class=20, variance=variance)
    assert found.tensor.shape == (100, 20, 64)
    noise = (found.tensor.double() - found.tensors["centers"].double()[:, None]) / math.sqrt(variance)
    # 128,000 draws: standard errors .0028 of the mean, .4 % of the variance, .014 of the fourth moment, 3 for a normal.
    assert abs(noise.mean()) < 0.014
    assert noise.var() == pytest.approx(1, rel=0.02)
    assert noise.pow(4).mean() == pytest.approx(3, rel=0.04)
    assert 3.5 < noise.abs().max() < 6
    # Draws of one class have nothing in common but the centre.
    assert abs((noise[:, 0] * noise[:, 1]).mean()) < 5 / math.sqrt(6400)


def test_the_draw_is_that_of_torch_with_this_seed() -> None:
    generator = torch.Generator().manual_seed(3)
    centers = torch.nn.init.kaiming_uniform_(torch.empty(5, 8), generator=generator)
    rows = centers[:, None] + torch.randn(5, 4, 8, generator=generator) * math.sqrt(1e-3)
    before = torch.random.get_rng_state()
    found = made(8, 5, seed=3)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(found.tensors["centers"], centers)
    assert torch.allclose(found.tensor, rows, atol=1e-7)
    assert not torch.equal(made(8, 5, seed=4).tensor, found.tensor)
    assert found.provenance.reproducible == "statistical"
    assert found.provenance.status == "drawn at random"


def test_norms_stay_as_drawn_and_are_recorded() -> None:
    found = made(16, 30)
    assert found.facts.norms == "free"
    for name, vectors in (("center_norms", found.tensors["centers"]), ("subcenter_norms", found.tensor)):
        norms = vectors.double().norm(dim=-1)
        expected = {"min": norms.min().item(), "mean": norms.mean().item(), "max": norms.max().item()}
        assert asdict(getattr(found.facts, name)) == pytest.approx(expected)
    assert found.facts.center_norms is not None
    # A centre's squared norm is 2 on average: d times the variance 6 / (3 d).
    assert found.facts.center_norms.mean == pytest.approx(math.sqrt(2), abs=0.1)


def test_normalize_puts_the_same_draw_on_the_sphere() -> None:
    free, unit = made(16, 30), made(16, 30, normalize=True)
    assert unit.facts.norms is None
    assert torch.equal(unit.tensor, normalize(free.tensor, dim=-1))
    assert torch.equal(unit.tensors["centers"], normalize(free.tensors["centers"], dim=-1))
    assert unit.facts.center_norms == free.facts.center_norms
    assert unit.stats is not None
    assert free.stats is not None
    assert unit.stats.max_cos.value == pytest.approx(free.stats.max_cos.value, abs=1e-6)
    assert unit.spec.key != free.spec.key


def by_class(rows: Tensor, within: bool) -> tuple[Tensor, Tensor]:
    """All cosines in float64 and which of them, above the diagonal, are of one class or of two."""
    unit = normalize(rows.double().flatten(0, 1), dim=1)
    classes = torch.arange(len(unit)) // rows.shape[1]
    kind = (classes[:, None] == classes) == within
    return unit @ unit.T, kind & torch.ones_like(kind).triu(1)


@pytest.mark.slow
@pytest.mark.parametrize("within", [False, True])
@pytest.mark.parametrize(
    ("n", "s", "d", "tile"),
    [(2, 2, 2, None), (7, 4, 6, 5), (40, 5, 8, 16), (100, 4, 5, 33), (300, 7, 20, None), (4, 300, 6, 64), (3, 2, 9, 1)],
)
def test_statistics_by_class_are_those_of_the_whole_matrix(
    n: int, s: int, d: int, tile: int | None, within: bool
) -> None:
    rows = 3 * torch.randn(n, s, d, generator=torch.Generator().manual_seed(n * s))
    gram, kind = by_class(rows, within)
    cosines = gram[kind]
    found = measure(InMemory(rows), tile=tile, within=within)
    assert found.pairs == len(cosines) == sum(found.histogram)
    for extreme, value in ((found.max_cos, cosines.max()), (found.min_cos, cosines.min())):
        assert extreme.value == pytest.approx(value.item(), abs=2e-7)
        assert kind[extreme.i, extreme.j]
        assert gram[extreme.i, extreme.j].item() == pytest.approx(extreme.value, abs=2e-7)
    assert found.mean_cos == pytest.approx(cosines.mean().item(), abs=1e-6)
    assert found.std_cos == pytest.approx(cosines.std(correction=0).item(), abs=1e-6)
    masked = gram.masked_fill(~(kind | kind.T), -math.inf)
    assert found.mean_nearest_cos_points == pytest.approx(masked.amax(1).mean().item(), abs=1e-6)
    assert found.uniformity_t2 == pytest.approx((4 * (cosines - 1)).exp().mean().log().item(), abs=1e-5)
    assert found.min_angle_points_deg == pytest.approx(math.degrees(math.acos(min(1, cosines.max()))), abs=1e-3)
    assert (found.frame_potential, found.frame_potential_min) == (None, None)
    assert found.error_bound < 1e-5


def test_one_row_a_class_is_measured_as_rows_are() -> None:
    rows = torch.randn(20, 6, generator=torch.Generator().manual_seed(0))
    one, other = measure(InMemory(rows[:, None])), measure(InMemory(normalize(rows, dim=1)))
    assert (one.pairs, one.histogram, one.duplicate_pairs) == (other.pairs, other.histogram, other.duplicate_pairs)
    assert (one.max_cos.i, one.max_cos.j, one.mean_cos) == (other.max_cos.i, other.max_cos.j, other.mean_cos)
    # Scaled to length one in float32, vectors are no longer quite what they were.
    assert one.max_cos.value == pytest.approx(other.max_cos.value, abs=2e-7)
    assert one.frame_potential == other.frame_potential


def test_a_file_holds_both_kinds_of_statistics(tmp_path: Path) -> None:
    kept = protogen.ensure(resolve("subcenters", d=8, n=6, per_class=3))
    assert kept.path is not None
    assert kept.stats is not None
    assert kept.stats.pairs == 15 * 9
    within = kept.facts.within_class
    assert within.pairs == 6 * 3
    assert within == measure(kept.source, within=True)
    assert differences(kept.stats, measure(kept.source), kept.facts) == []
    assert Subcenters.rank(kept.stats, kept.facts) == kept.stats.max_cos.value
    record = record_of(kept.path)
    # Of 6 points in R^8 none are farther apart than the simplex: -1/5; 18 of them would have 0.
    assert record.bounds.points.lower[0].value == pytest.approx(-1 / 5)
    text = "\n".join(artifact_lines(record))
    assert "over all 135 pairs of different classes" in text
    assert "over 18 pairs" in text
    assert "centers as drawn" in text
    assert "frame" not in text


@pytest.mark.slow
@pytest.mark.parametrize("variance", [1e-9, 1e-12])
@pytest.mark.parametrize("tile", [7, 64])
def test_near_coincident_sub_centres_are_what_their_file_says(variance: float, tile: int) -> None:
    kept = protogen.ensure(resolve("subcenters", d=64, n=50, variance=variance))
    assert kept.stats is not None
    assert kept.facts.within_class is not None
    between, within = measure(kept.source, tile=tile), measure(kept.source, tile=tile, within=True)
    assert differences(kept.stats, between, kept.facts) == []
    assert differences(kept.facts.within_class, within, Facts()) == []
    # |u - v|^2 = 2 d variance on average for centres of squared norm 2: an angle of sqrt(d variance).
    angle = 90 - within.mean_deviation_deg
    assert math.radians(angle) == pytest.approx(math.sqrt(64 * variance), rel=0.1)
    assert within.duplicate_pairs == 50 * 6


def test_a_class_of_one_has_no_statistics_of_its_own() -> None:
    found = made(8, 6, per_class=1)
    assert found.facts.within_class is None
    assert found.stats is not None
    assert found.stats.pairs == 15


def test_centers_from_a_file_stand_by_their_digest(tmp_path: Path) -> None:
    simplex = protogen.ensure(resolve("simplex", n=9))
    cube = protogen.ensure(resolve("cube", n=9, d=8))
    assert simplex.path is not None
    assert cube.path is not None
    spec = resolve("subcenters", d=8, n=9, centers=str(simplex.path))
    assert spec.options["centers"] == simplex.digest
    assert spec.key != resolve("subcenters", d=8, n=9, centers=str(cube.path)).key
    elsewhere = shutil.copy(simplex.path, tmp_path / "copy.safetensors")
    assert resolve("subcenters", d=8, n=9, centers=elsewhere) == spec

    kept = protogen.ensure(spec, Run(files=(simplex.path,)))
    assert torch.equal(kept.tensors["centers"], simplex.tensor)
    noise = (kept.tensor - simplex.tensor[:, None]).double()
    assert noise.var() == pytest.approx(1e-3, rel=0.3)
    # A hit needs the file no more, and a search finds it by any copy.
    simplex.path.unlink()
    assert protogen.ensure(spec).path == kept.path
    assert protogen.load("subcenters", centers=elsewhere).path == kept.path
    with pytest.raises(NotFound):
        protogen.load("subcenters", centers=str(cube.path))


def test_centers_of_sub_centers_are_taken_over(store: Path) -> None:
    first = protogen.ensure(resolve("subcenters", d=8, n=6))
    assert first.path is not None
    second = generate(resolve("subcenters", d=8, n=6, seed=1, centers=str(first.path)), Run(files=(first.path,)))
    assert torch.equal(second.tensors["centers"], first.tensors["centers"])


def test_a_digest_alone_gives_no_centers() -> None:
    kept = protogen.ensure(resolve("simplex", n=9))
    other = protogen.ensure(resolve("orthoplex", n=9, d=8))
    assert other.path is not None
    spec = resolve("subcenters", d=8, n=9, centers=str(kept.path))
    for run in (None, Run(files=(other.path,))):
        with pytest.raises(
            BadRequest, match=f"digest {kept.digest}, which was not given; name its file with --centers"
        ):
            generate(spec, run)


def test_a_damaged_file_gives_no_centers(tmp_path: Path) -> None:
    kept = protogen.ensure(resolve("simplex", n=9))
    assert kept.path is not None
    spec = resolve("subcenters", d=8, n=9, centers=str(kept.path))
    raw = bytearray(kept.path.read_bytes())
    raw[-1] ^= 1
    kept.path.write_bytes(raw)
    with pytest.raises(protogen.ProtogenError, match="sha256"):
        generate(spec, Run(files=(kept.path,)))


def test_the_file_keeps_its_shape() -> None:
    path = protogen.ensure(resolve("subcenters", d=8, n=6)).path
    assert path is not None
    kept = read(path)
    assert kept.tensor.shape == (6, 4, 8)
    assert kept.tensors["centers"].shape == (6, 8)
    assert Subcenters().file_bytes(8, 6) == 4 * 6 * 8 * 5
    assert Subcenters(per_class=9).peak_bytes(1000, 1000) > 2 * 4 * 9_000_000


def test_a_variance_of_0_puts_all_sub_centres_on_their_centre(tmp_path: Path) -> None:
    made = protogen.ensure(protogen.resolve("subcenters", d=6, n=5, variance=0), store=tmp_path)
    assert torch.equal(made.tensor, made.tensor[:, :1].expand(-1, 4, -1))
    assert made.facts.within_class is not None
    assert made.facts.within_class.max_cos.value == pytest.approx(1, abs=1e-6)
    again = protogen.load(made.path)
    assert torch.equal(again.tensor, made.tensor)
