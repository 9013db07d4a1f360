"""Schemas: files of every older one are read for ever, and those of a newer one stay as they are."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from artifacts import record
from commands import Command, one_error
from draws import unit_rows

import protogen
from protogen import generating
from protogen.errors import IntegrityError, NotFound, SchemaError
from protogen.files.facts import Facts, Norms
from protogen.files.header import encode, read_header
from protogen.files.prototypes import Prototypes
from protogen.files.reading import read
from protogen.files.schemas import SCHEMA, SCHEMAS
from protogen.files.verify import verify
from protogen.files.writing import write
from protogen.measuring.stats import AngleStats
from protogen.methods import resolve
from protogen.store.pins import Pin, write_lock
from protogen.store.store import Store

pytestmark = pytest.mark.slow

OLD = Path(__file__).parents[1] / "data" / "store-0.1"  # made by version 0.1, with its lock
PROGRAM = Path(__file__).with_name("older.py")
PACKAGE = Path(protogen.__file__).parent
SPEC = resolve("simplex", n=4)


# Files of older schemas

# What a developer writes to record one figure more.
GROWTH = {
    "measuring/stats.py": ("    histogram: tuple[int, ...]\n", "    median_deg: float | None = None\n"),
    "measuring/measure.py": ("        error_bound=max(max_room, min_room),\n", "        median_deg=90.0,\n"),
    "files/schemas.py": (
        "SCHEMAS: Mapping[int, Schema] = {1: _FIRST, 2: _SECOND}\n",
        'SCHEMAS = {**SCHEMAS, 3: Schema(_FIRST.stats | {"median_deg"}, _SECOND.facts, _FIRST.provenance)}\n',
    ),
}


def grown(folder: Path) -> Path:
    """Copy the package to a folder, with one figure more in AngleStats and the schema raised."""
    shutil.copytree(PACKAGE, folder / "protogen", ignore=shutil.ignore_patterns("__pycache__"))
    for name, (line, more) in GROWTH.items():
        file = folder / "protogen" / name
        text = file.read_text()
        assert text.count(line) == 1
        file.write_text(text.replace(line, line + more))
    return folder


@pytest.fixture(scope="module", params=[2, 3], ids=["of today", "with one figure more"])
def found(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the package of today, and one with a figure more, find of the old store and of today's files."""
    folder = tmp_path_factory.mktemp("older")
    shutil.copytree(OLD, folder, dirs_exist_ok=True)
    for spec in (SPEC, resolve("subcenters", d=4, n=3, per_class=2), resolve("ebv", d=4, n=9, start="random", steps=3)):
        protogen.ensure(spec, store=folder / "prototypes")
    package = grown(tmp_path_factory.mktemp("package")) if request.param == 3 else PACKAGE.parent
    variables = {name: value for name, value in os.environ.items() if not name.startswith("PROTOGEN_")}
    ran = subprocess.run(
        [sys.executable, PROGRAM],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**variables, "PYTHONPATH": str(package), "OMP_NUM_THREADS": "1"},
        timeout=120,
    )
    assert ran.returncode == 0, ran.stderr
    return {"schema": request.param, "folder": folder, **json.loads(ran.stdout)}


def test_every_file_is_loaded_measured_and_shown(found: dict[str, Any]) -> None:
    assert found["errors"] == []
    assert found["read"] == [True] * 17
    assert found["differences"] == [[]] * 17
    assert found["shown"] == [0] * 17
    assert found["listed"] == [None] * 17
    assert found["verified"] == 0


def test_a_figure_that_its_schema_has_not_is_none(found: dict[str, Any]) -> None:
    classes = ["frame_potential", "frame_potential_min"]  # of several vectors a class
    more = [] if found["schema"] == 2 else ["median_deg"]
    assert sorted(map(tuple, found["figures"])) == sorted([tuple(more)] * 15 + [(*classes, *more)] * 2)


def test_a_spec_is_a_hit_and_no_set_is_made_again(found: dict[str, Any]) -> None:
    assert found["ensured"] == [True] * 17


def test_it_is_compared_synced_and_pushed_on(found: dict[str, Any]) -> None:
    assert found["diff"] == [0, 1]
    assert found["synced"] == ["present"]
    assert [each["how"] for each in found["fetched"]] == ["fetched"]
    fetched = found["folder"] / found["fetched"][0]["path"]
    assert fetched.read_bytes() == (OLD / "prototypes" / "ebv" / "d12-n30" / fetched.name).read_bytes()


def test_nothing_is_moved_or_written_anew(found: dict[str, Any]) -> None:
    assert found["unchanged"]
    assert found["kept"]
    assert found["pruned"] == []
    assert not found["quarantine"]


def test_it_is_extended_by_a_file_of_the_newest_schema(found: dict[str, Any]) -> None:
    made = found["extended"]
    assert (made["code"], made["kept"], made["schema"]) == (0, True, found["schema"])
    assert made["stats"].get("median_deg") == (90.0 if found["schema"] == 3 else None)


def test_the_first_schema_never_changes() -> None:
    first = SCHEMAS[1]
    assert len(first.stats) == 18
    assert len(first.facts) == 13
    assert len(first.provenance) == 10
    assert SCHEMAS[2].facts - first.facts == {"group", "jammed", "orbits"}
    assert max(SCHEMAS) == SCHEMA
    assert all(0 < older < newer for older, newer in zip(SCHEMAS, list(SCHEMAS)[1:], strict=False))


# Files of a newer schema


def renewed(path: Path, schema: int = SCHEMA + 1) -> bytes:
    """Write a file as a later protogen would, with a figure that this one has not; return its bytes."""
    raw = path.read_bytes()
    header = read_header(path)
    content = {
        "spec": header.spec.to_dict(),
        "facts": header.facts.to_dict(),
        "stats": {**(header.stats.to_dict() if header.stats else {}), "median_deg": 90.0},
        "provenance": header.provenance.to_dict(),
        "blocks": list(header.blocks),
    }
    path.write_bytes(encode(header.entries, content, schema) + raw[header.data_start :])
    return path.read_bytes()


@pytest.fixture
def newer(store: Path) -> Path:
    """The only file of SPEC in the store, written by a later protogen."""
    path = Store(store).publish(generating.generate(SPEC))
    renewed(path)
    return path


def everything(root: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in root.rglob("*") if path.is_file() and ".locks" not in path.parts}


def test_every_reader_says_so(newer: Path) -> None:
    for reader in (read_header, read, verify, protogen.load):
        with pytest.raises(SchemaError, match=rf"schema {SCHEMA + 1}, this protogen reads {SCHEMA}; upgrade protogen"):
            reader(newer)


def test_it_is_listed_as_newer(newer: Path, run: Command, store: Path) -> None:
    before = everything(store)
    (row,) = run("list", "--json").document["artifacts"]
    assert (row["fault"], row["method"], row["key"]) == ("newer", "simplex", SPEC.key)
    assert "upgrade protogen" in row["error"]
    assert "newer: " in run("list").out
    assert everything(store) == before


def test_ensure_refuses_before_any_work(newer: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = everything(store)
    monkeypatch.setattr(generating, "make", None)
    for ask in (protogen.ensure, lambda spec: protogen.load(spec.method)):
        with pytest.raises(SchemaError, match="upgrade protogen"):
            ask(SPEC)
    assert everything(store) == before


def test_by_force_another_is_made_beside_it(newer: Path, store: Path) -> None:
    before = everything(store)
    made = protogen.ensure(SPEC, force=True)
    assert made.version == 2
    assert before.items() <= everything(store).items()
    assert protogen.ensure(SPEC).path == protogen.load("simplex").path == made.path


def test_sync_brings_what_is_locked_beside_it(newer: Path, store: Path, run: Command) -> None:
    sound = Store(store.with_name("sound")).publish(generating.generate(SPEC))
    write_lock(Path("protogen.lock"), [Pin.of("mine", sound, read_header(sound))])
    before = everything(store)
    (synced,) = run("sync", "--json").document["artifacts"]
    assert (synced["how"], Path(synced["path"]).name) == ("generated", f"v2-{SPEC.key}.safetensors")
    assert before.items() <= everything(store).items()
    assert protogen.ensure(SPEC).digest == read_header(sound).digest


def test_verification_of_a_store_tells_it_from_damage(newer: Path, store: Path, run: Command) -> None:
    before = everything(store)
    for options in ((), ("--full",)):
        ran = run("verify", "--all", "--json", *options)
        assert ran.code == SchemaError.exit_code
        assert list(ran.document["newer"]) == [str(newer)]
        assert ran.document["damaged"] == {}
        assert "1 of a newer schema; upgrade protogen" in ran.err
    one_error(run("verify", newer), SchemaError.exit_code)
    assert everything(store) == before


def test_prune_keeps_it_and_the_state_of_its_run(newer: Path, store: Path, run: Command) -> None:
    state = store / ".runs" / SPEC.key / "state.safetensors"
    state.parent.mkdir(parents=True)
    state.write_bytes(b"state")
    before = everything(store)
    assert run("prune", "--json").document["removed"] == []
    assert everything(store) == before


# Digests that are right over content that is wrong


def test_what_was_written_wrong_is_never_set_aside(newer: Path, store: Path, run: Command) -> None:
    newer.unlink()
    path = Store(store).publish(generating.generate(SPEC))
    header, data = read_header(path), path.read_bytes()[read_header(path).data_start :]
    content = {
        "spec": SPEC.to_dict(),
        "facts": {"own_d": 99},
        "stats": None,
        "provenance": header.provenance.to_dict(),
        "blocks": list(header.blocks),
    }
    path.write_bytes(encode(header.entries, content) + data)
    before = everything(store)
    with pytest.raises(IntegrityError, match="its digests are right, but own_d is 99, allowed is 1 to 3; delete it"):
        protogen.ensure(SPEC)
    assert everything(store) == before
    assert protogen.ensure(SPEC, force=True).version == 2
    assert before.items() <= everything(store).items()


# Records


FULL = Facts(
    closed_form="a",
    construction="b",
    guaranteed_coherence=0.5,
    guaranteed_max_cos=0.25,
    outdone="c",
    own_d=3,
    phi=1.0,
    phi_deg=57.29577951308232,
    extended_n=2,
    norms="free",
    center_norms=Norms(0.5, 1.0, 1.5),
    subcenter_norms=Norms(0.5, 1.0, 2),
    more={"width": 1.5, "family": ["x", None, {"y": 0}]},
)


@pytest.mark.parametrize("facts", [Facts(), FULL, Facts(more={"median_deg": {}})], ids=["none", "all", "unknown"])
def test_facts_survive_a_file(tmp_path: Path, facts: Facts) -> None:
    made = record(unit_rows(4, 5), facts=facts)
    write(tmp_path / "a", made)
    kept = read(tmp_path / "a")
    assert kept.facts == facts
    assert write(tmp_path / "b", kept) == kept.digest
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_fact_that_does_not_apply_is_not_written() -> None:
    assert Facts().to_dict() == {}
    assert Facts(own_d=3, more={"width": 1}).to_dict() == {"own_d": 3, "width": 1}
    with pytest.raises(ValueError, match="a fact is null"):
        SCHEMAS[1].read_facts({"own_d": None})


@pytest.mark.parametrize("name", sorted(SCHEMAS[1].facts))
def test_a_fact_of_another_type_is_named(name: str) -> None:
    for value in (True, [1], {"min": 1}):
        with pytest.raises(ValueError, match=rf"{name}|Norms|AngleStats"):
            SCHEMAS[1].read_facts({name: value})


@pytest.mark.parametrize("name", sorted(SCHEMAS[1].provenance))
def test_a_piece_of_provenance_of_another_type_is_named(name: str) -> None:
    made = record(unit_rows(2, 2)).provenance.to_dict()
    for value in (None, True, [], {}):
        with pytest.raises(ValueError, match=name):
            SCHEMAS[1].read_provenance({**made, name: value})
    with pytest.raises(ValueError, match=f"Provenance has no '{name}'"):
        SCHEMAS[1].read_provenance({other: value for other, value in made.items() if other != name})
    with pytest.raises(ValueError, match="Provenance has an unknown 'more'"):
        SCHEMAS[1].read_provenance({**made, "more": 1})


@pytest.mark.parametrize("name", sorted(SCHEMAS[1].stats))
def test_a_figure_of_another_type_is_named(name: str) -> None:
    stats = stats_of(generating.generate(SPEC))
    for value in (True, "1", [None], {}):
        with pytest.raises(ValueError, match=rf"{name}|Extreme"):
            SCHEMAS[1].read_stats({**stats.to_dict(), name: value})


def stats_of(made: Prototypes) -> AngleStats:
    assert made.stats is not None
    return made.stats


def test_verification_measures_when_it_is_asked_to(tmp_path: Path) -> None:
    path = Store(tmp_path).publish(generating.generate(SPEC))
    digest = read_header(path).digest
    assert (verify(path).digest, verify(path).stats, verify(path).differences) == (digest, None, ())
    shares: list[float] = []
    full = verify(path, full=True, report=shares.append)
    assert (full.digest, full.differences) == (digest, ())
    assert full.stats == read(path).stats
    assert shares[-1] == 1
    with pytest.raises(NotFound):
        verify(tmp_path / "none")


def test_verification_names_what_differs(tmp_path: Path) -> None:
    made = generating.generate(SPEC)
    facts = Facts(guaranteed_max_cos=-0.5)
    write(tmp_path / "a", replace(record(unit_rows(4, 3), facts=facts), stats=made.stats))
    found = verify(tmp_path / "a", full=True).differences
    assert found[0].startswith("coherence recorded 0.3333333")
    assert found[-1].startswith("largest cosine guaranteed -0.500000000, measured 0.")
