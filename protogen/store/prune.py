"""What is removed from a store: leftovers, and artifacts that are not wanted."""

import contextlib
import itertools
import math
import os
import shutil
import stat
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from protogen.files.disk import disk_error, is_stale, names
from protogen.files.names import KEY, SIZE
from protogen.methods import METHODS

from .store import Entry, Store
from .turns import FOLDER, LOCK, alone, is_held

JOURNAL = "journal.json"  # of a search, whose record answers the same search again


@dataclass(frozen=True)
class Removed:
    """A file or folder that was removed, or would be; why, and its size in bytes.

    It goes while no other process has the lock of `key`, if there is one.
    """

    path: Path
    why: str
    size: int
    key: str | None = None


def prune(
    store: Store,
    *,
    keep: Collection[tuple[str, str]] | None = None,
    older_than: float | None = None,
    max_size: int | None = None,
    dry_run: bool = False,
    clock: Callable[[], float] = time.time,
) -> Iterator[Removed]:
    """Remove leftovers, and artifacts where any condition is given; yield each when it is gone.

    An artifact goes where every condition that is given allows it:

    - `keep`: it is not among these pairs of key and digest.
    - `older_than`: it was written more than so many seconds ago.
    - `max_size`: the store, of which the oldest go first, is still larger than so many bytes.

    Leftovers are:

    - Temporary files and locks that no process has any more.
    - The states of runs whose result is published, with `older_than` also of runs that were not touched for so long.
    - Folders of the store that are empty.

    What other programs keep in the same directory stays. Claims and what lies in `.quarantine` stay. With `dry_run`
    everything stays. `clock` tells the seconds since 1970. Raises DiskError.
    """
    now = clock()
    try:
        for found in itertools.chain(
            _unwanted(store, keep, older_than, max_size, now), _leftovers(store, older_than, now)
        ):
            if dry_run or _remove(store, found):
                yield found
        for folder in _own_folders(store.root) if not dry_run else ():
            with contextlib.suppress(OSError):
                folder.rmdir()  # only where it is empty
                if folder.parent != store.root:
                    folder.parent.rmdir()
    except OSError as error:
        raise disk_error(store.root, error) from error


def _remove(store: Store, found: Removed) -> bool:
    with alone(store.root, found.key, wait=False) if found.key else contextlib.nullcontext(True) as free:
        if free and found.path.suffix != LOCK:  # a lock goes with who lets go of it: the next of its name is another's
            with contextlib.suppress(FileNotFoundError):  # gone meanwhile
                (shutil.rmtree if found.path.is_dir() else os.unlink)(found.path)
    return free


def _unwanted(
    store: Store,
    keep: Collection[tuple[str, str]] | None,
    older_than: float | None,
    max_size: int | None,
    now: float,
) -> Iterator[Removed]:
    """Yield the artifacts that every condition allows to go, the oldest first."""
    if keep is None and older_than is None and max_size is None:
        return
    aged = []
    for entry in store.entries():
        with contextlib.suppress(FileNotFoundError):
            found = entry.path.stat()
            aged.append((found.st_mtime, found.st_size, entry))
    total = sum(size for _, size, _ in aged)
    for written, size, entry in sorted(aged, key=lambda each: (each[0], each[2].path)):
        kept = keep is not None and _is_among(entry, keep)
        young = older_than is not None and now - written <= older_than
        if not kept and not young and (max_size is None or total > max_size):
            total -= size
            yield Removed(entry.path, "artifact", size)


def _is_among(entry: Entry, keep: Collection[tuple[str, str]]) -> bool:
    """Whether an artifact is to be kept; of a damaged one the key alone is known."""
    return any(entry.name.key == key and entry.digest in (None, digest) for key, digest in keep)


def _leftovers(store: Store, older_than: float | None, now: float) -> Iterator[Removed]:
    """Yield what processes left over that have ended."""
    own = list(_own_folders(store.root))
    for folder in (*own, *(folder / ".claims" for folder in own), store.root):
        for path in map(folder.joinpath, names(folder)):
            if is_stale(path, now, owned=folder != store.root):
                yield Removed(path, "temporary file that no process writes", _size(path))
    locks, runs = store.root / FOLDER, store.root / ".runs"
    for path in map(locks.joinpath, names(locks)):
        if path.suffix == LOCK and KEY.fullmatch(path.stem) and not is_held(path):
            yield Removed(path, "lock that no process holds", _size(path), path.stem)
    keys = {entry.name.key for entry in store.entries() if entry.error is None}
    for folder in map(runs.joinpath, names(runs)):
        if not KEY.fullmatch(folder.name) or not folder.is_dir() or is_held(locks / f"{folder.name}{LOCK}"):
            continue
        if older_than is not None and now - _touched(folder) > older_than:
            yield Removed(folder, "run that was not gone on with", _size(folder), folder.name)
        elif folder.name in keys and not (folder / JOURNAL).exists():
            yield Removed(folder, "run whose result is published", _size(folder), folder.name)


def _touched(folder: Path) -> float:
    """When a folder, or a file in it, was last written."""
    return max((found.st_mtime for found in _stats(folder)), default=math.inf)


def _size(path: Path) -> int:
    """The bytes of a file, or of all files in a folder."""
    return sum(found.st_size for found in _stats(path) if stat.S_ISREG(found.st_mode))


def _stats(path: Path) -> Iterator[os.stat_result]:
    """What the disk says of a file, or of a folder and all files in it, but for those that are gone meanwhile."""
    for each in (path, *_files(path)):
        with contextlib.suppress(FileNotFoundError):
            yield each.stat()


def _own_folders(root: Path) -> Iterator[Path]:
    """The folders of a store in which no other program keeps anything, but for those of the claims."""
    for method in METHODS:
        yield from (root / method / size for size in names(root / method) if SIZE.fullmatch(size))
    yield from (root / ".runs" / key for key in names(root / ".runs") if KEY.fullmatch(key))
    yield from (root / FOLDER, root / ".quarantine")


def _files(folder: Path) -> Iterator[Path]:
    """All files in a folder and below it."""
    for place, _, files in os.walk(folder):
        yield from map(Path(place).joinpath, files)
