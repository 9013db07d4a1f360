"""Ask for prototypes: by Spec, from the store or made; by path; or the best that the store has."""

import os
import tempfile
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import BadRequest, DiskError, IntegrityError, NotFound
from .methods import METHODS, method_of
from .solution import Run
from .spec import Spec, Value
from .store import Entry, Store, store_root

if TYPE_CHECKING:
    from .prototypes import Prototypes


def ensure_path(spec: Spec, run: Run | None = None, *, store: str | Path | None = None, force: bool = False) -> Path:
    """Say which file holds what `spec` asks for; generate and publish it first where there is none.

    A run that was ended early is published under the Spec that says so. `force` generates again.
    Raises DiskError, before any work, where the store cannot be written or has no room for it.
    """
    place = Store(store_root(store))
    path = None if force else place.find(spec)
    if path is None:
        from .pipeline import generate

        place.prepare(method_of(spec).file_bytes(spec.d, spec.n))
        made = generate(spec, run)
        # Two runs that were ended early share a Spec and yet differ: neither hides the other.
        path = _keep(place, made, force=force or made.spec != spec)
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
        path = Store(Path(tempfile.mkdtemp(prefix="protogen-"))).publish(made)
        raise DiskError(f"{error}; what was made lies in {path}") from error


def ensure(spec: Spec, run: Run | None = None, *, store: str | Path | None = None, force: bool = False) -> "Prototypes":
    """Load what `spec` asks for, checked; generate and publish it first where the store has it not.

    As `ensure_path`, and IntegrityError where the file is damaged.
    """
    from .prototypes import read

    return read(ensure_path(spec, run, store=store, force=force))


def load(
    target: str | Path,
    *,
    d: int | None = None,
    n: int | None = None,
    version: int | None = None,
    key: str | None = None,
    store: str | Path | None = None,
    check: bool = True,
    **params: Value,
) -> "Prototypes":
    """Load a file by its path, or the best of a method's artifacts that pass the filters.

    `params` filter by the Spec's parameters, as the method reads them (alpha: a coherence at most so
    large). The best is the method's own choice, ties go to the lowest version. Raises BadRequest,
    NotFound, DiskError and IntegrityError.
    """
    from .prototypes import read

    asked = {"d": d, "n": n, "version": version, "key": key}
    where = {part: value for part, value in asked.items() if value is not None}
    if isinstance(target, Path) or os.sep in target or target.endswith(".safetensors"):
        if where or params or store:
            names = ", ".join([*where, *params, *(["store"] if store else [])])
            raise BadRequest(f"{target} with {names}: a path names one file; leave the filters out")
        return read(target, check)
    return read(_best(Store(store_root(store)), target, where, params).path, check)


def _best(store: Store, method: str, where: Mapping[str, Any], params: Mapping[str, Value]) -> Entry:
    if method not in METHODS:
        raise BadRequest(f"method {method!r}, allowed are {', '.join(METHODS)}; a path ends in .safetensors")
    here = store.entries(method)
    fitting = [e for e in here if all(getattr(e.name, part) == value for part, value in where.items())]
    sound = [(e, e.spec) for e in fitting if e.spec is not None]
    if fitting and not sound:
        raise IntegrityError(fitting[0].error)
    rules = METHODS[method]
    known = {*(f.name for f in fields(rules)), *(name for _, spec in sound for name in spec.options)}
    if unknown := sorted(params.keys() - known):
        raise BadRequest(f"{method} has no parameter {unknown[0]!r}; there are {', '.join(sorted(known))}")
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
