"""Load what a store has: by path, by name in the lock, or the best of a method."""

import os
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from protogen.checks import check_kind, check_names, check_whole
from protogen.errors import BadRequest, NotFound
from protogen.methods import METHODS
from protogen.spec import Value

from .pins import lock_path, read_lock
from .store import Entry, Store, store_root

if TYPE_CHECKING:
    from protogen.files.prototypes import Prototypes
from .access import store_path


def load(
    target: str | Path,
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
    """Load a file by its path, what `protogen.lock` has under a name, or the best of a method's artifacts.

    `d`, `n`, `version`, `key` and `params` are filters of the last. The lock is PROTOGEN_LOCK, else
    ./protogen.lock; its artifact is the one with the locked key and digest, whatever version it has here.
    `params` filter by the Spec's parameters, as the method reads them (alpha: a coherence at most so
    large). The best is the method's own choice, ties go to the lowest version. `check`, `rows` and `full`
    are those of `protogen.files.reading.read`. Raises BadRequest, NotFound, DiskError and IntegrityError.
    """
    from protogen.files.reading import read

    if not isinstance(target, str | Path):
        raise BadRequest(
            f"target is {target!r}; allowed are a path, a method ({', '.join(METHODS)}) and a name in the lock"
        )
    sizes = {"d": d, "n": n, "version": version}
    where: dict[str, Any] = {part: value for part, value in {**sizes, "key": key}.items() if value is not None}
    for part in sizes.keys() & where.keys():
        check_whole(part, where[part], 1)
    check_kind("key", key, str)
    place = Store(store_root(store_path(store)))
    if isinstance(target, Path) or os.sep in target or target.endswith(".safetensors"):
        if where or params or store:
            names = ", ".join([*where, *params, *(["store"] if store else [])])
            raise BadRequest(f"{target} with {names}: a path names one file; leave the filters out")
        path = Path(target)
    elif target in METHODS:
        path = _best(place, target, where, params).path
    else:
        path = _locked(place, target)
        if where or params:
            raise BadRequest(f"{target} with {', '.join([*where, *params])}: the lock names one file; leave them out")
    return read(path, check, rows=rows, full=full)


def _locked(store: Store, name: str) -> Path:
    lock = lock_path()
    pins = read_lock(lock) if lock.exists() else {}
    if name not in pins:
        names = f"names in {lock} are {', '.join(pins)}" if pins else f"{lock} has no names"
        raise BadRequest(f"method {name!r}, allowed are {', '.join(METHODS)}; {names}; a path ends in .safetensors")
    pin = pins[name]
    path = store.holding(pin.spec, pin.digest)
    if path is None:
        raise NotFound(f"{name}: {store.root} has not {pin.path} with digest {pin.digest}; `protogen sync` brings it")
    return path


def _best(store: Store, method: str, where: Mapping[str, Any], params: Mapping[str, Value]) -> Entry:
    here = store.entries(method)
    fitting = [e for e in here if all(getattr(e.name, part) == value for part, value in where.items())]
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
        raise NotFound(_nothing(store, method, here, where, params))
    return min(admitted, key=lambda e: (rules.rank(e.stats, e.facts), e.version, e.name))


def _nothing(
    store: Store, method: str, here: list[Entry], where: Mapping[str, Any], params: Mapping[str, Value]
) -> str:
    sizes = list(dict.fromkeys(f"d{e.name.d}-n{e.name.n}" for e in here))
    there = f"{len(here)} of other sizes or parameters ({', '.join(sizes[:5])})" if here else "none at all"
    asked = ", ".join(f"{name}={value}" for name, value in {**where, **params}.items())
    rules = METHODS[method]
    options = {"d": where.get("d", "D" if rules.least_d(2) is None else None), "n": where.get("n", "N"), **params}
    words = [f"--{name.replace('_', '-')} {value}" for name, value in options.items() if value is not None]
    command = " ".join(["protogen", *([rules.group] if rules.group else []), method, *words])
    return f"no {method} with {asked or 'any size'} in {store.root}, there are {there}; make it with `{command}`"
