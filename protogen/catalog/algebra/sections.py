"""Sections of the Leech lattice: a table of those that are good sets of points or of lines.

A section has the shortest vectors x of the lattice with given products p with given words w, projected on the
complement of these. All its x have the same part in the span of the words, of a squared length q. Two of them have the
cosine (<x, y> - q) / (32 - q), where <x, y> is at most 16 and <x, x> is 32.
"""

from collections.abc import Iterator
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import NamedTuple

TABLE = Path(__file__).parent / "sections.txt"
DIGITS = "edcba012345"  # of the entries of a word, from -5 to 5
DIMENSIONS = 24

Cut = tuple[tuple[int, ...], int]  # a word without the zeros at its end, and a product


class Line(NamedTuple):
    """A line of the table: which section is cut, or -1 for the lattice; by which cut; d and n of what comes of it.

    `cosine` is the largest of the n points where they are a set of the catalogue, `coherence` that of the lines; else
    None. Where `opposite`, each vector has its negative beside it, and there are n / 2 lines.
    """

    parent: int
    cut: Cut
    d: int
    n: int
    cosine: Fraction | None
    coherence: Fraction | None
    opposite: bool


def written(line: Line) -> str:
    """Write a line of the table: its fields without d, the word in DIGITS, - for None; at the end 1 for opposite."""
    word, product = line.cut
    entries = "".join(DIGITS[entry + 5] for entry in word)
    figures = ("-" if figure is None else figure for figure in (line.cosine, line.coherence))
    return " ".join(map(str, (line.parent, entries, product, line.n, *figures, int(line.opposite)))) + "\n"


@cache
def table() -> tuple[Line, ...]:
    """Read the lines of the table; each section comes after what it is cut from."""
    lines: list[Line] = []
    for text in TABLE.read_text("ascii").splitlines():
        parent, entries, product, n, *figures, opposite = text.split(" ")
        word = tuple(DIGITS.index(digit) - 5 for digit in entries)
        d = (DIMENSIONS if parent == "-1" else lines[int(parent)].d) - 1
        cosine, coherence = (None if figure == "-" else Fraction(figure) for figure in figures)
        lines.append(Line(int(parent), (word, int(product)), d, int(n), cosine, coherence, opposite == "1"))
    return tuple(lines)


def cuts(place: int) -> Iterator[Cut]:
    """Yield the cuts of the section on this line, the first one first."""
    line = table()[place]
    if line.parent >= 0:
        yield from cuts(line.parent)
    yield line.cut


@cache
def sets(lines: bool) -> dict[tuple[int, int], tuple[Fraction, int]]:
    """Return the sets of points, or of lines, by d and n: their figure and line of the table, the lowest first."""
    listed = [(line.coherence if lines else line.cosine, place) for place, line in enumerate(table())]
    known = sorted((figure, place) for figure, place in listed if figure is not None)
    sizes = [(table()[place].d, table()[place].n // (1 + (lines and table()[place].opposite))) for _, place in known]
    return dict(zip(sizes, known, strict=True))
