"""The header of an artifact's safetensors file, without torch: how it is written, read and checked."""

import contextlib
import hashlib
import json
import math
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, BinaryIO, Protocol

from protogen.errors import Damaged, DiskError, IntegrityError, NotFound, SchemaError
from protogen.measuring.stats import AngleStats
from protogen.spec import Spec, canonical_json

from .digests import BLOCK, BlockHasher, content_digest
from .disk import disk_error
from .facts import Facts
from .names import parse_name
from .provenance import Provenance
from .schemas import SCHEMA, SCHEMAS
from .tensors import TENSOR, TensorEntry, block_count, layout

LONGEST = 4_000_000  # bytes of a header: the digests of 120 GB
VALUES = 100_000  # of the JSON in a header, twice as many as 120 GB need; each can take a hundred bytes of memory
KEYS = {"schema", "spec", "facts", "stats", "provenance", "blocks", "digest", "check"}
REMEDY = "the command that made it, with --force, or `protogen sync`, sets it aside and brings it anew"

_MALFORMED = (ValueError, LookupError, TypeError, AttributeError, RecursionError)  # JSON of another form

Place = str | PurePath  # a path, or an address


class Source(Protocol):
    """What bytes are read from, in turn: an open file, or a stream."""

    def read(self, size: int, /) -> bytes:
        """Read so many bytes at most, and none at the end alone."""
        ...


@dataclass(frozen=True)
class Header:
    """What the header of an artifact says, parsed once.

    `schema` is the one of the file; what that schema has not is None in the records. `entries` are the file's
    tensors, `blocks` the sha256 of each block of the data section, `digest` names the content by these.
    `data_start` and `data_bytes` say where in the file the data section begins and how long it is.
    """

    schema: int
    spec: Spec
    stats: AngleStats | None
    facts: Facts
    provenance: Provenance
    entries: tuple[TensorEntry, ...]
    blocks: tuple[str, ...]
    digest: str
    data_start: int
    data_bytes: int

    @property
    def file_bytes(self) -> int:
        """The size of the whole file."""
        return self.data_start + self.data_bytes


def encode(entries: Sequence[TensorEntry], content: Mapping[str, Any], schema: int = SCHEMA) -> bytes:
    """Build the header: 8 bytes of length, JSON, spaces up to a multiple of 8.

    `content` holds spec, facts, stats, provenance and blocks as JSON has them; schema, digest and check are added.
    The check covers the table of tensors too, so that no bit of the header is without cover.
    With blocks of PENDING the length is that of the final header. Raises ValueError on NaN.
    """
    table = {e.name: {"dtype": e.dtype, "shape": list(e.shape), "data_offsets": [e.start, e.end]} for e in entries}
    meta = {"schema": schema, **content, "digest": content_digest(content["blocks"])}
    parts = {name: canonical_json(value) for name, value in meta.items()}  # each once: a listing encodes every header
    check = hashlib.sha256(f"[{canonical_json(table)},{_object(parts)}]".encode()).hexdigest()
    text = {"__metadata__": {"format": "pt", "protogen": _object({**parts, "check": f'"{check}"'})}, **table}
    raw = json.dumps(text, separators=(",", ":")).encode()
    raw += b" " * (-len(raw) % 8)
    return len(raw).to_bytes(8, "little") + raw


def _object(parts: Mapping[str, str]) -> str:
    """Join values that are canonical JSON to an object of canonical JSON."""
    return "{" + ",".join(f'"{name}":{parts[name]}' for name in sorted(parts)) + "}"


def read_header(path: str | os.PathLike[str]) -> Header:
    """Read an artifact's header, and nothing else of the file, and check all that it says.

    Raises NotFound, DiskError, and IntegrityError: as Damaged where the file is cut short, or has bytes that do
    not give the digest beside them; as SchemaError where a later protogen has written it.
    """
    with open_artifact(Path(path)) as (_, header):
        return header


@contextlib.contextmanager
def open_artifact(path: Path) -> Iterator[tuple[BinaryIO, Header]]:
    """Open an artifact at the begin of its data section, its header read and checked.

    Another file may get its name meanwhile: what belongs together is read from one that stays open.
    Raises as `read_header`, and DiskError from what is done with the file.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # which, if a pipe, may be waited for for ever
            raise DiskError(f"{path}: is a directory or a device, needed is a file; name a .safetensors file")
        file = path.open("rb")
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:  # the last: a name that no file can have
        raise NotFound(f"{path}: no such file; `protogen list` shows what there is") from error
    except OSError as error:
        raise disk_error(path, error) from error
    with file:
        try:
            yield file, header_from(path, file, os.fstat(file.fileno()).st_size)
        except OSError as error:
            raise disk_error(path, error) from error


def header_from(path: Place, file: Source, size: int | None) -> Header:
    """Read and check the header of an open file of `size` bytes; `path`, or an address, says what it is.

    A size of None is not known. No more is read than the header that the first bytes promise. Raises IntegrityError
    as `read_header`, and what reading the file raises.
    """
    first = _whole(file, 8)
    length = int.from_bytes(first, "little")
    if len(first) < 8 or not 2 <= length <= LONGEST or (size is not None and length > size - 8):
        got = f"{len(first) if size is None else size} bytes that begin with {first!r}"
        raise damaged(path, f"no safetensors file, or cut short: {got}, not with a header's length")
    raw = first + _whole(file, length)
    if len(raw) < 8 + length:
        raise damaged(path, f"cut short: {len(raw)} bytes, its first promise {8 + length} of header")
    return _parse(path, raw, size)


def _whole(file: Source, size: int) -> bytes:
    """Read so many bytes, or all that there are; a stream gives fewer at a time than it is asked for."""
    found = bytearray()
    while len(found) < size and (piece := file.read(size - len(found))):
        found += piece
    return bytes(found)


def check_file(path: str | os.PathLike[str]) -> Header:
    """Read an artifact whole, without torch, and check its header and the digest of each block.

    Raises as `read_header`.
    """
    path, hasher = Path(path), BlockHasher()
    with open_artifact(path) as (file, header):
        while piece := file.read(BLOCK):
            hasher.update(memoryview(piece))
    check_blocks(path, header, hasher.digests())
    return header


def check_blocks(path: Place, header: Header, blocks: Sequence[str]) -> None:
    """Raise Damaged unless these digests, of the bytes that there are, are those in the header."""
    if tuple(blocks) != header.blocks:
        raise damaged(path, "the bytes of its tensors do not give the digests in the header")


def wrong_length(path: Place, size: int, promised: int) -> Damaged:
    """Say that a file has not as many bytes as its header promises."""
    how, more = ("truncated", "") if size < promised else ("too long", " or more")
    return damaged(path, f"the file is {how}: it has {size} bytes{more}, its header promises {promised}")


def damaged(path: Place, what: str) -> Damaged:
    """Say that a file is not what was once written."""
    return Damaged(f"{path}: {what}", REMEDY)


def wrong(path: Place, what: str) -> IntegrityError:
    """Say that a file was written wrong: its digests are right, so that nothing sets the file aside."""
    return IntegrityError(f"{path}: its digests are right, but {what}", "delete it and make it again")


def _parse(path: Place, raw: bytes, size: int | None) -> Header:
    """Read a header of a file of `size` bytes, if that is known. Raises as `read_header`."""
    try:
        table = _json(raw[8:].decode())
        metadata = table.pop("__metadata__", None) or {}
        entries = tuple(_entry(name, fields) for name, fields in table.items())
        data_bytes = max((e.end for e in entries), default=0)
        promised = len(raw) + data_bytes
        text = metadata.get("protogen")
    except _MALFORMED as error:
        raise damaged(path, "the header is damaged, or not that of a safetensors file") from error
    if size not in (None, promised):
        raise wrong_length(path, size or 0, promised)
    if text is None:
        raise IntegrityError(
            f"{path}: a safetensors file, but not a protogen artifact: its metadata has no key `protogen`",
            "`protogen stats FILE` measures any safetensors file",
        )
    try:
        meta = _json(text)
        schema = meta["schema"]
    except _MALFORMED as error:
        raise damaged(path, "the metadata under `protogen` is no JSON object with a schema") from error
    if type(schema) is int and schema > SCHEMA:
        raise SchemaError(f"{path}: schema {schema}, this protogen reads {SCHEMA}", "upgrade protogen")
    _check_bytes(path, raw, entries, meta)
    header = _records(path, entries, meta, len(raw), data_bytes)
    for fault in _faults(path, header):
        raise wrong(path, fault)
    return header


def _json(text: str) -> Any:
    """Parse JSON. Raises ValueError, also on so many values that they would fill the memory, and on half characters."""
    if sum(map(text.count, "[{:,")) > VALUES:  # each value but the first stands after one of these
        raise ValueError("too many values")
    value = json.loads(text)
    if "\\ud" in text:
        json.dumps(value, ensure_ascii=False).encode()
    return value


def _entry(name: str, fields: Mapping[str, Any]) -> TensorEntry:
    """Read a tensor's part of the table. Raises ValueError, and what a value of another kind raises."""
    entry = TensorEntry(name, fields["dtype"], tuple(fields["shape"]), *fields["data_offsets"])
    whole = all(type(x) is int and 0 <= x < 2**63 for x in (*entry.shape, entry.start, entry.end))
    # As many numbers as torch counts in a tensor, also in one that has none because of a 0.
    if not whole or len(entry.shape) > 8 or math.prod(max(1, x) for x in entry.shape) >= 2**60:
        raise ValueError("no tensor's shape and place")
    return entry


def _check_bytes(path: Place, raw: bytes, entries: Sequence[TensorEntry], meta: Mapping[str, Any]) -> None:
    """Encode what was read once more, by the schema that it names: only the very bytes that `encode` writes are sound.

    Raises Damaged.
    """
    content = {name: meta[name] for name in meta.keys() - {"schema", "digest", "check"}}
    try:
        laid = layout({e.name: (e.dtype, e.shape) for e in entries})
        again = encode(laid, content, meta["schema"])
        blocks = len(meta["blocks"])
    except _MALFORMED as error:
        raise damaged(path, f"the header is damaged or incomplete ({error!r})") from error
    if again != raw or blocks != block_count(laid):
        raise damaged(path, "the header is damaged: its bytes do not give the digest that it carries")


def _records(
    path: Place, entries: tuple[TensorEntry, ...], meta: Mapping[str, Any], start: int, data_bytes: int
) -> Header:
    """Parse the records of a header by its schema. Raises IntegrityError where they are not those of the schema."""
    number = meta["schema"]
    if type(number) is not int or number not in SCHEMAS:
        raise wrong(path, f"schema is {number!r}, allowed are {', '.join(map(str, SCHEMAS))}")
    schema = SCHEMAS[number]
    try:
        if meta.keys() != KEYS:
            raise ValueError(f"{sorted(meta.keys() ^ KEYS)[0]!r} is unknown, or missing")
        spec = Spec.from_dict(meta["spec"])
        if spec.to_dict() != meta["spec"]:
            raise ValueError("the Spec has what no Spec has")
        return Header(
            schema=number,
            spec=spec,
            stats=None if meta["stats"] is None else schema.read_stats(meta["stats"]),
            facts=schema.read_facts(meta["facts"]),
            provenance=schema.read_provenance(meta["provenance"]),
            entries=entries,
            blocks=tuple(meta["blocks"]),
            digest=meta["digest"],
            data_start=start,
            data_bytes=data_bytes,
        )
    except _MALFORMED as error:
        said = f"spec, stats, facts or provenance are not those of schema {number} ({error})"
        raise wrong(path, said) from error


def _faults(path: Place, header: Header) -> Iterator[str]:
    """Say what no artifact's header has, whatever its digests."""
    spec, rows = header.spec, next((e for e in header.entries if e.name == "prototypes"), None)
    if rows is None:
        yield "it has no tensor `prototypes`"
        return
    for entry in header.entries:
        if not TENSOR.fullmatch(entry.name):
            yield f"it has a tensor {entry.name!r}, allowed are up to 64 letters, digits and _, a letter first"
    size = (spec.n, spec.d)
    if rows.dtype != "F32" or len(rows.shape) not in (2, 3) or (rows.shape[0], rows.shape[-1]) != size:
        yield f"prototypes are {rows.dtype} {rows.shape}, its Spec allows F32 {size} or (n, s, d)"
        return
    if 0 in rows.shape or spec.n < 2:
        yield f"prototypes are {rows.shape}, allowed are two or more, with one vector or more each"
    if header.stats is not None:
        yield from header.stats.faults()
    yield from header.facts.faults(rows.shape)
    named = parse_name(PurePath(path).name)
    if named is not None and named[1] != spec.key:
        yield f"its name has the key {named[1]}, its Spec has {spec.key}"
