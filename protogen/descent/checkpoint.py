"""Where a descent stands, kept on disk: a run that was killed goes on and ends where it would have ended."""

import contextlib
import errno
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol

from protogen.files.disk import kept, remove_stale, temporary
from protogen.spec import Spec, canonical_json

from .states import State, flatten, read_states, write_states

if TYPE_CHECKING:
    import torch

SCHEMA = 2
EVERY_S = 10.0  # a state is written no more often than that, and not at once
SHARE = 0.02  # of the run's time, that writing may take
SPEED = 2**28  # bytes a second that a disk is taken to write, until it has shown its own speed


class Stateful(Protocol):
    """Something that changes on the way and can be brought back to where it was."""

    def state(self) -> State:
        """Return what there is to be kept; later changes leave the answer as it is."""
        ...

    def restore(self, state: State) -> None:
        """Go back to what `state` returned. Raises ValueError where that is the state of something else."""
        ...


class Changing:
    """A Stateful whose state is in the attributes that `changes` names: numbers, tensors, and lists of these.

    A tensor among them is replaced, never written to.
    """

    changes: ClassVar[tuple[str, ...]] = ()

    def state(self) -> State:
        held = {name: getattr(self, name) for name in self.changes}
        return {name: list(value) if isinstance(value, list) else value for name, value in held.items()}

    def restore(self, state: State) -> None:
        if state.keys() != set(self.changes):
            raise ValueError(f"the state has {', '.join(state)}, needed are {', '.join(self.changes)}")
        for name, value in state.items():
            setattr(self, name, value)


class Checkpoint:
    """Keep the states of a run's descents, one after the other, in a folder that need not exist.

    - There are two safetensors files: the last state, and the one before it, which counts where the last is
      damaged.
    - A state has at least `step`, `seconds` and `status`, which is None as long as the descent goes on.
    - Only states of the same Spec, protogen and torch are taken up. One from another device or thread count
      is taken up as well; but only the same machine and threads then give the very rows that a run without a
      break gives.
    - The larger a state is, the less often it is written, so that writing takes 2% of the time. Nothing is
      written where the disk has not twice the room.
    - `say` is told in one line what became of a file, or of the disk. Nothing is raised.
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
        from importlib.metadata import version

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
        size = flatten(self._states)[2]
        self._due = self._wrote + max(EVERY_S, size / self._speed / SHARE)
        if self._clock() >= self._due:
            self.write()

    def write(self) -> None:
        """Write what was noted last. A disk that refuses is told once, and tried again the next time."""
        began, folder = self._clock(), self._last.parent
        text, tensors, size = flatten(self._states)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if shutil.disk_usage(folder).free < 2 * size:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            with kept(folder), temporary(folder) as new:
                write_states(new, self._about, text, tensors)
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
                states = read_states(path, self._about, device)
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
