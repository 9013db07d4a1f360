"""Fashion-MNIST, read from its IDX files."""

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from protogen.errors import DiskError, IntegrityError, NotFound

from .data import Task, data_folders, held_back

FILES = {
    "train": ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"),
    "test": ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"),
}


def read(data: Path | None = None) -> Task:
    """Read Fashion-MNIST from a folder, else from the system's data.

    Raises NotFound, in a line that says what to install, DiskError and IntegrityError.
    """
    names = [name for pair in FILES.values() for name in pair]
    folders = [data] if data is not None else list(data_folders("datasets", "fashion-mnist"))
    folder = next((folder for folder in folders if all((folder / name).is_file() for name in names)), None)
    if folder is None:
        raise NotFound(
            f"Fashion-MNIST is not in {data or 'the datasets of this system'}; needed are {', '.join(names)}: install "
            "the Debian package dataset-fashion-mnist, or name their folder with --data"
        )
    parts = [_idx(folder / name) for pair in FILES.values() for name in pair]
    for images, labels in (parts[:2], parts[2:]):
        if images.dim() != 3 or labels.shape != images.shape[:1] or not (labels < 10).all():
            raise IntegrityError(
                f"{folder}: images are {tuple(images.shape)}, labels {tuple(labels.shape)}; get it anew"
            )
    return held_back("fashion", (parts[0], parts[1].long()), (parts[2], parts[3].long()), every=12, width=16)


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
    except (EOFError, ValueError, struct.error, zlib.error):
        pass
    raise IntegrityError(f"{path}: is no gzipped IDX file of bytes, or cut short; get it anew")
