"""Bring a set of another program into a store."""

import contextlib
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from protogen.checks import check_flag, check_kind, check_path
from protogen.errors import IntegrityError
from protogen.files.foreign import Matrix, open_matrix
from protogen.methods.imported import Import
from protogen.run import Run
from protogen.solution import Status
from protogen.spec import Spec

from .repair import repair
from .store import Store
from .turns import alone

if TYPE_CHECKING:
    from protogen.files.prototypes import Prototypes

Read = TypeVar("Read")


def import_file(
    path: str | Path,
    tensor: str | None = None,
    *,
    transpose: bool = False,
    normalize: bool = False,
    run: Run | None = None,
    store: str | Path | None = None,
    force: bool = False,
) -> "Prototypes":
    """Bring the vectors of a matrix into a store, measured, and load them; where they are there, they are taken.

    - `path`: a safetensors or .npy file, or one of `torch.save`, of which tensors alone are read; never a pickle.
    - `tensor`: its name, else `prototypes`, or the only matrix of the file.
    - `transpose`: its columns are the vectors, not its rows.
    - `normalize`: scale vectors of any length; else their lengths are one but for the rounding of their dtype.

    The Spec has the sha256 of the file's bytes, the fact `imported_from` its name without the folder. Raises
    NotFound, DiskError, IntegrityError and BadRequest.

    >>> import numpy, protogen
    >>> numpy.save("rows.npy", numpy.eye(3, 4, dtype="float32"))
    >>> made = protogen.import_file("rows.npy")
    >>> made.n, made.d, made.stats.coherence.value
    (3, 4, 0.0)
    """
    from protogen.files.reading import read

    return import_with(read, path, tensor, transpose, normalize, run, store, force)


def import_with(
    reader: Callable[[Path], Read],
    path: str | Path,
    tensor: str | None,
    transpose: bool,
    normalize: bool,
    run: Run | None,
    store: str | Path | None,
    force: bool,
) -> Read:
    """Return what `reader` reads in the file of the store that holds an import; as `import_file`."""
    check_path("path", path)
    check_kind("tensor", tensor, str)
    for name, value in (("transpose", transpose), ("normalize", normalize), ("force", force)):
        check_flag(name, value)
    run, place = Run.given(run), Store.of(store)
    matrix = open_matrix(Path(path), tensor, transpose)
    asked = Import(_digest(Path(path)), matrix.name, transpose, normalize)
    n, d = matrix.shape
    spec = asked.resolve(d, n)
    with contextlib.suppress(IntegrityError):  # damage is seen to below
        if not force and (found := place.read_first(spec, reader)) is not None:
            return found
    place.prepare(asked.file_bytes(d, n))
    with alone(place.root, spec.key, say=run.say):
        repair(place, spec, run.say)
        if not force and (found := place.read_first(spec, reader)) is not None:
            return found
        return reader(place.publish(_made(asked, spec, matrix, run), force))


def _made(asked: Import, spec: Spec, matrix: Matrix, run: Run) -> "Prototypes":
    """Take the vectors and measure them."""
    from protogen.generating import record
    from protogen.measuring.geometry import pick_device
    from protogen.measuring.memory import check_memory, tile_bytes

    began, where = run.clock(), pick_device(run.device)
    check_memory(
        f"d={spec.d}, n={spec.n}", asked.peak_bytes(spec.d, spec.n) + tile_bytes(spec.n, where, run.tile), where
    )
    solution = asked.solution_of(matrix)
    made = record(spec, solution, run, run.clock() - began)
    if made.provenance.status == Status.INTERRUPTED:  # the file is still there, and nothing lost
        raise KeyboardInterrupt
    if made.provenance.status == Status.OUT_OF_MEMORY:
        raise MemoryError
    return made


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
