"""In what two artifacts differ: one record for machines, the same in lines for people."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from protogen.files.header import check_file
from protogen.files.verify import TOLERANCES
from protogen.measuring.stats import AngleStats, Extreme
from protogen.rows import pieces

FIGURES = ("coherence", "max_cos", "min_cos", *TOLERANCES, "frame_potential", "duplicate_pairs", "antipodal_pairs")


def comparison(one: Path, other: Path) -> dict[str, Any]:
    """In what two artifacts differ: their specs, their figures, their content and their rows; both are checked whole.

    `spec` and `figures` have pairs of values, `spec` where they differ alone. `rows` has the largest |difference|
    of two numbers and the rows that are equal, or None where the shapes differ. Raises as `check_file`.
    """
    headers = [check_file(path) for path in (one, other)]
    specs = [{**header.spec.to_dict(), **header.spec.options} for header in headers]
    same = headers[0].digest == headers[1].digest
    return {
        "paths": [str(one), str(other)],
        "digests": [header.digest for header in headers],
        "same": same,
        "spec": {
            name: [spec.get(name) for spec in specs]
            for name in dict.fromkeys([*specs[0], *specs[1]])
            if name != "params" and specs[0].get(name) != specs[1].get(name)
        },
        "figures": {name: [_figure(header.stats, name) for header in headers] for name in FIGURES},
        "rows": {"equal": headers[0].spec.n, "largest": 0.0} if same else _rows_apart(one, other),
    }


def _figure(stats: AngleStats | None, name: str) -> float | None:
    """A figure of the statistics, of which some stand with the pair that attains them; None where there is none."""
    found = getattr(stats, name, None)
    value: float | None = found.value if isinstance(found, Extreme) else found
    return value


def _rows_apart(one: Path, other: Path) -> dict[str, Any] | None:
    from protogen.files.reading import read

    first, second = read(one).source, read(other).source
    if first.shape != second.shape:
        return None
    equal, largest = 0, 0.0
    for start, stop in pieces(first.shape):
        apart = (first.rows(start, stop) - second.rows(start, stop)).abs().flatten(1).amax(1)
        equal += int((apart == 0).sum())
        largest = max(largest, float(apart.max()))
    return {"equal": equal, "largest": largest}


def comparison_lines(found: Mapping[str, Any]) -> list[str]:
    """What `comparison` found in lines."""
    lines = [f"{name:<24}{was!s:>24} {now!s:>23}" for name, (was, now) in found["spec"].items()]
    for name, (was, now) in found["figures"].items():
        if was is not None and now is not None:
            lines.append(f"{name:<24}{was:>24.9g}{now:>24.9g}{now - was:>+16.3e}")
        elif was is not None or now is not None:
            lines.append(f"{name:<24}{was!s:>24}{now!s:>24}")
    rows = found["rows"]
    if found["same"]:
        lines.append(f"the same content, digest {found['digests'][0][:12]}")
    elif rows is None:
        lines.append("other content, of another shape")
    else:
        lines.append(
            f"other content: {rows['equal']:,} rows are equal, the largest difference is {rows['largest']:.3e}"
        )
    return lines
