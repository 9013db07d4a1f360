"""Records for machines: an artifact, a listing, a comparison with the bounds."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from protogen.bounds import LARGEST, Bound, coherence_bound, line_bounds, max_cos_bound, point_bounds
from protogen.catalog import LINES, POINTS, label, listed_signs, reaching, sign_rows, smallest_distance
from protogen.checks import check_flag, check_whole
from protogen.errors import BadRequest, DiskError, SchemaError
from protogen.files.header import Header, read_header
from protogen.files.names import parse_name
from protogen.measuring.stats import AngleStats
from protogen.methods import METHODS
from protogen.methods.ebv import EBV
from protogen.methods.start import descent_promise
from protogen.store.store import Entry


@dataclass(frozen=True)
class Beside:
    """The lower bounds of one kind, the best first, and what was measured beside the best.

    `ratio` is measured over bound, None where the bound is not positive; `gap_deg` is the bound's angle minus the
    smallest measured one. Both are None where nothing was measured.
    """

    lower: tuple[Bound, ...]
    ratio: float | None
    gap_deg: float | None

    @classmethod
    def of(cls, bounds: Sequence[Bound], cosine: float | None, angle_deg: float | None) -> "Beside":
        """Compare the largest cosine and the smallest angle, if measured, with the best of some bounds."""
        best = bounds[0].value
        ratio = cosine / best if cosine is not None and best > 0 else None
        return cls(tuple(bounds), ratio, None if angle_deg is None else math.degrees(math.acos(best)) - angle_deg)

    def to_dict(self) -> dict[str, Any]:
        """The comparison as plain JSON values."""
        lower = [{"name": bound.name, "value": bound.value, "validity": bound.validity} for bound in self.lower]
        return {"ratio": self.ratio, "gap_deg": self.gap_deg, "lower": lower}


@dataclass(frozen=True)
class Compared:
    """What was measured beside the bounds on lines and on points.

    Where each class has several rows the bounds are those of n: one row of each class makes a set of n.
    """

    lines: Beside
    points: Beside

    def to_dict(self) -> dict[str, Any]:
        """The comparison as plain JSON values."""
        return {"lines": self.lines.to_dict(), "points": self.points.to_dict()}


@dataclass(frozen=True)
class Artifact:
    """An artifact as it is shown: its path or address, all that its header says, and the bounds of today."""

    path: str
    header: Header
    bounds: Compared

    def to_dict(self) -> dict[str, Any]:
        """The artifact as the JSON document of the commands."""
        header, named = self.header, parse_name(PurePath(self.path).name)
        return {
            "path": self.path,
            "version": named[0] if named else None,
            "key": header.spec.key,
            "digest": header.digest,
            "bytes": header.file_bytes,
            "spec": header.spec.to_dict(),
            "facts": header.facts.to_dict(),
            "stats": header.stats.to_dict() if header.stats else None,
            "provenance": header.provenance.to_dict(),
            "bounds": self.bounds.to_dict(),
        }


def record_of(file: str | Path) -> Artifact:
    """Read the header at a path or URL, and compare the set with the bounds of today."""
    if "://" in str(file):
        from protogen.sharing.addresses import shown
        from protogen.sharing.remotes import remote_header

        path, header = shown(str(file)), remote_header(str(file))
    else:
        path, header = str(Path(file)), read_header(file)
    return Artifact(path, header, compare(header.spec.d, header.spec.n, header.stats))


def compare(d: int, n: int, stats: AngleStats | None) -> Compared:
    """Compare statistics, if there are any, with the lower bounds that apply to (d, n)."""
    lines, points = line_bounds(d, n), point_bounds(d, n)
    if stats is None:
        return Compared(Beside.of(lines, None, None), Beside.of(points, None, None))
    return Compared(
        Beside.of(lines, stats.coherence.value, stats.min_angle_lines_deg),
        Beside.of(points, stats.max_cos.value, stats.min_angle_points_deg),
    )


def listing(d: int, n: int, points: bool, signs: bool = False) -> dict[str, Any]:
    """The closed forms that reach n vectors in R^d, best first, with what each guarantees, and the lower bound.

    `signs`: those of rows of signs alone in exactly d coordinates, each with the smallest Hamming distance.
    Raises BadRequest.

    >>> import protogen
    >>> best = protogen.listing(7, 28, points=False)["forms"][0]
    >>> best["own_n"], round(best["guaranteed"], 6)
    (28, 0.333333)
    """
    check_whole("d", d, 2, LARGEST)
    check_whole("n", n, 2, LARGEST)
    check_flag("points", points)
    check_flag("signs", signs)
    if points and signs:
        raise BadRequest("points is given with signs; sets of signs are counted as lines: leave one out")
    listed = listed_signs(d, n) if signs else reaching(POINTS if points else LINES, d, n)
    bound = max_cos_bound(d, n) if points else coherence_bound(d, n)
    return {
        "d": d,
        "n": n,
        "points": points,
        **({"signs": True} if signs else {}),
        "bound": {"name": bound.name, "value": bound.value},
        "forms": [
            {
                "closed_form": label(form),
                "guaranteed": form.cosine,
                "ratio": form.cosine / bound.value if bound.value > 0 else None,
                "own_d": form.own_d,
                "own_n": sign_rows(form) if signs else form.own_n,
                "held_bytes": form.held_bytes,
                "exact": form.exact,
                **({"distance": smallest_distance(form)} if signs else {}),
            }
            for form in listed
        ],
        "descent": None if points or signs else descent_promise(d, n),
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
