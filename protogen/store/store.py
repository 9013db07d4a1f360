"""The store: a directory of immutable files, how one is published and found."""

import contextlib
import itertools
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from protogen.errors import DiskError, IntegrityError, NotFound, ProtogenError
from protogen.files.disk import disk_error, kept, link, names, remove_stale, settle, sync, temporary
from protogen.files.facts import Facts
from protogen.files.header import Header, check_file, read_header
from protogen.files.names import ArtifactName, artifact_path, parse_path
from protogen.files.provenance import Provenance
from protogen.measuring.stats import AngleStats
from protogen.spec import METHOD, Spec

if TYPE_CHECKING:
    from protogen.files.prototypes import Prototypes


def store_root(store: str | Path | None = None) -> Path:
    """Say which directory is the store: `store`, else PROTOGEN_STORE, else ./prototypes."""
    return Path(os.path.expanduser(store or os.environ.get("PROTOGEN_STORE") or "prototypes"))


@dataclass(frozen=True)
class Entry:
    """One file of the store by name and header; `error` says what is wrong with a damaged one.

    `size` is in bytes; `spec` and `provenance` are None just where there is an error.
    """

    path: Path
    name: ArtifactName
    spec: Spec | None = None
    digest: str | None = None
    size: int | None = None
    stats: AngleStats | None = None
    facts: Facts = field(default_factory=Facts)
    provenance: Provenance | None = None
    error: ProtogenError | None = None

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
        named = []
        try:
            methods = [each for each in os.listdir(self.root) if METHOD.fullmatch(each) and method in (None, each)]
            for folder in map(self.root.joinpath, methods):
                for size in names(folder) if None in (d, n) else [f"d{d}-n{n}"]:
                    for path in map((folder / size).joinpath, names(folder / size)):
                        name = parse_path(path)
                        if name and d in (None, name.d) and n in (None, name.n):
                            named.append((name, path))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise disk_error(Path(error.filename or self.root), error) from error
        found = (_entry(path, name) for name, path in sorted(named))
        return [entry for entry in found if not isinstance(entry.error, NotFound)]  # gone meanwhile

    def find(self, spec: Spec) -> Path | None:
        """Find the file that holds what `spec` asks for: the lowest version that is sound.

        Raises IntegrityError where there are only damaged ones, and DiskError where they cannot be read.
        """
        mine = self.of_key(spec)
        for entry in mine:
            if entry.error is None:
                return entry.path
        for entry in mine:
            if entry.error is not None:
                raise entry.error
        return None

    def of_key(self, spec: Spec) -> list[Entry]:
        """List the artifacts that are named as a Spec's, sound or not."""
        return [entry for entry in self.entries(spec.method, spec.d, spec.n) if entry.name.key == spec.key]

    def holding(self, spec: Spec, digest: str) -> Path | None:
        """Find a sound file of a Spec with this content."""
        return next((entry.path for entry in self.of_key(spec) if entry.digest == digest), None)

    def prepare(self, size: int) -> None:
        """Try whether the store can be written and has room for `size` bytes; leave nothing behind.

        Raises DiskError.
        """
        # The nearest directory that is there, since making the store would race with other processes.
        base = next(p for p in (self.root, *self.root.absolute().parents) if os.path.lexists(p))
        try:
            remove_stale(base)
            with temporary(base) as trial:
                trial.write_bytes(b"\0")
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
        from protogen.files.writing import write

        spec, exact = prototypes.spec, prototypes.provenance.reproducible == "exact"
        found = None if force else self.find(spec)
        return found or self._bring(spec, 1, lambda path: write(path, prototypes), force, exact)

    def receive(self, spec: Spec, version: int, fill: Callable[[Path], Header]) -> Path:
        """Bring the artifact that `fill` writes, at the path that it is given, into the store.

        `fill` sees that the artifact is sound and returns its header. The artifact gets this version where that
        is free or its own, else the next that is; a file with the same key and content that is there already is
        taken. Raises what `fill` raises, DiskError, and IntegrityError where the artifact is another's; then
        nothing is left behind.
        """

        def write(path: Path) -> str:
            header = fill(path)
            sync(path)
            if header.spec != spec:
                raise IntegrityError(f"{path}: holds {artifact_path(header.spec, version)}, asked for was {spec.key}")
            return header.digest

        return self._bring(spec, version, write, force=True, exact=False)

    def _bring(self, spec: Spec, version: int, write: Callable[[Path], str], force: bool, exact: bool) -> Path:
        """Have an artifact written, and give it its name; `write` says its digest."""
        folder = self.root / artifact_path(spec, 1).parent
        claims = folder / ".claims"
        made: list[Path] = []
        path = None
        try:
            made = [p for p in (claims, *claims.parents) if not p.exists()]
            remove_stale(folder)
            remove_stale(claims)
            with kept(claims):
                with temporary(folder) as unnamed:
                    digest = write(unnamed)
                    path = self._place(unnamed, spec, version, digest, force, exact)
                for changed in {folder, *(new.parent for new in made)}:
                    sync(changed)
            return path
        except OSError as error:
            raise disk_error(folder, error) from error
        finally:
            if path is None:
                for directory in made:
                    with contextlib.suppress(OSError):
                        directory.rmdir()  # only where it is empty

    def _place(self, unnamed: Path, spec: Spec, first: int, digest: str, force: bool, exact: bool) -> Path:
        """Give a finished file its name under the first version, from `first` on, that its key may have."""
        here = self.entries(spec.method, spec.d, spec.n)
        if force:
            for entry in here:
                if entry.name.key == spec.key and _same(entry.path, digest, exact):
                    return entry.path
        # A store that was copied without its claims still has its versions taken.
        others = {entry.version for entry in here if entry.name.key != spec.key}
        for version in itertools.count(first):
            path = self.root / artifact_path(spec, version)
            if version in others or not _claim(path.parent / ".claims", version, spec.key):
                continue
            if link(unnamed, path):
                return path
            settle(path)
            if force and not _same(path, digest, exact):
                continue
            with contextlib.suppress(NotFound):  # gone meanwhile
                read_header(path)
                return path
        raise AssertionError("versions do not end")


def _entry(path: Path, name: ArtifactName) -> Entry:
    try:
        settle(path)
        header = read_header(path)
    except ProtogenError as error:
        return Entry(path, name, error=error)
    spec = header.spec
    if (name.method, name.d, name.n) != (spec.method, spec.d, spec.n):
        belongs = artifact_path(spec, name.version)
        misplaced = IntegrityError(f"{path}: holds what belongs into {belongs}; move it there or delete it")
        return Entry(path, name, error=misplaced)
    return Entry(path, name, spec, header.digest, header.file_bytes, header.stats, header.facts, header.provenance)


def _same(path: Path, digest: str, exact: bool) -> bool:
    """Whether a published file holds the content of this digest; a damaged one does not."""
    try:
        published = read_header(path).digest
    except (IntegrityError, NotFound):
        return False
    if published == digest:
        with contextlib.suppress(NotFound):  # gone meanwhile
            check_file(path)  # where the bytes are not those of the header, this says so
            return True
    elif exact:
        raise IntegrityError(
            f"{path}: holds digest {published}, generated again it is {digest}; a formula gives the same "
            "bytes everywhere: delete the file if it is not to be trusted, and report this"
        )
    return False


def _claim(claims: Path, version: int, key: str) -> bool:
    """Claim a version for a key, for ever; whether it is this key's, from now or from before."""
    claim = claims / str(version)
    if not claim.exists():
        with temporary(claims) as unnamed:
            unnamed.write_text(key)
            sync(unnamed)
            link(unnamed, claim)
    settle(claim)
    return claim.read_text() == key
