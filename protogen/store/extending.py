"""Add vectors to a set that is there."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from protogen.checks import check_names, check_path
from protogen.files.header import read_header
from protogen.methods.ebv import EBV
from protogen.run import Run

from .access import ensure

if TYPE_CHECKING:
    from protogen.files.prototypes import Prototypes


PARAMETERS = ("alpha", "steps", "restarts")  # of the method `ebv`, that an extension takes


def extend(
    file: str | Path,
    n: int,
    *,
    seed: int = 0,
    run: Run | None = None,
    store: str | Path | None = None,
    force: bool = False,
    **params: Any,
) -> "Prototypes":
    """Load a set of n vectors whose first are those of a file, bit for bit; make the others first, as `ensure`.

    A closed form gives its next rows; else a descent moves the new vectors alone. `params` are alpha, steps and
    restarts of the method `ebv`. Raises BadRequest where the file cannot be extended so, and as `ensure`.

    >>> import protogen
    >>> first = protogen.ensure("ebv", d=4, n=3)
    >>> more = protogen.extend(first.path, 4, steps=50)
    >>> more.n, bool((more.tensor[:3] == first.tensor).all())
    (4, True)
    """
    check_path("file", file)
    check_names("extend", params, PARAMETERS)
    run, asked = Run.given(run), EBV(extends=str(file), **params)
    spec = asked.resolve(read_header(file).spec.d, n, seed)
    return ensure(spec, replace(run, files=(*run.files, *asked.files())), store=store, force=force)
