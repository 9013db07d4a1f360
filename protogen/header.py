"""An artifact's file name and the header of its safetensors file, without torch."""

import hashlib
import json
import math
import os
import re
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import DiskError, IntegrityError, NotFound
from .spec import Spec, canonical_json

SCHEMA = 1
BLOCK = 2 << 20  # bytes of the data section under one digest
PENDING = "0" * 64  # stands for a digest while the tensors are being written
LONGEST = 100_000_000  # bytes; safetensors' own limit for a header
ITEM_BYTES = {"F64": 8, "I64": 8, "F32": 4, "I32": 4, "U8": 1, "BOOL": 1}
KEYS = {"schema", "spec", "facts", "stats", "provenance", "blocks", "digest", "check"}
REMEDY = "delete it and generate it again, or keep it and use --force"

_FILE = re.compile(r"v([1-9]\d*)-([0-9a-f]{12})\.safetensors")
_FOLDER = re.compile(r"d([1-9]\d*)-n([1-9]\d*)")
_MALFORMED = (ValueError, LookupError, TypeError, AttributeError, RecursionError)  # JSON of another form


@dataclass(frozen=True, order=True)
class ArtifactName:
    """What the last three parts of an artifact's path say."""

    method: str
    d: int
    n: int
    version: int
    key: str


def artifact_path(spec: Spec, version: int) -> Path:
    """Build the path of an artifact inside its store."""
    return Path(spec.method, f"d{spec.d}-n{spec.n}", f"v{version}-{spec.key}.safetensors")


def parse_name(name: str) -> tuple[int, str] | None:
    """Read version and key from a file name; None where it has another form."""
    match = _FILE.fullmatch(name)
    return (int(match[1]), match[2]) if match else None


def parse_path(path: Path) -> ArtifactName | None:
    """Read what `artifact_path` wrote, whatever the store; None where the path has another form."""
    file, folder = parse_name(path.name), _FOLDER.fullmatch(path.parent.name)
    if file is None or folder is None:
        return None
    return ArtifactName(path.parent.parent.name, int(folder[1]), int(folder[2]), *file)


@dataclass(frozen=True)
class TensorEntry:
    """One tensor of the file: `start` and `end` are bytes from the begin of the data section."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True)
class Header:
    """The header of an artifact; `meta` is the object under the metadata key `protogen`."""

    entries: tuple[TensorEntry, ...]
    meta: dict[str, Any]
    data_start: int
    data_bytes: int

    @property
    def spec(self) -> Spec:
        """What was asked for."""
        return Spec.from_dict(self.meta["spec"])

    @property
    def digest(self) -> str:
        """The sha256, in hex, that names the content of the data section."""
        digest: str = self.meta["digest"]
        return digest


def disk_error(path: Path, error: OSError) -> DiskError:
    """Say in one line what the disk refused."""
    return DiskError(
        f"{path}: {error.strerror or error}; needed is a path of its own with room and permission: "
        "make room, or name another place with --store or PROTOGEN_STORE"
    )


def layout(tensors: Mapping[str, tuple[str, Sequence[int]]]) -> tuple[TensorEntry, ...]:
    """Lay tensors, name -> (dtype, shape), one after the other: widest items first, so all are aligned.

    Raises KeyError on a dtype that is not in ITEM_BYTES.
    """
    entries, start = [], 0
    for name, (dtype, shape) in sorted(tensors.items(), key=lambda item: (-ITEM_BYTES[item[1][0]], item[0])):
        end = start + math.prod(shape) * ITEM_BYTES[dtype]
        entries.append(TensorEntry(name, dtype, tuple(shape), start, end))
        start = end
    return tuple(entries)


def block_count(entries: Sequence[TensorEntry]) -> int:
    """Count the blocks of the data section."""
    return -(-entries[-1].end // BLOCK)


class BlockHasher:
    """Digest a stream block by block, whatever the pieces it comes in."""

    def __init__(self) -> None:
        self._done: list[str] = []
        self._open = hashlib.sha256()
        self._filled = 0

    def update(self, data: memoryview) -> None:
        """Take in the next bytes."""
        while data:
            piece = data[: BLOCK - self._filled]
            self._open.update(piece)
            self._filled += len(piece)
            data = data[len(piece) :]
            if self._filled == BLOCK:
                self._close()

    def digests(self) -> list[str]:
        """Close the last block and give the sha256 of each, in hex."""
        if self._filled:
            self._close()
        return self._done

    def _close(self) -> None:
        self._done.append(self._open.hexdigest())
        self._open, self._filled = hashlib.sha256(), 0


def content_digest(blocks: Iterable[str]) -> str:
    """The sha256, in hex, over the blocks' digests, joined."""
    return hashlib.sha256("".join(blocks).encode()).hexdigest()


def encode(entries: Sequence[TensorEntry], content: Mapping[str, Any]) -> bytes:
    """Build the header: 8 bytes of length, JSON, spaces up to a multiple of 8.

    `content` holds spec, facts, stats, provenance and blocks; schema, digest and check are added.
    The check covers the table of tensors too, so that no bit of the header is without cover.
    With blocks of PENDING the length is that of the final header. Raises ValueError on NaN.
    """
    table = {e.name: {"dtype": e.dtype, "shape": list(e.shape), "data_offsets": [e.start, e.end]} for e in entries}
    meta = {"schema": SCHEMA, **content, "digest": content_digest(content["blocks"])}
    meta["check"] = hashlib.sha256(canonical_json([table, meta]).encode()).hexdigest()
    text = {"__metadata__": {"format": "pt", "protogen": canonical_json(meta)}, **table}
    raw = json.dumps(text, separators=(",", ":")).encode()
    raw += b" " * (-len(raw) % 8)
    return len(raw).to_bytes(8, "little") + raw


def read_header(path: str | os.PathLike[str]) -> Header:
    """Read an artifact's header, and nothing else of the file, and check all that it says.

    Raises NotFound, DiskError, and IntegrityError where the file is no artifact, is damaged, or
    has not the length or the key that header and name promise.
    """
    path = Path(path)
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise DiskError(f"{path}: is a directory or a device, needed is a file; name a .safetensors file")
        with path.open("rb") as file:
            first = file.read(8)
            length = int.from_bytes(first, "little")
            if len(first) < 8 or not 2 <= length <= min(LONGEST, found.st_size - 8):
                got = f"{found.st_size} bytes that begin with {first!r}"
                raise _damaged(path, f"no safetensors file, or cut short: {got}, not with a header's length")
            raw = first + file.read(length)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFound(f"{path}: no such file; `protogen list` shows what there is") from error
    except OSError as error:
        raise disk_error(path, error) from error
    return _parse(path, raw, found.st_size)


def _damaged(path: Path, what: str) -> IntegrityError:
    return IntegrityError(f"{path}: {what}; {REMEDY}")


def _parse(path: Path, raw: bytes, size: int) -> Header:
    try:
        table = json.loads(raw[8:].decode())
        metadata = table.pop("__metadata__", None) or {}
        entries = tuple(
            TensorEntry(name, entry["dtype"], tuple(entry["shape"]), *entry["data_offsets"])
            for name, entry in table.items()
        )
        data_bytes = max((e.end for e in entries), default=0)
        promised = len(raw) + data_bytes
        text = metadata.get("protogen")
    except _MALFORMED as error:
        raise _damaged(path, "the header is damaged, or not that of a safetensors file") from error
    if size != promised:
        how = "truncated" if size < promised else "too long"
        raise _damaged(path, f"the file is {how}: it has {size} bytes, its header promises {promised}")
    if text is None:
        raise IntegrityError(
            f"{path}: a safetensors file, but not a protogen artifact: its metadata has no key `protogen`; "
            "`protogen stats FILE` measures any safetensors file"
        )
    try:
        meta = json.loads(text)
        schema = meta["schema"]
    except _MALFORMED as error:
        raise _damaged(path, "the metadata under `protogen` is no JSON object with a schema") from error
    if type(schema) is int and schema > SCHEMA:
        raise IntegrityError(f"{path}: schema {schema}, this protogen reads {SCHEMA}; upgrade protogen")
    header = Header(entries, meta, len(raw), data_bytes)
    _check(path, raw, header)
    return header


def _check(path: Path, raw: bytes, header: Header) -> None:
    """Encode what was read once more: only the very bytes that `encode` writes are sound."""
    meta, entries = header.meta, {e.name: e for e in header.entries}
    content = {name: meta[name] for name in meta.keys() - {"schema", "digest", "check"}}
    try:
        laid = layout({e.name: (e.dtype, e.shape) for e in header.entries})
        whole = all(type(x) is int for e in header.entries for x in (*e.shape, e.start, e.end))
        sound = whole and encode(laid, content) == raw and meta.keys() == KEYS
        sound = sound and len(meta["blocks"]) == block_count(laid) and isinstance(meta["facts"], dict)
        spec, rows = header.spec, entries["prototypes"]
        fits = rows.dtype == "F32" and len(rows.shape) in (2, 3) and spec.to_dict() == meta["spec"]
        fits = fits and (rows.shape[0], rows.shape[-1]) == (spec.n, spec.d)
    except _MALFORMED as error:
        raise _damaged(path, f"the header is damaged or incomplete ({error!r})") from error
    if not sound:
        raise _damaged(path, "the header is damaged: its bytes do not give the digest that it carries")
    if not fits:
        got = f"{rows.dtype} {rows.shape}"
        raise _damaged(path, f"prototypes are {got}, its Spec allows F32 ({spec.n}, {spec.d}) or (n, s, d)")
    name = parse_name(path.name)
    if name is not None and name[1] != spec.key:
        raise _damaged(path, f"its name has the key {name[1]}, its Spec has {spec.key}")
