"""Reading in parts: the bytes that are read and checked, the record that comes back, and what is refused."""

import contextlib
import os
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import pytest
import torch
from artifacts import file_of, flip_row, published, record, refused
from draws import unit_rows

import protogen
from protogen.errors import BadRequest
from protogen.files import reading
from protogen.files.digests import BLOCK
from protogen.files.facts import Facts
from protogen.files.header import Header, read_header
from protogen.files.reading import read
from protogen.files.writing import write
from protogen.measuring.measure import measure
from protogen.nn import FrozenPrototypes, as_prototypes
from protogen.rows import InMemory
from protogen.store.store import Store

ROWS = unit_rows(6000, 1000)  # 24 MB, 11.4 blocks
EIGHTH = slice(1500, 2250)  # bytes 6,000,000 to 9,000,000: in blocks 2, 3 and 4
HEADERS = 25_000  # bytes: two headers, buffered, and the count itself


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that no test changes."""
    path = tmp_path_factory.mktemp("parts") / "large.safetensors"
    write(path, record(ROWS))
    return path


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """Three blocks of 1,000 rows, a bit flipped in block 1, which begins in row 524 and ends in row 1048."""
    path = tmp_path / "damaged.safetensors"
    write(path, record(ROWS[:1500]))
    flip_row(path, BLOCK + 1000)
    return path


def bytes_read() -> int:
    """What this process has read from files till now."""
    return int(Path("/proc/self/io").read_text().split()[1])


@pytest.mark.parametrize(
    ("rows", "first", "end"),
    [
        (slice(0, 1), 0, 1),
        (slice(524, 525), 524, 525),  # over the edge of a block
        (slice(None, 700), 0, 700),
        (slice(5990, None), 5990, 6000),
        (slice(torch.tensor(7), 9, 1), 7, 9),  # whatever is a whole number
        (EIGHTH, 1500, 2250),
    ],
    ids=str,
)
@pytest.mark.parametrize("how", [{}, {"full": True}, {"check": False}], ids=str)
def test_a_part_is_that_of_the_whole(large: Path, rows: slice, first: int, end: int, how: dict[str, bool]) -> None:
    part = protogen.load(large, rows=rows, **how)
    assert torch.equal(part.tensor, ROWS[first:end])
    assert torch.equal(part.rows(0, 1), ROWS[first : first + 1])
    assert part.tensor.untyped_storage().nbytes() == 4000 * (end - first)
    assert part.part == range(first, end)
    assert (part.n, part.spec.n, part.d) == (end - first, 6000, 1000)


def test_all_else_is_of_the_whole(tmp_path: Path) -> None:
    whole = replace(record(unit_rows(9, 4)), facts=Facts(more={"width": 1.5}), stats=measure(InMemory(unit_rows(9, 4))))
    path = Store(tmp_path).publish(whole)
    kept, part = read(path), read(path, rows=slice(2, 5))
    assert part.stats == whole.stats
    for name in ("spec", "stats", "provenance", "facts", "path", "version", "digest"):
        assert getattr(part, name) == getattr(kept, name)


def test_tensors_with_n_first_are_cut_and_others_are_whole(tmp_path: Path) -> None:
    rows = unit_rows(900, 2, 500)
    tensors = {
        "centers": torch.arange(900 * 500.0).view(900, 500),
        "doubles": torch.arange(900.0 * 300).view(900, 300).double(),
        "seen": torch.arange(900) % 3 == 0,
        "bytes": torch.arange(900, dtype=torch.uint8)[:, None, None],
        "empty": torch.empty(900, 0),
        "none": torch.empty(0, dtype=torch.int64),
        "one": torch.tensor(2**40),
        "table": torch.arange(899),
    }
    path = tmp_path / "a.safetensors"
    write(path, record(rows, tensors=tensors))
    part = read(path, rows=slice(400, 431))
    assert torch.equal(part.tensor, rows[400:431])
    assert part.tensors.keys() == tensors.keys()
    for name, tensor in tensors.items():
        expected = tensor[400:431] if tensor.shape[:1] == (900,) else tensor
        assert part.tensors[name].dtype == tensor.dtype
        assert torch.equal(part.tensors[name], expected), name


@pytest.mark.parametrize("rows", [None, slice(None), slice(0, 6000)], ids=str)
def test_all_rows_are_no_part(large: Path, tmp_path: Path, rows: slice | None) -> None:
    whole = read(large, rows=rows)
    assert whole.part is None
    assert write(tmp_path / "again", whole) == whole.digest


def test_only_the_blocks_of_the_part_are_read(large: Path) -> None:
    for how, expected in [
        ({"rows": EIGHTH}, 3 * BLOCK),
        ({"rows": slice(0, 524)}, BLOCK),
        ({"rows": slice(524, 525)}, 2 * BLOCK),
        ({"rows": EIGHTH, "full": True}, ROWS.nbytes),
        ({}, ROWS.nbytes),
    ]:
        before = bytes_read()
        read(large, **how)
        assert 0 < bytes_read() - before - expected < HEADERS


def test_a_part_of_a_methods_best(tmp_path: Path) -> None:
    made = protogen.ensure(protogen.resolve("simplex", n=6), store=tmp_path)
    part = protogen.load("simplex", n=6, store=tmp_path, rows=slice(4, None), full=True)
    assert torch.equal(part.tensor, made.tensor[4:])
    assert part.digest == made.digest


# Damage


@pytest.mark.parametrize("rows", [slice(0, 524), slice(1049, 1500)], ids=str)
def test_damage_elsewhere_is_found_by_full(damaged: Path, rows: slice) -> None:
    assert torch.equal(read(damaged, rows=rows).tensor, ROWS[rows])
    assert "block 1 of its tensors has sha256" in refused(read, damaged, rows=rows, full=True)


@pytest.mark.parametrize("rows", [slice(524, 525), slice(1048, 1049), slice(0, 1500), None], ids=str)
def test_damage_in_the_blocks_of_the_part_is_found(damaged: Path, rows: slice | None) -> None:
    assert "block 1 of its tensors has sha256" in refused(read, damaged, rows=rows)
    assert read(damaged, check=False, rows=rows).n > 0


def test_a_bad_row_is_named_by_its_place_in_the_file(tmp_path: Path) -> None:
    rows = unit_rows(9, 4)
    rows[7] *= 2
    path = file_of(tmp_path / "a", rows)
    assert torch.equal(read(path, rows=slice(0, 7)).tensor, rows[:7])
    assert "row 7 has norm 2.0" in refused(read, path, rows=slice(5, 9))


@pytest.mark.parametrize("kept", [0, 1, BLOCK - 1, BLOCK, 5_999_999])
def test_a_file_that_is_cut_after_its_header_was_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: int
) -> None:
    path = tmp_path / "a"
    write(path, record(ROWS[:1500]))
    header = read_header(path)

    @contextlib.contextmanager
    def opened(path: Path) -> Iterator[tuple[BinaryIO, Header]]:
        with path.open("rb") as file:
            yield file, header

    monkeypatch.setattr(reading, "open_artifact", opened)
    os.truncate(path, header.data_start + kept)
    for how in ({}, {"check": False}, {"rows": slice(1499, None)}, {"rows": slice(0, 9), "full": True}):
        index = 2 if how.get("rows") == slice(1499, None) else kept // BLOCK
        assert f"block {index} of its tensors has {max(0, kept - index * BLOCK)} bytes" in refused(read, path, **how)
    if kept >= BLOCK:
        assert torch.equal(read(path, rows=slice(0, 9)).tensor, ROWS[:9])


def test_a_full_check_holds_no_more_than_a_few_blocks(large: Path) -> None:
    read(large, rows=slice(0, 1))
    tracemalloc.start()
    read(large, rows=slice(0, 1), full=True)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * BLOCK


# Wrong requests


@pytest.mark.parametrize(
    "rows",
    [
        slice(-1, 3),
        slice(0, -1),
        slice(0, 6001),
        slice(6000, None),
        slice(3, 3),
        slice(4, 3),
        slice(0, 9, 2),
        slice(9, 0, -1),
        slice(0, 9, 0),
        slice(0.0, 3.0),
        slice("a", None),
        7,
        (0, 7),
    ],
    ids=str,
)
def test_what_names_no_part_is_refused(large: Path, rows: Any) -> None:
    message = refused(read, large, BadRequest, rows=rows)
    assert f"rows={rows!r}, allowed is slice(a, b) with 0 <= a < b <= n; n is 6000" in message


def test_a_full_check_and_none_are_not_both_asked_for(large: Path) -> None:
    assert "full=True with check=False" in refused(read, large, BadRequest, full=True, check=False)


def test_a_part_is_never_written(large: Path, tmp_path: Path) -> None:
    part = read(large, rows=EIGHTH)
    message = f"rows 1500 to 2249 of {large} alone, allowed is all that the Spec asks for"
    for publish in (lambda: write(tmp_path / "a", part), lambda: Store(tmp_path / "store").publish(part, force=True)):
        with pytest.raises(BadRequest, match=message):
            publish()
    with pytest.raises(BadRequest, match="the Spec allows"):
        write(tmp_path / "a", replace(part, part=None))
    assert list(tmp_path.iterdir()) == []


# In a network


@pytest.mark.slow
@pytest.mark.parametrize("world", [1, 2, 3, 5])
def test_a_ranks_share_is_its_slice(tmp_path: Path, world: int) -> None:
    path = published(tmp_path)
    whole = FrozenPrototypes(path, dtype=torch.bfloat16)
    for rank in range(world):
        part, first = FrozenPrototypes.of_rank(path, rank, world, dtype=torch.bfloat16)
        cut, start = whole.slice(rank, world)
        assert first == start
        assert torch.equal(part.prototypes, cut.prototypes)
        assert part.prototypes.dtype == torch.bfloat16
        assert part.fingerprint == whole.fingerprint
        assert part.state_dict().keys() == cut.state_dict().keys() == {"sha256", "origin"}


def test_a_rank_reads_its_share_alone(large: Path) -> None:
    FrozenPrototypes.of_rank(str(large), 0, 8)  # modules that are loaded at first use are read, too
    before = bytes_read()
    part, first = FrozenPrototypes.of_rank(str(large), 2, 8)
    assert 0 < bytes_read() - before - 3 * BLOCK < HEADERS
    assert first == EIGHTH.start
    assert torch.equal(part.prototypes, ROWS[EIGHTH])


def test_a_ranks_checkpoint_loads_into_any_other_of_the_file_alone(tmp_path: Path) -> None:
    ours, others = published(tmp_path), published(tmp_path, seed=1)
    state = FrozenPrototypes.of_rank(ours, 0, 2)[0].state_dict()
    other, first = FrozenPrototypes.of_rank(ours, 2, 3)
    other.load_state_dict(state)
    assert torch.equal(other.prototypes, unit_rows(5, 3)[first:])
    with pytest.raises(BadRequest, match="the checkpoint was trained with ebv/d3-n5/v1"):
        FrozenPrototypes.of_rank(others, 0, 2)[0].load_state_dict(state)


def test_a_ranks_share_is_read_on_meta(tmp_path: Path) -> None:
    path = published(tmp_path)
    with torch.device("meta"):
        part, first = FrozenPrototypes.of_rank(path, 1, 2)
    assert all(buffer.is_meta for buffer in part.buffers())
    assert torch.equal(part.to_empty(device="cpu").prototypes, unit_rows(5, 3)[first:])


@pytest.mark.parametrize(("rank", "world"), [(2, 2), (-1, 2), (0, 0), (0, 6), ("0", 2), (0, None), (0.0, 2)])
def test_ranks_that_are_not_are_refused(tmp_path: Path, rank: Any, world: Any) -> None:
    with pytest.raises(BadRequest, match=f"rank, world is {rank!r}, {world!r}; allowed is world from 1 to n"):
        FrozenPrototypes.of_rank(published(tmp_path), rank, world)


def test_a_part_in_a_network_is_a_set_of_its_own(tmp_path: Path) -> None:
    path = protogen.ensure(protogen.resolve("ebv", d=17, n=100, start="closed-form"), store=tmp_path).path
    part = protogen.load(path, rows=slice(90, None))
    assert part.facts.closed_form == "kerdock(k=2)"
    for frozen in (FrozenPrototypes(part), as_prototypes(part)):
        assert isinstance(frozen, FrozenPrototypes)
        assert torch.equal(frozen.prototypes, part.tensor)
        assert frozen.fingerprint == FrozenPrototypes(part.tensor).fingerprint
        assert frozen.fingerprint != FrozenPrototypes(path).fingerprint
