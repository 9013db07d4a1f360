"""In what two artifacts differ: one record for machines, the same in lines for people."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from protogen.checks import check_path
from protogen.files.header import check_file
from protogen.files.verify import TOLERANCES
from protogen.measuring.stats import AngleStats, Extreme
from protogen.rows import pieces

FIGURES = ("coherence", "max_cos", "min_cos", *TOLERANCES, "frame_potential", "duplicate_pairs", "antipodal_pairs")


Pair = tuple[Any, Any]  # a value of the one artifact and of the other


@dataclass(frozen=True)
class Apart:
    """How far the rows of two artifacts lie apart: rows that are equal, and the largest |difference| of two numbers."""

    equal: int
    largest: float


@dataclass(frozen=True)
class Difference:
    """In what two artifacts differ: pairs of paths, of digests, and of parts of the Specs and figures by name.

    `spec` names what differs alone. `rows` is None where the shapes differ.
    """

    paths: tuple[str, str]
    digests: tuple[str, str]
    spec: Mapping[str, Pair]
    figures: Mapping[str, Pair]
    rows: Apart | None

    @property
    def same(self) -> bool:
        """Whether the content is the same."""
        return self.digests[0] == self.digests[1]

    def to_dict(self) -> dict[str, Any]:
        """The difference as plain JSON values."""
        return {
            "paths": list(self.paths),
            "digests": list(self.digests),
            "same": self.same,
            "spec": {name: list(pair) for name, pair in self.spec.items()},
            "figures": {name: list(pair) for name, pair in self.figures.items()},
            "rows": None if self.rows is None else asdict(self.rows),
        }


def comparison(one: Path, other: Path) -> Difference:
    """Find in what two artifacts differ; both are checked whole. Raises as `check_file`.

    >>> import protogen
    >>> one, other = protogen.ensure("simplex", n=4), protogen.ensure("simplex", n=5)
    >>> protogen.comparison(one.path, one.path).same, protogen.comparison(one.path, other.path).same
    (True, False)
    """
    for path in (one, other):
        check_path("path", path)
    first, second = check_file(one), check_file(other)
    before, after = ({**header.spec.to_dict(), **header.spec.options} for header in (first, second))
    same = first.digest == second.digest
    return Difference(
        paths=(str(one), str(other)),
        digests=(first.digest, second.digest),
        spec={
            name: (before.get(name), after.get(name))
            for name in dict.fromkeys([*before, *after])
            if name != "params" and before.get(name) != after.get(name)
        },
        figures={name: (_figure(first.stats, name), _figure(second.stats, name)) for name in FIGURES},
        rows=Apart(first.spec.n, 0.0) if same else _rows_apart(one, other),
    )


def _figure(stats: AngleStats | None, name: str) -> float | None:
    """A figure of the statistics, of which some stand with the pair that attains them; None where there is none."""
    found = getattr(stats, name, None)
    value: float | None = found.value if isinstance(found, Extreme) else found
    return value


def _rows_apart(one: Path, other: Path) -> Apart | None:
    from protogen.files.reading import read

    first, second = read(one).source, read(other).source
    if first.shape != second.shape:
        return None
    equal, largest = 0, 0.0
    for start, stop in pieces(first.shape):
        apart = (first.rows(start, stop) - second.rows(start, stop)).abs().flatten(1).amax(1)
        equal += int((apart == 0).sum())
        largest = max(largest, float(apart.max()))
    return Apart(equal, largest)


def comparison_lines(found: Difference) -> list[str]:
    """The difference of two artifacts in lines."""
    lines = [f"{name:<24}{was!s:>24} {now!s:>23}" for name, (was, now) in found.spec.items()]
    for name, (was, now) in found.figures.items():
        if was is not None and now is not None:
            lines.append(f"{name:<24}{was:>24.9g}{now:>24.9g}{now - was:>+16.3e}")
        elif was is not None or now is not None:
            lines.append(f"{name:<24}{was!s:>24}{now!s:>24}")
    if found.same:
        return [*lines, f"the same content, digest {found.digests[0][:12]}"]
    if found.rows is None:
        return [*lines, "other content, of another shape"]
    equal, largest = found.rows.equal, found.rows.largest
    return [*lines, f"other content: {equal:,} rows are equal, the largest difference is {largest:.3e}"]
