"""Class statistics: the same from one batch, many, or two processes, and against a plain computation."""

from pathlib import Path

import pytest
import torch
from processes import on_ranks
from torch import Tensor

from protogen.errors import BadRequest
from protogen.fitting.codes import class_codes
from protogen.fitting.statistics import ClassStatistics


def drawn(samples: int = 200, width: int = 6, classes: int = 5) -> tuple[Tensor, Tensor]:
    """Features around class means far from the origin, and their labels."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(classes, (samples,), generator=generator)
    means = 10 + 3 * torch.randn(classes, width, generator=generator)
    return means[labels] + torch.randn(samples, width, generator=generator), labels


def test_scatter_is_that_of_the_definition() -> None:
    features, labels = drawn()
    statistics = ClassStatistics.of(features, labels, 5)
    x = features.double()
    within, between = torch.zeros(6, 6, dtype=torch.float64), torch.zeros(6, 6, dtype=torch.float64)
    for label in range(5):
        own = x[labels == label]
        off, apart = own - own.mean(0), own.mean(0) - x.mean(0)
        within += off.T @ off / len(x)
        between += len(own) * torch.outer(apart, apart) / len(x)
        torch.testing.assert_close(statistics.means[label], own.mean(0), rtol=1e-12, atol=0)
    for got, expected in zip(statistics.scatter(), (within, between), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-10)
    assert (statistics.classes, statistics.width, statistics.samples) == (5, 6, 200)
    assert statistics.counts.tolist() == labels.bincount(minlength=5).tolist()


def test_batches_of_any_shape_and_type_add_up() -> None:
    features, labels = drawn()
    whole, parts = ClassStatistics.of(features, labels, 5), ClassStatistics(5, 6)
    parts.add(features[:120].reshape(4, 30, 6).double(), labels[:120].reshape(4, 30).int())
    parts.add(features[120:], labels[120:].to(torch.uint8))
    parts.add(features[:0], labels[:0])
    for got, expected in zip(parts.scatter(), whole.scatter(), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)
    assert ClassStatistics.of(features, labels).classes == int(labels.max()) + 1


def test_the_digest_names_what_was_seen() -> None:
    features, labels = drawn()
    first, again = (ClassStatistics.of(features, labels, 5).digest for _ in range(2))
    assert first == again
    assert ClassStatistics.of(features, labels, 6).digest != first
    assert ClassStatistics.of(features.flip(1), labels, 5).digest != first


@pytest.mark.parametrize(
    ("features", "labels", "says"),
    [
        (torch.zeros(3, 5), torch.zeros(3).long(), "features have shape"),
        (torch.zeros(3, 6), torch.zeros(2).long(), "features have shape"),
        (torch.zeros(3, 6), torch.zeros(3), "convert them first, with .long"),
        (torch.zeros(3, 6), torch.tensor([0, 5, 1]), "labels hold 5; allowed is 0 to 4"),
        (torch.zeros(3, 6), torch.tensor([0, -1, 1]), "labels hold -1"),
        (torch.full((3, 6), torch.inf), torch.zeros(3).long(), "not finite"),
        (torch.tensor([[1.0, 2, 3, 4, 5, torch.nan]]), torch.zeros(1).long(), "not finite"),
    ],
)
def test_a_batch_that_does_not_fit_is_refused_whole(features: Tensor, labels: Tensor, says: str) -> None:
    statistics = ClassStatistics(5, 6)
    with pytest.raises(BadRequest, match=says):
        statistics.add(features, labels)
    assert statistics.samples == 0
    assert not statistics.second.any()


def halves(rank: int) -> Tensor:
    """The codes by each of two processes, of which each has half of the samples, in batches of its own."""
    features, labels = drawn()
    statistics = ClassStatistics(5, 6)
    for part in torch.arange(rank, len(labels), 2).split(17 + rank):
        statistics.add(features[part], labels[part])
    statistics.combine()
    return class_codes(statistics, 3).rows


@pytest.mark.slow
def test_two_processes_give_the_codes_of_one(tmp_path: Path) -> None:
    both = on_ranks(2, tmp_path / "meeting", halves)
    alone = class_codes(ClassStatistics.of(*drawn(), 5), 3).rows
    assert torch.equal(both[0], both[1])
    torch.testing.assert_close(both[0], alone, rtol=0, atol=1e-6)


def test_one_process_alone_has_nothing_to_combine() -> None:
    statistics = ClassStatistics.of(*drawn(), 5)
    before = statistics.digest
    statistics.combine()
    assert statistics.digest == before
