"""How one file, or a part of it, is read and checked."""

import hashlib
import math
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from protogen.checks import check_flag, check_path
from protogen.errors import BadRequest
from protogen.rows import InMemory

from .digests import BLOCK
from .disk import read_at
from .header import Header, damaged, open_artifact, wrong
from .names import parse_name
from .prototypes import Prototypes
from .tensors import ITEM_BYTES, NAMES, memory_of, norm_fault

if TYPE_CHECKING:
    from torch import Tensor


def read(
    path: str | os.PathLike[str], check: bool = True, *, rows: slice | None = None, full: bool = False
) -> Prototypes:
    """Read a file, or some of its rows, into memory of its own and check header, length, digests, values and norms.

    `rows` is slice(a, b) with 0 <= a < b <= n, where None is the end of the file's rows. Tensors whose first
    dimension is n are cut alike, others are read whole. What is read are the 2 MiB blocks that hold any of
    it, and their digests are checked; with `full` those of all blocks. `check=False` leaves out what needs a
    pass over the tensors. Raises NotFound, DiskError, IntegrityError, and BadRequest on other `rows` and on
    `full` without `check`.
    """
    check_path("path", path)
    check_flag("check", check)
    check_flag("full", full)
    path = Path(path)
    if full and not check:
        raise BadRequest(f"{path}: full=True with check=False, allowed is one of them; leave the other out")
    with open_artifact(path) as (file, header):
        part = _part(path, rows, header.spec.n)
        tensors = _load(path, file.fileno(), header, part, check, full)
    if check:
        _check_values(path, header, tensors, part.start)
    name = parse_name(path.name)
    return Prototypes(
        spec=header.spec,
        source=InMemory(tensors.pop("prototypes")),
        stats=header.stats,
        provenance=header.provenance,
        facts=header.facts,
        tensors=tensors,
        path=path,
        version=name[0] if name else None,
        digest=header.digest,
        part=None if len(part) == header.spec.n else part,
    )


def _part(path: Path, rows: slice | None, n: int) -> range:
    """Say which of n rows a slice names."""
    if rows is None:
        return range(n)
    try:
        ends = 0 if rows.start is None else rows.start, n if rows.stop is None else rows.stop
        part = range(*ends, 1 if rows.step is None else rows.step)
    except (AttributeError, TypeError, ValueError):  # no slice, or not one of whole numbers
        part = range(0)
    # A slice past the end is not cut short, as Python does: it would be another share of the rows than was asked for.
    if part.step != 1 or not 0 <= part.start < part.stop <= n:
        raise BadRequest(f"{path}: rows={rows!r}, allowed is slice(a, b) with 0 <= a < b <= n; n is {n}")
    return part


def _load(path: Path, file: int, header: Header, part: range, check: bool, full: bool) -> dict[str, "Tensor"]:
    """Read the blocks that hold these rows by plain reads: a mapped file that is cut would take the process with it."""
    import torch

    tensors, wanted, digests = {}, [], header.blocks
    for entry in header.entries:
        cut = entry.shape[:1] == (header.spec.n,)
        shape = (len(part), *entry.shape[1:]) if cut else entry.shape
        tensors[entry.name] = torch.empty(shape, dtype=getattr(torch, NAMES[entry.dtype]), device="cpu")
        before = part.start * math.prod(entry.shape[1:]) * ITEM_BYTES[entry.dtype] if cut else 0
        wanted.append((entry.start + before, memory_of(tensors[entry.name])))

    def take(index: int) -> None:
        start, size = index * BLOCK, min(BLOCK, header.data_bytes - index * BLOCK)
        data = memoryview(read_at(file, size, header.data_start + start))
        if len(data) < size:
            raise damaged(path, f"block {index} of its tensors has {len(data)} bytes, the header says {size}")
        if check and (found := hashlib.sha256(data).hexdigest()) != digests[index]:
            raise damaged(path, f"block {index} of its tensors has sha256 {found}, the header says {digests[index]}")
        for first, memory in wanted:
            low, high = max(first, start), min(first + len(memory), start + size)
            if low < high:
                memory[low - first : high - first] = data[low - start : high - start]

    blocks = {i for first, memory in wanted for i in range(first // BLOCK, -(-(first + len(memory)) // BLOCK))}
    # hashlib lets go of the interpreter lock: two threads hash twice as fast.
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(take, range(len(digests)) if full else sorted(blocks)))
    return tensors


def _check_values(path: Path, header: Header, tensors: Mapping[str, "Tensor"], first: int) -> None:
    fault = norm_fault(tensors["prototypes"], first, header.facts.norms == "free")
    if fault:
        raise wrong(path, fault)
    for name, tensor in tensors.items():
        if name != "prototypes" and tensor.is_floating_point() and not tensor.isfinite().all():
            raise wrong(path, f"tensor {name} holds values that are not finite, allowed are finite ones")
