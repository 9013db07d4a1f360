"""Files of prototypes: written in pieces, read whole, and refused where anything is wrong."""

import json
import math
import os
import resource
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from artifacts import MADE, file_of, flip_row, record, refused
from draws import unit_rows
from torch import Tensor

from protogen.errors import BadRequest, DiskError
from protogen.files import writing
from protogen.files.digests import BLOCK
from protogen.files.facts import Facts
from protogen.files.reading import read
from protogen.files.schemas import SCHEMAS
from protogen.files.writing import write
from protogen.measuring.measure import measure
from protogen.rows import InMemory


def test_what_is_written_is_read(tmp_path: Path) -> None:
    rows = unit_rows(3, 5)
    written = record(
        rows,
        facts=Facts(more={"width": 1.5, "family": "simplex"}),
        tensors={"centers": torch.arange(4.0).view(2, 2), "parents": torch.tensor([2**40, -1])},
    )
    written = replace(written, stats=measure(InMemory(rows)))
    path = tmp_path / f"v3-{written.spec.key}.safetensors"
    digest = write(path, written)
    got = read(path)
    assert torch.equal(got.tensor, rows)
    assert torch.equal(got.rows(1, 3), rows[1:3])
    assert got.tensor.is_contiguous()
    assert got.tensors.keys() == {"centers", "parents"}
    assert all(torch.equal(got.tensors[name], written.tensors[name]) for name in got.tensors)
    assert (got.spec, got.stats, got.provenance) == (written.spec, written.stats, MADE)
    assert got.facts == written.facts
    assert (got.n, got.d) == (3, 5)
    assert (got.path, got.version, got.digest) == (path, 3, digest)


def test_a_free_name_has_no_version(tmp_path: Path) -> None:
    write(tmp_path / "mine.safetensors", record(unit_rows(3, 5)))
    assert read(tmp_path / "mine.safetensors").version is None


def test_the_bytes_are_the_same_at_every_writing_and_chunk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    class Source(InMemory):
        def rows(self, start: int, stop: int) -> Tensor:
            asked.append(stop - start)
            return super().rows(start, stop)

    rows = unit_rows(700, 1000)  # 2.8 MB, two blocks
    written = replace(record(rows), source=Source(rows))
    digests = [write(tmp_path / "a", written), write(tmp_path / "b", written)]
    assert asked == [700, 700]
    monkeypatch.setattr(writing, "CHUNK", 100_000)  # 25 rows of 4,000 bytes
    digests.append(write(tmp_path / "c", written))
    assert asked[2:] == [25] * 28
    assert len(set(digests)) == 1
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() == (tmp_path / "c").read_bytes()


def test_rows_that_are_not_contiguous_are_written_as_they_are(tmp_path: Path) -> None:
    rows = unit_rows(4, 6).T.contiguous().T
    assert not rows.is_contiguous()
    write(tmp_path / "a", record(rows, tensors={"centers": rows[:, ::2]}))
    assert torch.equal(read(tmp_path / "a").tensor, rows)
    assert torch.equal(read(tmp_path / "a").tensors["centers"], rows[:, ::2])


def test_what_was_read_outlives_its_file(tmp_path: Path) -> None:
    rows = unit_rows(700, 1000)
    write(tmp_path / "a", record(rows))
    got = read(tmp_path / "a").tensor
    os.truncate(tmp_path / "a", 0)  # a mapped tensor would end the process here
    assert torch.equal(got, rows)


def test_the_mode_follows_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write(tmp_path / "a", record(unit_rows(3, 5)))
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


@pytest.mark.parametrize(("position", "block"), [(0, 0), (BLOCK - 1, 0), (BLOCK, 1), (2_800_011, 1)])
def test_a_flipped_bit_in_the_data_is_found(tmp_path: Path, position: int, block: int) -> None:
    path = tmp_path / "a"
    write(path, record(unit_rows(700, 1000), tensors={"zeros": torch.zeros(3)}))
    flip_row(path, position)
    assert f"block {block} " in refused(read, path)
    assert read(path, check=False).n == 700


def test_shapes_of_sub_centres_and_free_norms(tmp_path: Path) -> None:
    rows = 3 * unit_rows(4, 2, 5)
    with pytest.raises(BadRequest, match=r"row 0 has norm [23]\.\d+, allowed is 1 within 1e-05"):
        write(tmp_path / "a", record(rows))
    write(tmp_path / "a", record(rows, facts=Facts(norms="free")))
    assert torch.equal(read(tmp_path / "a").tensor, rows)
    assert "row 0 has norm" in refused(read, file_of(tmp_path / "b", rows))


@pytest.mark.parametrize("free", [Facts(), Facts(norms="free")], ids=["of one", "free"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_values_that_are_not_finite_are_refused(tmp_path: Path, value: float, free: Facts) -> None:
    rows = unit_rows(4, 5)
    rows[2, 3] = value
    assert f"row 2 has norm {value}" in refused(read, file_of(tmp_path / "a", rows, facts=free.to_dict()))
    with pytest.raises(BadRequest, match="row 2"):
        write(tmp_path / "b", record(rows, facts=free))
    assert not (tmp_path / "b").exists()


def test_norms_are_held_to_one_in_a_hundred_thousand(tmp_path: Path) -> None:
    rows = unit_rows(4, 5)
    rows[3] *= 1 + 5e-6
    assert torch.equal(read(file_of(tmp_path / "a", rows)).tensor, rows)
    rows[3] *= 1 + 1e-5
    assert "row 3 has norm 1.00001" in refused(read, file_of(tmp_path / "a", rows))


def test_further_tensors_are_finite(tmp_path: Path) -> None:
    write(tmp_path / "a", record(unit_rows(3, 5), tensors={"centers": torch.tensor([1.0, math.nan])}))
    assert "tensor centers holds values that are not finite" in refused(read, tmp_path / "a")


@pytest.mark.parametrize(
    "changes",
    [{"stats": {"pairs": 1}}, {"stats": [1]}, {"provenance": {}}, {"provenance": None}],
    ids=str,
)
def test_a_record_of_another_form_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    assert "not those of schema 2" in refused(read, file_of(tmp_path / "a", unit_rows(3, 5), **changes))


@pytest.mark.parametrize(
    ("rows", "shape"),
    [
        (unit_rows(3, 5).double(), (3, 5)),
        (unit_rows(3, 5).half(), (3, 5)),
        (unit_rows(2, 5), (3, 5)),
        (unit_rows(3, 5), (3, 4)),
        (unit_rows(15), (15,)),
    ],
    ids=["float64", "float16", "too few", "shape", "one dimension"],
)
def test_sources_that_break_their_word_are_refused(tmp_path: Path, rows: Tensor, shape: tuple[int, ...]) -> None:
    class Source(InMemory):
        @property
        def shape(self) -> tuple[int, ...]:
            return shape

    with pytest.raises(BadRequest, match="allow"):
        write(tmp_path / "a", replace(record(unit_rows(3, 5)), source=Source(rows)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("tensors", [{"prototypes": torch.ones(1)}, {"z": torch.ones(1, dtype=torch.cfloat)}])
def test_further_tensors_of_bad_name_or_type_are_refused(tmp_path: Path, tensors: dict[str, Tensor]) -> None:
    with pytest.raises(BadRequest, match="allowed are other names"):
        write(tmp_path / "a", record(unit_rows(3, 5), tensors=tensors))
    assert list(tmp_path.iterdir()) == []


def test_facts_that_do_not_come_back_from_json_leave_no_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write(tmp_path / "a", record(unit_rows(3, 5), facts=Facts(phi=math.inf)))
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_there_is_never_written_over(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("mine")
    with pytest.raises(DiskError, match="File exists"):
        write(tmp_path / "a", record(unit_rows(3, 5)))
    assert (tmp_path / "a").read_text() == "mine"


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, before[1]))
    try:
        with pytest.raises(DiskError, match="File too large") as caught:
            write(tmp_path / "a", record(unit_rows(700, 1000)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_leaves_nothing(tmp_path: Path) -> None:
    class Source(InMemory):
        def rows(self, start: int, stop: int) -> Tensor:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "a", replace(record(unit_rows(3, 5)), source=Source(unit_rows(3, 5))))
    assert list(tmp_path.iterdir()) == []


def test_no_path_to_write_to(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DiskError):
        write(tmp_path / "file" / "a", record(unit_rows(3, 5)))


def test_provenance_comes_back_from_json() -> None:
    assert SCHEMAS[1].read_provenance(json.loads(json.dumps(MADE.to_dict()))) == MADE
