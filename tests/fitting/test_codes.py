"""Class codes: known answers, what they keep under maps of the features, and classes without a place of their own."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from protogen.errors import BadRequest
from protogen.fitting.codes import class_codes, free_places, later_codes
from protogen.fitting.statistics import ClassStatistics


def data(classes: int = 8, width: int = 12, each: int = 20, noise: float = 0.1, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(classes).repeat_interleave(each)
    means = torch.randn(classes, width, generator=generator)
    return means[labels] + noise * torch.randn(len(labels), width, generator=generator), labels


def coherence(rows: Tensor) -> float:
    return float((rows @ rows.T).fill_diagonal_(0).abs().max())


def test_where_noise_is_alike_in_all_directions_codes_have_the_angles_of_the_means() -> None:
    # Antipodal samples around each mean make Sw a multiple of the identity, exactly.
    means = torch.tensor([[2.0, 0, 0], [0, 1, 0], [-2, -1, 0]]).double()
    noise = torch.cat([torch.eye(3), -torch.eye(3)]).double() / 10
    features = (means[:, None] + noise).reshape(-1, 3)
    codes = class_codes(ClassStatistics.of(features, torch.arange(3).repeat_interleave(6)), 2)
    expected = normalize(means, dim=1)
    torch.testing.assert_close(codes.rows @ codes.rows.T, (expected @ expected.T).float(), rtol=0, atol=1e-6)
    assert codes.rank == 2
    assert codes.projection.shape == (3, 2)


def test_a_linear_map_of_the_features_changes_nothing_without_a_ridge() -> None:
    features, labels = data()
    map_ = torch.randn(12, 12, generator=torch.Generator().manual_seed(3)).double()
    plain = class_codes(ClassStatistics.of(features, labels), 5, ridge=1e-12).rows
    mapped = class_codes(ClassStatistics.of(features.double() @ map_ + 7, labels), 5, ridge=1e-12).rows
    torch.testing.assert_close(plain @ plain.T, mapped @ mapped.T, rtol=0, atol=1e-4)


def test_the_projection_gives_the_codes_from_the_means() -> None:
    statistics = ClassStatistics.of(*data())
    codes = class_codes(statistics, 5, power=0.5)
    again = normalize((statistics.means.float() - codes.mean) @ codes.projection, dim=1)
    torch.testing.assert_close(again, codes.rows, rtol=0, atol=1e-5)
    torch.testing.assert_close(later_codes(statistics, codes.projection, codes.mean), codes.rows, rtol=0, atol=1e-5)


def test_power_zero_makes_all_directions_equally_large() -> None:
    statistics = ClassStatistics.of(*data(classes=40))
    for power, spread in ((0.0, 1.0), (1.0, None)):
        codes = class_codes(statistics, 6, power=power)
        scale = ((statistics.means - statistics.mean) @ codes.projection.double()).square().mean(0).sqrt()
        ratio = float(scale.max() / scale.min())
        assert ratio == pytest.approx(spread, rel=1e-4) if spread else ratio > 1.3


@pytest.mark.parametrize("d", [9, 12, 30])
def test_free_coordinates_are_filled_beyond_the_rank(d: int) -> None:
    codes = class_codes(ClassStatistics.of(*data(classes=8)), d)
    assert codes.rank == 7
    assert not codes.projection[:, 7:].any()
    assert codes.rows[:, 7:].any(1).all()
    torch.testing.assert_close(torch.linalg.vector_norm(codes.rows, dim=1), torch.ones(8))


def test_where_means_are_equal_the_filling_alone_tells_classes_apart() -> None:
    features = torch.randn(1, 4).expand(12, 4)
    codes = class_codes(ClassStatistics.of(features, torch.arange(4).repeat_interleave(3)), 4)
    assert codes.rank == 0
    torch.testing.assert_close(codes.rows @ codes.rows.T, torch.eye(4))


def test_one_sample_a_class_is_enough() -> None:
    """As with embeddings of the classes' names: codes have the angles of the samples around their mean."""
    samples = 5 + torch.randn(9, 30, generator=torch.Generator().manual_seed(0))
    codes = class_codes(ClassStatistics.of(samples, torch.arange(9)), 8).rows
    expected = normalize(samples.double() - samples.double().mean(0), dim=1)
    torch.testing.assert_close(codes @ codes.T, (expected @ expected.T).float(), rtol=0, atol=1e-5)


def test_a_class_without_a_sample_has_a_free_place() -> None:
    features, labels = data(classes=8)
    kept = labels != 3
    statistics = ClassStatistics.of(features[kept], labels[kept], 9)
    codes = class_codes(statistics, 6)
    assert codes.seen.tolist() == [True] * 3 + [False] + [True] * 4 + [False]
    torch.testing.assert_close(torch.linalg.vector_norm(codes.rows, dim=1), torch.ones(9))
    others = codes.rows[codes.seen]
    assert (codes.rows[~codes.seen] @ others.T).abs().max() < 0.95
    # The classes that were seen do not move for it.
    without = class_codes(ClassStatistics.of(features[kept], labels[kept] - (labels[kept] > 3).long(), 7), 6).rows
    torch.testing.assert_close(others, without, rtol=0, atol=1e-6)


def test_free_places_are_the_freest_of_those_drawn() -> None:
    beside = normalize(torch.randn(50, 3, generator=torch.Generator().manual_seed(1)), dim=1)
    chosen, drawn = free_places(beside, 20, 3, seed=4), free_places(beside[:0], 20, 3, seed=4)
    nearest = [(rows @ beside.T).abs().amax(1).mean() for rows in (chosen, drawn)]
    assert nearest[0] < nearest[1]


def test_the_same_statistics_give_the_same_codes_whatever_the_global_state() -> None:
    statistics = ClassStatistics.of(*data())
    first = class_codes(statistics, 30)
    torch.manual_seed(99)
    assert torch.equal(class_codes(statistics, 30).rows, first.rows)


def test_codes_help_where_they_should() -> None:
    """New samples are nearest to their own code: along noisy directions as the features lie they are not."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(30).repeat_interleave(40)
    means = torch.randn(30, 20, generator=generator)
    noise = torch.ones(20)
    noise[:10] = 20.0  # half of the coordinates say next to nothing
    features = means[labels] + 0.3 * noise * torch.randn(len(labels), 20, generator=generator)
    codes = class_codes(ClassStatistics.of(features[::2], labels[::2]), 10)
    seen = normalize((features[1::2] - codes.mean) @ codes.projection, dim=1)
    right = ((seen @ codes.rows.T).argmax(1) == labels[1::2]).float().mean()
    bare = ((normalize(features[1::2], dim=1) @ normalize(means, dim=1).T).argmax(1) == labels[1::2]).float().mean()
    assert right > 0.9
    assert bare < 0.3


@pytest.mark.parametrize(
    ("given", "says"),
    [({"d": 1}, "d is 1"), ({"ridge": 0.0}, "ridge is 0.0"), ({"power": -1.0}, "power is -1.0")],
)
def test_settings_that_are_not_allowed_are_refused(given: dict[str, float], says: str) -> None:
    with pytest.raises(BadRequest, match=says):
        class_codes(ClassStatistics.of(*data()), **{"d": 4, **given})  # type: ignore[arg-type]


def test_statistics_of_nothing_are_refused() -> None:
    with pytest.raises(BadRequest, match="no class has a sample"):
        class_codes(ClassStatistics(3, 4), 2)


def test_later_classes_need_features_of_the_same_width() -> None:
    codes = class_codes(ClassStatistics.of(*data()), 5)
    with pytest.raises(BadRequest, match="features have width 11"):
        later_codes(ClassStatistics(2, 11), codes.projection, codes.mean)
