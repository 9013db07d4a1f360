"""A file that arrives in pieces: the same checks as of a file that is there, in one pass."""

import io
from pathlib import Path

import pytest
import torch
from artifacts import published

from protogen import Prototypes, Spec
from protogen.errors import IntegrityError
from protogen.files import arriving
from protogen.files.arriving import write_arriving
from protogen.files.digests import BLOCK
from protogen.files.header import LONGEST, check_file
from protogen.files.provenance import Provenance
from protogen.files.writing import write
from protogen.rows import InMemory

N, D = 2048, 600  # more than two blocks


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = torch.nn.functional.normalize(torch.randn(N, D, generator=torch.Generator().manual_seed(0)))
    made = Provenance("0", "2", "3", "cpu", 1, 0, 0.0, "2000-01-01T00:00:00Z", "step limit", "statistical")
    path = tmp_path_factory.mktemp("whole") / "whole.safetensors"
    write(path, Prototypes(Spec.of("ebv", 1, d=D, n=N, seed=0, params={}), InMemory(rows), None, made))
    return path


class Stream:
    """Bytes that come so many at a time, and how many were taken."""

    def __init__(self, raw: bytes, most: int) -> None:
        self.left, self.most, self.taken = io.BytesIO(raw), most, 0

    def read(self, size: int, /) -> bytes:
        piece = self.left.read(min(size, self.most))
        self.taken += len(piece)
        return piece


class Endless(Stream):
    """Bytes, and zeros without an end behind them."""

    def read(self, size: int, /) -> bytes:
        if piece := super().read(size):
            return piece
        self.taken += size
        return bytes(size)


@pytest.mark.parametrize("size", [997, BLOCK, BLOCK + 1, 10**9])
def test_any_pieces_make_the_same_file(whole: Path, tmp_path: Path, size: int) -> None:
    raw, target = whole.read_bytes(), tmp_path / "got"
    assert len(raw) > 2 * BLOCK
    header = write_arriving(target, Stream(raw, size), "there")
    assert target.read_bytes() == raw
    assert header == check_file(whole)


def test_single_bytes_make_it_too(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arriving, "PIECE", 5)
    path = published(tmp_path / "store")
    assert write_arriving(tmp_path / "got", Stream(path.read_bytes(), 1), "there") == check_file(path)


def test_no_more_is_read_than_the_header_promises_and_one_byte(whole: Path, tmp_path: Path) -> None:
    raw = whole.read_bytes()
    sound, longer = Stream(raw, 10_000), Endless(raw, 10_000)
    write_arriving(tmp_path / "got", sound, "there")
    assert sound.taken == len(raw)
    with pytest.raises(IntegrityError, match=f"too long: it has {len(raw) + 1} bytes or more, .* promises {len(raw)};"):
        write_arriving(tmp_path / "more", longer, "there")
    assert longer.taken == len(raw) + 1
    assert (tmp_path / "more").stat().st_size == len(raw)


@pytest.mark.parametrize("first", [bytes(8), b"\xff" * 8, (LONGEST + 1).to_bytes(8, "little"), b"<!DOCTYPE html>"])
def test_of_what_promises_no_header_eight_bytes_are_read(tmp_path: Path, first: bytes) -> None:
    stream = Stream(first + bytes(10_000), 10_000)
    with pytest.raises(IntegrityError, match="not with a header's length"):
        write_arriving(tmp_path / "got", stream, "there")
    assert stream.taken == 8
    assert not (tmp_path / "got").exists()


@pytest.mark.parametrize("place", [0, 3, 40, 1000, -1, -BLOCK])
def test_one_wrong_byte_is_refused(whole: Path, tmp_path: Path, place: int) -> None:
    raw = bytearray(whole.read_bytes())
    raw[place] ^= 1
    with pytest.raises(IntegrityError, match=r"^there: "):
        write_arriving(tmp_path / "got", Stream(bytes(raw), 10_000), "there")


@pytest.mark.parametrize("cut", [0, 5, 8, 100, -1])
def test_what_is_cut_short_is_refused(whole: Path, tmp_path: Path, cut: int) -> None:
    with pytest.raises(IntegrityError, match=r"^there: .*(cut short|truncated)"):
        write_arriving(tmp_path / "got", Stream(whole.read_bytes()[:cut], 10_000), "there")
