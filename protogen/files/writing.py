"""How one file is written: row block by row block, read back before it counts."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from protogen.errors import BadRequest

from .digests import PENDING, BlockHasher
from .disk import create, disk_error
from .header import LONGEST, encode, read_header
from .prototypes import Prototypes
from .ranges import write_ranges
from .tensors import DTYPES, TENSOR, TensorEntry, block_count, layout, memory_of, norm_fault

if TYPE_CHECKING:
    from torch import Tensor

CHUNK = 16 << 20  # bytes of rows that are built and written at a time


def write(path: str | os.PathLike[str], prototypes: Prototypes) -> str:
    """Write a new safetensors file, row block by row block, open it again and return its digest.

    Where this process leads others, each of them writes its range of a formula's rows. Memory: one chunk of rows,
    whatever n. Nothing is left of a file that could not be finished.
    Raises DiskError (also where the file exists), BadRequest on rows that no reader would accept, and
    ValueError on facts that JSON cannot hold.
    """
    path = Path(path)
    entries = _entries(path, prototypes)
    content = {
        "spec": prototypes.spec.to_dict(),
        "facts": prototypes.facts.to_dict(),
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
        descriptor = create(path)
        created = True
        with os.fdopen(descriptor, "wb") as file:
            file.write(pending)
            file.flush()
            digests = write_ranges(path, len(pending), prototypes.source) if len(entries) == 1 else None
            if digests is None:
                for tensor in _chunks(path, prototypes, entries):
                    data = memory_of(tensor)
                    hasher.update(data)
                    file.write(data)
                digests = hasher.digests()
            file.seek(0)
            file.write(encode(entries, {**content, "blocks": digests}))
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
    shape, free = tuple(prototypes.source.shape), prototypes.facts.norms == "free"
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
            fault = norm_fault(rows, start, free)
            if fault:
                raise BadRequest(f"{path}: {fault}; normalise the rows before writing them")
            yield rows
