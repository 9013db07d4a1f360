"""The demo's data: scikit-learn's digits, Fashion-MNIST, and Chinese characters in many typefaces."""

import gzip
import hashlib
import math
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import BadRequest, DiskError, IntegrityError, NotFound

TASKS = ("digits", "fashion", "glyphs")
FASHION = {
    "train": ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"),
    "test": ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"),
}


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


def load_task(name: str, classes: int | None = None, data: Path | None = None) -> Task:
    """Load the data of a task; `classes` is for glyphs, `data` a folder to look in instead of the system's.

    Raises BadRequest, and NotFound, in a line that says what to install, where the data is not there.
    """
    if name not in TASKS:
        raise BadRequest(f"task is {name!r}; allowed is {', '.join(TASKS)}")
    if classes is not None and name != "glyphs":
        raise BadRequest(f"classes is {classes} with {name}, which has its 10; leave it out, or ask for glyphs")
    if data is not None and not data.is_dir():
        raise NotFound(f"{data}: no such directory; name the one that holds the data of {name}")
    if name == "digits":
        if data is not None:
            raise BadRequest(f"data is {data} with digits, which scikit-learn carries; leave it out")
        return _digits()
    if name == "fashion":
        return _fashion(data)
    from .glyphs import render

    return Task("glyphs", *render(1000 if classes is None else classes, data), width=32, shake=True)


def _digits() -> Task:
    """Half of the images train and half test, every other one, so that the order of writers does not matter."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise NotFound("digits need scikit-learn; run `pip install 'protogen-codes[demo]'`") from error
    found = load_digits()
    images = torch.from_numpy(found.images * 15.9375).to(torch.uint8)
    labels = torch.from_numpy(found.target).long()
    return Task("digits", 10, images[::2], labels[::2], images[1::2], labels[1::2], width=32)


def _fashion(data: Path | None) -> Task:
    names = [name for pair in FASHION.values() for name in pair]
    folders = [data] if data is not None else list(data_folders("datasets", "fashion-mnist"))
    folder = next((folder for folder in folders if all((folder / name).is_file() for name in names)), None)
    if folder is None:
        raise NotFound(
            f"Fashion-MNIST is not in {data or 'the datasets of this system'}; needed are {', '.join(names)}: install "
            "the Debian package dataset-fashion-mnist, or name their folder with --data"
        )
    parts = [_idx(folder / name) for pair in FASHION.values() for name in pair]
    for images, labels in (parts[:2], parts[2:]):
        if images.dim() != 3 or labels.shape != images.shape[:1] or not (labels < 10).all():
            raise IntegrityError(
                f"{folder}: images are {tuple(images.shape)}, labels {tuple(labels.shape)}; get it anew"
            )
    return Task("fashion", 10, parts[0], parts[1].long(), parts[2], parts[3].long(), width=16)


def _idx(path: Path) -> Tensor:
    """Read one file of the IDX format: two zero bytes, the type 8 (uint8), the number of sizes, these, the values."""
    try:
        raw = gzip.decompress(path.read_bytes())
        zero, kind, rank = struct.unpack(">HBB", raw[:4])
        shape = struct.unpack(f">{rank}I", raw[4 : 4 + 4 * rank])
        values = np.frombuffer(raw, np.uint8, offset=4 + 4 * rank)
        if (zero, kind) == (0, 8) and values.size == math.prod(shape):
            return torch.from_numpy(values.reshape(shape).copy())
    except OSError as error:
        if not isinstance(error, gzip.BadGzipFile):
            raise DiskError(f"{path}: {error.strerror or error}; make it readable") from error
    except (EOFError, ValueError, struct.error):
        pass
    raise IntegrityError(f"{path}: is no gzipped IDX file of bytes, or cut short; get it anew")
