"""Records and files that are made for a test: sound ones, wrong ones whose digests are right, damaged ones."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from draws import unit_rows
from torch import Tensor

from protogen.errors import MOST, IntegrityError, ProtogenError
from protogen.files.digests import BlockHasher
from protogen.files.header import encode, read_header
from protogen.files.prototypes import Prototypes, Provenance
from protogen.files.tensors import layout
from protogen.rows import InMemory
from protogen.solution import Status
from protogen.spec import Spec
from protogen.store.store import Store

Reader = Callable[..., object]

MADE = Provenance(
    protogen="0.1.0",
    torch="2.13.0",
    python="3.11.7",
    device="cpu",
    threads=2,
    steps=17,
    seconds=1.25,
    created="2000-01-01T00:00:00Z",
    status=Status.CONVERGED.value,
    reproducible="statistical",
)


def record(rows: Tensor, **more: Any) -> Prototypes:
    """Make a record of these rows, which nobody measured."""
    spec = Spec.of("ebv", 1, d=rows.shape[-1], n=rows.shape[0], seed=0, params={"alpha": 0.1})
    return Prototypes(spec, InMemory(rows), None, MADE, **more)


def published(folder: Path, seed: int = 0) -> Path:
    """Write unit rows (5, 3) to a file of a store; the seed is that of the rows and of their Spec."""
    spec = Spec.of("ebv", 1, d=3, n=5, seed=seed, params={})
    return Store(folder).publish(Prototypes(spec, InMemory(unit_rows(5, 3, seed=seed)), None, MADE))


def file_of(path: Path, rows: Tensor, **changes: Any) -> Path:
    """Write a file whose header and digests are sound, whatever the values in it."""
    data = bytes(rows.contiguous().view(torch.uint8).flatten().tolist())
    hasher = BlockHasher()
    hasher.update(memoryview(data))
    content = {"spec": record(rows).spec.to_dict(), "facts": {}, "stats": None, "provenance": MADE.to_dict(), **changes}
    content["blocks"] = hasher.digests()
    path.write_bytes(encode(layout({"prototypes": ("F32", rows.shape)}), content) + data)
    return path


def flip(path: Path, offset: int = -1) -> bytes:
    """Flip one bit of the byte at `offset` of a file, and return all bytes that it has now.

    The last byte of an artifact is one of its rows.
    """
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)
    return bytes(data)


def flip_row(path: Path, position: int) -> None:
    """Flip one bit of the byte at `position` of an artifact's tensors, without reading the others."""
    with path.open("r+b") as file:
        file.seek(read_header(path).data_start + position)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 4]))


def names(folder: Path) -> list[str]:
    """Return the paths of all that lies in a folder and below, but for directories."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())


def message_of(refusal: Exception, path: Path | str) -> str:
    """Return the message of a refused file: one line of bounded length that names the file and says what to do."""
    message = str(refusal)
    assert len(message) <= MOST
    assert message.isprintable()
    assert str(path) in message
    assert ";" in message
    return message


def refused(reader: Reader, path: Path | str, kind: type[ProtogenError] = IntegrityError, **how: Any) -> str:
    """Return the message with which a reader refuses a file."""
    with pytest.raises(kind) as caught:
        reader(Path(path), **how)
    return message_of(caught.value, path)
