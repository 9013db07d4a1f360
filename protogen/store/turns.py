"""Turns: one process of a store at a time works for a key.

Turns save work that would be done twice. Publishing is safe without them.
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from protogen.files.disk import TRIES, host

if TYPE_CHECKING:
    from filelock import BaseFileLock

LOCK = ".lock"
FOLDER = ".locks"  # of the locks, beside what they are for


@dataclass(frozen=True)
class Patience:
    """Seconds of a wait: until it is said first, from then until it is said again, and between two tries."""

    first_s: float = 1.0
    every_s: float = 10.0
    poll_s: float = 0.1


PATIENCE = Patience()


@contextlib.contextmanager
def alone(
    root: Path,
    key: str,
    wait: bool = True,
    say: Callable[[str], None] | None = None,
    patience: Patience = PATIENCE,
) -> Iterator[bool]:
    """Work for a key while no other process of the store does; wait for another that does.

    - `root`: the store, which need not exist.
    - `wait`: without it nothing is waited for, and False is yielded where another process has its turn.
    - `say`: told in a line who is waited for.
    - `patience`: how often that is, and how often the lock is tried.

    Where the file system has no locks, or lets none be made, the work goes on without. Nothing is left behind.
    """
    path = root / FOLDER / f"{key}{LOCK}"
    made = [folder for folder in (root, *root.parents) if not os.path.exists(folder)]
    lock, free = _acquire(path, wait, say, patience)
    try:
        yield free
    finally:
        if lock is not None:
            _give_back(lock, path)
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


def _acquire(
    path: Path, wait: bool, say: Callable[[str], None] | None, patience: Patience
) -> "tuple[BaseFileLock | None, bool]":
    """Take the lock of this file, and say whether the work may begin.

    Returns one of three: the lock and True; None and False where another process has it and nothing is waited
    for; None and True where there are no locks here.
    """
    from filelock import Timeout

    seconds = patience.first_s if wait else 0.0
    while True:
        try:
            lock = _take(path, seconds, patience.poll_s)
            break
        except Timeout:  # which is an OSError, too
            if not wait:
                return None, False
        except OSError:
            return None, True
        seconds = patience.every_s
        if say is not None:
            say(f"waiting: {path.stem} is being made by {_holder(path)}")
    since = datetime.now(UTC).isoformat(timespec="seconds")
    with contextlib.suppress(OSError):
        path.write_text(f"process {os.getpid()} on {host()} since {since}")
    return lock, True


def _take(path: Path, seconds: float, poll_s: float) -> "BaseFileLock":
    """Take a lock, whose folder the last one that had a lock may be removing. Raises Timeout and OSError."""
    from filelock import FileLock

    lock = FileLock(path, timeout=seconds, poll_interval=poll_s, fallback_to_soft=False)
    for _ in range(TRIES - 1):
        # The folder may be removed at any moment, which mkdir says in two ways.
        with contextlib.suppress(FileNotFoundError, FileExistsError):
            path.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire()
            return lock
    path.parent.mkdir(parents=True, exist_ok=True)
    lock.acquire()
    return lock


def _give_back(lock: "BaseFileLock", path: Path) -> None:
    """Remove a lock's file and release the lock, as far as the disk lets."""
    with contextlib.suppress(OSError):
        path.unlink()  # who waits for it opens a new one
    with contextlib.suppress(OSError):
        lock.release()
    if not hasattr(os, "O_DIRECTORY"):  # Windows removes no open file; another holder's stays, too
        with contextlib.suppress(OSError):
            path.unlink()


def _holder(path: Path) -> str:
    try:
        return path.read_text(errors="replace") or "another process"
    except OSError:
        return "another process"
