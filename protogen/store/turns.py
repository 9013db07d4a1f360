"""One process at a time: a help against work that is done twice; publishing is safe without it."""

import contextlib
import os
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from protogen.files.disk import TRIES, host

if TYPE_CHECKING:
    from filelock import BaseFileLock

LOCK = ".lock"
POLL_S = 0.1
FIRST_S, EVERY_S = 1.0, 10.0  # how long to wait before saying so, and before saying it again


@contextlib.contextmanager
def alone(root: Path, key: str, wait: bool = True) -> Iterator[bool]:
    """Work for a key while no other process of the store does; wait for it first, saying on stderr for whom.

    Yields False where another has it, and `wait` is False. Where the file system has no locks, or lets none
    be made, the work goes on without. Nothing is left behind.
    """
    path = root / ".locks" / f"{key}{LOCK}"
    made = [folder for folder in (root, *root.parents) if not os.path.exists(folder)]
    lock, free = _acquired(path, wait)
    try:
        yield free
    finally:
        if lock is not None:
            with contextlib.suppress(OSError):  # who holds the lock may remove the file; who waits opens a new one
                path.unlink()
            with contextlib.suppress(OSError):
                lock.release()
        with contextlib.suppress(OSError):
            for folder in (path.parent, *made):
                folder.rmdir()  # only where it is empty


def is_held(path: Path) -> bool:
    """Whether a process holds this lock file."""
    from filelock import FileLock, Timeout

    if not path.exists():
        return False
    try:
        with FileLock(path, timeout=0, fallback_to_soft=False):
            return False
    except Timeout:
        return True
    except OSError:
        return False


def _acquired(path: Path, wait: bool) -> "tuple[BaseFileLock | None, bool]":
    """The lock, None where there are none or another has it; and whether no other has it, as far as is known."""
    from filelock import FileLock, Timeout

    pause, tried = FIRST_S if wait else 0.0, 0
    try:
        lock = FileLock(path, poll_interval=POLL_S, fallback_to_soft=False)
        while True:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                lock.acquire(timeout=pause)
                break
            except (FileNotFoundError, FileExistsError):
                # The last one that had a lock has just removed the folder, which mkdir says in two ways.
                tried += 1
                if tried == TRIES:
                    raise
            except Timeout:
                if not wait:
                    return None, False
                pause, tried = EVERY_S, 0
                with contextlib.suppress(OSError):
                    # One write, which the lines of other waiting processes on the same terminal do not cut.
                    sys.stderr.write(f"waiting: {path.stem} is being made by {_holder(path)}\n")
                    sys.stderr.flush()
    except OSError:
        return None, True
    since = datetime.now(UTC).isoformat(timespec="seconds")
    with contextlib.suppress(OSError):
        path.write_text(f"process {os.getpid()} on {host()} since {since}")
    return lock, True


def _holder(path: Path) -> str:
    try:
        return path.read_text(errors="replace") or "another process"
    except OSError:
        return "another process"
