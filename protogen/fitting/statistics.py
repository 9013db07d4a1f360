"""What one pass over the data keeps of its classes: sums, counts and one matrix of second moments."""

import hashlib
from collections.abc import Mapping
from typing import Self

import torch
from torch import Tensor, distributed

from protogen.checks import check_whole
from protogen.errors import BadRequest

NAMES = ("counts", "sums", "second")
BATCH = 4096  # samples that `of` takes at a time


class ClassStatistics:
    """Class sums (classes, width), counts (classes,) and second moments (width, width) of features, in float64.

    `add` takes any number of batches, on any device; `combine` adds up what several processes have seen. The
    memory is 8 (classes + width) width bytes, whatever the number of samples. Features that are too wide for
    that are made narrower first, by any fixed projection.

    Raises BadRequest where `classes` or `width` are no whole numbers from 1 on.
    """

    def __init__(self, classes: int, width: int, *, device: str | torch.device = "cpu") -> None:
        check_whole("classes", classes, 1)
        check_whole("width", width, 1)
        self.counts = torch.zeros(classes, dtype=torch.int64, device=device)
        self.sums = torch.zeros(classes, width, dtype=torch.float64, device=device)
        self.second = torch.zeros(width, width, dtype=torch.float64, device=device)

    @classmethod
    def of(cls, features: Tensor, labels: Tensor, classes: int | None = None) -> Self:
        """Take in features (..., width) and labels (...) that lie in memory, on their device.

        Without `classes` they are as many as the largest label says. Raises BadRequest as `add` does.
        """
        most = int(labels.max()) + 1 if classes is None and labels.numel() else 1
        statistics = cls(most if classes is None else classes, features.shape[-1], device=features.device)
        flat, own = features.reshape(-1, features.shape[-1]), labels.reshape(-1)
        if len(flat) != len(own):
            raise BadRequest(f"there are {len(flat)} features and {len(own)} labels; give one label a feature")
        for some, those in zip(flat.split(BATCH), own.split(BATCH), strict=True):
            statistics.add(some, those)
        return statistics

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], prefix: str = "") -> Self:
        """Take `counts`, `sums` and `second`, each under a prefix, as they are."""
        held = cls.__new__(cls)
        held.counts, held.sums, held.second = (tensors[f"{prefix}{name}"] for name in NAMES)
        return held

    @property
    def held(self) -> dict[str, dict[str, Tensor]]:
        """These statistics as a Run holds them for a Spec that names them by their digest."""
        return {self.digest: {name: getattr(self, name) for name in NAMES}}

    def part(self, start: int, stop: int) -> "ClassStatistics":
        """The counts and sums of classes start to stop - 1, with the second moments of all."""
        return self.from_tensors(
            {"counts": self.counts[start:stop], "sums": self.sums[start:stop], "second": self.second}
        )

    @property
    def classes(self) -> int:
        """The number of classes."""
        return len(self.counts)

    @property
    def width(self) -> int:
        """The width of the features."""
        return self.sums.shape[1]

    @property
    def samples(self) -> int:
        """How many samples were taken in."""
        return int(self.counts.sum())

    @property
    def seen(self) -> Tensor:
        """Whether a class has a sample, (classes,)."""
        return self.counts > 0

    @property
    def means(self) -> Tensor:
        """The mean of each class, (classes, width) float64, zero where a class has no sample."""
        return self.sums / self.counts.clamp(min=1)[:, None]

    @property
    def mean(self) -> Tensor:
        """The mean of all samples, (width,) float64."""
        return self.sums.sum(0) / max(1, self.samples)

    @property
    def digest(self) -> str:
        """The sha256, in hex, over the numbers held: it names what was seen, up to the rounding of the sums."""
        hasher = hashlib.sha256(f"{self.classes} {self.width}".encode())
        for part in (self.counts, self.sums, self.second):
            hasher.update(part.cpu().contiguous().reshape(-1).numpy().data.cast("B"))
        return hasher.hexdigest()

    @torch.no_grad()
    def add(self, features: Tensor, labels: Tensor) -> None:
        """Take in a batch: features (..., width) of any real type and labels (...), moved to this device.

        Products are worked out in float64. Raises BadRequest, and takes nothing in, where the shapes do not fit,
        a label is no class or a feature is not finite.
        """
        device = self.sums.device
        if features.shape != (*labels.shape, self.width):
            raise BadRequest(
                f"features have shape {tuple(features.shape)}, labels {tuple(labels.shape)}; allowed is one label for "
                f"each feature of width {self.width}"
            )
        if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
            raise BadRequest(f"labels are {labels.dtype}; allowed are integers: convert them first, with .long()")
        if not labels.numel():
            return
        own = labels.reshape(-1).to(device, torch.int64)
        low, high = int(own.min()), int(own.max())
        if low < 0 or high >= self.classes:
            raise BadRequest(
                f"labels hold {low if low < 0 else high}; allowed is 0 to {self.classes - 1}: count the classes again"
            )
        rows = features.reshape(-1, self.width).to(device, torch.float64)
        if not rows.sum().isfinite():
            raise BadRequest(
                "a feature is not finite; allowed are finite ones: look for an overflow or a division by zero"
            )
        self.counts.index_add_(0, own, torch.ones_like(own))
        self.sums.index_add_(0, own, rows)
        self.second.addmm_(rows.T, rows)

    def plus(self, other: "ClassStatistics") -> "ClassStatistics":
        """Return the statistics of the samples of both."""
        return self.from_tensors({name: getattr(self, name) + getattr(other, name) for name in NAMES})

    def combine(self) -> None:
        """Add up what all processes of `torch.distributed` have seen, so that each has it all.

        Call it once on every process, after its last batch; alone it changes nothing.
        """
        if not (distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1):
            return
        for part in (self.counts, self.sums, self.second):
            distributed.all_reduce(part)

    def scatter(self) -> tuple[Tensor, Tensor]:
        """Return the scatter within classes and that between them, both (width, width) float64, over all samples.

        Sw = sum over samples of (x - mean of its class) (x - mean of its class)^T / N
        Sb = sum over classes of count (class mean - mean) (class mean - mean)^T / N
        """
        samples = max(1, self.samples)
        explained = torch.zeros_like(self.second)
        for sums, counts in zip(self.sums.split(BATCH), self.counts.split(BATCH), strict=True):
            explained.addmm_((sums / counts.clamp(min=1)[:, None]).T, sums)
        mean = self.mean
        return (self.second - explained) / samples, explained / samples - torch.outer(mean, mean)
