"""In what two artifacts differ."""

from dataclasses import replace
from pathlib import Path

import pytest
from artifacts import published, record
from draws import unit_rows

from protogen.errors import NotFound
from protogen.files.writing import write
from protogen.measuring.measure import measure
from protogen.report.difference import FIGURES, Apart, comparison, comparison_lines
from protogen.rows import InMemory


def test_a_file_and_itself(tmp_path: Path) -> None:
    path = published(tmp_path)
    found = comparison(path, path)
    assert (found.same, found.spec, found.rows) == (True, {}, Apart(5, 0.0))
    assert set(found.figures.values()) == {(None, None)}
    assert comparison_lines(found) == [f"the same content, digest {found.digests[0][:12]}"]


def test_two_files(tmp_path: Path) -> None:
    rows = unit_rows(4, 3)
    moved = rows.clone()
    moved[2] = -moved[2]
    write(tmp_path / "a", replace(record(rows), stats=measure(InMemory(rows))))
    write(tmp_path / "b", record(moved))
    found = comparison(tmp_path / "a", tmp_path / "b")
    assert (found.same, found.spec) == (False, {})
    assert found.rows == Apart(3, float(2 * rows[2].abs().max()))
    assert found.figures["coherence"] == (measure(InMemory(rows)).coherence.value, None)
    document = found.to_dict()
    assert list(document) == ["paths", "digests", "same", "spec", "figures", "rows"]
    assert list(document["figures"]) == list(FIGURES)
    assert document["rows"]["equal"] == 3
    assert comparison_lines(found)[-1].startswith("other content: 3 rows are equal, the largest difference is ")


def test_files_of_other_sizes(tmp_path: Path) -> None:
    write(tmp_path / "a", record(unit_rows(4, 3)))
    write(tmp_path / "b", record(unit_rows(5, 3)))
    found = comparison(tmp_path / "a", tmp_path / "b")
    assert (found.spec, found.rows) == ({"n": (4, 5)}, None)
    assert comparison_lines(found)[-1] == "other content, of another shape"
    with pytest.raises(NotFound):
        comparison(tmp_path / "a", tmp_path / "c")
