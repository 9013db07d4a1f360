"""The store: a directory of immutable files, how one is published and found."""

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeVar

from protogen.errors import BadRequest, DiskError, IntegrityError, NotFound, ProtogenError
from protogen.files.disk import disk_error, kept, names, path_of_variable, remove_stale, settle, sync, temporary
from protogen.files.facts import Facts
from protogen.files.header import Header, read_header
from protogen.files.names import ArtifactName, artifact_path, parse_path
from protogen.files.provenance import Provenance
from protogen.measuring.stats import AngleStats
from protogen.spec import METHOD, Spec

from .versions import Existing, first_that_serves, give_version

if TYPE_CHECKING:
    from protogen.files.prototypes import Prototypes

Read = TypeVar("Read")


def store_path(store: str | Path | None = None) -> Path:
    """Say which directory is the store: `store`, else PROTOGEN_STORE, else ./prototypes.

    Raises BadRequest on what is no path.
    """
    if store is None:
        return path_of_variable("PROTOGEN_STORE") or Path("prototypes")
    if not isinstance(store, str | Path) or str(store) == "" or "\0" in str(store):
        raise BadRequest(
            f"store is {store!r}; allowed is a directory's path; left out, it is PROTOGEN_STORE, else ./prototypes"
        )
    return Path(os.path.expanduser(store))


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

    @classmethod
    def of(cls, store: str | Path | None = None) -> Self:
        """Open the store at this path, else the one of PROTOGEN_STORE, else ./prototypes. Raises BadRequest."""
        return cls(store_path(store))

    def entries(self, method: str | None = None, **parts: object) -> list[Entry]:
        """List the artifacts by their headers alone, in order of names.

        `parts` are values of d, n, version and key that their names have; no other file is opened. Raises
        DiskError where the store is no directory or cannot be read.
        """
        return list(self._entries(self.named(method, **parts)))

    def named(self, method: str | None = None, **parts: object) -> list[tuple[ArtifactName, Path]]:
        """List the files that have an artifact's name, as `entries`; opens none. Raises DiskError."""
        found, d, n = [], parts.get("d"), parts.get("n")
        try:
            methods = [each for each in os.listdir(self.root) if METHOD.fullmatch(each) and method in (None, each)]
            for folder in map(self.root.joinpath, methods):
                for size in names(folder) if None in (d, n) else [f"d{d}-n{n}"]:
                    for path in map((folder / size).joinpath, names(folder / size)):
                        name = parse_path(path)
                        if name and all(getattr(name, part) == value for part, value in parts.items()):
                            found.append((name, path))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise disk_error(Path(error.filename or self.root), error) from error
        return sorted(found)

    def find(self, spec: Spec) -> Path | None:
        """Find the file that holds what `spec` asks for: the lowest version that is sound, by its header alone.

        Raises IntegrityError where there are only damaged ones, and DiskError where they cannot be read.
        """
        return self.read_first(spec, _sound)

    def read_first(self, spec: Spec, reader: Callable[[Path], Read]) -> Read | None:
        """Have `reader` read the file that holds what `spec` asks for: the lowest version that it can read.

        None where there is no file of the Spec; no file of another one is opened. Raises what `reader` raises
        of the first file where it can read none.
        """
        errors = []
        for path in self._paths(spec):
            settle(path)
            try:
                return reader(path)
            except NotFound:  # gone meanwhile
                continue
            except ProtogenError as error:
                errors.append(error)
        if errors:
            raise errors[0]
        return None

    def of_key(self, spec: Spec) -> list[Entry]:
        """List the artifacts that are named as a Spec's, sound or not; no other file is opened."""
        return self.entries(spec.method, d=spec.d, n=spec.n, key=spec.key)

    def holding(self, spec: Spec, digest: str) -> Path | None:
        """Find a file of a Spec with this content, sound by its header; no file of another Spec is opened."""
        return next((entry.path for entry in self.of_key(spec) if entry.digest == digest), None)

    def with_digest(self, digest: str) -> Path | None:
        """Find a file with this content, of whatever Spec; the headers are read one by one until it is found."""
        return next((entry.path for entry in self._entries(self.named()) if entry.digest == digest), None)

    def prepare(self, size: int) -> None:
        """Try whether the store can be written and has room for `size` bytes; leave nothing behind.

        Raises DiskError.
        """
        # The nearest directory that is there, since making the store would race with other processes.
        base = next(p for p in (self.root, *self.root.absolute().parents) if os.path.lexists(p))
        try:
            with temporary(base) as trial:
                trial.write_bytes(b"\0")
        except OSError as error:
            raise disk_error(self.root, error) from error
        free = shutil.disk_usage(base).free
        if size > free:
            raise DiskError(
                f"{self.root}: the file needs {size / 1e9:,.1f} GB of disk, free are {free / 1e9:,.1f} GB",
                "make room, name another place with --store, or ask for fewer vectors",
            )

    def publish(self, prototypes: "Prototypes", force: bool = False) -> Path:
        """Bring prototypes into the store under their Spec and return the file that holds them.

        Without `force` a file of this Spec that is there already, or comes there first, is taken; one that cannot be
        read, as it is damaged, hides nothing: the new one gets the next version. With `force`
        the same content is taken, other content of an `exact` Spec is an IntegrityError, and else the next
        free version is published. Raises DiskError; then nothing is left behind.
        """
        from protogen.files.writing import write

        spec = prototypes.spec
        with contextlib.suppress(IntegrityError):
            if not force and (found := self.find(spec)):
                return found
        exact = prototypes.provenance.reproducible == "exact"
        take = Existing.ANY if not force else Existing.ONLY_SAME if exact else Existing.SAME
        return self._bring(spec, 1, lambda path: write(path, prototypes), take)

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

        return self._bring(spec, version, write, Existing.SAME)

    def _paths(self, spec: Spec) -> list[Path]:
        """The files that are named as a Spec's, the lowest version first; opens none."""
        return [path for _, path in self.named(spec.method, d=spec.d, n=spec.n, key=spec.key)]

    def _entries(self, named: list[tuple[ArtifactName, Path]]) -> Iterator[Entry]:
        """Read the headers of files one by one, without those that are gone meanwhile."""
        found = (_entry(path, name) for name, path in named)
        return (entry for entry in found if not isinstance(entry.error, NotFound))

    def _bring(self, spec: Spec, version: int, write: Callable[[Path], str], take: Existing) -> Path:
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
                    path = self._published(unnamed, spec, version, digest, take)
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

    def _published(self, unnamed: Path, spec: Spec, first: int, digest: str, take: Existing) -> Path:
        """Give a finished file its name, or find the published one that is taken in its place."""
        here = self.named(spec.method, d=spec.d, n=spec.n)
        mine = [path for name, path in here if name.key == spec.key]
        # A store that was copied without its claims still has its versions taken.
        others = {name.version for name, _ in here if name.key != spec.key}
        # Where any file is taken there was none, and one that has come meanwhile is met under its version.
        held = None if take is Existing.ANY else first_that_serves(mine, digest, take)
        return held or give_version(unnamed, self.root, spec, first, others, digest, take)


def _sound(path: Path) -> Path:
    read_header(path)
    return path


def _entry(path: Path, name: ArtifactName) -> Entry:
    try:
        settle(path)
        header = read_header(path)
    except ProtogenError as error:
        return Entry(path, name, error=error)
    spec = header.spec
    if (name.method, name.d, name.n) != (spec.method, spec.d, spec.n):
        belongs = artifact_path(spec, name.version)
        misplaced = IntegrityError(f"{path}: holds what belongs into {belongs}", "move it there or delete it")
        return Entry(path, name, error=misplaced)
    return Entry(path, name, spec, header.digest, header.file_bytes, header.stats, header.facts, header.provenance)
