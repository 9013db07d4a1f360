"""Load what a store has: a file by its path, the best of a method, or what `protogen.lock` has under a name."""

import os
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from protogen.checks import check_kind, check_names, check_whole
from protogen.errors import BadRequest, NotFound
from protogen.files.names import ArtifactName
from protogen.methods import METHODS
from protogen.spec import Value

from .pins import lock_path, read_lock
from .store import Entry, Store

if TYPE_CHECKING:
    from protogen.files.prototypes import Prototypes


def load(
    target: str | Path, *, check: bool = True, rows: slice | None = None, full: bool = False, **filters: Any
) -> "Prototypes":
    """Load a file by its path: one that has a separator or ends in .safetensors, and any Path.

    A method's name with `filters` is forwarded to `best`, another word to `pinned`; say these where you mean
    them. `check`, `rows` and `full` are those of `protogen.files.reading.read`. Raises BadRequest, NotFound,
    DiskError and IntegrityError.

    >>> import protogen
    >>> path = protogen.ensure("simplex", n=6).path
    >>> protogen.load(path, rows=slice(0, 2)).tensor.shape
    torch.Size([2, 5])
    """
    from protogen.files.reading import read

    if not isinstance(target, str | Path):
        raise BadRequest(
            f"target is {target!r}; allowed are a path, a method ({', '.join(METHODS)}) and a name in the lock"
        )
    separators = filter(None, (os.sep, os.altsep))
    if isinstance(target, Path) or any(each in target for each in separators) or target.endswith(".safetensors"):
        given = [name for name, value in filters.items() if value is not None]
        if given:
            raise BadRequest(f"{target} with {', '.join(given)}: a path names one file; leave the filters out")
        return read(Path(target), check, rows=rows, full=full)
    if target in METHODS:
        return best(target, check=check, rows=rows, full=full, **filters)
    store = filters.pop("store", None)
    if given := [name for name, value in filters.items() if value is not None]:
        raise BadRequest(f"{target} with {', '.join(given)}: the lock names one file; leave them out")
    return pinned(target, store=store, check=check, rows=rows, full=full)


def best(
    method: str,
    *,
    d: int | None = None,
    n: int | None = None,
    version: int | None = None,
    key: str | None = None,
    store: str | Path | None = None,
    check: bool = True,
    rows: slice | None = None,
    full: bool = False,
    **params: Value,
) -> "Prototypes":
    """Load the best of a method's artifacts in a store: `best("ebv", d=100, n=1000)`.

    - `d`, `n`, `version`, `key`: what its name has; files of other names are not opened.
    - `params`: parameters of its Spec, as the method reads them (alpha: a coherence at most so large).
    - `store`: the directory, else PROTOGEN_STORE, else ./prototypes.
    - `check`, `rows`, `full`: those of `protogen.files.reading.read`.

    What is best is the method's choice; ties go to the lowest version. Raises BadRequest, NotFound, DiskError
    and IntegrityError.

    >>> import protogen
    >>> made = protogen.ensure("simplex", n=5)
    >>> protogen.best("simplex", n=5).d
    4
    """
    from protogen.files.reading import read

    if method not in METHODS:
        raise BadRequest(f"unknown method {method!r}; the methods are {', '.join(METHODS)}")
    sizes = {"d": d, "n": n, "version": version}
    where: dict[str, Any] = {part: value for part, value in {**sizes, "key": key}.items() if value is not None}
    for part in sizes.keys() & where.keys():
        check_whole(part, where[part], 1)
    check_kind("key", key, str)
    return read(_best(Store.of(store), method, where, params).path, check, rows=rows, full=full)


def pinned(
    name: str,
    *,
    lock: str | Path | None = None,
    store: str | Path | None = None,
    check: bool = True,
    rows: slice | None = None,
    full: bool = False,
) -> "Prototypes":
    """Load the artifact that a project has under this name in its `protogen.lock`.

    - `lock`: the lock, else PROTOGEN_LOCK, else ./protogen.lock.
    - `store`: where the artifact lies, with the locked key and digest, whatever its version; the directory, else
      PROTOGEN_STORE, else ./prototypes.
    - `check`, `rows`, `full`: those of `protogen.files.reading.read`.

    Raises BadRequest where the lock has no such name, NotFound where the store has not what is locked, DiskError
    and IntegrityError.

    >>> import protogen
    >>> pin = protogen.pin("backbone", protogen.ensure("simplex", n=4).path)
    >>> protogen.pinned("backbone").n
    4
    """
    from protogen.files.reading import read

    place, path = Store.of(store), lock_path(lock)
    pins = read_lock(path) if path.exists() else {}
    if name not in pins:
        names = f"names in {path} are {', '.join(pins)}" if pins else f"{path} has no names"
        raise BadRequest(f"method {name!r}, allowed are {', '.join(METHODS)}; {names}; a path ends in .safetensors")
    pin = pins[name]
    held = place.holding(pin.spec, pin.digest)
    if held is None:
        raise NotFound(f"{name}: {place.root} has not {pin.path} with digest {pin.digest}", "`protogen sync` brings it")
    return read(held, check, rows=rows, full=full)


def _best(store: Store, method: str, where: Mapping[str, Any], params: Mapping[str, Value]) -> Entry:
    fitting = store.entries(method, **where)
    sound = [(e, e.spec) for e in fitting if e.spec is not None]
    if not sound:
        for entry in fitting:
            if entry.error is not None:
                raise entry.error
    rules = METHODS[method]
    known = {*(f.name for f in fields(rules)), *(name for _, spec in sound for name in spec.options)}
    check_names(method, params, sorted(known))
    for parameter in fields(rules):
        check_kind(parameter.name, params.get(parameter.name), parameter.type)
    admitted = [e for e, spec in sound if rules.admits(spec, e.stats, e.facts, params)]
    if not admitted:
        raise NotFound(*_nothing(store, method, where, params))
    return min(admitted, key=lambda e: (rules.rank(e.stats, e.facts), e.version, e.name))


def _nothing(store: Store, method: str, where: Mapping[str, Any], params: Mapping[str, Value]) -> tuple[str, str]:
    """Say that a store has nothing that was asked for, what it has, and how to make it."""
    here: list[ArtifactName] = [name for name, _ in store.named(method)]
    sizes = list(dict.fromkeys(f"d{name.d}-n{name.n}" for name in here))
    there = f"{len(here)} of other sizes or parameters ({', '.join(sizes[:5])})" if here else "none at all"
    asked = ", ".join(f"{name}={value}" for name, value in {**where, **params}.items())
    rules = METHODS[method]
    options = {"d": where.get("d", "D" if rules.least_d(2) is None else None), "n": where.get("n", "N"), **params}
    words = [f"--{name.replace('_', '-')} {value}" for name, value in options.items() if value is not None]
    if not rules.from_options:
        words = ["--help"]  # which says what such a set is made of
    command = " ".join(["protogen", *([rules.group] if rules.group else []), method, *words])
    problem = f"no {method} with {asked or 'any size'} in {store.root}, there are {there}"
    return problem, f"make it with `{command}`"
