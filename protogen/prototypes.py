"""The result, prototypes with all that is known of them, and how one file is written and read."""

import ctypes
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import BadRequest, IntegrityError
from .header import (
    BLOCK,
    PENDING,
    BlockHasher,
    Header,
    TensorEntry,
    block_count,
    disk_error,
    encode,
    layout,
    parse_name,
    read_header,
)
from .solution import InMemory, Reproducible, Rows
from .spec import Spec
from .stats import AngleStats

if TYPE_CHECKING:
    from torch import Tensor

NORM_TOLERANCE = 1e-5
CHUNK = 16 << 20  # bytes of rows that are built and written at a time
DTYPES = {"float64": "F64", "float32": "F32", "int64": "I64", "int32": "I32", "uint8": "U8", "bool": "BOOL"}


@dataclass(frozen=True)
class Provenance:
    """Where a set comes from: versions, machine, effort, date and how the run ended.

    `seconds` is wall time, `created` ISO 8601 in UTC, `status` the sentence of a Status.
    """

    protogen: str
    torch: str
    python: str
    device: str
    threads: int
    steps: int
    seconds: float
    created: str
    status: str
    reproducible: Reproducible

    def to_dict(self) -> dict[str, Any]:
        """The record as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Provenance":
        """Read what `to_dict` wrote. Raises KeyError or TypeError where it is something else."""
        return cls(**{f.name: values[f.name] for f in fields(cls)})


@dataclass(frozen=True, eq=False)
class Prototypes:
    """A set of n prototypes in R^d, float32, and all that is known of it.

    `tensors` are what the method made beside the rows, by name; `stats` are None where nothing was
    measured. `path`, `version` and `digest` (sha256 of the content) are None until it lies in a file.
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

    @property
    def n(self) -> int:
        """The number of prototypes (of classes, where each has several)."""
        return self.spec.n

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
    hasher = BlockHasher()
    created = finished = False
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
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
            path.unlink(missing_ok=True)
    return digest


def read(path: str | os.PathLike[str], check: bool = True) -> Prototypes:
    """Read a file into memory of its own and check header, length, digests, finite values and norms.

    `check=False` leaves out what needs a pass over the tensors. Raises NotFound, DiskError and
    IntegrityError.
    """
    path = Path(path)
    header = read_header(path)
    tensors = _load(path, header)
    if check:
        _check_blocks(path, header, tensors)
        _check_values(path, header, tensors)
    stats = header.meta["stats"]
    name = parse_name(path.name)
    try:
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
        )
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(path, "stats, facts or provenance are not those of this schema") from error


def _damaged(path: Path, what: str) -> IntegrityError:
    return IntegrityError(f"{path}: {what}; delete the file and generate it again")


def _entries(path: Path, prototypes: Prototypes) -> tuple[TensorEntry, ...]:
    shape, spec = prototypes.source.shape, prototypes.spec
    if len(shape) not in (2, 3) or (shape[0], shape[-1]) != (spec.n, spec.d):
        raise BadRequest(f"{path}: rows have shape {shape}, the Spec allows ({spec.n}, {spec.d}) or (n, s, d)")
    tensors: dict[str, tuple[str, Sequence[int]]] = {"prototypes": ("F32", shape)}
    for name, tensor in prototypes.tensors.items():
        dtype = str(tensor.dtype).removeprefix("torch.")
        if dtype not in DTYPES or name in ("prototypes", "__metadata__"):
            raise BadRequest(f"{path}: tensor {name!r} of {dtype}, allowed are other names and {', '.join(DTYPES)}")
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
    """Look at a contiguous tensor's memory; it lives no longer than the tensor."""
    return memoryview((ctypes.c_ubyte * tensor.nbytes).from_address(tensor.data_ptr()))


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


def _load(path: Path, header: Header) -> dict[str, "Tensor"]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            # A copy of its own: a mapped file that is cut or lost would take the process with it.
            return {entry.name: file.get_tensor(entry.name).clone() for entry in header.entries}
    except SafetensorError as error:
        raise _damaged(path, f"safetensors refuses it ({error})") from error
    except OSError as error:
        raise disk_error(path, error) from error


def _check_blocks(path: Path, header: Header, tensors: Mapping[str, "Tensor"]) -> None:
    views = [(entry, _bytes(tensors[entry.name])) for entry in header.entries]

    def digest(start: int) -> str:
        hasher = hashlib.sha256()
        for entry, view in views:
            hasher.update(view[max(start - entry.start, 0) : max(start + BLOCK - entry.start, 0)])
        return hasher.hexdigest()

    # hashlib lets go of the interpreter lock: two threads hash twice as fast.
    with ThreadPoolExecutor(2) as pool:
        found = pool.map(digest, range(0, header.data_bytes, BLOCK))
        for index, (is_, said) in enumerate(zip(found, header.meta["blocks"], strict=True)):
            if is_ != said:
                raise _damaged(path, f"block {index} of its tensors has sha256 {is_}, the header says {said}")


def _check_values(path: Path, header: Header, tensors: Mapping[str, "Tensor"]) -> None:
    fault = _fault(tensors["prototypes"], 0, header.meta["facts"].get("norms") == "free")
    if fault:
        raise _damaged(path, fault)
    for name, tensor in tensors.items():
        if name != "prototypes" and tensor.is_floating_point() and not tensor.isfinite().all():
            raise _damaged(path, f"tensor {name} holds values that are not finite, allowed are finite ones")
