"""The states of descents as one safetensors file, which says whether it is whole."""

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

from protogen.files.disk import TRIES
from protogen.files.tensors import layout
from protogen.spec import canonical_json

if TYPE_CHECKING:
    import torch

DIGEST = "sha256"  # the name of the last tensor: the digest of all bytes before it, 32 of them
DTYPES = {"torch.float64": "F64", "torch.float32": "F32", "torch.int64": "I64", "torch.uint8": "U8"}

State = dict[str, Any]  # of what JSON holds, NaN and infinities, and tensors, nested


class Scattered(Protocol):
    """A part of a state that lies on several ranks."""

    def gathered(self) -> State:
        """Return it whole."""
        ...


def flatten(states: list[State]) -> tuple[str, "list[torch.Tensor]", int]:
    """Return the states as JSON, in which each tensor stands as its place; the tensors; the bytes of both."""
    tensors: list[torch.Tensor] = []

    def place(tensor: "torch.Tensor | Scattered") -> State:
        from torch import Tensor

        if not isinstance(tensor, Tensor):
            return tensor.gathered()
        tensors.append(tensor)
        return {"tensor": len(tensors) - 1}

    text = json.dumps(states, default=place, sort_keys=True, separators=(",", ":"))
    return text, tensors, len(text) + sum(tensor.nbytes for tensor in tensors)


def write_states(path: Path, about: str, text: str, tensors: "list[torch.Tensor]") -> None:
    """Write what `flatten` gave; the last tensor of the file is the digest of all that stands before it."""
    metadata = {"format": "pt", "about": about, "states": text}
    entries = layout({str(place): (DTYPES[str(t.dtype)], tuple(t.shape)) for place, t in enumerate(tensors)})
    end = max((entry.end for entry in entries), default=0)
    table: dict[str, Mapping[str, Any]] = {
        e.name: {"dtype": e.dtype, "shape": e.shape, "data_offsets": (e.start, e.end)} for e in entries
    }
    table[DIGEST] = {"dtype": "U8", "shape": (32,), "data_offsets": (end, end + 32)}
    head = canonical_json({"__metadata__": metadata, **table}).encode()
    head += b" " * (-len(head) % 8)
    hasher = hashlib.sha256()
    with path.open("wb") as file:
        for piece in (len(head).to_bytes(8, "little"), head):
            hasher.update(piece)
            file.write(piece)
        for entry in entries:
            data = tensors[int(entry.name)].detach().cpu().contiguous().view(-1).numpy().data
            hasher.update(data)
            file.write(data)
        file.write(hasher.digest())
        file.flush()
        os.fsync(file.fileno())


def read_states(path: Path, about: str, device: "torch.device") -> list[State]:
    """Read states and move their tensors to the device.

    `about` is what the file must say of itself. Raises OSError, SafetensorError, and ValueError, LookupError or
    TypeError where the file is damaged or is about something else.
    """
    # The file is opened twice by name. Where there are no locks, another process may replace it in between: then
    # the file that was checked is not the one that was read.
    for _ in range(TRIES):
        with path.open("rb") as checked:
            if not _whole(checked):
                raise ValueError("is damaged")
            states: list[State] | None = None
            with contextlib.suppress(RuntimeError):  # torch's word for a file that it finds no more
                states = _parsed(path, about, device)
            if states is not None and os.path.samestat(os.fstat(checked.fileno()), path.stat()):
                return states
    raise ValueError("changes while it is read")


def _parsed(path: Path, about: str, device: "torch.device") -> list[State]:
    from safetensors import safe_open

    with safe_open(path, "pt") as file:

        def tensor(table: dict[str, Any]) -> Any:
            # A copy of its own, since the file is mapped and is going to be replaced.
            return file.get_tensor(str(table["tensor"])).clone().to(device) if table.keys() == {"tensor"} else table

        metadata = file.metadata() or {}
        if metadata.get("about") != about:
            raise ValueError("is of another request, or of another version of protogen or torch")
        states: list[State] = json.loads(metadata["states"], object_hook=tensor)
        return states


def _whole(file: BinaryIO) -> bool:
    """Whether a file ends in the digest of what stands before it."""
    hasher = hashlib.sha256()
    left = os.fstat(file.fileno()).st_size - hasher.digest_size
    while left > 0 and (piece := file.read(min(left, 2**20))):
        hasher.update(piece)
        left -= len(piece)
    return left == 0 and file.read() == hasher.digest()
