"""Statistics over all pairs, held to the whole Gram matrix in float64 and to sets that are known exactly."""

import dataclasses
import json
import math
import os
import signal
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from draws import unit_rows
from processes import on_ranks
from torch import Tensor, distributed
from torch.nn.functional import normalize

from protogen.files.schemas import SCHEMAS
from protogen.measuring import tiles
from protogen.measuring.extremes import CANDIDATES
from protogen.measuring.geometry import random_rows
from protogen.measuring.measure import measure
from protogen.measuring.precision import full_precision
from protogen.measuring.stats import BINS, AngleStats, Extreme
from protogen.measuring.sums import TWIN_COS
from protogen.rows import InMemory
from protogen.spec import canonical_json

RANDOM = [  # n, d, tile
    (2, 2, None),
    (2, 40, 1),
    (3, 2, 2),
    (11, 5, 1),
    (37, 3, 1),
    (37, 3, 7),
    (64, 40, 63),
    (64, 40, 64),
    (64, 40, 65),
    (97, 13, 7),
    (97, 13, 31),
    (256, 8, 128),
    (150, 2, 7),
    (300, 2, None),
    (151, 24, 7),
    (301, 24, 299),
    (307, 29, 101),
]


def stats_of(rows: Tensor, tile: int | None = None) -> AngleStats:
    return measure(InMemory(rows.float()), tile=tile)


def above(rows: Tensor) -> tuple[Tensor, Tensor]:
    """The pairs i < j of n rows."""
    i, j = torch.triu_indices(len(rows), len(rows), 1)
    return i, j


def gram64(rows: Tensor) -> Tensor:
    unit = normalize(rows.double(), dim=1)
    return unit @ unit.T


def angles64(rows: Tensor) -> Tensor:
    """Angles of all pairs i < j in degrees, by sums and differences, which lose nothing near 0 and 180."""
    unit = normalize(rows.double(), dim=1)
    i, j = above(rows)
    return torch.rad2deg(2 * torch.atan2((unit[i] - unit[j]).norm(dim=1), (unit[i] + unit[j]).norm(dim=1)))


def attained(extreme: Extreme, cosines: Tensor, sign: int = 1) -> float:
    """The cosine of the pair that a record names, which must be one above the diagonal."""
    assert 0 <= extreme.i < extreme.j < len(cosines)
    return sign * cosines[extreme.i, extreme.j].item()


@pytest.mark.slow
@pytest.mark.parametrize(("n", "d", "tile"), RANDOM)
def test_every_field_is_that_of_the_whole_matrix(n: int, d: int, tile: int | None) -> None:
    rows = unit_rows(n, d, seed=n * d)
    gram, angles = gram64(rows), angles64(rows)
    cosines = gram[above(rows)]
    found = stats_of(rows, tile)

    assert found.pairs == n * (n - 1) // 2
    for extreme, value in ((found.max_cos, cosines.max()), (found.min_cos, cosines.min())):
        assert extreme.value == pytest.approx(value.item(), abs=1e-14)
        assert attained(extreme, gram) == pytest.approx(extreme.value, abs=1e-14)
    assert found.coherence.value == max(found.max_cos.value, -found.min_cos.value)
    assert abs(attained(found.coherence, gram)) == pytest.approx(found.coherence.value, abs=1e-14)
    assert found.min_angle_points_deg == pytest.approx(angles.min().item(), rel=1e-7)
    assert found.min_angle_lines_deg == pytest.approx(torch.minimum(angles, 180 - angles).min().item(), rel=1e-7)

    # The rest comes from float32 cosines, each good to about d 2^-24 = 2e-6 at the worst, 1e-7 as a rule.
    assert found.mean_cos == pytest.approx(cosines.mean().item(), abs=1e-7)
    assert found.std_cos == pytest.approx(cosines.std(correction=0).item(), abs=2e-7)
    without = gram.clone().fill_diagonal_(-math.inf)
    assert found.mean_nearest_cos_points == pytest.approx(without.amax(1).mean().item(), abs=1e-7)
    without = gram.abs().fill_diagonal_(-math.inf)
    assert found.mean_nearest_cos_lines == pytest.approx(without.amax(1).mean().item(), abs=1e-7)
    assert found.frame_potential == pytest.approx(gram.square().sum().item(), rel=1e-6)
    assert found.frame_potential_min == max(n, n**2 / d)
    away = torch.cdist(normalize(rows.double(), dim=1), normalize(rows.double(), dim=1)).square()[above(rows)]
    assert found.uniformity_t2 == pytest.approx((-2 * away).exp().mean().log().item(), abs=1e-6)
    assert found.mean_deviation_deg == pytest.approx((angles - 90).abs().mean().item(), abs=1e-4)

    for count, closeness in ((found.duplicate_pairs, cosines), (found.antipodal_pairs, -cosines)):
        surely = int((closeness >= TWIN_COS + 2e-7).sum())
        assert surely <= count <= int((closeness >= TWIN_COS - 2e-7).sum())
    assert found.error_bound >= 0
    segments = sum(-(-(n - i) // (tile or n)) for i in range(n))  # at least: a segment per row and tile from it on
    assert segments > CANDIDATES or found.error_bound == 0


@pytest.mark.slow
@pytest.mark.parametrize(("n", "d", "tile"), RANDOM)
def test_the_histogram_counts_every_pair_once(n: int, d: int, tile: int | None) -> None:
    rows = unit_rows(n, d, seed=n + d)
    angles = angles64(rows)
    histogram = stats_of(rows, tile).histogram
    assert len(histogram) == BINS == 1800
    assert sum(histogram) == n * (n - 1) // 2
    # A float32 cosine is off by 1e-7, an angle by that over its sine: less than 1e-3 degrees but near 0 and 180,
    # where it is at most acos(1 - 2e-7) = 0.036. An angle so near an edge may be counted on either side.
    near = torch.minimum(angles, 180 - angles) < 1
    room = torch.where(near, 0.04, 1e-3)
    low = ((angles - room).clamp(0, 179.99) / 0.1).long()
    high = ((angles + room).clamp(0, 179.99) / 0.1).long()
    counts = torch.tensor(histogram).cumsum(0)
    # Up to each edge: as many as lie there for certain at the least, as many as may lie there at the most.
    assert (counts >= torch.bincount(high, minlength=BINS).cumsum(0)).all()
    assert (counts <= torch.bincount(low, minlength=BINS).cumsum(0)).all()


def test_the_diagonal_of_a_simplex_is_masked() -> None:
    n = 7
    rows = normalize(torch.eye(n).double() - 1 / n, dim=1)  # all cosines -1/6, in a space of 7
    for tile in (1, 3, 7):
        found = stats_of(rows, tile)
        assert found.max_cos.value == pytest.approx(-1 / 6, abs=1e-7)
        assert found.min_cos.value == pytest.approx(-1 / 6, abs=1e-7)
        assert found.coherence.value == -found.min_cos.value
        assert found.mean_nearest_cos_points == pytest.approx(-1 / 6, abs=1e-7)
        assert found.mean_nearest_cos_lines == pytest.approx(1 / 6, abs=1e-7)
        assert found.min_angle_points_deg == pytest.approx(99.5940682269, abs=1e-5)  # acos(-1/6)
        assert found.min_angle_lines_deg == pytest.approx(80.4059317731, abs=1e-5)
        assert found.mean_deviation_deg == pytest.approx(9.5940682269, abs=1e-4)
        assert found.std_cos == pytest.approx(0, abs=1e-7)
        # 7 of the diagonal and 42 of 1/36.
        assert found.frame_potential == pytest.approx(7 + 42 / 36, rel=1e-6)
        assert found.histogram[995] == 21


def test_an_orthoplex_has_right_angles_and_antipodes() -> None:
    d = 5
    rows = torch.cat((torch.eye(d), -torch.eye(d)))
    for tile in (1, 3, 10):
        found = stats_of(rows, tile)
        assert found.max_cos.value == 0
        assert found.min_cos.value == -1
        assert found.coherence == Extreme(1.0, found.min_cos.i, found.min_cos.j)
        assert found.min_cos.j - found.min_cos.i == d
        assert found.min_angle_points_deg == 90
        assert found.min_angle_lines_deg == 0
        assert (found.duplicate_pairs, found.antipodal_pairs) == (0, 5)
        assert found.mean_nearest_cos_points == 0
        assert found.mean_nearest_cos_lines == 1
        # 5 of the 45 pairs are opposite: 90 degrees off a right angle, the other 40 not at all.
        assert found.mean_deviation_deg == pytest.approx(5 * 90 / 45, abs=1e-4)
        assert found.mean_cos == pytest.approx(-5 / 45)
        # A tight frame: n^2 / d = 100 / 5.
        assert found.frame_potential == found.frame_potential_min == 20
        # |u - v|^2 is 2 or 4.
        assert found.uniformity_t2 == pytest.approx(math.log((40 * math.exp(-4) + 5 * math.exp(-8)) / 45), abs=1e-7)
        assert found.histogram[899] + found.histogram[900] == 40
        assert found.histogram[1799] == 5


def test_an_orthonormal_set_has_coherence_0() -> None:
    found = stats_of(torch.eye(6), 4)
    assert found.coherence.value == found.max_cos.value == found.min_cos.value == 0
    assert 0 <= found.coherence.i < found.coherence.j < 6
    assert found.min_angle_points_deg == found.min_angle_lines_deg == 90
    assert found.mean_deviation_deg == pytest.approx(0, abs=1e-5)
    assert found.mean_cos == found.std_cos == 0
    assert found.frame_potential == found.frame_potential_min == 6
    assert found.uniformity_t2 == pytest.approx(-4)
    assert found.error_bound == 0


def test_duplicates_and_antipodes_are_counted() -> None:
    rows = unit_rows(6, 40, seed=1)
    # Each vector three times and its negative twice: 3 equal pairs and 1, and 3 x 2 opposite ones.
    found = stats_of(torch.cat((rows, -rows, rows, rows, -rows)), 7)
    assert found.duplicate_pairs == 6 * (3 + 1)
    assert found.antipodal_pairs == 6 * 6
    assert found.min_angle_points_deg == 0
    assert found.min_angle_lines_deg == 0
    assert found.max_cos.value == pytest.approx(1, abs=1e-15)
    assert found.min_cos.value == pytest.approx(-1, abs=1e-15)
    assert found.histogram[0] >= 24
    assert found.histogram[1799] >= 36


@pytest.mark.parametrize("angle", [1e-4, 1e-5, 1e-6, 1e-7])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_small_angle_keeps_its_digits(angle: float, sign: int) -> None:
    # The cosine of these is 1 in float32, and of the last one 1 - 5e-15 in float64: acos would keep no digit.
    second = torch.tensor([1.0, angle, 0.0, 0.0])
    rows = torch.stack((torch.eye(4)[0], sign * second, torch.eye(4)[2], torch.eye(4)[3]))
    found = stats_of(rows)
    exact = math.degrees(math.atan(second[1].item()))
    assert found.min_angle_lines_deg == pytest.approx(exact, rel=1e-7)
    assert found.min_angle_points_deg == pytest.approx(exact if sign > 0 else 90, rel=1e-7)


def test_the_mean_deviation_is_an_average() -> None:
    # Angles of 60, 90 and 90 degrees: (30 + 0 + 0) / 3. EBV Table 2 prints it upside down: a sum over 2 / (n (n-1)).
    rows = torch.tensor([[1.0, 0, 0], [0.5, math.sqrt(0.75), 0], [0, 0, 1]])
    assert stats_of(rows).mean_deviation_deg == pytest.approx(10, abs=1e-4)


def test_two_vectors_are_enough() -> None:
    found = stats_of(torch.tensor([[1.0, 0.0], [-0.6, 0.8]]))
    assert found.pairs == 1
    assert found.max_cos == found.min_cos == Extreme(pytest.approx(-0.6, abs=1e-7), 0, 1)
    assert found.coherence.value == pytest.approx(0.6, abs=1e-7)
    assert found.mean_nearest_cos_points == found.mean_cos == pytest.approx(-0.6, abs=1e-7)
    assert found.std_cos == pytest.approx(0, abs=1e-7)
    assert found.frame_potential == pytest.approx(2 + 2 * 0.36, abs=1e-6)
    assert found.frame_potential_min == 2
    assert found.uniformity_t2 == pytest.approx(-2 * (2 + 1.2), abs=1e-6)
    assert sum(found.histogram) == 1


def hub(n: int, place: int, best: int) -> Tensor:
    """Give n rows: the one at `place` has a cosine of 1/2 with all others, which meet in less (n, 400).

    The largest cosine is that with row `best`, by 1.2e-7 over 1/2, while float32 has it 6e-8 under those
    with all others: norms that are off by 2e-7 turn the order round.
    """
    others = torch.zeros(n, 400)
    others[:, 1:] = math.sqrt(0.75) * unit_rows(n, 399, seed=0)
    others[:, 1:] *= 1 + 3e-7
    others[:, 0] = 0.5 + 2**-24
    others[best, 1:] *= 1 - 6e-7
    others[best, 0] = 0.5
    others[place] = 0
    others[place, 0] = 1
    return others


@pytest.mark.slow
@pytest.mark.parametrize(("place", "best"), [(0, 900), (0, 1799), (900, 0), (900, 1700), (1799, 0), (1799, 901)])
@pytest.mark.parametrize("tile", [450, 1800])
def test_the_error_bound_is_honest(place: int, best: int, tile: int) -> None:
    # With the hub in the first row and one tile, every other row's peak lies before it: it is its own mirror image.
    n = 1800
    rows = hub(n, place, best)
    gram = gram64(rows).fill_diagonal_(-math.inf)
    truth = gram.max().item()
    assert {int(index) for index in divmod(int(gram.argmax()), n)} == {place, best}
    found = stats_of(rows, tile)
    assert truth - 4e-7 < found.max_cos.value <= truth
    assert found.max_cos.value + found.error_bound >= truth
    # 400 x 2^-24 = 2.4e-5: what float32 may be off in a sum of so many products.
    assert found.error_bound < 3e-5
    assert attained(found.max_cos, gram) == pytest.approx(found.max_cos.value, abs=1e-14)


def test_a_worse_pair_among_many_that_float32_cannot_tell_is_within_the_error_bound() -> None:
    # The hub is last, so each pair with it lies in a segment of its own: that with row 3, the largest in truth, has
    # the smallest float32 cosine of 1,199 and is no candidate.
    rows = hub(1200, 1199, 3)
    found = stats_of(rows, 600)
    truth = gram64(rows).fill_diagonal_(-math.inf).max().item()
    assert found.max_cos.value < truth <= found.max_cos.value + found.error_bound


@pytest.mark.parametrize("n", [63, 200])
def test_the_tile_changes_rounding_alone(n: int) -> None:
    rows = unit_rows(n, 17, seed=2)
    one = stats_of(rows)
    for tile in (2 if n < 100 else 11, n // 2, n - 1, n, n + 1, 10 * n):
        other = stats_of(rows, tile)
        for name in ("max_cos", "min_cos", "coherence"):
            was, is_ = getattr(one, name), getattr(other, name)
            assert (is_.i, is_.j) == (was.i, was.j)
            assert is_.value == pytest.approx(was.value, abs=1e-15)
        for name in ("min_angle_points_deg", "min_angle_lines_deg"):
            assert getattr(other, name) == getattr(one, name)
        for name in ("mean_cos", "std_cos", "mean_nearest_cos_points", "mean_nearest_cos_lines", "uniformity_t2"):
            assert getattr(other, name) == pytest.approx(getattr(one, name), abs=1e-7)
        assert other.mean_deviation_deg == pytest.approx(one.mean_deviation_deg, abs=1e-5)
        moved = torch.tensor(other.histogram).cumsum(0) - torch.tensor(one.histogram).cumsum(0)
        assert moved.abs().max() <= 2  # pairs on the edge of a bin


@pytest.mark.slow
@pytest.mark.parametrize(("n", "s", "d"), [(2, 2, 3), (7, 3, 4), (40, 5, 9)])
@pytest.mark.parametrize("within", [False, True])
@pytest.mark.parametrize("tile", [1, 4, 16, None])
def test_vectors_of_classes_are_measured_between_or_within(
    n: int, s: int, d: int, within: bool, tile: int | None
) -> None:
    generator = torch.Generator().manual_seed(n)
    free = torch.randn(n, s, d, generator=generator) * torch.rand(n, s, 1, generator=generator).add(0.1)
    gram = gram64(free.flatten(0, 1))
    index = torch.arange(n * s)
    same = index[:, None] // s == index // s
    chosen = (same if within else ~same) & (index[:, None] != index)
    cosines = gram[chosen.triu()]
    found = measure(InMemory(free), tile=tile, within=within)

    # n classes of s (s - 1) / 2 pairs, or n (n - 1) / 2 pairs of classes of s^2 each.
    assert found.pairs == len(cosines) == (n * s * (s - 1) // 2 if within else n * (n - 1) // 2 * s**2)
    assert sum(found.histogram) == found.pairs
    for extreme, value in ((found.max_cos, cosines.max()), (found.min_cos, cosines.min())):
        assert extreme.value == pytest.approx(value.item(), abs=1e-6)
        assert attained(extreme, gram) == pytest.approx(extreme.value, abs=1e-6)
        assert (extreme.i // s == extreme.j // s) == within
    assert found.mean_cos == pytest.approx(cosines.mean().item(), abs=1e-6)
    assert found.std_cos == pytest.approx(cosines.std(correction=0).item(), abs=1e-6)
    nearest = gram.masked_fill(~chosen, -math.inf).amax(1)
    assert found.mean_nearest_cos_points == pytest.approx(nearest.mean().item(), abs=1e-6)
    nearest = gram.abs().masked_fill(~chosen, -math.inf).amax(1)
    assert found.mean_nearest_cos_lines == pytest.approx(nearest.mean().item(), abs=1e-6)
    assert (found.frame_potential, found.frame_potential_min) == (None, None)


@dataclass(frozen=True)
class Recorded:
    """Rows by formula that notes what is asked of it and gives out blocks that are not contiguous."""

    tensor: Tensor
    asked: list[tuple[int, int]] = field(default_factory=list)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.tensor.shape)

    def rows(self, start: int, stop: int) -> Tensor:
        self.asked.append((start, stop))
        return self.tensor[start:stop].T.contiguous().T


def test_a_source_is_asked_for_blocks_and_never_for_the_whole() -> None:
    rows = unit_rows(50, 9, seed=3)
    source = Recorded(rows)
    found = measure(source, tile=8)
    assert all(0 <= start < stop <= 50 and stop - start <= 8 for start, stop in source.asked)
    # Each of the 7 blocks of rows comes once as a left side and once for each block before it, and at the most once
    # for each kind of extreme and tile column: 7 + 21 + 14. The candidates come row by row.
    assert sum(stop - start > 1 for start, stop in source.asked) <= 7 + 21 + 14
    assert found.max_cos == stats_of(rows, 8).max_cos
    assert found.mean_cos == pytest.approx(stats_of(rows, 8).mean_cos, abs=1e-8)


@pytest.mark.parametrize("tile", [1, 5, 12, 100])
def test_reports_rise_to_1(tile: int) -> None:
    shares: list[float] = []
    measure(InMemory(unit_rows(12, 3, seed=0)), tile=tile, report=shares.append)
    assert len(shares) == -(-12 // tile)
    assert shares == sorted(shares)
    assert shares[0] > 0
    assert shares[-1] == 1
    if tile == 5:  # the pairs whose first row is one of the first 5: 11 + 10 + 9 + 8 + 7 of 66, then the next 5
        assert shares == pytest.approx([45 / 66, 65 / 66, 1])


def test_the_global_precision_of_products_is_not_used_and_not_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    # TF32 and bfloat16 may speed training in the same process; they never make a statistic.
    seen = []

    def gram_tile(*arguments: Any) -> Tensor:
        seen.append((torch.backends.cuda.matmul.fp32_precision, torch.backends.mkldnn.matmul.fp32_precision))
        return tiles.gram_tile(*arguments)

    monkeypatch.setattr("protogen.measuring.measure.gram_tile", gram_tile)
    torch.set_float32_matmul_precision("medium")
    try:
        stats_of(unit_rows(9, 4, seed=0), 4)
        after = torch.get_float32_matmul_precision(), torch.backends.cuda.matmul.allow_tf32
    finally:
        torch.set_float32_matmul_precision("highest")
    assert set(seen) == {("ieee", "ieee")}
    assert after == ("medium", True)


def test_a_precision_that_holds_for_all_products_is_inherited_as_before() -> None:
    backends: Any = torch.backends
    before, backends.cuda.matmul.fp32_precision = backends.fp32_precision, "none"
    try:
        backends.fp32_precision = "tf32"
        with full_precision():
            assert backends.cuda.matmul.fp32_precision == "ieee"
        assert backends.cuda.matmul.fp32_precision == "tf32"
        backends.fp32_precision = "ieee"
        assert backends.cuda.matmul.fp32_precision == "ieee"
    finally:
        backends.fp32_precision = before


def test_statistics_survive_json() -> None:
    found = stats_of(unit_rows(30, 4, seed=5), 7)
    again = SCHEMAS[1].read_stats(json.loads(canonical_json(found.to_dict())))
    assert again == found
    assert isinstance(again.coherence, Extreme)
    assert isinstance(again.histogram, tuple)


@pytest.mark.parametrize("broken", [{"pairs": 1}, {"max_cos": None}, {"max_cos": {"value": 1.0}}, {"histogram": 3}])
def test_anything_else_is_no_statistics(broken: dict[str, Any]) -> None:
    sound = stats_of(unit_rows(4, 4, seed=5)).to_dict()
    with pytest.raises(ValueError, match=r"AngleStats|Extreme|histogram"):
        SCHEMAS[1].read_stats(broken if "pairs" in broken else {**sound, **broken})


# Close pairs, of which float32 loses the angle.


def near(n: int, s: int, d: int, noise: float) -> Tensor:
    """n classes of s vectors each, of any length, that lie within about `noise` of one another (n, s, d)."""
    generator = torch.Generator().manual_seed(n)
    centers = torch.randn(n, 1, d, generator=generator)
    return centers + noise * torch.randn(n, s, d, generator=generator)


@pytest.mark.parametrize("noise", [1e-2, 1e-3, 1e-6, 0.0])
@pytest.mark.parametrize("tile", [4, 12, None])
def test_near_coincident_vectors_of_a_class_keep_their_angles(noise: float, tile: int | None) -> None:
    rows = near(40, 4, 64, noise)
    found = measure(InMemory(rows), tile=tile, within=True)
    angles = torch.cat([angles64(of_class) for of_class in rows])
    # A cosine in float64 leaves 1e-6 degrees to an angle near 0.
    assert found.mean_deviation_deg == pytest.approx((90 - angles).mean().item(), abs=2e-6)
    assert found.min_angle_points_deg == pytest.approx(angles.min().item(), abs=2e-6)
    assert sum(found.histogram[:30]) == found.pairs == 40 * 6
    assert found.histogram[0] == (angles < 0.1).sum()
    assert found.duplicate_pairs == (torch.deg2rad(angles).cos() >= TWIN_COS).sum()
    assert found.error_bound <= 1.1 * (64 + 8) * 2**-24


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("d", [3, 20_000])
def test_twins_are_counted_though_their_lengths_are_off(d: int, sign: int) -> None:
    # Lengths may be off by 1e-5: the float32 product of such twins is 1 - 1.6e-5.
    rows = (1 - 8e-6) * unit_rows(6, d, seed=1)
    assert ((rows @ rows.T).diagonal() < TWIN_COS).all()
    found = stats_of(torch.cat((rows, sign * rows)), 5)
    assert (found.duplicate_pairs, found.antipodal_pairs) == ((6, 0) if sign > 0 else (0, 6))
    assert found.min_angle_lines_deg == pytest.approx(0, abs=1e-6)
    assert found.coherence.value == pytest.approx(1, abs=1e-14)


@pytest.mark.parametrize("tile", [7, 16, 64])
def test_few_and_many_close_pairs_are_taken_alike(tile: int) -> None:
    circle = torch.arange(60) * (2 * math.pi / 60 / 50)  # 60 directions within 7 degrees
    rows = torch.stack((circle.cos(), circle.sin(), torch.zeros(60)), 1)
    rows = torch.cat((rows, unit_rows(30, 3, seed=4)))
    angles = angles64(rows)
    found = stats_of(rows, tile)
    assert found.mean_deviation_deg == pytest.approx((angles - 90).abs().mean().item(), abs=1e-5)
    assert found.mean_nearest_cos_points == pytest.approx(
        gram64(rows).fill_diagonal_(-math.inf).amax(1).mean().item(), abs=2e-8
    )
    expected = torch.histc(angles, BINS, 0, 180)
    moved = torch.tensor(found.histogram).cumsum(0) - expected.cumsum(0)
    assert moved.abs().max() <= 30  # angles of whole multiples of the step lie on the edges of bins


def test_no_cosine_exceeds_1_whatever_is_left_open() -> None:
    found = stats_of(unit_rows(1, 50, seed=0).repeat(2000, 1), 600)  # more segments than are computed again
    assert found.max_cos.value == pytest.approx(1, abs=1e-15)
    assert found.duplicate_pairs == found.pairs
    # The smallest cosine is 1 as well, and may be less than that by what float32 leaves open.
    assert found.error_bound <= 1.1 * (50 + 8) * 2**-24


@pytest.mark.slow
@pytest.mark.parametrize(("world", "within"), [(2, False), (3, False), (2, True)])
def test_ranks_find_what_one_process_finds(tmp_path: Path, world: int, within: bool) -> None:
    rows = random_rows(1, 1600, 5, 0)
    rows[7] = rows[1500]  # a pair that float32 takes for more than one
    rows[800:1000] = torch.eye(5).repeat(40, 1)  # many segments of the same peak
    source = InMemory(rows.view(400, 4, 5) if within else rows)
    alone = measure(source, tile=64, within=within)

    def work(rank: int) -> AngleStats:
        torch.set_default_dtype(torch.float64)  # which counts for nothing
        own = source if rank == 0 else InMemory(torch.zeros(2, 2))  # that of rank 0 is measured
        return measure(own, tile=64, within=within, group=distributed.group.WORLD)

    for found in on_ranks(world, tmp_path / "meeting", work):
        for each in dataclasses.fields(AngleStats):
            ours, theirs = getattr(found, each.name), getattr(alone, each.name)
            if isinstance(theirs, float) and each.name not in ("error_bound", "min_angle_points_deg"):
                assert ours == pytest.approx(theirs, rel=1e-12, abs=1e-12), each.name
            else:
                assert ours == theirs, each.name


@pytest.mark.slow
def test_an_interruption_of_rank_0_ends_the_statistics_of_all(tmp_path: Path) -> None:
    def interrupted(share: float) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    def work(rank: int) -> None:
        measure(InMemory(random_rows(1, 1600, 5, 0)), tile=64, report=interrupted, group=distributed.group.WORLD)

    assert [type(each) for each in on_ranks(2, tmp_path / "meeting", work)] == [KeyboardInterrupt] * 2
