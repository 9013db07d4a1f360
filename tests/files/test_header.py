"""File names and headers: what is written is read, and nothing damaged is read at all."""

import hashlib
import json
import os
import pickle
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from artifacts import refused
from safetensors import safe_open
from safetensors.torch import save_file

from protogen.errors import DiskError, IntegrityError, NotFound
from protogen.files.digests import BLOCK, PENDING, BlockHasher, content_digest
from protogen.files.disk import disk_error
from protogen.files.header import encode, read_header
from protogen.files.names import ArtifactName, artifact_path, parse_name, parse_path
from protogen.files.tensors import TensorEntry, block_count, layout
from protogen.spec import Spec

ROOT = Path(__file__).parents[2]
SPEC = Spec.of("ebv", 1, d=3, n=2, seed=0, params={"alpha": 0.1})
TENSORS = {"prototypes": ("F32", (2, 3)), "centers": ("F32", (1, 3))}
MADE = {
    **dict.fromkeys(("protogen", "torch", "python", "device", "created", "status"), "0"),
    **{"threads": 1, "steps": 0, "seconds": 0.5, "reproducible": "exact"},
}
DATA = struct.pack("<9f", 0, 1, 0, 1, 0, 0, 0, 0, 1)  # centers come first: equal items go by name


def content(**changes: Any) -> dict[str, Any]:
    blocks = [hashlib.sha256(DATA).hexdigest()]
    made = {"spec": SPEC.to_dict(), "facts": {}, "stats": None, "provenance": MADE, "blocks": blocks}
    return {**made, **changes}


def save(path: Path, raw: bytes) -> Path:
    path.write_bytes(raw)
    return path


def good(path: Path) -> Path:
    return save(path, encode(layout(TENSORS), content()) + DATA)


def with_json(text: str, data: bytes = DATA) -> bytes:
    return len(text).to_bytes(8, "little") + text.encode() + data


def test_the_name_is_golden() -> None:
    # The first 12 digits of sha256 over
    # {"d":3,"method":"ebv","n":2,"params":{"alpha":0.1},"seed":0,"version":1}
    path = artifact_path(SPEC, 12)
    assert path == Path("ebv/d3-n2/v12-7c43153a54b7.safetensors")
    assert parse_path(Path("anywhere") / path) == ArtifactName("ebv", 3, 2, 12, "7c43153a54b7")
    assert parse_name(path.name) == (12, "7c43153a54b7")


@pytest.mark.parametrize(
    "path",
    [
        "ebv/d3-n2/v0-7c43153a54b7.safetensors",
        "ebv/d3-n2/v01-7c43153a54b7.safetensors",
        "ebv/d3-n2/v1-7c43153a54b.safetensors",
        "ebv/d3-n2/v1-7C43153A54B7.safetensors",
        "ebv/d3-n2/v1-7c43153a54b7.safetensors.tmp",
        "ebv/d3/v1-7c43153a54b7.safetensors",
        "v1-7c43153a54b7.safetensors",
    ],
)
def test_other_paths_are_no_artifacts(path: str) -> None:
    assert parse_path(Path(path)) is None


def test_what_is_encoded_is_read(tmp_path: Path) -> None:
    header = read_header(good(tmp_path / "a.safetensors"))
    assert header.entries == (
        TensorEntry("centers", "F32", (1, 3), 0, 12),
        TensorEntry("prototypes", "F32", (2, 3), 12, 36),
    )
    assert header.spec == SPEC
    assert header.data_bytes == len(DATA)
    assert header.data_start % 8 == 0
    assert header.digest == content_digest([hashlib.sha256(DATA).hexdigest()])
    assert header.schema == 2


def test_the_check_covers_table_and_metadata(tmp_path: Path) -> None:
    raw = good(tmp_path / "a.safetensors").read_bytes()
    meta = json.loads(json.loads(raw[8 : -len(DATA)])["__metadata__"]["protogen"])
    check = meta.pop("check")
    table = {
        "centers": {"dtype": "F32", "shape": [1, 3], "data_offsets": [0, 12]},
        "prototypes": {"dtype": "F32", "shape": [2, 3], "data_offsets": [12, 36]},
    }
    text = json.dumps([table, meta], sort_keys=True, separators=(",", ":"))
    assert check == hashlib.sha256(text.encode()).hexdigest()


def test_safetensors_reads_it_and_finds_two_keys(tmp_path: Path) -> None:
    with safe_open(good(tmp_path / "a.safetensors"), "pt") as file:
        metadata = file.metadata()
        assert file.offset_keys() == ["centers", "prototypes"]
        assert file.get_tensor("prototypes").tolist() == [[1, 0, 0], [0, 0, 1]]
    assert metadata.keys() == {"format", "protogen"}
    assert metadata["format"] == "pt"
    assert json.loads(metadata["protogen"])["spec"] == SPEC.to_dict()


def test_wide_items_come_first_so_that_all_are_aligned() -> None:
    entries = layout({"flags": ("BOOL", (3,)), "prototypes": ("F32", (1, 1)), "z": ("I64", ()), "a": ("U8", (0,))})
    assert [(e.name, e.start, e.end) for e in entries] == [
        ("z", 0, 8),
        ("prototypes", 8, 12),
        ("a", 12, 12),
        ("flags", 12, 15),
    ]


def test_pending_digests_take_the_same_room() -> None:
    entries = layout({"prototypes": ("F32", (3, BLOCK // 4))})
    assert block_count(entries) == 3
    done = BlockHasher()
    for _ in range(3):
        done.update(memoryview(bytes(BLOCK)))
    pending = encode(entries, content(blocks=[PENDING] * 3))
    assert len(pending) == len(encode(entries, content(blocks=done.digests())))


def test_blocks_do_not_depend_on_the_pieces() -> None:
    data = memoryview(bytes(range(256)) * (BLOCK // 128) + b"rest")  # two blocks and four bytes
    expected = [hashlib.sha256(data[i : i + BLOCK]).hexdigest() for i in range(0, len(data), BLOCK)]
    assert len(expected) == 3
    for size in (len(data), BLOCK, 1_000_003):
        hasher = BlockHasher()
        for start in range(0, len(data), size):
            hasher.update(data[start : start + size])
        assert hasher.digests() == expected


def test_every_flipped_bit_of_the_header_is_found(tmp_path: Path) -> None:
    path = good(tmp_path / f"v1-{SPEC.key}.safetensors")
    end = read_header(path).data_start
    raw = path.read_bytes()
    with path.open("r+b", buffering=0) as file:
        for position in range(end):
            for bit in range(8):
                os.pwrite(file.fileno(), bytes([raw[position] ^ 1 << bit]), position)
                with pytest.raises(IntegrityError):
                    read_header(path)
            os.pwrite(file.fileno(), raw[position : position + 1], position)
    assert read_header(path).spec == SPEC


@pytest.mark.slow
def test_a_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    path = good(tmp_path / "a.safetensors")
    raw = path.read_bytes()
    for size in range(len(raw)):
        with pytest.raises(IntegrityError):
            read_header(save(path, raw[:size]))
    assert f"truncated: it has {len(raw) - 1} bytes, its header promises {len(raw)}" in refused(read_header, path)


def test_trailing_bytes_are_refused(tmp_path: Path) -> None:
    path = good(tmp_path / "a.safetensors")
    assert "too long" in refused(read_header, save(path, path.read_bytes() + b"\0"))


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "0 bytes that begin with b''"),
        (b"<!DOCTYPE html>\n<html><body>404</body></html>" * 9, "b'<!DOCTYP'"),
        (pickle.dumps([0.5] * 100), "no safetensors file"),
        ((200 << 20).to_bytes(8, "little") + b"{}", "no safetensors file"),
        (with_json("[1, 2]", b""), "not that of a safetensors file"),
        (with_json("[" * 100_000, b""), "not that of a safetensors file"),
        (with_json('{"a": 1}', b""), "not that of a safetensors file"),
        (with_json('{"a": {"dtype": "F32", "shape": [1], "data_offsets": ["x", "y"]}}'), "not that of a"),
        (with_json('{"__metadata__": {"protogen": "[]"}}', b""), "no JSON object with a schema"),
        ((8).to_bytes(8, "little") + b"\xff{}     ", "not that of a safetensors file"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, raw: bytes, reason: str) -> None:
    assert reason in refused(read_header, save(tmp_path / "a.safetensors", raw))


def test_a_foreign_safetensors_file_is_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file({"weight": torch.zeros(2, 3)}, path, metadata={"format": "pt"})
    assert "not a protogen artifact" in refused(read_header, path)
    assert "`protogen stats FILE`" in refused(read_header, path)


def test_a_newer_schema_asks_for_an_upgrade(tmp_path: Path) -> None:
    raw = encode(layout(TENSORS), content()).replace(rb"\"schema\":2", rb"\"schema\":3")
    assert "upgrade protogen" in refused(read_header, save(tmp_path / "a.safetensors", raw + DATA))


@pytest.mark.parametrize(
    "extra",
    [
        '"prototypes":{"dtype":"F32","shape":[2,3],"data_offsets":[12,36]}',
        '"x":{"dtype":"F32","shape":[0],"data_offsets":[36,36]}',
    ],
)
def test_a_doubled_or_unknown_tensor_is_refused(tmp_path: Path, extra: str) -> None:
    text = encode(layout(TENSORS), content())[8:].decode().rstrip()
    text = f"{text[:-1]},{extra}}}"
    raw = with_json(text + " " * (-len(text) % 8))
    assert "do not give the digest" in refused(read_header, save(tmp_path / "a.safetensors", raw))


def spec_dict(**changes: Any) -> dict[str, Any]:
    return {**SPEC.to_dict(), **changes}


@pytest.mark.parametrize(
    ("tensors", "changes", "reason"),
    [
        ({"prototypes": ("I32", (3, 3))}, {"spec": spec_dict(n=3)}, "prototypes are I32 (3, 3)"),
        ({"prototypes": ("F32", (3, 3))}, {}, "its Spec allows F32 (2, 3)"),
        ({"prototypes": ("F32", (9,))}, {"spec": spec_dict(n=9, d=9)}, "prototypes are F32 (9,)"),
        ({"centers": ("F32", (3, 3))}, {}, "it has no tensor `prototypes`"),
        ({"prototypes": ("F32", (3.0, 3))}, {"spec": spec_dict(n=3)}, "not that of a safetensors"),
        (TENSORS, {"blocks": []}, "do not give the digest"),
        (TENSORS, {"blocks": [PENDING, PENDING]}, "do not give the digest"),
        (TENSORS, {"facts": None}, "facts are None, needed is an object"),
        (TENSORS, {"more": 1}, "'more' is unknown"),
        (TENSORS, {"spec": {}}, "not those of schema 2 ('method')"),
        (TENSORS, {"spec": spec_dict(more=1)}, "the Spec has what no Spec has"),
    ],
)
def test_a_sound_check_over_wrong_content_does_not_help(
    tmp_path: Path, tensors: dict[str, Any], changes: dict[str, Any], reason: str
) -> None:
    raw = encode(layout(tensors), content(**changes)) + DATA
    assert reason in refused(read_header, save(tmp_path / "a.safetensors", raw))


def test_a_layout_of_other_order_is_refused(tmp_path: Path) -> None:
    entries = (TensorEntry("prototypes", "F32", (2, 3), 0, 24), TensorEntry("centers", "F32", (1, 3), 24, 36))
    refused(read_header, save(tmp_path / "a.safetensors", encode(entries, content()) + DATA))


def test_the_key_in_the_name_must_be_that_of_the_spec(tmp_path: Path) -> None:
    assert read_header(good(tmp_path / f"v7-{SPEC.key}.safetensors")).spec == SPEC
    assert f"the key 000000000000, its Spec has {SPEC.key}" in refused(
        read_header, good(tmp_path / "v1-000000000000.safetensors")
    )


def test_what_is_no_file_is_said(tmp_path: Path) -> None:
    assert "no such file" in refused(read_header, tmp_path / "none.safetensors", NotFound)
    assert "no such file" in refused(read_header, good(tmp_path / "file") / "none.safetensors", NotFound)
    assert "directory" in refused(read_header, tmp_path, DiskError)
    os.mkfifo(tmp_path / "pipe")
    refused(read_header, tmp_path / "pipe", DiskError)


def test_nan_cannot_be_encoded() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        encode(layout(TENSORS), content(stats={"coherence": float("nan")}))


def test_floors_below_prototypes_load_no_torch() -> None:
    code = (
        "import sys, protogen.files.header, protogen.files.prototypes, protogen.store.store, protogen.store.access\n"
        "print([m for m in ('torch', 'numpy', 'scipy', 'safetensors') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "[]\n"


def test_what_the_disk_refuses_names_the_option_of_the_place() -> None:
    refused = OSError(28, "No space left on device")
    said = "a: No space left on device; needed is a path of its own with room and permission: make room, or name"
    assert str(disk_error(Path("a"), refused)) == f"{said} another place, of the store by --store or PROTOGEN_STORE"
    assert str(disk_error(Path("a"), refused, "by --lock")) == f"{said} another place, by --lock"
