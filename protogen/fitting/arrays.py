"""Features and labels that lie in files, read piece by piece: .npy, or one tensor of a safetensors file."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from protogen.errors import BadRequest, DiskError, IntegrityError, NotFound
from protogen.ranks.lead import leading

from .statistics import NAMES, ClassStatistics

if TYPE_CHECKING:
    from protogen.ranks.group import Ranks

PIECE = 2**24  # numbers that are read at a time
SECTIONS = 8  # of the samples, that are added up one apart from the other
LABELS = ("U8", "I8", "I16", "I32", "I64")


@dataclass(frozen=True)
class Array:
    """An array in a file: its shape, and `rows(start, stop)` of it as a tensor of its own."""

    path: Path
    shape: tuple[int, ...]
    rows: Callable[[int, int], Tensor]


def open_array(path: Path, name: str) -> Array:
    """Open a .npy file, or a safetensors file that has one tensor, or one called `name`; nothing is read yet.

    Raises NotFound, DiskError, IntegrityError where the file is neither, and BadRequest where it has several tensors.
    """
    if path.exists() and not path.is_file():  # of a pipe the end may never come
        raise DiskError(f"{path}: is a directory or a device, needed is a file; name one with the {name}")
    try:
        with path.open("rb") as file:
            start = file.read(6)
        return _npy(path) if start == b"\x93NUMPY" else _safetensors(path, name)
    except FileNotFoundError as error:
        raise NotFound(f"{path}: no such file", f"name one with the {name}") from error
    except OSError as error:
        raise DiskError(f"{path}: {error.strerror or error}", "make it readable") from error


def _npy(path: Path) -> Array:
    import numpy as np

    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise IntegrityError(f"{path}: is no sound .npy file of numbers ({error})", "write it anew") from error
    if array.dtype.kind not in "fiu" or array.dtype.itemsize > 8:
        raise BadRequest(f"{path}: holds {array.dtype}; allowed are real numbers: convert it first")

    def rows(start: int, stop: int) -> Tensor:
        part = np.array(array[start:stop])
        # torch has no arithmetic on unsigned numbers above 8 bits, nor on another byte order.
        kind = part.dtype.kind
        whole = kind in "iu" and part.dtype != np.uint8
        return torch.from_numpy(part.astype(np.int64 if whole else part.dtype.newbyteorder("="), copy=False))

    return Array(path, tuple(array.shape), rows)


def _safetensors(path: Path, name: str) -> Array:
    from safetensors import SafetensorError, safe_open

    try:
        file = safe_open(path, framework="pt")
        names = list(file.keys())
        if name not in names and len(names) != 1:
            there = ", ".join(sorted(names)[:10])
            raise BadRequest(f"{path}: has the tensors {there}; allowed is a single one, or one called {name!r}")
        piece = file.get_slice(name if name in names else names[0])
        shape = tuple(piece.get_shape())
    except SafetensorError as error:
        raise IntegrityError(
            f"{path}: is neither a .npy nor a sound safetensors file ({error})", "write it anew"
        ) from error
    return Array(path, shape, lambda start, stop: piece[start:stop].clone())


def statistics_of(
    features: Path,
    labels: Path,
    classes: int | None = None,
    *,
    device: str = "cpu",
    narrow: int | None = None,
    report: Callable[[float], None] | None = None,
) -> ClassStatistics:
    """Take the statistics of features (samples, ...) and labels (samples,) that lie in files, in one pass.

    Samples are flattened. Without `classes` they are as many as the largest label says. With `narrow` features are
    projected at random to that width first, always by the same matrix (`narrowing`). `report` is told the share that
    is done. Memory: twice the statistics, and a piece of PIECE numbers.

    The samples make up to SECTIONS sections, which are added up one by one and then in their order. Ranks that this
    process leads take whole sections, so that the sums are the same for any number of ranks.

    Raises BadRequest where the files do not fit each other, and what `open_array` and `ClassStatistics.add` raise.
    """
    x, y = open_array(features, "features"), open_array(labels, "labels")
    if len(y.shape) != 1 or len(x.shape) < 2 or x.shape[0] != y.shape[0] or 0 in x.shape:
        raise BadRequest(
            f"{features}: has shape {x.shape}, {labels} {y.shape}; allowed are features (samples, width) and as many "
            "labels (samples,)"
        )
    if classes is None:
        own = y.rows(0, y.shape[0])
        if own.is_floating_point():
            raise BadRequest(f"{labels}: holds {own.dtype}; allowed are integers: convert them first")
        classes = max(1, int(own.max()) + 1)
    data = _Data(features.absolute(), labels.absolute(), classes, device, narrow)
    samples, tell, ranks = x.shape[0], report or (lambda share: None), leading()
    sections = _sections(x.shape)
    total: ClassStatistics | None = None
    for first in range(0, len(sections), ranks.world if ranks else 1):
        if ranks is not None and len(sections) > 1:
            some = sections[first : first + ranks.world]
            found = ranks.together(_take_sections, data, some)
            tell(some[-1][1] / samples)
        else:
            found = [data.taken(*sections[first], lambda done: tell(done / samples))]
        for each in found:
            total = each if total is None else total.plus(each)
    assert total is not None, "there is a sample"
    return total


@dataclass(frozen=True)
class _Data:
    """Features and labels in files, and what is to be taken of them."""

    features: Path
    labels: Path
    classes: int
    device: str
    narrow: int | None

    def taken(self, start: int, stop: int, report: Callable[[int], None]) -> ClassStatistics:
        """Return the statistics of samples start to stop - 1; `report` is told how many samples are done."""
        x, y = open_array(self.features, "features"), open_array(self.labels, "labels")
        width = math.prod(x.shape[1:])
        statistics = ClassStatistics(self.classes, self.narrow or width, device=self.device)
        matrix = None if self.narrow is None else narrowing(width, self.narrow).to(self.device)
        step = _step(x.shape)
        for first in range(start, stop, step):
            end = min(first + step, stop)
            piece = x.rows(first, end).flatten(1)
            if matrix is not None:
                piece = piece.to(self.device, torch.float32) @ matrix
            statistics.add(piece, y.rows(first, end))
            report(end)
        return statistics


def _step(shape: tuple[int, ...]) -> int:
    """How many samples of features make a piece."""
    return max(1, PIECE // math.prod(shape[1:]))


def _sections(shape: tuple[int, ...]) -> list[tuple[int, int]]:
    """Cut the samples of features (samples, ...) into sections of whole pieces."""
    samples, step = shape[0], _step(shape)
    pieces = math.ceil(samples / step)
    size = step * math.ceil(pieces / SECTIONS)
    return [(start, min(start + size, samples)) for start in range(0, samples, size)]


def _take_sections(ranks: "Ranks", data: _Data, sections: list[tuple[int, int]]) -> list[ClassStatistics]:
    """Take one section each; rank 0 returns the statistics of all, in their order, the other ranks none."""
    with ranks.agreeing():
        own = data.taken(*sections[ranks.rank], lambda done: None) if ranks.rank < len(sections) else None
    width = max(ranks.gathered(0 if own is None else own.width))
    own = own or ClassStatistics(data.classes, width, device=data.device)
    parts = {name: ranks.collect_rows(getattr(own, name)[None], ranks.world) for name in NAMES}
    whole = {name: part for name, part in parts.items() if part is not None}  # on rank 0, which has them all
    return [
        ClassStatistics.from_tensors({name: part[rank].to(data.device) for name, part in whole.items()})
        for rank in range(len(sections) if whole else 0)
    ]


def narrowing(width: int, narrow: int) -> Tensor:
    """The random projection (width, narrow) for features too wide for their statistics, always the same.

    Distances are kept within a few in the square root of `narrow` (Johnson and Lindenstrauss 1984).
    """
    generator = torch.Generator().manual_seed(0)
    return torch.randn(width, narrow, generator=generator, dtype=torch.float32, device="cpu").div_(math.sqrt(narrow))
