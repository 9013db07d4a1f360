"""Ask for prototypes by Spec: from the store, or made and stored."""

import contextlib
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from protogen.checks import check_flag, check_spec
from protogen.errors import Damaged, DiskError, IntegrityError, Interrupted, NotFound
from protogen.files.disk import names
from protogen.files.header import read_header
from protogen.methods import asked_for, method_of
from protogen.ranks.lead import led
from protogen.run import Run
from protogen.solution import Status
from protogen.spec import Spec, Value

from .repair import repair
from .store import Store
from .turns import alone

if TYPE_CHECKING:
    from protogen.files.prototypes import Prototypes

Read = TypeVar("Read")

TRIES = 3  # to read what was just published, while another program empties the store


def ensure(
    spec: Spec | str,
    run: Run | None = None,
    *,
    d: int | None = None,
    n: int | None = None,
    seed: int = 0,
    store: str | Path | None = None,
    force: bool = False,
    **params: Value,
) -> "Prototypes":
    """Load what `spec` asks for, checked; generate and publish it first where the store has it not.

    As `ensure_path`, also where the damage is in the rows. Beside a Spec stands what `resolve` takes:
    `ensure("ebv", d=100, n=1000, alpha=0.14)`. Raises BadRequest where a Spec comes with d, n, a seed or params, and
    as `resolve`.

    >>> import protogen
    >>> made = protogen.ensure("ebv", d=16, n=10)
    >>> made.stats.coherence.value
    0.0
    >>> protogen.ensure("ebv", d=16, n=10).path == made.path
    True
    """
    from protogen.files.reading import read

    return ensure_with(read, asked_for("ensure", spec, d, n, seed, params), run, store=store, force=force)


def ensure_path(spec: Spec, run: Run | None = None, *, store: str | Path | None = None, force: bool = False) -> Path:
    """Say which file holds what `spec` asks for; generate and publish it first where there is none.

    One process at a time generates it, the others wait and take its file. A run that was killed goes on from
    its state in the store. A damaged file is set aside, and generated again. A run that was ended early, by
    time or for want of memory, is published under the Spec that says so. Artifacts that the Spec names by
    their digests are those of `run.files`, else the store's. `force` generates again. `run.say` is told who is
    waited for and what is set aside.

    Raises Interrupted where Ctrl-C has ended it and what there was is published so; DiskError, before any work,
    where the store cannot be written or has no room for it; IntegrityError where it cannot be written and has a
    damaged file; and NotFound, before any work, where an artifact that the Spec names is nowhere.
    """
    return ensure_with(_header_read, spec, run, store=store, force=force)


def ensure_with(
    reader: Callable[[Path], Read],
    spec: Spec,
    run: Run | None = None,
    *,
    store: str | Path | None = None,
    force: bool = False,
) -> Read:
    """Return what `reader` reads in the file that holds what `spec` asks for, as `ensure_path` brings it about.

    A file is damaged where `reader` raises IntegrityError. Where the store has the artifact, `reader` opens its
    file and nothing opens another. Of a run's group rank 0 alone reads and writes files; all get what it has read.
    """
    place, run = Store.of(store), Run.given(run)
    check_spec(spec)
    check_flag("force", force)
    return led(run.group, lambda: _ensured(reader, spec, run, place, force))


def _ensured(reader: Callable[[Path], Read], spec: Spec, run: Run, place: Store, force: bool) -> Read:
    with contextlib.suppress(IntegrityError):  # damage is seen to below, while no other process does the same
        if not force and (found := place.read_first(spec, reader)) is not None:
            return found
        method = method_of(spec)
        place.prepare(method.file_bytes(spec.d, spec.n))
    with alone(place.root, spec.key, say=run.say):
        with contextlib.suppress(IntegrityError):
            if not force and (found := place.read_first(spec, reader)) is not None:
                return found
        repair(place, spec, run.say)
        # What was damaged is gone; a file that is unsound in another way is an error, and not made again.
        if not force and (found := place.read_first(spec, reader)) is not None:
            return found
        return _made(place, spec, run, force, reader)


def find_inputs(store: Store, spec: Spec, run: Run) -> Run:
    """Add to a run the files of the artifacts that a Spec names by their digests and the run has not.

    The run has those of its files and what it holds; the others are looked for in the store. What no artifact
    has, as the statistics of some data, is not. Raises NotFound where an artifact is nowhere.
    """
    uses = method_of(spec).uses
    given = {*run.held, *(read_header(path).digest for path in run.files)}
    found = []
    for name, digest in spec.inputs.items():
        if digest in given or not uses[name]:
            continue
        path = store.with_digest(digest)
        if path is None:
            raise NotFound(
                f"{spec.method} d{spec.d}-n{spec.n} {spec.key}: is made from the artifact with digest {digest}, which "
                "the store has not",
                "bring that one into the store, by `protogen pull` or by locking it too, or in Python name its file "
                "by Run(files=(path,))",
            )
        found.append(path)
    return replace(run, files=(*run.files, *found))


def _header_read(path: Path) -> Path:
    read_header(path)
    return path


def _made(place: Store, spec: Spec, run: Run, force: bool, reader: Callable[[Path], Read]) -> Read:
    from protogen.generating import make

    folder = place.root / ".runs" / spec.key
    made = make(spec, replace(find_inputs(place, spec, run), folder=folder))
    # Two runs that were ended early share a Spec and yet differ: neither hides the other.
    path, found = _keep_and_read(place, made, force or made.spec != spec, folder, reader)
    if made.spec == spec:
        shutil.rmtree(folder, ignore_errors=True)
    elif made.provenance.status == Status.INTERRUPTED:
        raise Interrupted(path)
    return found


def _keep_and_read(
    place: Store, made: "Prototypes", force: bool, folder: Path, reader: Callable[[Path], Read]
) -> tuple[Path, Read]:
    """Publish and read what was made; once more where another program has taken the file out, or damaged it.

    `folder` is where the state of its descent may lie.
    """
    path = _keep(place, made, force, folder)
    for _ in range(TRIES):
        with contextlib.suppress(NotFound, Damaged):
            return path, reader(path)
        path = _keep(place, made, True, folder)
    return path, reader(path)


def _keep(place: Store, made: "Prototypes", force: bool, folder: Path) -> Path:
    """Publish; what no formula gives back is lost neither to one interruption nor to a disk that refuses."""
    if made.provenance.reproducible == "exact":
        return place.publish(made, force)
    try:
        return _published(place, made, force, folder)
    except KeyboardInterrupt:
        _published(place, made, force, folder)
        raise


def _published(place: Store, made: "Prototypes", force: bool, folder: Path) -> Path:
    """Publish, elsewhere where the store refuses. Raises DiskError, which says what is left where."""
    try:
        return place.publish(made, force)
    except DiskError as refused:
        try:
            path = _rescued(made)
        except (OSError, DiskError) as too:
            left = f"the last state of its descent is in {folder}, and the same call goes on from there"
            left = left if _has_states(folder) else "nothing of it is left"
            raise DiskError(f"{refused}; nor could it be kept elsewhere ({too}); {left}") from refused
        raise DiskError(f"{refused}; what was made lies in {path}") from refused


def _rescued(made: "Prototypes") -> Path:
    """Write what was made into a new store among the temporary files of the system. Raises OSError and DiskError."""
    place = Path(tempfile.mkdtemp(prefix="protogen-"))
    try:
        return Store(place).publish(made)
    finally:
        with contextlib.suppress(OSError):
            place.rmdir()  # only where it is empty


def _has_states(folder: Path) -> bool:
    with contextlib.suppress(OSError):
        return any(name.endswith(".safetensors") for name in names(folder))
    return False
