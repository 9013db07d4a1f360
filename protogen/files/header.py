"""An artifact's file name and the header of its safetensors file, without torch."""

import contextlib
import hashlib
import json
import math
import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, BinaryIO

from protogen.errors import DiskError, IntegrityError, NotFound, SchemaError
from protogen.measuring.stats import AngleStats
from protogen.spec import Spec, canonical_json, is_number

from .digests import BLOCK, BlockHasher, content_digest
from .disk import disk_error
from .names import parse_name
from .provenance import Provenance

SCHEMA = 1


LONGEST = 4_000_000  # bytes of a header: the digests of 120 GB


VALUES = 100_000  # of the JSON in a header, twice as many as 120 GB need; each can take a hundred bytes of memory


ITEM_BYTES = {"F64": 8, "I64": 8, "F32": 4, "I32": 4, "U8": 1, "BOOL": 1}


KEYS = {"schema", "spec", "facts", "stats", "provenance", "blocks", "digest", "check"}


REMEDY = "the command that made it, with --force, or `protogen sync`, sets it aside and brings it anew"


# Facts that stand with others.
BESIDE = {"outdone": ("guaranteed_coherence",), "phi": ("phi_deg", "own_d", "guaranteed_max_cos")}


TENSOR = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")  # a tensor's name


_MALFORMED = (ValueError, LookupError, TypeError, AttributeError, RecursionError)  # JSON of another form


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


def encode(entries: Sequence[TensorEntry], content: Mapping[str, Any]) -> bytes:
    """Build the header: 8 bytes of length, JSON, spaces up to a multiple of 8.

    `content` holds spec, facts, stats, provenance and blocks; schema, digest and check are added.
    The check covers the table of tensors too, so that no bit of the header is without cover.
    With blocks of PENDING the length is that of the final header. Raises ValueError on NaN.
    """
    table = {e.name: {"dtype": e.dtype, "shape": list(e.shape), "data_offsets": [e.start, e.end]} for e in entries}
    meta = {"schema": SCHEMA, **content, "digest": content_digest(content["blocks"])}
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

    Raises NotFound, DiskError, and IntegrityError where the file is no artifact, is damaged, or
    has not the length or the key that header and name promise.
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


def header_from(path: str | Path, file: BinaryIO, size: int) -> Header:
    """Read and check the header of an open file of `size` bytes; `path`, or an address, says what it is.

    Raises IntegrityError as `read_header`, and what reading the file raises.
    """
    first = file.read(8)
    length = int.from_bytes(first, "little")
    if len(first) < 8 or not 2 <= length <= min(LONGEST, size - 8):
        got = f"{size} bytes that begin with {first!r}"
        raise _damaged(path, f"no safetensors file, or cut short: {got}, not with a header's length")
    return _parse(path, first + file.read(length), size)


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


def check_blocks(path: str | Path, header: Header, blocks: Sequence[str]) -> None:
    """Raise IntegrityError unless these digests, of the bytes that there are, are those in the header."""
    if blocks != header.meta["blocks"]:
        raise _damaged(path, "the bytes of its tensors do not give the digests in the header")


def _damaged(path: str | Path, what: str) -> IntegrityError:
    return IntegrityError(f"{path}: {what}", REMEDY)


def _parse(path: str | Path, raw: bytes, size: int) -> Header:
    try:
        table = _json(raw[8:].decode())
        metadata = table.pop("__metadata__", None) or {}
        entries = tuple(_entry(name, fields) for name, fields in table.items())
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
            f"{path}: a safetensors file, but not a protogen artifact: its metadata has no key `protogen`",
            "`protogen stats FILE` measures any safetensors file",
        )
    try:
        meta = _json(text)
        schema = meta["schema"]
    except _MALFORMED as error:
        raise _damaged(path, "the metadata under `protogen` is no JSON object with a schema") from error
    if type(schema) is int and schema > SCHEMA:
        raise SchemaError(f"{path}: schema {schema}, this protogen reads {SCHEMA}", "upgrade protogen")
    header = Header(entries, meta, len(raw), data_bytes)
    _check(path, raw, header)
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


def _check(path: str | Path, raw: bytes, header: Header) -> None:
    """Encode what was read once more: only the very bytes that `encode` writes are sound."""
    meta, entries = header.meta, {e.name: e for e in header.entries}
    content = {name: meta[name] for name in meta.keys() - {"schema", "digest", "check"}}
    try:
        laid = layout({e.name: (e.dtype, e.shape) for e in header.entries})
        sound = encode(laid, content) == raw and meta.keys() == KEYS
        sound = sound and len(meta["blocks"]) == block_count(laid) and isinstance(meta["facts"], dict)
        spec, rows = header.spec, entries["prototypes"]
        fits = rows.dtype == "F32" and len(rows.shape) in (2, 3) and spec.to_dict() == meta["spec"]
        fits = fits and (rows.shape[0], rows.shape[-1]) == (spec.n, spec.d)
    except _MALFORMED as error:
        raise _damaged(path, f"the header is damaged or incomplete ({error!r})") from error
    if not sound:
        raise _damaged(path, "the header is damaged: its bytes do not give the digest that it carries")
    if strange := [name for name in entries if not TENSOR.fullmatch(name)]:
        raise _damaged(path, f"has a tensor {strange[0]!r}, allowed are up to 64 letters, digits and _, a letter first")
    if not fits or 0 in rows.shape:
        got = f"{rows.dtype} {rows.shape}"
        raise _damaged(path, f"prototypes are {got}, its Spec allows F32 ({spec.n}, {spec.d}) or (n, s, d)")
    if spec.n < 2:
        raise _damaged(path, f"has n={spec.n}, allowed are two prototypes or more")
    try:
        Provenance.from_dict(meta["provenance"])
        if meta["stats"] is not None:
            _check_stats(meta["stats"])
        _check_facts(meta["facts"], rows.shape)
    except _MALFORMED as error:
        raise _damaged(path, f"stats, provenance or facts are not those of this schema ({error!r})") from error
    name = parse_name(PurePath(path).name)
    if name is not None and name[1] != spec.key:
        raise _damaged(path, f"its name has the key {name[1]}, its Spec has {spec.key}")


def _check_stats(values: Mapping[str, Any]) -> None:
    """Raise ValueError, or what `AngleStats.from_dict` raises, unless these are statistics of pairs, each counted."""
    stats = AngleStats.from_dict(values)
    if stats.pairs < 1 or min(stats.histogram) < 0 or sum(stats.histogram) != stats.pairs:
        raise ValueError(f"{stats.pairs} pairs, {sum(stats.histogram)} in the histogram")


def _check_facts(facts: Mapping[str, Any], shape: Sequence[int]) -> None:
    """Hold the facts that protogen knows to what it writes; others may be anything.

    Raises ValueError, and what a value of another kind raises.
    """
    for name, value in facts.items():
        match name:
            case "closed_form" | "construction" | "outdone":
                sound = type(value) is str
            case "own_d":
                sound = type(value) is int and 1 <= value <= shape[-1]
            case "extended_n":
                sound = type(value) is int and 1 <= value < shape[0]
            case "phi":
                sound = is_number(value) and 0 <= value <= math.pi
            case "norms":
                sound = value == "free"
            case "center_norms" | "subcenter_norms":
                sound = all(is_number(value[part]) for part in ("min", "mean", "max"))
            case "within_class":
                _check_stats(value)
                sound = len(shape) == 3 and shape[1] > 1
            case _:
                sound = is_number(value) or not (name == "phi_deg" or name.startswith("guaranteed_"))
        lacking = [other for other in BESIDE.get(name, ()) if other not in facts]
        if not sound or lacking:
            raise ValueError(f"{name} {value!r}" + (f" without {lacking[0]}" if sound else ""))
