"""Files at a URL, by fsspec: opened and uploaded, with what goes wrong said in one line and tried again."""

import itertools
import logging
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from protogen.errors import BadRequest, IntegrityError, NotFound, ProtogenError, RemoteError
from protogen.files.disk import disk_error, kept, link, sync, temporary

from .addresses import HTTP, protocol_of, scrubbed, shown

TRIES = 3
PAUSE_S = 0.2  # before the second try; four times as long before the third
STALL_S = 30.0  # how long a server may send nothing
PASSING = (408, 409, 429)  # statuses of trouble that may be over at the next try, beside 500 and more
BLOCK = 1 << 16  # bytes that are asked for at a time beside those that are read: a header alone is nearly always less

Result = TypeVar("Result")


class Passing(RemoteError):
    """Trouble that may be over at the next try."""


def retried(action: Callable[[], Result]) -> Result:
    """Act, again after trouble that may pass, and once again after wrong content."""
    for tried in itertools.count(1):
        try:
            return action()
        except (Passing, IntegrityError) as error:
            if tried == (TRIES if isinstance(error, Passing) else 2):
                raise
        time.sleep(PAUSE_S * 4 ** (tried - 1))
    raise AssertionError  # for the type checker: the count has no end


@dataclass(frozen=True)
class Opened:
    """A file at a URL that is open for reading."""

    url: str
    file: Any

    @property
    def size(self) -> int | None:
        """Its bytes; None where the server does not say how many there are."""
        size: int | None = self.file.size
        return size

    def read(self, size: int, /) -> bytes:
        """Read so many bytes at most, none at the end. Raises NotFound and RemoteError."""
        with _answers(self.url):
            piece: bytes = self.file.read(size)
            return piece


@contextmanager
def open_url(url: str, whole: bool) -> Iterator[Opened]:
    """Open a file for reading, once, in turn, to read the whole of it or no more than its begin.

    By http and hf the whole comes as one stream, which a server without ranges gives, too. Else what is read is asked
    for in parts. Raises BadRequest, NotFound and RemoteError.
    """
    streamed, system = whole and protocol_of(url) in (*HTTP, "hf"), _filesystem(url)
    block, cache = (0, "none") if streamed else (BLOCK, "readahead")
    with _answers(url):
        if protocol_of(url) == "file" and system.exists(url) and not system.isfile(url):  # a pipe may wait for ever
            raise RemoteError(f"{shown(url)}: is a directory or a device, needed is a file; look at the address")
        file = system.open(url, "rb", block_size=block, cache_type=cache)
    try:
        yield Opened(url, file)
    finally:
        with _answers(url):
            file.close()


def upload(path: Path, url: str) -> bool:
    """Upload a file, once and whole or not at all; False where the name is taken, as far as the server says so.

    Raises BadRequest, DiskError and RemoteError.
    """
    system = _filesystem(url)
    if protocol_of(url) == "file":
        return _place(path, Path(system._strip_protocol(url)))
    with _answers(url):
        system.put_file(str(path), url, mode="create")
    return True


def _place(path: Path, target: Path) -> bool:
    try:
        with kept(target.parent):
            with temporary(target.parent) as copy:
                shutil.copyfile(path, copy)
                sync(copy)
                placed = link(copy, target)
            sync(target.parent)
    except OSError as error:
        raise disk_error(target, error, "by --remote or PROTOGEN_REMOTE") from error
    return placed


def _filesystem(url: str) -> Any:
    """Make the fsspec file system of a URL, which tries nothing again: that is done here. Raises BadRequest."""
    import fsspec

    protocol = protocol_of(url)
    logging.getLogger("gcsfs").addHandler(logging.NullHandler())  # it would print tracebacks
    options: dict[str, Any] = {}
    if protocol in ("http", "https", "gs"):
        from aiohttp import ClientTimeout

        timeout = ClientTimeout(total=None, sock_connect=STALL_S, sock_read=STALL_S)
        identity = {"Accept-Encoding": "identity"}  # what comes packed all the same is unpacked as it is read
        client = {"client_kwargs": {"timeout": timeout, "trust_env": True, "headers": identity}}
        options = {"requests_timeout": timeout} if protocol == "gs" else client
    elif protocol == "s3":
        config = {"connect_timeout": STALL_S, "read_timeout": STALL_S, "retries": {"total_max_attempts": 1}}
        # With a part some servers send the checksum of the whole.
        options = {"config_kwargs": {**config, "response_checksum_validation": "when_required"}}
    try:
        system = fsspec.filesystem(protocol, use_listings_cache=False, **options)
    except ImportError as error:
        raise BadRequest(
            f"{shown(url)}: {protocol}:// needs a package that is not installed ({error}); "
            f"pip install 'protogen-codes[{protocol}]'"
        ) from error
    if protocol == "s3":
        system.retries = 1
    return system


@contextmanager
def _answers(url: str) -> Iterator[None]:
    """Raise in one line what the libraries below raise."""
    try:
        yield
    except (ProtogenError, MemoryError):
        raise
    except Exception as error:  # aiohttp, botocore and requests have no base in common
        raise _trouble(url, error) from error


def _trouble(url: str, error: Exception) -> ProtogenError:
    # fsspec calls every trouble with http a missing file, and s3fs fails in telling of a timeout.
    hidden = error.__context__ if isinstance(error, IndexError) else error.__cause__
    below = hidden if isinstance(hidden, Exception) else error
    status = _status(below)
    if status in (404, 410) or (below is error and isinstance(error, FileNotFoundError | NotADirectoryError)):
        return NotFound(f"{shown(url)}: no such file; look at the address")
    if status in (401, 403) or isinstance(error, PermissionError) or type(below).__name__ == "NoCredentialsError":
        return RemoteError(f"{shown(url)}: permission denied; give credentials that are allowed this")
    if "Redirect" in type(below).__name__ and not status:  # whereto is the server's own, and may hold a signature
        return RemoteError(f"{shown(url)}: redirects to what is no http address; look at the address")
    what = f"status {status}" if status else scrubbed(" ".join(str(below).split()), url) or type(below).__name__
    if status is not None and status < 500 and status not in PASSING:
        return RemoteError(f"{shown(url)}: {what}; look at the address")
    return Passing(f"{shown(url)}: {what}; tried {TRIES} times, try again later")


def _status(error: Exception) -> int | None:
    """Find the HTTP status in an exception of aiohttp, of botocore, or of requests and its kind."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        status: int | None = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    else:
        status = getattr(error, "status", None) or getattr(response, "status_code", None)
    return status
