"""A file that arrives in pieces: the same checks as of a file that is there, in one pass."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from protogen import Prototypes, Spec
from protogen.errors import IntegrityError
from protogen.files.arriving import write_arriving
from protogen.files.digests import BLOCK
from protogen.files.header import check_file
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


def pieces(raw: bytes, size: int) -> Iterator[bytes]:
    return (raw[start : start + size] for start in range(0, len(raw), size))


@pytest.mark.parametrize("size", [997, BLOCK, BLOCK + 1, 10**9])
def test_any_pieces_make_the_same_file(whole: Path, tmp_path: Path, size: int) -> None:
    raw, target = whole.read_bytes(), tmp_path / "got"
    assert len(raw) > 2 * BLOCK
    header = write_arriving(target, pieces(raw, size), "there")
    assert target.read_bytes() == raw
    assert header == check_file(whole)


def test_single_bytes_make_it_too(whole: Path, tmp_path: Path) -> None:
    raw = whole.read_bytes()
    start = check_file(whole).data_start + 5
    parts = [*pieces(raw[:start], 1), raw[start:]]
    assert write_arriving(tmp_path / "got", parts, "there") == check_file(whole)


@pytest.mark.parametrize("place", [0, 3, 40, 1000, -1, -BLOCK])
def test_one_wrong_byte_is_refused(whole: Path, tmp_path: Path, place: int) -> None:
    raw = bytearray(whole.read_bytes())
    raw[place] ^= 1
    with pytest.raises(IntegrityError, match=r"^there: "):
        write_arriving(tmp_path / "got", pieces(bytes(raw), 10_000), "there")


@pytest.mark.parametrize("cut", [0, 5, 8, 100, -1])
def test_what_is_cut_short_is_refused(whole: Path, tmp_path: Path, cut: int) -> None:
    with pytest.raises(IntegrityError, match=r"^there: .*(cut short|truncated)"):
        write_arriving(tmp_path / "got", pieces(whole.read_bytes()[:cut], 10_000), "there")
