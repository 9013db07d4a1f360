"""Prototypes for a head, whatever they come from."""

from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor

from protogen import catalog
from protogen.errors import BadRequest
from protogen.files.header import read_header
from protogen.files.prototypes import Prototypes
from protogen.methods import resolve
from protogen.methods.ebv import SIGNED
from protogen.rows import InMemory
from protogen.store.access import ensure_path

from .fingerprint import Fingerprint
from .fixed import FixedPrototypes
from .frozen import FrozenPrototypes
from .structured import StructuredPrototypes, laid_out

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
    """Return StructuredPrototypes where a certificate names a form with a fast product, else FrozenPrototypes.

    `source` is one of these:

    - FixedPrototypes, which are returned as they are;
    - a tensor (n, d), a record or the path of a file, as FrozenPrototypes takes them. The certificate is the fact
      `closed_form` of a record or a file; of a file with a form that has a fast product the header alone is read;
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
            return StructuredPrototypes(laid.form, laid.n, laid.d, signed=laid.signed, fingerprint=fingerprint)
    rows = InMemory.of(laid).tensor if laid and labelled else source
    return FrozenPrototypes(rows, persistent=persistent, dtype=dtype)


def _certified(source: Tensor | Prototypes | str | Path) -> tuple[catalog.Padded | None, Fingerprint | None]:
    """What the certificate of a record or a file says that its rows are, if it has one that is known."""
    if isinstance(source, Prototypes) and source.part is None:
        facts, spec, fingerprint = source.facts, source.spec, Fingerprint.of_record(source)
    elif isinstance(source, (str, Path)):
        header = read_header(source)
        facts, spec = header.facts, header.spec
        fingerprint = Fingerprint.of_file(source, header.digest, spec.n)
    else:
        return None, None
    with suppress(BadRequest):  # of a later version, or of a method's own family
        form = catalog.from_label(str(facts.closed_form))
        return catalog.Padded(form, spec.n, spec.d, spec.method == "ebv" and spec.version >= SIGNED), fingerprint
    return None, None
