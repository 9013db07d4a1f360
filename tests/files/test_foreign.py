"""Matrices of other programs: dtypes, formats, the way they lie, and lengths at the ends of floats."""

import json
import math
import os
import pickle
import struct
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import Command, done, one_error
from draws import double_rows, unit_rows
from safetensors.torch import save_file

from protogen import rows as rows_module
from protogen.errors import BadRequest, IntegrityError, NotFound
from protogen.files import foreign
from protogen.files.figures import measure_file
from protogen.files.foreign import FLOATS, open_matrix, read_matrix


def raw(path: Path, tensors: dict[str, tuple[str, list[int], bytes]]) -> Path:
    """Write a safetensors file of any dtypes."""
    table, data = {}, b""
    for name, (dtype, shape, content) in tensors.items():
        table[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    header = json.dumps(table).encode()
    header += b" " * (-len(header) % 8)
    path.write_bytes(struct.pack("<Q", len(header)) + header + data)
    return path


@pytest.mark.parametrize(
    ("dtype", "bits"),
    [("F4", 4), ("F6_E2M3", 6), ("F6_E3M2", 6), ("I8", 8), ("BOOL", 8), ("U64", 64), ("I16", 16), ("C64", 64)],
)
def test_a_dtype_that_gives_no_rows_is_refused_in_one_line(run: Command, tmp_path: Path, dtype: str, bits: int) -> None:
    good = ("F32", [2, 2], torch.eye(2).numpy().tobytes())
    path = raw(tmp_path / "a.safetensors", {"b": good, "a": (dtype, [4, 8], b"\1" * (32 * bits // 8))})
    one_error(run("stats", path, "--tensor", "a"), 2, path, f"{dtype} (4, 8)", "convert it")
    assert json.loads(done(run("stats", path, "--tensor", "b", "--json")))["stats"]["coherence"]["value"] == 0


@pytest.mark.parametrize("dtype", FLOATS)
def test_each_dtype_that_is_allowed_is_measured(tmp_path: Path, dtype: str) -> None:
    size = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}.get(dtype, 1)
    zeros = bytearray(4 * size)
    one = {"F64": struct.pack("<d", 1), "F32": struct.pack("<f", 1), "F16": b"\0\x3c", "BF16": b"\x80\x3f"}
    byte = {"F8_E4M3": 0x38, "F8_E5M2": 0x3C, "F8_E4M3FNUZ": 0x40, "F8_E5M2FNUZ": 0x40, "F8_E8M0": 0x7F}
    for place in (0, 3):
        zeros[place * size : (place + 1) * size] = one.get(dtype) or bytes([byte[dtype]])
    path = raw(tmp_path / "a.safetensors", {"a": (dtype, [2, 2], bytes(zeros))})
    off = 2**-127 if dtype == "F8_E8M0" else 0.0  # which has no zero
    rows = read_matrix(path).rows(0, 2)
    assert rows.dtype == torch.float32
    assert torch.allclose(rows, torch.eye(2) + off, atol=1e-30)


def test_formats_give_the_same_rows(tmp_path: Path) -> None:
    matrix = double_rows(5, 3) * 2
    paths = [tmp_path / name for name in ("a.safetensors", "a.npy", "b.npy", "a.pt", "b.pt", "c.pt")]
    save_file({"w": matrix}, paths[0])
    np.save(paths[1], matrix.numpy())
    np.save(paths[2], np.asfortranarray(matrix.numpy().astype(">f8")))
    torch.save(matrix, paths[3])
    torch.save(OrderedDict(w=torch.nn.Parameter(matrix), bias=torch.ones(3)), paths[4])
    torch.save({"w": matrix.T.contiguous().T, "epoch": 7}, paths[5])
    first = read_matrix(paths[0]).rows(0, 5)
    assert torch.allclose(first.double(), matrix / 2, atol=1e-7)
    for path in paths:
        for transpose, name in ((False, None), (True, None), (False, "w" if path.name in ("b.pt", "c.pt") else None)):
            found = open_matrix(path, name, transpose)
            n = found.shape[0]
            whole = found.block(0, n)
            assert torch.equal(whole, matrix.T if transpose else matrix), path
            assert torch.equal(found.block(1, n), whole[1:])
    assert torch.equal(read_matrix(paths[4]).rows(0, 5), first)


class Runs:
    """What a pickle may hold."""

    def __reduce__(self) -> Any:
        return os.system, ("touch pwned",)


def test_no_program_in_a_file_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pickled, saved, objects, legacy = (tmp_path / name for name in ("a.pkl", "a.pt", "a.npy", "b.pt"))
    pickled.write_bytes(pickle.dumps(Runs()))
    torch.save({"w": torch.eye(2), "x": Runs()}, saved)
    np.save(objects, np.array([Runs()], dtype=object), allow_pickle=True)
    legacy.write_bytes(pickle.dumps(Runs()))
    for path, kind, says in (
        (pickled, BadRequest, "is a pickle"),
        (saved, IntegrityError, "tensors alone"),
        (objects, IntegrityError, r"no sound \.npy"),
        (legacy, IntegrityError, "no sound"),
    ):
        with pytest.raises(kind, match=says) as error:
            open_matrix(path)
        assert "\n" not in str(error.value)
    assert not Path("pwned").exists()


@pytest.mark.parametrize("make", [b"PK\x03\x04", b"\x93NUMPY", b"\x93NUMPY\x01\x00\xff\xff", b"PK\x03\x04" * 100])
def test_what_only_begins_like_a_format_is_one_line(tmp_path: Path, make: bytes) -> None:
    path = tmp_path / "a"
    path.write_bytes(make)
    with pytest.raises(IntegrityError, match="no sound") as error:
        open_matrix(path)
    assert "\n" not in str(error.value)
    with pytest.raises(NotFound):
        open_matrix(tmp_path / "none")


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (np.eye(3, dtype=np.int64), "int64"),
        (np.ones((3, 3), dtype=np.longdouble), "float128"),
        (np.ones((3, 3), dtype=complex), "complex128"),
        (np.float64(1.0), r"\(\)"),
        (np.ones(4), r"\(4,\)"),
        (np.ones((1, 4)), "2 x 2"),
        (np.ones((0, 4)), "2 x 2"),
    ],
)
def test_arrays_that_are_no_rows(tmp_path: Path, array: Any, says: str) -> None:
    path = tmp_path / "a.npy"
    np.save(path, array)
    with pytest.raises(BadRequest, match=says):
        open_matrix(path)
    with pytest.raises(BadRequest):
        open_matrix(path, "name")


@pytest.mark.parametrize(
    "tensor", [torch.tensor(1.0), torch.ones(3), torch.eye(3).to_sparse(), torch.eye(3, dtype=torch.int32)]
)
def test_tensors_that_are_no_rows(tmp_path: Path, tensor: torch.Tensor) -> None:
    path = tmp_path / "a.pt"
    torch.save(tensor, path)
    with pytest.raises(BadRequest, match="the tensor is"):
        open_matrix(path)


def test_columns_are_measured_and_advised(run: Command, tmp_path: Path) -> None:
    rows = unit_rows(7, 4)
    there, turned = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    save_file({"w": rows}, there)
    save_file({"w": rows.T.contiguous()}, turned)
    right = run("stats", there, "--json")
    found = run("stats", turned, "--transpose", "--json")
    assert (right.err, found.err) == ("", "")
    assert {**found.document, "path": ""} == {**right.document, "path": ""}
    for ran, says in (
        (run("stats", turned, "--json"), "the columns of b.safetensors have norm 1, its rows have not: the columns"),
        (run("stats", there, "--transpose", "--json"), "its columns have not: the rows are measured without"),
    ):
        assert ran.code == 0
        assert says in ran.err.replace(f"{tmp_path}/", "")
        assert ran.err.count("\n") == 1
    square = tmp_path / "c.safetensors"
    save_file({"w": torch.eye(3), "x": torch.eye(4).view(2, 2, 4)}, square)
    assert run("stats", square, "--tensor", "w").err == ""
    one_error(run("stats", square, "--tensor", "x", "--transpose"), 2, "(2, 2, 4)", "two dimensions")
    said: list[str] = []
    turned_rows, _ = measure_file(turned, transpose=True, say=said.append)
    assert torch.allclose(turned_rows.rows(0, 7), rows, atol=1e-6)
    assert said == []


def test_what_stays_in_its_file_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.safetensors"
    save_file({"w": unit_rows(9, 5).double() * 3}, path)
    for transpose in (False, True):
        held = read_matrix(path, None, transpose)
        with monkeypatch.context() as changed:
            changed.setattr(foreign, "HELD", 0)
            changed.setattr(rows_module, "FILL", 10)
            stays = read_matrix(path, None, transpose)
            assert type(stays) is not type(held)
            assert stays.shape == held.shape
            assert torch.equal(stays.rows(0, stays.shape[0]), held.rows(0, held.shape[0]))
            assert (foreign.advice(open_matrix(path, None, transpose))) is None


def test_lengths_that_no_square_holds(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    rows = double_rows(4, 3)
    save_file({"w": rows * torch.tensor([[1e200], [1e-200], [1.0], [1e300]], dtype=torch.float64)}, path)
    matrix = open_matrix(path)
    scaled, norms = matrix.scaled(0, 4)
    assert torch.allclose(scaled, rows, atol=1e-14)
    assert torch.allclose(norms.squeeze(), torch.tensor([1e200, 1e-200, 1.0, 1e300], dtype=torch.float64), rtol=1e-14)
    save_file({"w": torch.tensor([[1.0, 0.0], [math.inf, 1.0]])}, path)
    with pytest.raises(BadRequest, match="row 1 has norm inf"):
        open_matrix(path).scaled(0, 2)
