"""Histograms of angles in the terminal and as pictures."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from artifacts import MADE
from commands import Command

import protogen
from protogen.bounds import Bound
from protogen.errors import BadRequest, DiskError
from protogen.files.facts import Facts
from protogen.files.header import Header
from protogen.files.schemas import SCHEMAS
from protogen.measuring.stats import BINS, AngleStats, Extreme
from protogen.methods import resolve
from protogen.report.plot import ASCII, HEIGHT, UNICODE, Chart, charts, save_png, terminal_lines
from protogen.report.record import Artifact, Beside, Compared, record_of
from protogen.spec import Spec

SHADES, (LINES, POINTS) = UNICODE

pytestmark = pytest.mark.usefixtures("store")


def path_of(method: str, **options: Any) -> Path:
    path = protogen.ensure(resolve(method, **options)).path
    assert path is not None
    return path


def made_of(histogram: dict[int, int], lines: float = 0.51, points: float = 0.51) -> Artifact:
    """An artifact with these counts in bins of 0.1 degrees and these bounds."""
    spec, pair = Spec.of("ebv", 1, d=4, n=9, seed=0, params={}), Extreme(0.0, 0, 1)
    figures = dict.fromkeys(SCHEMAS[1].stats, 0.0)
    extremes = {"max_cos": pair, "min_cos": pair, "coherence": pair}
    counts = tuple(histogram.get(index, 0) for index in range(BINS))
    stats = AngleStats(**{**figures, **extremes, "pairs": 36, "histogram": counts})
    header = Header(1, spec, stats, Facts(), MADE, (), (), "0" * 64, 0, 0)
    best = {kind: (Bound("Best", value, "", ""),) for kind, value in (("lines", lines), ("points", points))}
    return Artifact("FILE", header, Compared(Beside(best["lines"], None, None), Beside(best["points"], None, None)))


def test_a_chart_spans_what_occurs_and_the_bounds() -> None:
    # acos .51 is 59.34 degrees, and its complement 120.66.
    (chart,) = charts(made_of({700: 3, 701: 1, 1300: 2}), 1800)
    assert (chart.edge_deg(0), chart.width) == (59.3, 1)
    assert chart.edge_deg(len(chart.counts)) == pytest.approx(130.1)
    assert {chart.start + index: count for index, count in enumerate(chart.counts) if count} == {
        700: 3,
        701: 1,
        1300: 2,
    }
    assert [chart.start + chart.column(mark) for mark in chart.bounds[0].marks_deg] == [593, 1206]


@pytest.mark.parametrize("columns", [1, 2, 7, 60, 79, 80, 701, 702, 5000])
def test_coarser_columns_hold_the_same_pairs(columns: int) -> None:
    histogram = {600 + 7 * index: index + 1 for index in range(100)}
    (chart,) = charts(made_of(histogram), columns)
    assert len(chart.counts) <= columns
    assert sum(chart.counts) == sum(histogram.values())
    for index, count in histogram.items():
        assert chart.counts[(index - chart.start) // chart.width] >= count
    # No narrower columns would do.
    low, high, narrower = 593, 1293, chart.width - 1
    assert narrower == 0 or high // narrower - low // narrower >= columns


def test_the_ends_of_the_range_have_a_place() -> None:
    (chart,) = charts(made_of({0: 1, 1799: 1}, lines=1.0, points=-1.0), 80)
    assert sum(chart.counts) == 2
    last = len(chart.counts) - 1
    assert [chart.column(mark) for bound in chart.bounds for mark in bound.marks_deg] == [0, last, last]


def test_bars_rise_with_the_counts() -> None:
    record = made_of({898: 8, 899: 4, 900: 1, 902: 64}, lines=0.0, points=0.0)
    title, *bars = terminal_lines(record, 80, "utf-8")[: 1 + HEIGHT]
    assert title == "77 pairs, 0.1 deg a column, at most 64 in one"
    heights = [sum(SHADES.index(line.ljust(5)[column]) for line in bars) for column in range(5)]
    assert heights == [8, 4, 1, 0, 64]  # of 8 lines with 8 eighths


def test_the_bounds_are_marked_under_the_bars() -> None:
    *_, lines, points, axis, line_text, point_text = terminal_lines(made_of({900: 1}, points=-0.51), 62, "utf-8")
    # 59.34 and 120.66 degrees of lines, 120.66 of points, in columns of one degree.
    assert lines == f"{LINES}{' ' * 60}{LINES}"
    assert points == f"{' ' * 61}{POINTS}"
    assert axis.split("  ")[0] == "59.0 deg"
    assert axis.endswith("  121.0 deg")
    assert line_text == f"{LINES} smallest angle of lines at most 59.3362 deg (Best)"
    assert point_text == f"{POINTS} smallest angle of points at most 120.6638 deg (Best)"


@pytest.mark.parametrize("columns", [20, 40, 80, 200])
def test_no_line_of_a_drawing_is_wider_than_the_terminal(columns: int) -> None:
    lines = terminal_lines(record_of(path_of("uniform", d=4, n=9, start="random", steps=5)), columns, "utf-8")
    assert max(len(line) for line in lines[1:-3]) <= columns


def test_a_terminal_without_blocks_gets_plain_characters() -> None:
    record = record_of(path_of("cube", d=20, n=12))
    plain = "\n".join(terminal_lines(record, 80, "ascii"))
    assert plain.isascii()
    assert ASCII[0][-1] in plain
    assert SHADES[-1] in "\n".join(terminal_lines(record, 80, "utf-8"))


def test_sub_centers_have_a_chart_of_each_kind() -> None:
    record = record_of(path_of("subcenters", d=8, n=6, per_class=3))
    between, within = charts(record, 80)
    assert (sum(between.counts), sum(within.counts)) == (135, 18)
    assert (between.title, within.title) == ("pairs of different classes", "pairs within a class")
    assert len(between.bounds) == 2
    assert within.bounds == ()


def test_a_simplex_stands_at_its_bound() -> None:
    (chart,) = charts(record_of(path_of("simplex", n=10)), 80)
    (column,) = [index for index, count in enumerate(chart.counts) if count]
    assert column == chart.column(chart.bounds[1].marks_deg[0])
    assert isinstance(chart, Chart)


def test_what_was_not_measured_has_no_histogram() -> None:
    with pytest.raises(BadRequest, match=r"FILE: nothing was measured, .*; `protogen stats FILE --json`"):
        charts(replace(made_of({}), header=replace(made_of({}).header, stats=None)), 80)


@pytest.mark.slow
def test_the_picture_is_a_png(tmp_path: Path) -> None:
    for name, record in (
        ("one.png", record_of(path_of("cube", d=20, n=12))),
        ("two.PNG", record_of(path_of("subcenters", d=8, n=6))),
    ):
        save_png(record, tmp_path / name)
        content = (tmp_path / name).read_bytes()
        assert content.startswith(b"\x89PNG\r\n\x1a\n")
        assert len(content) > 10_000


def test_a_picture_needs_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("matplotlib", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(BadRequest, match=r"pip install 'protogen-codes\[plot\]'"):
        save_png(made_of({900: 1}), tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == []


def test_a_picture_needs_a_place_and_a_name(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match=r"ends in \.png"):
        save_png(made_of({900: 1}), tmp_path / "a.pdf")
    with pytest.raises(DiskError, match="No such file or directory; name a place"):
        save_png(made_of({900: 1}), tmp_path / "none" / "a.png")


@pytest.mark.slow
def test_show_draws_and_writes(tmp_path: Path, run: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    path, picture = path_of("simplex", n=10), tmp_path / "a.png"
    monkeypatch.setenv("COLUMNS", "60")
    ran = run("show", path, "--plot", "--png", picture)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith("simplex  d 9  n 10")
    assert "45 pairs, 0.3 deg a column, at most 45 in one" in ran.out
    assert f"{POINTS} smallest angle of points at most 96.3794 deg (Rankin)" in ran.out
    assert picture.exists()
