"""The store: a directory of immutable files, how one is published and found."""

import contextlib
import errno
import glob
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import DiskError, IntegrityError, ProtogenError
from .header import ArtifactName, artifact_path, disk_error, parse_path, read_header
from .spec import Spec

if TYPE_CHECKING:
    from .prototypes import Prototypes

SETTLE_S = 1.0  # how long a file may be empty between its exclusive creation and the rename onto it


def store_root(store: str | Path | None = None) -> Path:
    """Say which directory is the store: `store`, else PROTOGEN_STORE, else ./prototypes."""
    return Path(os.path.expanduser(store or os.environ.get("PROTOGEN_STORE") or "prototypes"))


@dataclass(frozen=True)
class Entry:
    """One file of the store by name and header; `error` says what is wrong with a damaged one.

    `spec` is None just where there is an error.
    """

    path: Path
    name: ArtifactName
    spec: Spec | None = None
    digest: str | None = None
    stats: Mapping[str, Any] | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None

    @property
    def version(self) -> int:
        """The k of v<k>."""
        return self.name.version


@dataclass(frozen=True)
class Store:
    """A directory of artifacts; it need not exist."""

    root: Path

    def entries(self, method: str | None = None, d: int | None = None, n: int | None = None) -> list[Entry]:
        """List the artifacts, of one method, d or n if given, by their headers alone, in order of names.

        Raises DiskError where the store is no directory or cannot be read.
        """
        try:
            os.listdir(self.root)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise disk_error(self.root, error) from error
        named = []
        folders = f"{glob.escape(method) if method else '[!.]*'}/d{d or '*'}-n{n or '*'}"
        for path in self.root.glob(f"{folders}/v*.safetensors"):
            name = parse_path(path)
            if name and method in (None, name.method) and d in (None, name.d) and n in (None, name.n):
                named.append((name, path))
        return [_entry(path, name) for name, path in sorted(named)]

    def find(self, spec: Spec) -> Path | None:
        """Find the file that holds what `spec` asks for: the lowest version that is sound.

        Raises IntegrityError where there are only damaged ones.
        """
        mine = [e for e in self.entries(spec.method, spec.d, spec.n) if e.name.key == spec.key]
        sound = [e.path for e in mine if e.error is None]
        if mine and not sound:
            raise IntegrityError(mine[0].error)
        return sound[0] if sound else None

    def prepare(self, size: int) -> None:
        """Try whether the store can be written and has room for `size` bytes; leave nothing behind.

        Raises DiskError.
        """
        # The nearest directory that is there, since making the store would race with other processes.
        base = next(p for p in (self.root, *self.root.absolute().parents) if os.path.lexists(p))
        try:
            with tempfile.TemporaryDirectory(prefix=".protogen-", dir=base) as trial:
                Path(trial, "trial").write_bytes(b"\0")
        except OSError as error:
            raise disk_error(self.root, error) from error
        free = shutil.disk_usage(base).free
        if size > free:
            raise DiskError(
                f"{self.root}: the file needs {size / 1e9:,.1f} GB of disk, free are {free / 1e9:,.1f} GB; "
                "make room, name another place with --store, or ask for fewer vectors"
            )

    def publish(self, prototypes: "Prototypes", force: bool = False) -> Path:
        """Bring prototypes into the store under their Spec and return the file that holds them.

        Without `force` a file of this Spec that is there already, or comes there first, is taken. With it
        the same content is taken, other content of an `exact` Spec is an IntegrityError, and else the next
        free version is published. Raises DiskError; then nothing is left behind.
        """
        from .prototypes import write

        found = None if force else self.find(prototypes.spec)
        if found:
            return found
        folder = self.root / artifact_path(prototypes.spec, 1).parent
        claims = folder / ".claims"
        made: list[Path] = []
        path = None
        try:
            made = [p for p in (claims, *claims.parents) if not p.exists()]
            claims.mkdir(parents=True, exist_ok=True)
            with _temporary(folder) as temporary:
                digest = write(temporary, prototypes)
                path = self._place(temporary, prototypes, digest, force)
            _sync(folder)
            return path
        except OSError as error:
            raise disk_error(folder, error) from error
        finally:
            if path is None:
                for directory in made:
                    with contextlib.suppress(OSError):
                        directory.rmdir()  # only where it is empty

    def _place(self, temporary: Path, prototypes: "Prototypes", digest: str, force: bool) -> Path:
        """Give the finished file its name under the first version that this key may have."""
        spec, exact = prototypes.spec, prototypes.provenance.reproducible == "exact"
        here = self.entries(spec.method, spec.d, spec.n)
        if force:
            for entry in here:
                if entry.name.key == spec.key and _same(entry.path, digest, exact):
                    return entry.path
        # A store that was copied without its claims still has its versions taken.
        others = {entry.version for entry in here if entry.name.key != spec.key}
        version = 0
        while True:
            version += 1
            path = self.root / artifact_path(spec, version)
            if version in others or not _claim(path.parent / ".claims", version, spec.key):
                continue
            if _link(temporary, path):
                return path
            _settle(path)
            if not force:
                read_header(path)
                return path
            if _same(path, digest, exact):
                return path


def _entry(path: Path, name: ArtifactName) -> Entry:
    try:
        _settle(path)
        header = read_header(path)
    except ProtogenError as error:
        return Entry(path, name, error=str(error))
    spec, meta = header.spec, header.meta
    if (name.method, name.d, name.n) != (spec.method, spec.d, spec.n):
        belongs = artifact_path(spec, name.version)
        return Entry(path, name, error=f"{path}: holds what belongs into {belongs}; move it there or delete it")
    return Entry(path, name, spec, header.digest, meta["stats"], meta["facts"], meta["provenance"])


def _same(path: Path, digest: str, exact: bool) -> bool:
    """Whether a published file holds the content of this digest; a damaged one does not."""
    from .prototypes import read

    try:
        published = read_header(path).digest
    except IntegrityError:
        return False
    if published == digest:
        read(path)  # where the bytes are not those of the header, this says so
        return True
    if exact:
        raise IntegrityError(
            f"{path}: holds digest {published}, generated again it is {digest}; a formula gives the same "
            "bytes everywhere: delete the file if it is not to be trusted, and report this"
        )
    return False


def _claim(claims: Path, version: int, key: str) -> bool:
    """Claim a version for a key, for ever; whether it is this key's, from now or from before."""
    claim = claims / str(version)
    if not claim.exists():
        with _temporary(claims) as temporary:
            temporary.write_text(key)
            _link(temporary, claim)
    _settle(claim)
    return claim.read_text() == key


@contextlib.contextmanager
def _temporary(folder: Path) -> Iterator[Path]:
    """Name a file of this process in the folder and remove it at the end."""
    path = folder / f".{os.getpid()}-{secrets.token_hex(4)}.tmp"
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def _link(source: Path, target: Path) -> bool:
    """Give a finished file the name `target`, all at once; whether it did, False where the name is taken."""
    try:
        os.link(source, target)
        return True
    except FileExistsError:
        return False
    except OSError:  # no hard links here, which file systems say by various numbers: first the name
        try:
            os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))
        except FileExistsError:
            return False
    try:
        source.replace(target)
    except OSError:
        target.unlink()
        raise
    return True


def _settle(path: Path) -> None:
    """Wait while a file is empty: where there are no hard links, its content comes a moment later."""
    end = time.monotonic() + SETTLE_S
    with contextlib.suppress(OSError):
        while path.stat().st_size == 0 and time.monotonic() < end:
            time.sleep(0.005)


def _sync(folder: Path) -> None:
    """Bring the folder's names to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # not every file system can
            raise
    finally:
        os.close(descriptor)
