"""Bad files: whatever is wrong, the refusal is typed, one short line, quick and small; nothing else is ever read."""

import contextlib
import copy
import hashlib
import json
import os
import random
import sys
import tempfile
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from artifacts import MADE, file_of, message_of, record, refused
from commands import Command, Ran, one_error
from draws import unit_rows
from forged import HUGE, ROW, forged, joined, outer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

import protogen
from protogen.errors import MOST, BadRequest, DiskError, IntegrityError, NotFound, ProtogenError, SchemaError
from protogen.files.digests import BLOCK, content_digest
from protogen.files.facts import Facts
from protogen.files.foreign import read_matrix
from protogen.files.header import LONGEST, VALUES, Header, check_file, encode, read_header
from protogen.files.prototypes import Prototypes
from protogen.files.reading import read
from protogen.files.schemas import SCHEMA
from protogen.files.tensors import layout
from protogen.files.writing import write
from protogen.measuring.measure import measure
from protogen.rows import InMemory
from protogen.spec import canonical_json
from protogen.store.store import Store

pytestmark = pytest.mark.slow

Tree = dict[str, Any]

ROWS = unit_rows(64, 16)
CENTERS = unit_rows(2, 16)
MEMORY = 100_000_000  # bytes that a refusal may take
STEADY = settings(
    max_examples=150, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
)


def sound() -> Prototypes:
    return record(ROWS, facts=Facts(more={"width": 1.5}), tensors={"centers": CENTERS})


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / f"v1-{sound().spec.key}.safetensors"
    write(path, sound())
    return path


def refused_by_all(path: Path, kind: type[ProtogenError] = IntegrityError) -> str:
    """As `refused`, of each that reads an artifact."""
    return {refused(reader, path, kind) for reader in (read_header, check_file, read)}.pop()


# Damage by accident


def test_every_cut_of_the_header_and_500_of_the_data(good: Path) -> None:
    size, start = good.stat().st_size, read_header(good).data_start
    places = random.Random(0).sample(range(start, size), 500)
    for kept in sorted([*range(start), *places], reverse=True):
        os.truncate(good, kept)
        refused_by_all(good)


def test_every_bit_of_the_header(good: Path) -> None:
    raw = good.read_bytes()
    with good.open("r+b", buffering=0) as file:
        for place in range(8 * read_header(good).data_start):
            position, bit = divmod(place, 8)
            os.pwrite(file.fileno(), bytes([raw[position] ^ 1 << bit]), position)
            for reader in (read_header, read):
                with pytest.raises(IntegrityError):
                    reader(good)
            os.pwrite(file.fileno(), raw[position : position + 1], position)
    assert torch.equal(read(good).tensor, ROWS)


def test_2000_bits_of_the_data(good: Path) -> None:
    raw, start = good.read_bytes(), read_header(good).data_start
    with good.open("r+b", buffering=0) as file:
        for place in random.Random(0).sample(range(8 * start, 8 * len(raw)), 2000):
            position, bit = divmod(place, 8)
            os.pwrite(file.fileno(), bytes([raw[position] ^ 1 << bit]), position)
            for reader in (check_file, read):  # `read_header` does not look at them
                with pytest.raises(IntegrityError):
                    reader(good)
            os.pwrite(file.fileno(), raw[position : position + 1], position)
    assert torch.equal(read(good).tensor, ROWS)


# Headers that someone wrote, with a check that is right


def parts(raw: bytes) -> tuple[Tree, Tree, bytes]:
    """The table of tensors, the metadata of ours and the data of a file."""
    end = 8 + int.from_bytes(raw[:8], "little")
    table = json.loads(raw[8:end])
    return table, json.loads(table.pop("__metadata__")["protogen"]), raw[end:]


def test_what_is_forged_without_a_change_is_the_file(good: Path) -> None:
    raw = good.read_bytes()
    assert forged(*parts(raw)) == raw


CENTER = 2 * 16 * 4  # bytes of the centers, which come first
LARGE = 10**4000

TABLES: list[Tree] = [
    # places: past the end, before the begin, backwards, overlapping, with holes, in another order, out of the 64 bits
    {"prototypes": {"data_offsets": [CENTER, CENTER + ROW + 4]}},
    {"prototypes": {"data_offsets": [CENTER, 10**12]}},
    {"prototypes": {"data_offsets": [CENTER, 2**64 + CENTER + ROW]}},
    {"prototypes": {"data_offsets": [CENTER, LARGE]}},
    {"prototypes": {"data_offsets": [CENTER, int("9" * 4300)]}},  # a byte more is more digits than Python writes
    {"prototypes": {"data_offsets": [-ROW, 0]}},
    {"prototypes": {"data_offsets": [CENTER + ROW, CENTER]}},
    {"prototypes": {"data_offsets": [0, ROW]}},
    {"prototypes": {"data_offsets": [CENTER - 4, CENTER + ROW]}},
    {"prototypes": {"data_offsets": [CENTER + 4, CENTER + ROW]}},
    {"centers": {"data_offsets": [0, CENTER + ROW]}},
    {"centers": {"data_offsets": [4, CENTER]}},
    {"centers": {"data_offsets": [ROW, CENTER + ROW]}, "prototypes": {"data_offsets": [0, ROW]}},
    {"prototypes": {"data_offsets": [CENTER, float(CENTER + ROW)]}},
    {"prototypes": {"data_offsets": [CENTER]}},
    {"prototypes": {"data_offsets": [0, CENTER, ROW]}},
    {"prototypes": {"data_offsets": None}},
    {"prototypes": {"data_offsets": {"0": 1, "1": 2}}},
    # shapes
    *({"prototypes": {"shape": shape}} for shape in ([64, 15], [16, 64], [1024], [], [64, 4, 4], [64, 1, 1, 16])),
    *({"prototypes": {"shape": shape}} for shape in ([-64, -16], [64.0, 16], ["64", 16], [[64], 16], None, 7, "64")),
    *({"prototypes": {"shape": shape}} for shape in ([LARGE, 0], [LARGE] * 900, [1] * 90_000, [True, 1024])),
    {"centers": {"shape": [1] * 7 + [2, 16]}},  # nine of them
    # kinds
    *(
        {"prototypes": {"dtype": dtype}}
        for dtype in ("F64", "F16", "I32", "f32", "", "x" * 10**6, "\n", None, 7, [], {})
    ),
    # names, as files of a folder would have them
    *(
        {"centers": None, name: None}
        for name in ("../x", "..", "", "a/b", "a\\b", "a\0b", "a\nb", "x" * 10**6, "\u202e")
    ),
    {"prototypes": None, "rows": None},
]
SPECS: list[Tree] = [
    *(
        {"method": name}
        for name in ("../x", "..", ".", "", "/x", "a/b", ".runs", "EBV", "a\nb", "x" * 10**6, "\x1b[2J")
    ),
    *({"method": name} for name in (None, 7, ["ebv"], {"ebv": 1})),
    *({"n": n} for n in (63, 64.0, "64", True, -64, 0, LARGE, None)),
    *({"d": d} for d in (15, 16.0, "16", -16, LARGE, [16])),
    *({"version": version} for version in (0, -1, 1.0, "1", True, LARGE)),
    *({"seed": seed} for seed in (-1, 0.0, "0", False, LARGE, None)),
    *({"params": params} for params in (None, [], "x", {"alpha": []}, {"alpha": {"a": 1}}, {"alpha": "\ud800"})),
    {"more": 1},
]
METAS: list[Tree] = [
    *({"schema": schema} for schema in (0, -1, 1.0, "1", True, None, [1])),
    *({"facts": facts} for facts in (None, [], "x", 7)),
    *({"facts": {"x": value}} for value in (float("nan"), float("inf"), "\ud800", "\udfff")),
    *({"blocks": blocks} for blocks in ([], ["0" * 64] * 2, ["0" * 63], [7], [None], {}, None, "0" * 64, "\ud800")),
    *({"digest": digest} for digest in ("0" * 64, "", None, 7)),
    *({"stats": stats} for stats in ([], 7, "x", {}, {"coherence": 1}, {"max_cos": None})),
    *({"provenance": made} for made in (None, [], "x", {}, {"protogen": "0"})),
    {"more": 1},
]


def changed(tree: Tree, changes: Tree) -> Tree:
    """The tree of tensors with parts of some replaced, and with None for one whose name another gets."""
    tree = copy.deepcopy(tree)
    gone = [tree.pop(name) for name, change in changes.items() if change is None and name in tree]
    for name, change in changes.items():
        if change is None:
            tree.update({} if name in ("centers", "prototypes") else {name: gone.pop()})
        else:
            tree[name].update(change)
    return dict(sorted(tree.items()))


def brief(value: object) -> str:
    return ascii(value)[:50]


@pytest.mark.parametrize("changes", TABLES, ids=brief)
def test_a_table_that_is_wrong(good: Path, changes: Tree) -> None:
    table, meta, data = parts(good.read_bytes())
    sys.set_int_max_str_digits(0)
    try:
        raw = forged(changed(table, changes), meta, data)
    finally:
        sys.set_int_max_str_digits(4300)
    good.write_bytes(raw)
    refused_by_all(good)


@pytest.mark.parametrize("shape", [[0, 2**59], [0, 2**60], [0, 2**62, 2**62], [2**30, 0, 2**30]], ids=str)
def test_a_tensor_without_numbers(good: Path, shape: list[int]) -> None:
    table, meta, data = parts(good.read_bytes())
    empty = {"centers": {"shape": shape, "data_offsets": [0, 0]}, "prototypes": {"data_offsets": [0, ROW]}}
    blocks = [hashlib.sha256(data[CENTER:]).hexdigest()]
    meta |= {"blocks": blocks, "digest": content_digest(blocks)}
    good.write_bytes(forged(changed(table, empty), meta, data[CENTER:]))
    if shape == [0, 2**59]:
        assert list(read(good).tensors["centers"].shape) == shape
    else:  # more than torch counts up to
        refused_by_all(good)


@pytest.mark.parametrize("changes", SPECS, ids=brief)
def test_a_spec_that_is_wrong(good: Path, changes: Tree) -> None:
    table, meta, data = parts(good.read_bytes())
    free = good.with_name("free")  # a name that holds no key
    free.write_bytes(forged(table, {**meta, "spec": {**meta["spec"], **changes}}, data))
    refused_by_all(free)


@pytest.mark.parametrize("changes", METAS, ids=brief)
def test_metadata_that_is_wrong(good: Path, changes: Tree) -> None:
    table, meta, data = parts(good.read_bytes())
    good.write_bytes(forged(table, {**meta, **changes}, data))
    refused_by_all(good)


NUMBERS = (None, "1", [], {}, True, LARGE, float("inf"))  # that are none
WORDS = (None, 1, 0.5, [], {}, True)


@pytest.mark.parametrize("value", NUMBERS, ids=brief)
def test_figures_that_are_no_numbers(good: Path, value: object) -> None:
    table, meta, data = parts(good.read_bytes())
    stats = measure(InMemory(ROWS)).to_dict()
    good.write_bytes(forged(table, {**meta, "stats": stats, "facts": {"guaranteed_coherence": 1}}, data))
    assert read(good).stats is not None
    good.write_bytes(forged(table, {**meta, "facts": {"guaranteed_coherence": value}}, data))
    refused_by_all(good)
    good.write_bytes(forged(table, {**meta, "stats": {**stats, "histogram": stats["histogram"][1:]}}, data))
    refused_by_all(good)
    for name in stats:
        wrong = {**stats[name], "value": value} if isinstance(stats[name], dict) else value
        good.write_bytes(forged(table, {**meta, "stats": {**stats, name: wrong}}, data))
        refused_by_all(good)


@pytest.mark.parametrize("name", MADE.to_dict())
def test_a_provenance_of_other_kinds(good: Path, name: str) -> None:
    table, meta, data = parts(good.read_bytes())
    made = MADE.to_dict()
    for wrong in WORDS if isinstance(made[name], str) else NUMBERS:
        good.write_bytes(forged(table, {**meta, "provenance": {**made, name: wrong}}, data))
        refused_by_all(good)


MEASURED = measure(InMemory(ROWS)).to_dict()
WITHIN = measure(InMemory(unit_rows(32, 2, 16)), within=True).to_dict()
NORMS = {"min": 0.5, "mean": 1.0, "max": 2}
POLYTOPE = {"own_d": 16, "phi": 1.5, "phi_deg": 86.0, "guaranteed_max_cos": 0.1}
FACTS: list[Tree] = [
    *({name: value} for name in ("closed_form", "construction") for value in WORDS),
    *({"outdone": value, "guaranteed_coherence": 0.5} for value in WORDS),
    {"outdone": "simplices(n=3,k=1)"},
    *({"norms": value} for value in ("unit", True, None, ["free"])),
    *({"extended_n": value} for value in (0, 64, 2.0, *NUMBERS)),
    *({**POLYTOPE, "own_d": value} for value in (0, 17, 2.0, *NUMBERS)),
    *({**POLYTOPE, "phi": value} for value in (-0.1, 3.2, *NUMBERS)),
    *({**POLYTOPE, "phi_deg": value} for value in NUMBERS),
    *({name: value for name, value in POLYTOPE.items() if name != left} for left in POLYTOPE if left != "phi"),
    *({name: value} for name in ("center_norms", "subcenter_norms") for value in (*NUMBERS, "x", {"min": 1, "max": 1})),
    *({"center_norms": {**NORMS, "mean": value}} for value in NUMBERS),
    *({"within_class": value} for value in (*NUMBERS, "x", WITHIN)),  # the last of a set with one vector a class
]


@pytest.mark.parametrize("facts", FACTS, ids=brief)
def test_facts_that_are_wrong(good: Path, facts: Tree) -> None:
    table, meta, data = parts(good.read_bytes())
    good.write_bytes(forged(table, {**meta, "facts": facts}, data))
    message = refused_by_all(good)
    assert "facts" in message or any(name in message for name in facts)


def test_facts_that_are_right(good: Path) -> None:
    table, meta, data = parts(good.read_bytes())
    words = {"closed_form": "x", "construction": "y", "outdone": "z", "norms": "free"}
    facts = {**POLYTOPE, **words, "guaranteed_coherence": 1, "extended_n": 63, "center_norms": NORMS, "more": [None]}
    good.write_bytes(forged(table, {**meta, "facts": facts}, data))
    assert read(good).facts.to_dict() == facts


@pytest.mark.parametrize(
    "changes",
    [
        {"histogram": [0] * 1800},
        {"histogram": [0] * 1800, "pairs": 0},
        {"histogram": [-1, *[0] * 1798, 64 * 63 // 2 + 1]},
        {"pairs": 1},
    ],
    ids=["empty", "of none", "negative", "of others"],
)
def test_a_histogram_of_other_pairs(tmp_path: Path, good: Path, changes: Tree) -> None:
    table, meta, data = parts(good.read_bytes())
    good.write_bytes(forged(table, {**meta, "stats": {**MEASURED, **changes}}, data))
    assert "pairs is " in refused_by_all(good)
    several = file_of(tmp_path / "b", unit_rows(32, 2, 16), facts={"within_class": WITHIN})
    assert read(several).facts.within_class == measure(InMemory(unit_rows(32, 2, 16)), within=True)
    table, meta, data = parts(several.read_bytes())
    several.write_bytes(forged(table, {**meta, "facts": {"within_class": {**WITHIN, **changes}}}, data))
    assert "pairs is " in refused_by_all(several)


def test_one_prototype_is_no_set(tmp_path: Path) -> None:
    assert "prototypes are (1, 1), allowed are two or more" in refused_by_all(file_of(tmp_path / "a", torch.ones(1, 1)))
    assert read(file_of(tmp_path / "b", torch.tensor([[1.0], [-1.0]]))).d == 1


def test_classes_without_vectors(tmp_path: Path) -> None:
    assert "(64, 0, 16)" in refused_by_all(file_of(tmp_path / "a", torch.empty(64, 0, 16)))


@pytest.mark.parametrize("schema", [SCHEMA + 1, 10**18, LARGE])
def test_a_later_schema_is_told_apart(good: Path, schema: int) -> None:
    table, meta, data = parts(good.read_bytes())
    good.write_bytes(forged(table, {**meta, "schema": schema, "more": 1}, data))
    assert "upgrade protogen" in refused_by_all(good, SchemaError)


@pytest.mark.parametrize("name", ["facts", "spec", "schema", "blocks", "check"])
def test_a_key_twice_in_the_metadata(good: Path, name: str) -> None:
    table, meta, data = parts(good.read_bytes())
    inner = canonical_json(meta)
    for text in (
        f'{inner[:-1]},"{name}":{canonical_json(meta[name])}}}',  # the same again
        f'{{"{name}":7,{inner[1:]}',  # where the last one counts, as with Python's
        f'{inner[:-1]},"{name}":7}}',
    ):
        good.write_bytes(joined(outer(table, text), data))
        refused_by_all(good)


@pytest.mark.parametrize("name", ["prototypes", "centers", "__metadata__"])
def test_a_key_twice_in_the_table(good: Path, name: str) -> None:
    _, _, data = parts(good.read_bytes())
    text = good.read_bytes()[8 : -len(data)].decode().rstrip()
    same = json.dumps(json.loads(text)[name], separators=(",", ":"))
    for twice in (
        f'{text[:-1]},"{name}":{same}}}',
        f'{{"{name}":{{}},{text[1:]}',
        text.replace('"dtype":"F32"', '"dtype":"F64","dtype":"F32"', 1),
        text.replace('"format":"pt"', '"format":"pt","format":"pt"'),
    ):
        assert twice != text
        good.write_bytes(joined(twice, data))
        refused_by_all(good)


@pytest.mark.parametrize(
    "value",
    [
        *("1e999", "-1e999", "NaN", "Infinity", "9" * 5000, "1." + "0" * 10**6, "01", "+1", "1,"),
        *("[" * 900 + "]" * 900, "[" * 10**5, '{"":' * 10**5, "", "//"),
        *(r'"\ud800"', r'"\udc00\ud800"', '"\ud800"', '"\x01"', r'"\x"', "'a'"),
    ],
    ids=brief,
)
def test_values_that_no_writer_writes(good: Path, value: str) -> None:
    table, meta, data = parts(good.read_bytes())
    inner = canonical_json({**meta, "facts": {"x": 0}}).replace('{"x":0}', f'{{"x":{value}}}')
    good.write_bytes(joined(outer(table, "INNER").replace("INNER", json.dumps(inner, ensure_ascii=False)[1:-1]), data))
    refused_by_all(good)
    text = outer(table, canonical_json(meta))
    for place in ("[64,16]", "[128,4224]", "4224", '"F32"'):
        assert place in text
        good.write_bytes(joined(text.replace(place, value), data))
        refused_by_all(good)


@pytest.mark.parametrize(
    "byte", [b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\x80", b"\0", b"\xef\xbb\xbf"]
)
def test_bytes_that_are_no_text(good: Path, byte: bytes) -> None:
    raw = good.read_bytes()
    end = 8 + int.from_bytes(raw[:8], "little")
    for text in (byte + raw[8:end], raw[8:end].replace(b"centers", b"center" + byte), raw[8:end].rstrip() + byte):
        text += b" " * (-len(text) % 8)
        good.write_bytes(len(text).to_bytes(8, "little") + text + raw[end:])
        refused_by_all(good)


# Headers that would fill the memory
@pytest.mark.parametrize(
    ("name", "most"),
    [*((name, VALUES) for name in HUGE), ("chains of lists", LONGEST), ("short strings", LONGEST), ("keys", LONGEST)],
)
def test_the_largest_header_takes_little_memory(tmp_path: Path, name: str, most: int) -> None:
    path = tmp_path / "a"
    path.write_bytes(HUGE[name](LONGEST, most))
    assert LONGEST * 0.6 < path.stat().st_size <= LONGEST + 8 + ROW
    tracemalloc.start()
    refused(read_header, path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < MEMORY


@pytest.mark.parametrize("declared", [LONGEST + 8, 100_000_000, 2**63, 2**64 - 1, 1, 0])
def test_a_length_that_none_has_is_refused_unread(tmp_path: Path, declared: int) -> None:
    path = tmp_path / "a"
    path.write_bytes(declared.to_bytes(8, "little"))
    for size in (8, 9, 200_000_000):  # the last with as many bytes behind it
        os.truncate(path, size)
        tracemalloc.start()
        assert "not with a header's length" in refused(read_header, path)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 1_000_000
        message = refused(read_matrix, path)
        assert declared <= LONGEST or f"allowed are {LONGEST}" in message


def test_the_largest_artifacts_fit(tmp_path: Path) -> None:
    digests = ["0" * 64] * (LONGEST // 69 - 100)
    assert len(digests) * BLOCK > 120e9
    rows = layout({"prototypes": ("F32", (len(digests) * BLOCK // 4096, 1024))})
    content = {"spec": {}, "facts": {}, "stats": None, "provenance": {}, "blocks": digests}
    raw = encode(rows, content)
    assert len(raw) <= LONGEST
    path = tmp_path / "a"
    path.write_bytes(raw)
    os.truncate(path, len(raw) + rows[-1].end)  # the bytes of its rows take no room on the disk
    assert "are not those of schema 2 ('method')" in refused(read_header, path)  # all else is right


def test_what_no_header_could_hold_is_not_written(tmp_path: Path) -> None:
    huge = record(torch.empty(1).expand(2 * 10**8, 1024))
    with pytest.raises(BadRequest, match="819 GB need a header of 2"):
        write(tmp_path / "a", huge)
    with pytest.raises(BadRequest, match=r"tensor '\.\./x' of float32, allowed are other names"):
        write(tmp_path / "a", record(ROWS, tensors={"../x": CENTERS}))
    assert list(tmp_path.iterdir()) == []


# What is no file


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter, as that of a test is not."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


@contextlib.contextmanager
def without_privilege() -> Iterator[None]:
    """As a user who may not read all, as the system's superuser may."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


def test_a_file_without_permission(open_folder: Path) -> None:
    path = file_of(open_folder / "a.safetensors", ROWS)
    path.chmod(0)
    with without_privilege():
        assert "Permission denied" in refused_by_all(path, DiskError)


def test_commands_on_a_file_without_permission(open_folder: Path, run: Command) -> None:
    store = Store(open_folder / "store")
    path = store.publish(sound())
    words: list[tuple[object, ...]] = [("show", path), ("stats", path), ("verify", path), ("diff", path, path)]
    assert [run(*each).code for each in words] == [0] * 4
    path.chmod(0)
    with without_privilege():
        for each in words:
            one_error(run(*each), 4, path, "Permission denied")
        every, listed = (run(*each, "--store", store.root) for each in (("verify", "--all"), ("list",)))
        document = run("verify", "--all", "--store", store.root, "--json").document
        rows = run("list", "--store", store.root, "--json").document["artifacts"]
    assert every.code == 4
    assert every.out.startswith(f"unreadable: {path}: Permission denied; ")
    assert "1 files, 0 damaged, 1 unreadable, 0 with other figures; give permission" in every.err
    assert "sync" not in every.err
    assert ([*document["unreadable"]], document["damaged"]) == ([str(path)], {})
    assert f"unreadable: {path}: Permission denied; " in listed.out
    assert [(row["path"], row["fault"]) for row in rows] == [(str(path), "unreadable")]


@pytest.mark.parametrize("kind", ["directory", "pipe", "device", "loop", "gone", "under a file", "long", "NUL", "half"])
def test_what_is_no_file(tmp_path: Path, good: Path, kind: str) -> None:
    path = tmp_path / "a.safetensors"
    if kind == "directory":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to(os.devnull)
    elif kind == "loop":
        path.symlink_to(path)
    elif kind == "gone":
        path.symlink_to("nothing")
    else:
        names = {"under a file": good / "a", "long": "x" * 5000, "NUL": "a\0b", "half": "\ud800"}
        path = tmp_path / names[kind]
    missing = kind in ("gone", "under a file", "NUL", "half")
    expected = NotFound if missing else DiskError
    with pytest.raises(expected) as caught:
        read_header(path)
    assert len(str(caught.value)) <= MOST
    assert "\0" not in str(caught.value)
    with pytest.raises(expected):
        check_file(path)
    for reader in (read, protogen.load):
        with pytest.raises(BadRequest if kind == "NUL" else expected):  # checked before the disk is asked
            reader(path)


# The command line, and paths that lead out of a store


def one_error_of(ran: Ran, *codes: int) -> None:
    """A refusal with one of these exit codes."""
    assert ran.code in codes
    one_error(ran, ran.code)


def test_commands_refuse_what_is_no_file(tmp_path: Path, run: Command) -> None:
    os.mkfifo("pipe.safetensors")
    Path("folder.safetensors").mkdir()
    Path("loop.safetensors").symlink_to("loop.safetensors")
    Path("cut.safetensors").write_bytes(b"\x10")
    for command in (("show",), ("stats",), ("verify",), ("lock", "add", "mine"), ("diff", "cut.safetensors")):
        for name, codes in (("pipe", {4}), ("folder", {4}), ("loop", {3, 4}), ("cut", {5}), ("none", {3})):
            one_error_of(run(*command, f"{name}.safetensors"), *(codes if command[0] != "diff" else {5}))
    assert not Path("store").exists()


@pytest.mark.parametrize(
    "name",
    [
        *("../d16-n64/{0}", "ebv/../{0}", "ebv/d16-n64/../{0}", "/d16-n64/{0}", "./d16-n64/{0}", "{0}"),
        *(".runs/d16-n64/{0}", "ebv/d16-n64/v\u0661-0123456789ab.safetensors"),
        f"ebv/d16-n64/v{'1' * 5000}-0123456789ab.safetensors",
    ],
    ids=brief,
)
def test_names_that_lead_elsewhere_are_not_pulled(tmp_path: Path, run: Command, name: str) -> None:
    path = Store(tmp_path / "remote" / "inner").publish(sound())
    before = sorted(tmp_path.rglob("*"))
    one_error(run("pull", name.format(path.name), "--remote", "remote/inner"), 2)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    "make", [os.mkfifo, Path.mkdir, lambda path: path.symlink_to(path)], ids=["pipe", "folder", "loop"]
)
def test_a_remote_that_has_no_file(tmp_path: Path, run: Command, make: Callable[[Path], None]) -> None:
    path = Path("remote/ebv/d16-n64/v1-0123456789ab.safetensors")
    path.parent.mkdir(parents=True)
    make(path)
    one_error_of(run("pull", path.relative_to("remote"), "--remote", "remote"), 3, 6)
    one_error_of(run("show", path.absolute().as_uri()), 3, 6)
    assert not Path("store").exists()


@pytest.mark.parametrize("method", ["../x", "..", "/x", "x/../../../y"])
def test_a_method_that_leads_elsewhere_makes_no_folder(tmp_path: Path, run: Command, method: str) -> None:
    path = Store(tmp_path / "remote").publish(sound())
    table, meta, data = parts(path.read_bytes())
    meta["spec"]["method"] = method
    key = hashlib.sha256(canonical_json(meta["spec"]).encode()).hexdigest()[:12]
    hostile = path.with_name(f"v1-{key}.safetensors")
    hostile.write_bytes(forged(table, meta, data))
    before = sorted(tmp_path.rglob("*"))
    one_error_of(run("pull", f"ebv/d16-n64/{hostile.name}", "--remote", "remote"), 5, 6)
    pin = {"spec": meta["spec"], "key": key, "version": 1, "digest": meta["digest"]}
    pins = {"mine": {**pin, "reproducible": "statistical", "coherence": None}}
    Path("protogen.lock").write_text(json.dumps({"schema": 1, "artifacts": pins}))
    one_error(run("sync", "--remote", "remote"), 5)
    Path("protogen.lock").unlink()
    assert sorted(tmp_path.rglob("*")) == before


# Whatever someone may write

LEAVES = some.one_of(
    some.none(),
    some.booleans(),
    some.sampled_from(
        [0, 1, -1, 2**31, 2**63, 2**64, LARGE, 0.0, -0.0, 1.0, 1e308, float("nan"), float("inf"), 64, 16]
    ),
    some.integers(),
    some.floats(),
    some.text(max_size=8),
    some.sampled_from(["F32", "F64", "I64", "../x", "prototypes", "0" * 64, "\ud800"]),
)
VALUE = some.recursive(
    LEAVES,
    lambda inner: some.lists(inner, max_size=3) | some.dictionaries(some.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def places(tree: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to each value of a tree."""
    yield path
    within = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in within:
        yield from places(value, (*path, key))


@some.composite
def mutated(draw: some.DrawFn) -> tuple[Tree, Tree, bytes, bool]:
    """Table, metadata and data of the sound file with some values replaced, removed or added; is the check right?"""
    table, meta, data = parts(RAW)
    tree = {"table": table, "meta": meta}
    for _ in range(draw(some.integers(1, 3))):
        ways = [way for way in places(tree) if len(way) > 1]
        way = draw(some.sampled_from(ways))
        within = tree
        for step in way[:-1]:
            within = within[step]
        how = draw(some.sampled_from(["replace", "remove", "add"]))
        if how == "remove":
            del within[way[-1]]
        elif how == "add" and isinstance(within, dict):
            within[draw(some.text(max_size=8))] = draw(VALUE)
        else:
            within[way[-1]] = draw(VALUE)
    return table, meta, data, draw(some.booleans())


def bytes_of(prototypes: Prototypes) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder, "a"), prototypes)
        return Path(folder, "a").read_bytes()


RAW = bytes_of(sound())


def read_or_refused(reader: Callable[[Path], Any], path: Path, raw: bytes) -> Any:
    """What is read of a file with these bytes, or None where it is refused as it should be."""
    path.write_bytes(raw)
    try:
        return reader(path)
    except IntegrityError as refusal:
        message_of(refusal, path)
        return None


def said_by(header: Header) -> Tree:
    """The metadata as JSON that a header was parsed from, but for its check."""
    return {
        "schema": header.schema,
        "spec": header.spec.to_dict(),
        "stats": header.stats.to_dict() if header.stats else None,
        "facts": header.facts.to_dict(),
        "provenance": header.provenance.to_dict(),
        "blocks": list(header.blocks),
        "digest": header.digest,
    }


@STEADY
@given(mutated())
def test_a_tree_that_was_changed_is_refused_or_read_as_it_is(
    tmp_path: Path, change: tuple[Tree, Tree, bytes, bool]
) -> None:
    table, meta, data, right = change
    try:
        raw = forged(table, meta, data, right)
    except (ValueError, AttributeError):  # a half character or a number too long, which JSON text cannot have
        return
    header: Header | None = read_or_refused(read_header, tmp_path / "a", raw)
    if header is not None:
        assert said_by(header) == {name: value for name, value in parts(raw)[1].items() if name != "check"}
        assert {e.name: [e.dtype, list(e.shape), [e.start, e.end]] for e in header.entries} == {
            name: list(entry.values()) for name, entry in table.items()
        }
        assert right or raw == RAW
    whole = read_or_refused(read, tmp_path / "a", raw)
    if whole is not None:
        assert header is not None
        assert torch.equal(whole.tensor, ROWS)
        assert torch.equal(whole.tensors["centers"], CENTERS) or "centers" not in table


@STEADY
@given(some.data())
def test_bytes_that_were_changed_are_refused_or_the_same(tmp_path: Path, data: some.DataObject) -> None:
    end = 8 + int.from_bytes(RAW[:8], "little")
    start = data.draw(some.integers(0, end))
    length = data.draw(some.integers(0, min(20, end - start)))
    put = data.draw(some.binary(max_size=20) | some.sampled_from([b"{", b"[", b'"', b"\\", b",", b"\\u0000", b"1e999"]))
    raw = RAW[:start] + put + RAW[start + length :]
    for fitting in (raw, (len(raw) - len(RAW) + end - 8).to_bytes(8, "little") + raw[8:]):
        assert read_or_refused(read_header, tmp_path / "a", fitting) is None or fitting == RAW
        assert read_or_refused(read, tmp_path / "a", fitting) is None or fitting == RAW
