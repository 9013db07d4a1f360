"""Remotes: other places with the layout of a store, reached by fsspec; every transfer is checked by its digests."""

import os
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePath
from typing import TypeVar

from protogen.checks import check_paths
from protogen.errors import BadRequest, IntegrityError, NotFound, ProtogenError, RemoteError, SchemaError
from protogen.files.arriving import write_arriving
from protogen.files.disk import disk_error, expanded
from protogen.files.header import Header, check_file, header_from
from protogen.files.names import artifact_path, parse_name, parse_path

from .addresses import HTTP, PROTOCOLS, path_of, protocol_of, shown, trimmed, user_of, with_path
from .transport import open_url, retried, upload

THERE = "delete it there and push it anew"  # what to do about a file at a remote

Result = TypeVar("Result")


@dataclass(frozen=True)
class Fetched:
    """A file that was downloaded and checked: from which URL, and its header."""

    url: str
    header: Header


@dataclass(frozen=True)
class Remote:
    """A place with the layout of a store, by its URL, or by its path where it is a directory here."""

    url: str

    @classmethod
    def of(cls, url: str) -> "Remote":
        """Read a URL. Raises BadRequest on a protocol that is not in PROTOCOLS, and on one without an address."""
        if protocol_of(url) not in PROTOCOLS or re.fullmatch(r"(\w+:/+)?", url):
            allowed = ", ".join(f"{protocol}://" for protocol in PROTOCOLS)
            raise BadRequest(f"remote {shown(url)!r}; allowed are a directory and a URL that begins with {allowed}")
        if protocol_of(url) in HTTP and re.search(r"[/?#@]", user_of(url)):
            raise BadRequest(
                f"remote {shown(url)!r}: has a password with / ? # or @ in it, or an @ behind a port; write these as "
                "%2F %3F %23 %40"
            )
        return cls(trimmed(url))

    def file(self, name: str | PurePath) -> str:
        """Build the URL of the artifact with this relative path."""
        return with_path(self.url, str(name))


def remotes(given: Sequence[str] = ()) -> tuple[Remote, ...]:
    """Say which remotes are tried, in order: those given, else those of PROTOGEN_REMOTE, else none.

    The variable has spaces or commas between its URLs. Raises BadRequest.
    """
    check_paths("remotes", given)
    named = re.findall(r"[^\s,]+", os.environ.get("PROTOGEN_REMOTE", ""))
    return tuple(map(Remote.of, given or (expanded("PROTOGEN_REMOTE", each) for each in named)))


def remote_header(url: str) -> Header:
    """Read the header of the artifact at a URL, and at most some 64 KB beyond it.

    Raises BadRequest, NotFound, RemoteError and IntegrityError.
    """
    return retried(partial(_header, Remote.of(url).url))


def find_header(name: str | PurePath, places: Sequence[Remote]) -> Header:
    """Read the header of the artifact with this relative path where the first remote has it. Raises as `fetch`."""
    return _first(name, places, _header)


def fetch(name: str | PurePath, digest: str | None, target: Path, places: Sequence[Remote]) -> Fetched:
    """Download the artifact with this relative path from the first remote that has it sound.

    `target` is overwritten, and checked in the same pass: header, length, the digest of each block and, if
    given, that of the content. No target is left that is not sound. Raises BadRequest on a name of another
    form, NotFound where no remote has it, DiskError, and else RemoteError, which says what each remote answered.
    """
    return _first(name, places, partial(_bring, digest=digest, target=target))


def push(path: Path, remote: Remote) -> bool:
    """Upload a file of a store under its own name; False where the remote has it already.

    What is there is never overwritten, and nothing is there before it is whole. Raises BadRequest on an http
    remote and on a file of another name, NotFound, DiskError, RemoteError, and IntegrityError where the
    file is damaged or the remote has other content under the name.
    """
    named = parse_name(path.name)
    if named is None:
        raise BadRequest(f"{path}: no artifact's name; allowed is v<k>-<key>.safetensors, as the store gives it")
    if protocol_of(remote.url) in HTTP:
        raise BadRequest(f"{shown(remote.url)}: http remotes are only read; push to a directory, s3://, gs:// or hf://")
    header = check_file(path)
    url = remote.file(artifact_path(header.spec, named[0]).as_posix())
    found, made = _digest_at(url), False
    if found is None:
        try:
            made = retried(partial(upload, path, url))
        except RemoteError:
            # That the name was taken meanwhile is said in many ways; or it was put and the answer was lost.
            if _digest_at(url) is None:
                raise
        found = remote_header(url).digest
    if found != header.digest:
        raise IntegrityError(
            f"{shown(url)}: has content {found}, {path} has {header.digest}; the first under a name stays: "
            "pull that one, or push to another remote"
        )
    return made


def _first(name: str | PurePath, places: Sequence[Remote], action: Callable[[str], Result]) -> Result:
    """Act on the URL of an artifact at the first remote where that succeeds."""
    path = PurePath(name)
    if len(path.parts) != 3 or parse_path(Path(path)) is None:
        raise BadRequest(
            f"{shown(str(name))}: no artifact's path; allowed is <method>/d<d>-n<n>/v<k>-<key>.safetensors"
        )
    answers: list[ProtogenError] = []
    for place in places:
        try:
            return retried(partial(action, place.file(path.as_posix())))
        except (BadRequest, NotFound, RemoteError, IntegrityError) as error:
            answers.append(error)
    if all(isinstance(answer, NotFound) for answer in answers):
        asked = ", ".join(shown(place.url) for place in places) or "none"
        raise NotFound(f"{name}: no remote has it, asked: {asked}; push it, or name others with --remote")
    raise RemoteError(f"{name}: no remote gave it: {' -- '.join(map(str, answers))}")


def _header(url: str) -> Header:
    with open_url(url, whole=False) as file:
        try:
            return header_from(shown(url), file, file.size)
        except IntegrityError as error:
            raise _there(error) from error


def _digest_at(url: str) -> str | None:
    try:
        return remote_header(url).digest
    except NotFound:
        return None


def _bring(url: str, digest: str | None, target: Path) -> Fetched:
    """Download and check, once; leave nothing that is not sound."""
    sound = False
    try:
        with open_url(url, whole=True) as source:
            header = write_arriving(target, source, shown(url))
        _check_place(url, digest, header)
        sound = True
    except IntegrityError as error:
        raise _there(error) from error
    except OSError as error:
        raise disk_error(target, error) from error
    finally:
        if not sound:
            with suppress(OSError):
                target.unlink()
    return Fetched(shown(url), header)


def _there(error: IntegrityError) -> IntegrityError:
    """The same error with the remedy that there is where the file lies at a remote."""
    return error if isinstance(error, SchemaError) or not error.remedy else type(error)(error.problem, THERE)


def _check_place(url: str, digest: str | None, header: Header) -> None:
    """Raise IntegrityError unless an artifact lies at its own place and has the content that was asked for."""
    path = Path(path_of(url))
    named = parse_path(path)
    if named and (belongs := artifact_path(header.spec, named.version)).parts != path.parts[-3:]:
        raise IntegrityError(f"{shown(url)}: holds what belongs into {belongs}; move it there, or delete it")
    if digest not in (None, header.digest):
        raise IntegrityError(f"{shown(url)}: has content {header.digest}, asked for was {digest}")
