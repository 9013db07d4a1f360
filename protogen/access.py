"""Ask for prototypes: by Spec, from the store or made; by path; or the best that the store has."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import BadRequest, DiskError, IntegrityError, Interrupted, NotFound
from .lockfile import lock_path, read_lock
from .locks import alone
from .methods import METHODS, method_of
from .methods.method import check_kind, check_names, check_whole
from .solution import Run, Status
from .spec import Spec, Value
from .store import Entry, Store, store_root
from .upkeep import repair

if TYPE_CHECKING:
    from .prototypes import Prototypes


def store_path(store: str | Path | None) -> Path | None:
    """The directory that was named as the store, if any. Raises BadRequest on what is no path."""
    if store is None:
        return None
    if not isinstance(store, str | Path) or str(store) == "" or "\0" in str(store):
        raise BadRequest(
            f"store is {store!r}; allowed is a directory's path; left out, it is PROTOGEN_STORE, else ./prototypes"
        )
    return Path(store)


def ensure_path(spec: Spec, run: Run | None = None, *, store: str | Path | None = None, force: bool = False) -> Path:
    """Say which file holds what `spec` asks for; generate and publish it first where there is none.

    One process at a time generates it, the others wait and take its file. A run that was killed goes on from
    its state in the store. A damaged file is set aside, and generated again. A run that was ended early, by
    time or for want of memory, is published under the Spec that says so. `force` generates again. Raises
    Interrupted where Ctrl-C has ended it and what there was is published so; DiskError, before any work, where
    the store cannot be written or has no room for it; and IntegrityError where it cannot be written and has a
    damaged file.
    """
    place = Store(store_root(store_path(store)))
    with contextlib.suppress(IntegrityError):  # damage is seen to below, while no other process does the same
        if not force and (path := place.find(spec)):
            return path
        place.prepare(method_of(spec).file_bytes(spec.d, spec.n))
    with alone(place.root, spec.key):
        with contextlib.suppress(IntegrityError):
            if not force and (path := place.find(spec)):
                return path
        repair(place, spec)
        return _make(place, spec, run or Run(), force)


def _make(place: Store, spec: Spec, run: Run, force: bool) -> Path:
    from .pipeline import generate

    folder = place.root / ".runs" / spec.key
    made = generate(spec, replace(run, folder=folder))
    # Two runs that were ended early share a Spec and yet differ: neither hides the other.
    path = _keep(place, made, force=force or made.spec != spec)
    if made.spec == spec:
        shutil.rmtree(folder, ignore_errors=True)
    elif made.provenance.status == Status.INTERRUPTED:
        raise Interrupted(path)
    return path


def _keep(place: Store, made: "Prototypes", force: bool) -> Path:
    """Publish; what no formula gives back is lost neither to one interruption nor to a disk that refuses."""
    try:
        return place.publish(made, force)
    except KeyboardInterrupt:
        if made.provenance.reproducible == "statistical":
            place.publish(made, force)
        raise
    except DiskError as error:
        if made.provenance.reproducible == "exact":
            raise
        try:
            path = Store(Path(tempfile.mkdtemp(prefix="protogen-"))).publish(made)
        except (OSError, DiskError):  # there neither
            raise error from None
        raise DiskError(f"{error}; what was made lies in {path}") from error


def ensure(spec: Spec, run: Run | None = None, *, store: str | Path | None = None, force: bool = False) -> "Prototypes":
    """Load what `spec` asks for, checked; generate and publish it first where the store has it not.

    As `ensure_path`, also where the damage is in the rows.
    """
    from .prototypes import read

    path = ensure_path(spec, run, store=store, force=force)
    try:
        return read(path)
    except (IntegrityError, NotFound):  # damaged, or set aside a moment ago
        place = Store(store_root(store_path(store)))
        with alone(place.root, spec.key):
            repair(place, spec)
        return read(ensure_path(spec, run, store=store))


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
    are those of `protogen.prototypes.read`. Raises BadRequest, NotFound, DiskError and IntegrityError.
    """
    from .prototypes import read

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
    admitted = [e for e, spec in sound if rules.admits(spec, e.stats or {}, e.facts, params)]
    if not admitted:
        raise NotFound(_nothing(store, method, here, where, params))
    return min(admitted, key=lambda e: (rules.rank(e.stats or {}, e.facts), e.version, e.name))


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
