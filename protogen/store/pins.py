"""`protogen.lock`: the artifacts that a project uses, by names of its own, in a file that its repository keeps."""

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from protogen.checks import check_path
from protogen.errors import BadRequest, DiskError, IntegrityError, NotFound, SchemaError
from protogen.files.disk import disk_error, kept, path_of_variable, remove_stale, sync, temporary
from protogen.files.header import Header
from protogen.files.names import artifact_path, parse_name, parse_path
from protogen.files.provenance import Reproducible
from protogen.files.schemas import SCHEMA as FILE_SCHEMA
from protogen.methods import METHODS
from protogen.spec import Spec, canonical_json, is_number

from .turns import FOLDER, alone

SCHEMA = 1
OPTION = "by --lock or PROTOGEN_LOCK"
LONGEST, VALUES = 8_000_000, 250_000  # characters and values of a lock: 10,000 pins
FIELDS = {"spec", "key", "version", "digest", "reproducible", "coherence"}

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Pin:
    """One artifact under the name that a project has for it.

    `coherence` is the largest cosine that counts for its method, of lines |cosine|; None where it is not known.
    """

    name: str
    spec: Spec
    version: int
    digest: str
    reproducible: Reproducible
    coherence: float | None

    @classmethod
    def of(cls, name: str, path: Path, header: Header) -> "Pin":
        """Pin the artifact in a file.

        Raises BadRequest on a name that cannot be one, a file that has no artifact's name, an unknown method, and a
        run that was ended early, which nothing makes again.
        """
        check_name(name)
        spec, named = header.spec, parse_name(path.name)
        if spec.method not in METHODS:
            raise BadRequest(f"{path}: is of method {spec.method!r}, allowed are {', '.join(METHODS)}")
        if "ended" in spec.options:
            raise BadRequest(
                f"{path}: is of a run that was {spec.options['ended']}; make the whole of it, and lock that"
            )
        if named is None:
            raise BadRequest(f"{path}: has no version in its name; lock it where a store has it, as v<k>-{spec.key}")
        coherence = METHODS[spec.method].cosine(header.stats, header.facts)
        return cls(name, spec, named[0], header.digest, header.provenance.reproducible, coherence)

    @property
    def path(self) -> Path:
        """The place of the artifact in a store or remote that gave it the locked version."""
        return artifact_path(self.spec, self.version)

    def to_dict(self) -> dict[str, Any]:
        """The entry as plain JSON values, without its name."""
        return {
            "spec": self.spec.to_dict(),
            "key": self.spec.key,
            "version": self.version,
            "digest": self.digest,
            "reproducible": self.reproducible,
            "coherence": self.coherence,
        }


def lock_path(given: str | Path | None = None) -> Path:
    """Say which file is the lock: `given`, else PROTOGEN_LOCK, else ./protogen.lock. Raises BadRequest on no path."""
    if given is not None:
        check_path("lock", given)
        return Path(os.path.expanduser(given))
    return path_of_variable("PROTOGEN_LOCK") or Path("protogen.lock")


@contextmanager
def changing(path: Path, say: Callable[[str], None] | None = None) -> Iterator[dict[str, Pin]]:
    """Read a lock, which need not be there yet, to write it anew while no other process does.

    `say` is told who is waited for. Raises as `read_lock` and `write_lock`.
    """
    target = Path(os.path.realpath(path))  # by whatever link it was named
    with alone(target.parent, target.name, say=say):
        yield read_lock(path) if path.exists() else {}


def check_name(name: str) -> None:
    """Raise BadRequest unless a project may have this name for an artifact."""
    if not isinstance(name, str) or not _NAME.fullmatch(name) or name.endswith(".safetensors"):
        raise BadRequest(
            f"name {name!r}; allowed are up to 100 letters, digits, dots, dashes and underscores, the first a letter "
            "or digit, without .safetensors at the end"
        )
    if name in METHODS:
        raise BadRequest(f"name {name!r} is a method's; `protogen.load` would not find the artifact: take another")


def read_lock(path: Path) -> dict[str, Pin]:
    """Read a lock and check all of it; pins by name. Raises NotFound, DiskError, SchemaError and IntegrityError."""
    text = _text(path)
    try:
        if sum(map(text.count, "[{:,")) > VALUES:  # each value but the first stands after one of these
            raise ValueError(f"more than {VALUES} values")
        document = json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse)
        schema, artifacts = document["schema"], document["artifacts"]
        if type(schema) is int and schema > SCHEMA:
            raise SchemaError(f"{path}: schema {schema}, this protogen reads {SCHEMA}; upgrade protogen")
        if type(schema) is not int or schema != SCHEMA or document.keys() != {"schema", "artifacts"}:
            raise ValueError(f"schema is {schema!r}, allowed is {SCHEMA}, beside artifacts alone")
        return {name: _pin(name, entry) for name, entry in artifacts.items()}
    except (BadRequest, ValueError) as error:
        raise _damaged(path, str(error)) from error
    except (LookupError, TypeError, AttributeError, RecursionError) as error:
        raise _damaged(path, "a value is missing or of another kind") from error


def _text(path: Path) -> str:
    """Read the text of a lock, no longer than one may be. Raises NotFound, DiskError and IntegrityError."""
    try:
        if path.exists() and not path.is_file():  # of a pipe the end may never come
            raise DiskError(f"{path}: is a directory or a device, needed is a file; name another {OPTION}")
        with path.open(encoding="utf-8") as file:
            text = file.read(LONGEST + 1)
    except FileNotFoundError as error:
        raise NotFound(f"{path}: no such lock; `protogen lock add` makes one, --lock names another") from error
    except OSError as error:
        raise disk_error(path, error, OPTION) from error
    except UnicodeDecodeError as error:
        raise _damaged(path, "no text") from error
    if len(text) > LONGEST:
        raise _damaged(path, f"more than {LONGEST} characters")
    return text


def write_lock(path: Path, pins: Iterable[Pin]) -> None:
    """Write a lock, sorted and all at once. Raises DiskError.

    Where it lies other programs have their files, too: it is written in the folder of the locks, and moved.
    """
    document = {"schema": SCHEMA, "artifacts": {pin.name: pin.to_dict() for pin in pins}}
    text = json.dumps(document, indent=2, sort_keys=True, allow_nan=False) + "\n"
    target = Path(os.path.realpath(path))  # a link stays one
    own = target.parent / FOLDER
    try:
        with kept(own), temporary(own) as unnamed:
            remove_stale(own)
            unnamed.write_text(text, encoding="utf-8", newline="\n")  # the same bytes in every repository
            sync(unnamed)
            unnamed.replace(target)
        sync(target.parent)
    except OSError as error:
        raise disk_error(path, error, OPTION) from error
    finally:
        with suppress(OSError):
            own.rmdir()  # only where it is empty


def cache_key(pins: Mapping[str, Pin]) -> str:
    """Name what a lock asks for and the schema of the files that hold it, for a cache.

    >>> import protogen
    >>> protogen.cache_key({})
    'protogen-...'
    """
    content = canonical_json({name: pin.to_dict() for name, pin in pins.items()})
    return f"protogen-{FILE_SCHEMA}-{hashlib.sha256(content.encode()).hexdigest()[:16]}"


def _pin(name: str, entry: Mapping[str, Any]) -> Pin:
    """Check one entry. Raises BadRequest, ValueError, and what a value of another kind raises."""
    check_name(name)
    if entry.keys() != FIELDS:
        raise ValueError(f"{name} has {', '.join(sorted(entry)) or 'nothing'}; it needs {', '.join(sorted(FIELDS))}")
    spec = Spec.from_dict(entry["spec"])
    pin = Pin(name, spec, entry["version"], entry["digest"], entry["reproducible"], entry["coherence"])
    if spec.to_dict() != entry["spec"] or spec.n < 2 or type(pin.version) is not int or parse_path(pin.path) is None:
        raise ValueError(f"{name} has spec {entry['spec']!r}, which is none that protogen writes")
    if spec.key != entry["key"]:
        raise ValueError(f"{name} has key {entry['key']!r}, its spec has {spec.key}")
    if not _DIGEST.fullmatch(pin.digest):
        raise ValueError(f"{name} has digest {pin.digest!r}; allowed are 64 hex digits")
    if pin.reproducible not in get_args(Reproducible):
        raise ValueError(f"{name} is {pin.reproducible!r}; allowed are {', '.join(get_args(Reproducible))}")
    if pin.coherence is not None and not is_number(pin.coherence):
        raise ValueError(f"{name} has coherence {pin.coherence!r}; allowed are a number and null")
    return pin


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make a dict of pairs. Raises ValueError where a name stands twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} stands in it twice")
    return found


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number")


def _damaged(path: Path, what: str) -> IntegrityError:
    return IntegrityError(f"{path}: no lock that protogen wrote: {what}; take it from the repository again")
