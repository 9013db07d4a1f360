"""The state of a run on disk, so that a run that was killed goes on and ends where it would have ended."""

import contextlib
import errno
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

from protogen.files.disk import TRIES, remove_stale, temporary
from protogen.files.header import layout
from protogen.spec import Spec, canonical_json

if TYPE_CHECKING:
    import torch

SCHEMA = 1
EVERY_S = 10.0  # a state is written no more often than that, and not at once
SHARE = 0.02  # of the run's time, that writing may take
SPEED = 2**28  # bytes a second that a disk is taken to write, until it has shown its own speed
DIGEST = "sha256"  # the last tensor: the digest of all bytes before it, 32 of them
DTYPES = {"torch.float64": "F64", "torch.float32": "F32", "torch.uint8": "U8"}

State = dict[str, Any]  # of what JSON holds, NaN and infinities, and tensors, nested


class Stateful(Protocol):
    """Something that changes on the way, in attributes that a State holds; its tensors are never written to.

    An attribute that is itself such a thing is no part of the state: whoever owns it keeps it.
    """

    def state(self) -> State:
        """Say what there is to be kept; later changes leave the answer as it is."""
        return {
            name: list(value) if isinstance(value, list) else value
            for name, value in vars(self).items()
            if not hasattr(value, "restore")
        }

    def restore(self, state: State) -> None:
        """Go back to what `state` said. Raises ValueError where it is the state of something else."""
        if state.keys() != self.state().keys():
            raise ValueError(f"the state has {', '.join(state)}")
        vars(self).update(state)


class Checkpoint:
    """The states of a run's descents, one after the other, in a folder that need not exist.

    Two safetensors files: the last, and the one before it, which counts where the last is damaged. States
    have at least `step`, `seconds` and `status`, None as long as the descent goes on. They fit the same Spec,
    protogen and torch; one from another device or thread count is taken too, but then only the same machine
    and threads give the very rows that a run without a break gives. No state is too large, but the larger it
    is the less often it is written, so that this takes 2% of the time, and not at all where the disk has not
    twice the room. `say` is told in one line what became of a file, or of the disk; nothing is raised.
    """

    def __init__(
        self,
        folder: Path,
        spec: Spec,
        device: "torch.device",
        say: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        from torch import __version__ as torch

        self._last, self._before = folder / "state.safetensors", folder / "before.safetensors"
        versions = {"schema": SCHEMA, "protogen": version("protogen-codes"), "torch": str(torch)}
        self._about = canonical_json({"spec": spec.to_dict(), **versions})
        self._say, self._clock, self._refused = say, clock, False
        self._speed, self._wrote = float(SPEED), self._clock()
        self._due = self._wrote + EVERY_S
        self._descent = -1
        self.seconds = 0.0
        """How long the descents have taken in calls before this one."""
        self._keep_last = True  # as the one before the next
        self._states = self._load(device)

    def begin(self, descent: Stateful) -> None:
        """Take up the run's next descent, at its state where there is one."""
        self._descent += 1
        if self._descent == len(self._states):
            return
        state, anew = self._states[self._descent], descent.state()
        try:
            descent.restore(state)
            self.seconds += state["seconds"]
            if state["status"] is None:
                self._say(f"the run goes on after step {state['step']}")
        except (LookupError, ValueError, TypeError, AttributeError):
            descent.restore(anew)
            self._say(f"{self._last}: is not the state of this descent; it begins anew")

    def note(self, state: State) -> None:
        """Hold the state of the descent under way, and write it if it is time to."""
        self._states[self._descent : self._descent + 1] = [state]
        if self._clock() < self._due:
            return
        size = _flat(self._states)[2]
        self._due = self._wrote + max(EVERY_S, size / self._speed / SHARE)
        if self._clock() >= self._due:
            self.write()

    def write(self) -> None:
        """Write what was noted last; a disk that refuses is said once, and tried again the next time."""
        began, folder = self._clock(), self._last.parent
        text, tensors, size = _flat(self._states)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if shutil.disk_usage(folder).free < 2 * size:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            with temporary(folder) as new:
                _write(new, {"format": "pt", "about": self._about, "states": text}, tensors)
                if self._keep_last and self._last.exists():
                    self._last.replace(self._before)
                new.replace(self._last)
            self._keep_last = True
        except (OSError, MemoryError, RuntimeError) as error:
            if not self._refused:
                reason = getattr(error, "strerror", None) or repr(error)
                self._say(f"{self._last}: {reason}; the run goes on, but its state is not kept")
            self._refused = True
        self._wrote = self._clock()
        self._speed = size / max(self._wrote - began, 1e-3)
        self._due = self._wrote + EVERY_S

    def _load(self, device: "torch.device") -> list[State]:
        """Read the newest states that fit; none where there are none."""
        from safetensors import SafetensorError

        with contextlib.suppress(OSError):
            remove_stale(self._last.parent)
        faults: dict[Path, str] = {}
        states: list[State] = []
        for path in (self._last, self._before):
            try:
                states = _read(path, self._about, device)
                break
            except FileNotFoundError:
                continue
            except OSError as error:
                faults[path] = error.strerror or str(error)
            except (LookupError, ValueError, TypeError, AttributeError, SafetensorError) as error:
                faults[path] = str(error)
        self._keep_last = self._last not in faults
        if faults:
            what = "; ".join(f"{path}: {fault}" for path, fault in faults.items())
            self._say(f"{what}; the run {'goes back to the state before' if states else 'begins anew'}")
        return states


def _flat(states: list[State]) -> tuple[str, "list[torch.Tensor]", int]:
    """Write states as JSON in which tensors stand as their places; the tensors, and the bytes of all."""
    tensors: list[torch.Tensor] = []

    def place(tensor: "torch.Tensor") -> dict[str, int]:
        tensors.append(tensor)
        return {"tensor": len(tensors) - 1}

    text = json.dumps(states, default=place, sort_keys=True, separators=(",", ":"))
    return text, tensors, len(text) + sum(tensor.nbytes for tensor in tensors)


def _write(path: Path, metadata: Mapping[str, str], tensors: "list[torch.Tensor]") -> None:
    """Write a safetensors file whose last tensor is the digest of all that stands before it."""
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


def _read(path: Path, about: str, device: "torch.device") -> list[State]:
    """Read states and move their tensors to the device. Raises OSError, and ValueError where they do not fit."""
    # A file that is replaced meanwhile, where there are no locks, is opened twice by name and is not the one checked.
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
