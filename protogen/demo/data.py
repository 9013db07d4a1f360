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


@dataclass(frozen=True)
class Task:
    """Images (samples, size, size), uint8, and labels of a training and a test set.

    `width` is the number of channels that the network begins with; `shake` whether its training images are
    turned, scaled and moved a little, anew in every epoch.
    """

    name: str
    classes: int
    images: Tensor
    labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    width: int
    shake: bool = False

    @cached_property
    def digest(self) -> str:
        """The first 12 hex digits of the sha256 over all that a network is trained and tested on."""
        hasher = hashlib.sha256()
        for part in (self.images, self.labels, self.test_images, self.test_labels):
            hasher.update(part.numpy().tobytes())
        return hasher.hexdigest()[:12]

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


def data_folders(*inside: str) -> Iterator[Path]:
    """The folders of that name where programs of this system and this user keep data, after the XDG convention."""
    home = os.environ.get("XDG_DATA_HOME") or os.path.join("~", ".local", "share")
    shared = os.environ.get("XDG_DATA_DIRS") or os.pathsep.join(["/usr/local/share", "/usr/share"])
    for folder in (os.path.expanduser(home), *shared.split(os.pathsep)):
        if (found := Path(folder, *inside)).is_dir():
            yield found
