"""Records for machines: an artifact, a listing, a comparison with the bounds."""

import math
from pathlib import Path, PurePath
from typing import Any

from protogen.bounds import Bound, coherence_bound, line_bounds, max_cos_bound, point_bounds
from protogen.catalog import LINES, POINTS, label, reaching
from protogen.errors import DiskError, SchemaError
from protogen.files.header import Header, read_header
from protogen.files.names import parse_name
from protogen.measuring.stats import AngleStats
from protogen.methods import METHODS
from protogen.methods.ebv import EBV
from protogen.methods.start import descent_promise
from protogen.sharing.remotes import remote_header
from protogen.sharing.transport import shown
from protogen.store.store import Entry


def record_of(file: str | Path) -> dict[str, Any]:
    """Everything that the header at a path or URL says, and how far the set is from the bounds of today."""
    if "://" in str(file):
        return record(shown(str(file)), remote_header(str(file)))
    return record(Path(file), read_header(file))


def record(path: str | Path, header: Header) -> dict[str, Any]:
    """As `record_of`, from a header that was read already."""
    named, spec, stats = parse_name(PurePath(path).name), header.spec, header.stats
    return {
        "path": str(path),
        "version": named[0] if named else None,
        "key": spec.key,
        "digest": header.digest,
        "bytes": header.file_bytes,
        "spec": spec.to_dict(),
        "facts": header.facts.to_dict(),
        "stats": stats.to_dict() if stats else None,
        "provenance": header.provenance.to_dict(),
        "bounds": compare(spec.d, spec.n, stats),
    }


def compare(d: int, n: int, stats: AngleStats | None) -> dict[str, Any]:
    """The lower bounds that apply to (d, n), best first, and what was measured beside the best of each kind.

    Where each class has several rows the bounds are those of n: one row of each class makes a set of n.
    `ratio` is measured over bound, null where the bound is not positive; `gap_deg` is the bound's
    angle minus the smallest measured one.
    """
    lines, points = line_bounds(d, n), point_bounds(d, n)
    return {
        "lines": _compared(lines, *((stats.coherence.value, stats.min_angle_lines_deg) if stats else (None, None))),
        "points": _compared(points, *((stats.max_cos.value, stats.min_angle_points_deg) if stats else (None, None))),
    }


def _compared(bounds: list[Bound], cosine: float | None, angle_deg: float | None) -> dict[str, Any]:
    best = bounds[0].value
    return {
        "ratio": cosine / best if cosine is not None and best > 0 else None,
        "gap_deg": None if angle_deg is None else math.degrees(math.acos(best)) - angle_deg,
        "lower": [{"name": bound.name, "value": bound.value, "validity": bound.validity} for bound in bounds],
    }


def listing(d: int, n: int, points: bool) -> dict[str, Any]:
    """The closed forms that reach n vectors in R^d, best first, with what each guarantees, and the lower bound."""
    bound = max_cos_bound(d, n) if points else coherence_bound(d, n)
    return {
        "d": d,
        "n": n,
        "points": points,
        "bound": {"name": bound.name, "value": bound.value},
        "forms": [
            {
                "closed_form": label(form),
                "guaranteed": form.cosine,
                "ratio": form.cosine / bound.value if bound.value > 0 else None,
                "own_d": form.own_d,
                "own_n": form.own_n,
                "held_bytes": form.held_bytes,
                "exact": form.exact,
            }
            for form in reaching(POINTS if points else LINES, d, n)
        ],
        "descent": None if points else descent_promise(d, n),
    }


def entry_of(entry: Entry) -> dict[str, Any]:
    """One artifact of a store as a row of its listing; `coherence` is the cosine that counts for the method."""
    name = entry.name
    row = {
        "path": str(entry.path),
        "method": name.method,
        "d": name.d,
        "n": name.n,
        "version": name.version,
        "key": name.key,
    }
    if entry.error is not None or entry.provenance is None:
        return {**row, "fault": _fault(entry.error), "error": str(entry.error)}
    method = METHODS.get(name.method, EBV)
    cosine = method.cosine(entry.stats, entry.facts)
    bound = (coherence_bound if method.figure == "coherence" else max_cos_bound)(name.d, name.n).value
    return {
        **row,
        "coherence": cosine,
        "ratio": cosine / bound if cosine is not None and bound > 0 else None,
        "bytes": entry.size,
        "status": entry.provenance.status,
        "created": entry.provenance.created,
    }


def _fault(error: Exception | None) -> str:
    """What is wrong with a file of a store, in a word."""
    if isinstance(error, SchemaError):
        return "newer"
    return "unreadable" if isinstance(error, DiskError) else "damaged"
