"""The result, prototypes with all that is known of them, and how one file is written and read."""

import contextlib
import hashlib
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import BadRequest, IntegrityError
from .header import (
    BLOCK,
    ITEM_BYTES,
    LONGEST,
    PENDING,
    REMEDY,
    TENSOR,
    BlockHasher,
    Header,
    TensorEntry,
    block_count,
    disk_error,
    encode,
    layout,
    open_artifact,
    parse_name,
    read_header,
)
from .provenance import Provenance
from .solution import InMemory, Rows
from .spec import Spec
from .stats import AngleStats

if TYPE_CHECKING:
    from torch import Tensor

NORM_TOLERANCE = 1e-5
CHUNK = 16 << 20  # bytes of rows that are built and written at a time
DTYPES = {"float64": "F64", "float32": "F32", "int64": "I64", "int32": "I32", "uint8": "U8", "bool": "BOOL"}
NAMES = {code: name for name, code in DTYPES.items()}


@dataclass(frozen=True, eq=False)
class Prototypes:
    """A set of n prototypes in R^d, float32, and all that is known of it.

    `tensors` are what the method made beside the rows, by name; `stats` are None where nothing was
    measured. `path`, `version` and `digest` (sha256 of the content) are None until it lies in a file.
    `part` says which rows of the file these are where they are not all: `n`, `tensor`, `rows` and `tensors`
    are then of the part, and everything else is of the whole.
    """

    spec: Spec
    source: Rows
    stats: AngleStats | None
    provenance: Provenance
    facts: Mapping[str, Any] = field(default_factory=dict)
    tensors: Mapping[str, "Tensor"] = field(default_factory=dict)
    path: Path | None = None
    version: int | None = None
    digest: str | None = None
    part: range | None = None

    @property
    def n(self) -> int:
        """The number of prototypes (of classes, where each has several)."""
        return self.source.shape[0]

    @property
    def d(self) -> int:
        """The dimension."""
        return self.spec.d

    @property
    def tensor(self) -> "Tensor":
        """All rows, (n, d) or (n, s, d), float32, on the CPU."""
        return self.source.rows(0, self.n)

    def rows(self, start: int, stop: int) -> "Tensor":
        """Rows start to stop - 1, (stop - start, d) or (stop - start, s, d)."""
        return self.source.rows(start, stop)


def write(path: str | os.PathLike[str], prototypes: Prototypes) -> str:
    """Write a new safetensors file, row block by row block, open it again and return its digest.

    Memory: one chunk of rows, whatever n. Nothing is left of a file that could not be finished.
    Raises DiskError (also where the file exists), BadRequest on rows that no reader would accept, and
    ValueError on facts that JSON cannot hold.
    """
    path = Path(path)
    entries = _entries(path, prototypes)
    content = {
        "spec": prototypes.spec.to_dict(),
        "facts": dict(prototypes.facts),
        "stats": prototypes.stats.to_dict() if prototypes.stats else None,
        "provenance": prototypes.provenance.to_dict(),
    }
    pending = encode(entries, {**content, "blocks": [PENDING] * block_count(entries)})
    if len(pending) > LONGEST:
        got = f"{entries[-1].end / 1e9:,.0f} GB need a header of {len(pending):,} bytes"
        raise BadRequest(f"{path}: {got}, allowed are {LONGEST:,}; ask for fewer or shorter vectors")
    hasher = BlockHasher()
    created = finished = False
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        created = True
        with os.fdopen(descriptor, "wb") as file:
            file.write(pending)
            for tensor in _chunks(path, prototypes, entries):
                data = _bytes(tensor)
                hasher.update(data)
                file.write(data)
            file.seek(0)
            file.write(encode(entries, {**content, "blocks": hasher.digests()}))
            file.flush()
            os.fsync(file.fileno())
        digest = read_header(path).digest
        finished = True
    except OSError as error:
        raise disk_error(path, error) from error
    finally:
        if created and not finished:
            with contextlib.suppress(OSError):
                path.unlink()
    return digest


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
    path = Path(path)
    if full and not check:
        raise BadRequest(f"{path}: full=True with check=False, allowed is one of them; leave the other out")
    with open_artifact(path) as (file, header):
        part = _part(path, rows, header.spec.n)
        tensors = _load(path, file.fileno(), header, part, check, full)
    if check:
        _check_values(path, header, tensors, part.start)
    stats = header.meta["stats"]
    name = parse_name(path.name)
    return Prototypes(
        spec=header.spec,
        source=InMemory(tensors.pop("prototypes")),
        stats=None if stats is None else AngleStats.from_dict(stats),
        provenance=Provenance.from_dict(header.meta["provenance"]),
        facts=dict(header.meta["facts"]),
        tensors=tensors,
        path=path,
        version=name[0] if name else None,
        digest=header.digest,
        part=None if len(part) == header.spec.n else part,
    )


def _damaged(path: Path, what: str) -> IntegrityError:
    return IntegrityError(f"{path}: {what}; {REMEDY}")


def _wrong(path: Path, what: str) -> IntegrityError:
    """What no digest shows, so that nothing sets the file aside."""
    return IntegrityError(f"{path}: {what}, though its digests are right; delete it and make it again")


def _entries(path: Path, prototypes: Prototypes) -> tuple[TensorEntry, ...]:
    shape, spec, part = prototypes.source.shape, prototypes.spec, prototypes.part
    if part is not None:
        got = f"{part.start} to {part.stop - 1} of {prototypes.path}"
        raise BadRequest(f"{path}: rows {got} alone, allowed is all that the Spec asks for; load them without `rows`")
    if len(shape) not in (2, 3) or (shape[0], shape[-1]) != (spec.n, spec.d):
        raise BadRequest(f"{path}: rows have shape {shape}, the Spec allows ({spec.n}, {spec.d}) or (n, s, d)")
    tensors: dict[str, tuple[str, Sequence[int]]] = {"prototypes": ("F32", shape)}
    for name, tensor in prototypes.tensors.items():
        dtype = str(tensor.dtype).removeprefix("torch.")
        if dtype not in DTYPES or name == "prototypes" or not TENSOR.fullmatch(name):
            raise BadRequest(
                f"{path}: tensor {name!r} of {dtype}, allowed are other names, of up to 64 letters, digits and _, "
                f"a letter first, and {', '.join(DTYPES)}"
            )
        tensors[name] = (DTYPES[dtype], tuple(tensor.shape))
    return layout(tensors)


def _chunks(path: Path, prototypes: Prototypes, entries: Sequence[TensorEntry]) -> Iterator["Tensor"]:
    """Give out the data section in order, as tensors that are contiguous and on the CPU."""
    shape, free = tuple(prototypes.source.shape), prototypes.facts.get("norms") == "free"
    for entry in entries:
        if entry.name != "prototypes":
            yield prototypes.tensors[entry.name].detach().cpu().contiguous()
            continue
        step = max(1, CHUNK * shape[0] // max(1, entry.end - entry.start))
        for start in range(0, shape[0], step):
            stop = min(start + step, shape[0])
            rows = prototypes.rows(start, stop)
            if str(rows.dtype) != "torch.float32" or tuple(rows.shape) != (stop - start, *shape[1:]):
                got = f"{rows.dtype} {tuple(rows.shape)}"
                raise BadRequest(f"{path}: rows {start} to {stop - 1} are {got}, allowed is float32 {shape[1:]}")
            rows = rows.detach().cpu().contiguous()
            fault = _fault(rows, start, free)
            if fault:
                raise BadRequest(f"{path}: {fault}; normalise the rows before writing them")
            yield rows


def _bytes(tensor: "Tensor") -> memoryview:
    """Look at a contiguous tensor's memory."""
    import torch

    return tensor.flatten().view(torch.uint8).numpy().data


def _fault(rows: "Tensor", first: int, free: bool) -> str | None:
    """Find a row that is not finite or, unless norms are free, not of norm 1."""
    import torch

    norms = torch.linalg.vector_norm(rows, dim=-1)
    # Written so that NaN, of which every comparison is false, is a fault.
    sound = norms.isfinite() if free else (norms - 1).abs() <= NORM_TOLERANCE
    if sound.all():
        return None
    place = (~sound).nonzero()[0].tolist()
    allowed = "a finite one" if free else f"1 within {NORM_TOLERANCE}"
    return f"row {first + place[0]} has norm {norms[tuple(place)].item()}, allowed is {allowed}"


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

    tensors, wanted, digests = {}, [], header.meta["blocks"]
    for entry in header.entries:
        cut = entry.shape[:1] == (header.spec.n,)
        shape = (len(part), *entry.shape[1:]) if cut else entry.shape
        tensors[entry.name] = torch.empty(shape, dtype=getattr(torch, NAMES[entry.dtype]), device="cpu")
        before = part.start * math.prod(entry.shape[1:]) * ITEM_BYTES[entry.dtype] if cut else 0
        wanted.append((entry.start + before, _bytes(tensors[entry.name])))

    def take(index: int) -> None:
        start, size = index * BLOCK, min(BLOCK, header.data_bytes - index * BLOCK)
        data = memoryview(os.pread(file, size, header.data_start + start))
        if len(data) < size:
            raise _damaged(path, f"block {index} of its tensors has {len(data)} bytes, the header says {size}")
        if check and (found := hashlib.sha256(data).hexdigest()) != digests[index]:
            raise _damaged(path, f"block {index} of its tensors has sha256 {found}, the header says {digests[index]}")
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
    fault = _fault(tensors["prototypes"], first, header.meta["facts"].get("norms") == "free")
    if fault:
        raise _wrong(path, fault)
    for name, tensor in tensors.items():
        if name != "prototypes" and tensor.is_floating_point() and not tensor.isfinite().all():
            raise _wrong(path, f"tensor {name} holds values that are not finite, allowed are finite ones")
