"""Class statistics: the same from one batch, many, or two processes, and against a plain computation."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from processes import on_ranks
from torch import Tensor, distributed

from protogen.errors import BadRequest
from protogen.fitting import arrays
from protogen.fitting.codes import class_codes
from protogen.fitting.statistics import ClassStatistics
from protogen.ranks.group import Ranks


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


@pytest.mark.slow
def test_files_are_read_by_ranks_and_give_the_digest_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "PIECE", 60)  # numbers, of ten samples
    files = tmp_path / "features.npy", tmp_path / "labels.npy"
    for path, tensor in zip(files, drawn(samples=195), strict=True):
        np.save(path, tensor.numpy())
    alone = arrays.statistics_of(*files)
    assert alone.samples == 195
    torch.testing.assert_close(alone.second, ClassStatistics.of(*drawn(samples=195)).second, rtol=1e-12, atol=0)
    read: list[tuple[int, int]] = []

    def work(rank: int) -> tuple[str, list[tuple[int, int]]]:
        taken = arrays._Data.taken

        def noted(self: Any, start: int, stop: int, report: Any) -> Any:
            read.append((start, stop))
            return taken(self, start, stop, report)

        arrays._Data.taken = noted
        ranks = Ranks.of(distributed.group.WORLD)
        assert ranks is not None
        return ranks.led(lambda: arrays.statistics_of(*files).digest), read

    found = on_ranks(3, tmp_path / "meeting", work)
    assert [digest for digest, _ in found] == [alone.digest] * 3
    shares = [sum(stop - start for start, stop in parts) for _, parts in found]
    assert sum(shares) == 195
    assert max(shares) <= 90


def test_one_process_alone_has_nothing_to_combine() -> None:
    statistics = ClassStatistics.of(*drawn(), 5)
    before = statistics.digest
    statistics.combine()
    assert statistics.digest == before
