"""What publishing asks of the disk: temporary files that say whose they are, and files that appear all at once."""

import contextlib
import errno
import itertools
import os
import platform
import re
import secrets
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from protogen.errors import BadRequest, DiskError

SETTLE_S = 1.0  # how long a file may be empty between its exclusive creation and the rename onto it
STALE_S = 86_400.0  # how long a temporary file may lie untouched while its process may live, on another machine say
TRIES = 100  # to make a folder that others remove as an empty one at the same time

_SEEKING = threading.Lock()  # held from the move to a place in a file to the read there
_TEMPORARY = re.compile(r"\.protogen-(.+)-([1-9]\d{0,8})-[0-9a-f]{8}\.tmp")
_OLDER = re.compile(r"\.(.+)-([1-9]\d{0,8})-[0-9a-f]{8}\.tmp")  # of protogen 0.1, and perhaps of other programs


@contextlib.contextmanager
def temporary(folder: Path) -> Iterator[Path]:
    """Name a file of this process in the folder, and remove it at the end; one that stays is known to be stale."""
    path = folder / temporary_name()
    try:
        yield path
    finally:
        with contextlib.suppress(OSError):
            path.unlink()


def temporary_name() -> str:
    """A new name for a file of this process, which says whose it is."""
    return f".protogen-{_machine()}-{os.getpid()}-{secrets.token_hex(4)}.tmp"


@contextlib.contextmanager
def kept(folder: Path) -> Iterator[None]:
    """Make a folder where it is not, and have it stay for a while though others remove empty ones. Raises OSError."""
    pin = folder / temporary_name()
    for tried in itertools.count(1):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            pin.touch()
            break
        except (FileNotFoundError, FileExistsError):  # removed at this moment, which mkdir says in two ways
            if tried == TRIES:
                raise
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            pin.unlink()


def is_stale(path: Path, now: float | None = None, *, owned: bool = True) -> bool:
    """Whether it is a temporary file that nobody writes: its process here is gone, or it is a day old.

    `now` is in seconds since 1970; left out, it is this moment. `owned` says that the file lies in a folder of
    protogen's own, where those of protogen 0.1 count, too: other programs name their files like these.
    """
    import psutil

    named = _TEMPORARY.fullmatch(path.name) or (_OLDER.fullmatch(path.name) if owned else None)
    if named is None:
        return False
    if named[1] == _machine() and not psutil.pid_exists(int(named[2])):
        return True
    try:
        return (time.time() if now is None else now) - path.stat().st_mtime > STALE_S
    except OSError:  # gone, or not to be seen
        return False


def remove_stale(folder: Path) -> None:
    """Remove the temporary files of a folder of protogen's own that nobody writes, as far as the disk lets."""
    for path in map(folder.joinpath, names(folder)):
        if is_stale(path):
            with contextlib.suppress(OSError):
                path.unlink()


def names(folder: Path) -> list[str]:
    """List what lies in a folder: nothing where it is none, or gone meanwhile. Raises OSError."""
    try:
        return os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []


def path_of_variable(name: str) -> Path | None:
    """The path in an environment variable, `expanded`; None where it is not set, or empty. Raises BadRequest."""
    given = os.environ.get(name)
    return Path(expanded(name, given)) if given else None


def expanded(name: str, given: str) -> str:
    """Replace ~ and $VARIABLES in the value of an environment variable, which a file of settings leaves as they are.

    Raises BadRequest where a variable in it is not set.
    """
    if unset := [each for each in re.findall(r"\$\{?(\w+)", given) if each not in os.environ]:
        raise BadRequest(f"{name} is {given!r}; the variable {unset[0]} is not set: set it, or write the path out")
    return os.path.expandvars(os.path.expanduser(given))


def host() -> str:
    """This machine's name, as it stands in file names."""
    return re.sub(r"[^\w.-]", "_", platform.node())


def _machine() -> str:
    """This machine's name, and that of the space of its process numbers: containers of one host may differ in it."""
    try:
        return f"{host()}.{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:  # none here
        return host()


def link(source: Path, target: Path) -> bool:
    """Give a finished file the name `target`, all at once; whether it did, False where the name is taken."""
    try:
        os.link(source, target)
        return True
    except FileExistsError:
        return False
    except (OSError, AttributeError):  # no hard links: of a file system, which has various numbers for it, or a system
        pass
    try:  # first the name
        os.close(create(target))
        source.replace(target)
        return True
    except FileExistsError:
        return False
    except BaseException:  # also an interruption
        with contextlib.suppress(OSError):
            if target.stat().st_size == 0:
                target.unlink()
        raise


def settle(path: Path) -> None:
    """Wait while a file is empty: where there are no hard links, its content comes a moment later."""
    end = time.monotonic() + SETTLE_S
    with contextlib.suppress(OSError):
        while path.stat().st_size == 0 and time.monotonic() < end:
            time.sleep(0.005)


def create(path: Path) -> int:
    """Open a new file for writing bytes, and return its descriptor. Raises FileExistsError and OSError."""
    # Windows writes two bytes for each end of a line unless it is told not to.
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)


def read_at(descriptor: int, size: int, start: int) -> bytes:
    """Read bytes from a place in an open file; less than `size` where it ends. Several threads may do so at once."""
    if hasattr(os, "pread"):
        return os.pread(descriptor, size, start)
    with _SEEKING:  # Windows
        os.lseek(descriptor, start, os.SEEK_SET)
        return os.read(descriptor, size)


def sync(path: Path) -> None:
    """Bring a file's content, or a folder's names, to the disk.

    Windows opens no folder, and keeps names in its file system's journal; of files it syncs those open for writing.
    """
    posix = hasattr(os, "O_DIRECTORY")
    if not posix and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDONLY if posix else os.O_RDWR)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # not every file system can with folders
            raise
    finally:
        os.close(descriptor)


def disk_error(path: Path, error: OSError, option: str = "of the store by --store or PROTOGEN_STORE") -> DiskError:
    """Say in one line what the disk refused; `option` is how another place is named."""
    return DiskError(
        f"{path}: {error.strerror or error}; needed is a path of its own with room and permission: "
        f"make room, or name another place, {option}"
    )
