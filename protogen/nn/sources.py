"""Prototypes for a head, whatever they come from."""

from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor

from protogen import catalog
from protogen.descent.turned import Orbits, orbits_in
from protogen.errors import BadRequest
from protogen.files.header import read_header
from protogen.files.prototypes import Prototypes
from protogen.files.reading import read
from protogen.methods import resolve
from protogen.methods.ebv import SIGNED
from protogen.rows import InMemory
from protogen.store.access import ensure_path

from .fingerprint import Fingerprint
from .fixed import FixedPrototypes
from .frozen import FrozenPrototypes
from .structured import StructuredPrototypes, laid_out

LEAST_ORDER = 40  # of a group: shorter transforms take twice as long as the product with the matrix

Source = FixedPrototypes | Prototypes | Tensor | str | Path


def as_prototypes(
    source: Source | None = None,
    n: int | None = None,
    d: int | None = None,
    *,
    persistent: bool = False,
    dtype: torch.dtype = torch.float32,
    store: str | Path | None = None,
) -> FixedPrototypes:
    """Return StructuredPrototypes where rows have a fast product by what is known of them, else FrozenPrototypes.

    `source` is one of these:

    - FixedPrototypes, which are returned as they are;
    - a tensor (n, d), a record or the path of a file, as FrozenPrototypes takes them. Known is the fact
      `closed_form` of a record or a file, the label of a form, of which the header alone is read where the form has a
      fast product; or the fact `orbits`, with a group of which the rows are read piece by piece, and held to it;
    - the label of a closed form, with n and d as StructuredPrototypes takes them;
    - None, with n and d: the lines of `protogen ebv`, from the store or made and stored there.

    `persistent` and `dtype` are those of FrozenPrototypes, which holds every dtype but float32. `store` is that of
    `protogen.ensure`. Raises BadRequest where the source is none of these or has another n or d than was asked for.

    >>> from protogen.nn import as_prototypes
    >>> as_prototypes(n=10, d=16).n
    10
    >>> as_prototypes("mub(p=499)", n=99800).d
    998
    """
    if source is None:
        if n is None or d is None:
            raise BadRequest(f"n, d is {n}, {d} without a source; allowed are both: as_prototypes(n=1000, d=128)")
        source = ensure_path(resolve("ebv", d=d, n=n), store=store)
    labelled = isinstance(source, str) and source.endswith(")")
    made = source if isinstance(source, FixedPrototypes) else _made(source, labelled, n, d, persistent, dtype)
    if (n is not None and n != made.n) or (d is not None and d != made.d):
        raise BadRequest(f"the prototypes are ({made.n}, {made.d}), asked for are n={n}, d={d}; leave n and d out")
    return made


def _made(
    source: Prototypes | Tensor | str | Path,
    labelled: bool,
    n: int | None,
    d: int | None,
    persistent: bool,
    dtype: torch.dtype,
) -> FixedPrototypes:
    laid, fingerprint = (laid_out(catalog.from_label(str(source)), n, d), None) if labelled else _certified(source)
    if laid and dtype == torch.float32:
        with suppress(BadRequest):  # no fast product
            if isinstance(laid, Orbits):
                return StructuredPrototypes(laid, fingerprint=fingerprint)
            return StructuredPrototypes(laid.form, laid.n, laid.d, signed=laid.signed, fingerprint=fingerprint)
    rows = InMemory.of(laid).tensor if laid and labelled else source
    return FrozenPrototypes(rows, persistent=persistent, dtype=dtype)


def _certified(
    source: Tensor | Prototypes | str | Path,
) -> tuple[catalog.Padded | Orbits | None, Fingerprint | None]:
    """What the facts of a record or a file say that its rows are, where they say so."""
    if isinstance(source, Prototypes) and source.part is None:
        facts, spec, fingerprint = source.facts, source.spec, Fingerprint.of_record(source)
    elif isinstance(source, (str, Path)):
        header = read_header(source)
        facts, spec = header.facts, header.spec
        fingerprint = Fingerprint.of_file(source, header.digest, spec.n)
    else:
        return None, None
    if facts.orbits is not None and facts.orbits.order >= LEAST_ORDER:

        def rows(start: int, stop: int) -> Tensor:
            if isinstance(source, Prototypes):
                return source.rows(start, stop)
            return read(source, rows=slice(start, stop)).tensor

        return orbits_in(rows, (spec.n, spec.d), facts.orbits), fingerprint
    with suppress(BadRequest):  # of a later version, or of a method's own family
        form = catalog.from_label(str(facts.closed_form))
        return catalog.Padded(form, spec.n, spec.d, spec.method == "ebv" and spec.version >= SIGNED), fingerprint
    return None, None
