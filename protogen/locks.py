"""One process at a time: a help against work that is done twice; publishing is safe without it."""

import contextlib
import os
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from .disk import host

if TYPE_CHECKING:
    from filelock import BaseFileLock

POLL_S = 0.1
FIRST_S, EVERY_S = 1.0, 10.0  # how long to wait before saying so, and before saying it again


@contextlib.contextmanager
def alone(root: Path, key: str) -> Iterator[None]:
    """Work for a key while no other process of the store does; wait for it first, saying on stderr for whom.

    Where the file system has no locks, or lets none be made, the work goes on without. Nothing is left behind.
    """
    path = root / ".locks" / f"{key}.lock"
    made = [folder for folder in (root, *root.parents) if not os.path.exists(folder)]
    lock = _acquired(path)
    try:
        yield
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


def _acquired(path: Path) -> "BaseFileLock | None":
    from filelock import FileLock, Timeout

    pause = FIRST_S
    try:
        lock = FileLock(path, poll_interval=POLL_S, fallback_to_soft=False)
        while True:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                lock.acquire(timeout=pause)
                break
            except FileNotFoundError:  # the last one that had a lock has just removed the folder
                continue
            except Timeout:
                pause = EVERY_S
                with contextlib.suppress(OSError):
                    # One write, which the lines of other waiting processes on the same terminal do not cut.
                    sys.stderr.write(f"waiting: {path.stem} is being made by {_holder(path)}\n")
                    sys.stderr.flush()
    except OSError:
        return None
    since = datetime.now(UTC).isoformat(timespec="seconds")
    with contextlib.suppress(OSError):
        path.write_text(f"process {os.getpid()} on {host()} since {since}")
    return lock


def _holder(path: Path) -> str:
    try:
        return path.read_text(errors="replace") or "another process"
    except OSError:
        return "another process"
