"""What the demo trains and tests on, and where a system keeps data."""

import hashlib
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from protogen.fitting.statistics import BATCH, ClassStatistics

VALIDATION, TEST = PARTS = ("validation", "test")


@dataclass(frozen=True)
class Task:
    """Samples and labels of a training, a validation and a test set.

    Samples are images (samples, height, width), uint8, or vectors (samples, width), float32. Choices are made on
    the validation set. The test set is for what is left at the end. Neither is ever trained on.

    - `width`: the number of channels that the network begins with.
    - `shake`: whether its training images are turned, scaled and moved a little, anew in every epoch.
    """

    name: str
    classes: int
    images: Tensor
    labels: Tensor
    validation_images: Tensor
    validation_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    width: int
    shake: bool = False

    @cached_property
    def digest(self) -> str:
        """The first 12 hex digits of the sha256 over all that a network is trained, validated and tested on."""
        hasher = hashlib.sha256()
        for images, labels in ((self.images, self.labels), *(self.part(name) for name in PARTS)):
            hasher.update(images.numpy().tobytes())
            hasher.update(labels.numpy().tobytes())
        return hasher.hexdigest()[:12]

    @cached_property
    def statistics(self) -> ClassStatistics:
        """The class statistics of the training samples as a network is given them, flattened."""
        width = self.images[0].numel()
        found = ClassStatistics(self.classes, width)
        for some, labels in zip(self.images.split(BATCH), self.labels.split(BATCH), strict=True):
            found.add(inputs(some).reshape(-1, width), labels)
        return found

    def part(self, name: str) -> tuple[Tensor, Tensor]:
        """The samples and labels of the validation or the test set."""
        if name == VALIDATION:
            return self.validation_images, self.validation_labels
        return self.test_images, self.test_labels

    def long_tailed(self, ratio: float) -> "Task":
        """Keep fewer and fewer training images of each class: the first class `ratio` times those of the last.

        As in Cao et al. 2019: falling exponentially in the number of the class, the first of the file's order.
        """
        if ratio == 1:
            return self
        kept = []
        for label in range(self.classes):
            here = (self.labels == label).nonzero().flatten()
            share = ratio ** (-label / (self.classes - 1))
            kept.append(here[: max(1, math.floor(len(here) * share))])
        order = torch.cat(kept).sort().values
        return replace(self, images=self.images[order], labels=self.labels[order])


def held_back(name: str, train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], *, every: int, width: int) -> Task:
    """Make a task of ten classes. One of `every` samples of the training set is held back to validate."""
    images, labels = train
    held = torch.arange(len(labels)) % every == every - 1
    return Task(name, 10, images[~held], labels[~held], images[held], labels[held], *test, width=width)


def inputs(samples: Tensor) -> Tensor:
    """Give samples the form that a network takes: images (b, 1, height, width) from 0 to 1, vectors as they are."""
    return samples.unsqueeze(1).float() / 255 if samples.dtype == torch.uint8 else samples


def data_folders(*inside: str) -> Iterator[Path]:
    """Yield the folders of that name in which programs of this user and system keep data, by the XDG convention."""
    home = os.environ.get("XDG_DATA_HOME") or os.path.join("~", ".local", "share")
    shared = os.environ.get("XDG_DATA_DIRS") or os.pathsep.join(["/usr/local/share", "/usr/share"])
    for folder in (os.path.expanduser(home), *shared.split(os.pathsep)):
        if (found := Path(folder, *inside)).is_dir():
            yield found
