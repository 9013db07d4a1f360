"""Ask for prototypes by Spec: from the store, or made and stored."""

import contextlib
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from protogen.errors import BadRequest, DiskError, IntegrityError, Interrupted, NotFound
from protogen.methods import method_of
from protogen.run import Run
from protogen.solution import Status
from protogen.spec import Spec

from .repair import repair
from .store import Store, store_root
from .turns import alone

if TYPE_CHECKING:
    from protogen.files.prototypes import Prototypes


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
        # What was damaged is gone; a file that is unsound in another way is an error, and not made again.
        if not force and (path := place.find(spec)):
            return path
        return _make(place, spec, run or Run(), force)


def _make(place: Store, spec: Spec, run: Run, force: bool) -> Path:
    from protogen.generating import generate

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
    from protogen.files.reading import read

    path = ensure_path(spec, run, store=store, force=force)
    try:
        return read(path)
    except (IntegrityError, NotFound):  # damaged, or set aside a moment ago
        place = Store(store_root(store_path(store)))
        with alone(place.root, spec.key):
            repair(place, spec)
        return read(ensure_path(spec, run, store=store))
