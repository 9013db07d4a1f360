"""`protogen.lock`: written so that it can be reviewed, read so that nothing else passes."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from artifacts import MADE

from protogen import load
from protogen.errors import BadRequest, DiskError, IntegrityError, NotFound, ProtogenError, SchemaError
from protogen.files.header import read_header
from protogen.files.prototypes import Prototypes
from protogen.files.writing import write
from protogen.methods import METHODS
from protogen.rows import InMemory
from protogen.spec import Spec
from protogen.store.pins import Pin, cache_key, changing, check_name, lock_path, read_lock, write_lock
from protogen.store.store import Store
from protogen.store.turns import is_held

SPEC = Spec.of("ebv", 1, d=2, n=2, seed=0, params={"alpha": 0.1})
PIN = Pin("backbone", SPEC, 3, "ab" * 32, "statistical", 0.25)
TEXT = f"""\
{{
  "artifacts": {{
    "backbone": {{
      "coherence": 0.25,
      "digest": "{"ab" * 32}",
      "key": "{SPEC.key}",
      "reproducible": "statistical",
      "spec": {{
        "d": 2,
        "method": "ebv",
        "n": 2,
        "params": {{
          "alpha": 0.1
        }},
        "seed": 0,
        "version": 1
      }},
      "version": 3
    }}
  }},
  "schema": 1
}}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "protogen.lock"


def test_is_sorted_text_with_a_line_for_each_value(path: Path) -> None:
    write_lock(path, [PIN])
    assert path.read_text() == TEXT
    write_lock(path, [replace(PIN, name="z"), replace(PIN, name="a", coherence=None), PIN])
    pins = read_lock(path)
    assert list(pins) == ["a", "backbone", "z"]
    assert pins["a"] == replace(PIN, name="a", coherence=None)
    before = path.read_bytes()
    write_lock(path, pins.values())
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_is_changed_by_one_at_a_time_by_whatever_link(path: Path) -> None:
    write_lock(path, [PIN])
    (path.parent / "project").mkdir()
    link = path.parent / "project" / "other.lock"
    link.symlink_to(path)
    with changing(link) as pins:
        assert pins == {"backbone": PIN}
        assert is_held(path.parent / ".locks/protogen.lock.lock")
    with changing(path.parent / "none.lock") as pins:
        assert pins == {}


def test_a_copy_without_a_version_in_its_name_is_not_pinned(path: Path) -> None:
    copy = path.parent / "my.safetensors"
    write(copy, Prototypes(SPEC, InMemory(torch.eye(2)), None, MADE))
    with pytest.raises(BadRequest, match=f"no version in its name; lock it where a store has it, as v<k>-{SPEC.key}"):
        Pin.of("it", copy, read_header(copy))


def test_is_replaced_all_at_once_and_a_link_to_it_stays(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = path.with_name("link")
    link.symlink_to(path.name)
    write_lock(link, [PIN])
    assert link.is_symlink()
    assert path.read_text() == TEXT

    def refuse(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(DiskError, match="No space left on device"):
        write_lock(path, [])
    assert path.read_text() == TEXT
    assert sorted(path.parent.iterdir()) == [link, path]


def test_a_run_that_was_ended_early_cannot_be_pinned(tmp_path: Path) -> None:
    made = tmp_path / "made.safetensors"
    spec = replace(SPEC, params=(("alpha", 0.1), ("ended", "interrupted at step 3")))
    write(made, Prototypes(spec, InMemory(torch.eye(2)), None, MADE))
    with pytest.raises(BadRequest, match="is of a run that was interrupted at step 3; make the whole of it"):
        Pin.of("backbone", made, read_header(made))


def test_no_lock_says_how_to_make_one(path: Path) -> None:
    with pytest.raises(NotFound, match="no such lock; `protogen lock add` makes one"):
        read_lock(path)


def test_the_lock_is_the_option_then_the_variable_then_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROTOGEN_LOCK", "from/variable")
    assert lock_path("from/option") == Path("from/option")
    assert lock_path() == Path("from/variable")
    monkeypatch.delenv("PROTOGEN_LOCK")
    assert lock_path() == Path("protogen.lock")


def changed(**values: Any) -> Callable[[dict[str, Any]], None]:
    """Put other values into the entry."""
    return lambda document: document["artifacts"]["backbone"].update(values)


def elsewhere(method: Any) -> Callable[[dict[str, Any]], None]:
    """Make it a Spec of another method, with the key that belongs to it."""
    spec = Spec.of(method, 1, d=2, n=2, seed=0, params={})
    return changed(spec=spec.to_dict(), key=spec.key)


def renamed(name: str) -> Callable[[dict[str, Any]], None]:
    return lambda document: document["artifacts"].update({name: document["artifacts"].pop("backbone")})


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (changed(key="0" * 12), f"backbone has key '000000000000', its spec has {SPEC.key}"),
        (changed(spec={**SPEC.to_dict(), "n": 3}), f"backbone has key '{SPEC.key}', its spec has"),
        (changed(spec={**SPEC.to_dict(), "more": 3}), "that protogen writes"),
        (changed(spec=None), "no lock that protogen wrote"),
        (changed(version=0), "that protogen writes"),
        (changed(version="3"), "that protogen writes"),
        (changed(spec={**SPEC.to_dict(), "n": 1, "d": 1}), "that protogen writes"),
        (changed(version="1/../../../x"), "that protogen writes"),
        (elsewhere(".."), "that protogen writes"),
        (elsewhere("../../away"), "that protogen writes"),
        (elsewhere("/away"), "that protogen writes"),
        (elsewhere(".locks"), "that protogen writes"),
        (elsewhere(7), "no lock that protogen wrote"),
        (changed(digest="AB" * 32), "allowed are 64 hex digits"),
        (changed(digest=7), "no lock that protogen wrote"),
        (changed(reproducible="mostly"), "backbone is 'mostly'; allowed are exact, statistical"),
        (changed(coherence="low"), "allowed are a number and null"),
        (changed(coherence=10**400), "allowed are a number and null"),
        (changed(coherence=True), "allowed are a number and null"),
        (changed(note="x"), "backbone has coherence, digest, key, note"),
        (renamed("a/b"), "name 'a/b'; allowed are"),
        (renamed("ebv"), "name 'ebv' is a method's"),
        (lambda document: document.update(schema=2), "schema 2, this protogen reads 1; upgrade protogen"),
        (lambda document: document.update(schema=0), "schema is 0, allowed is 1"),
        (lambda document: document.update(schema=True), "schema is True, allowed is 1"),
        (lambda document: document.update(more=1), "allowed is 1, beside artifacts alone"),
        (lambda document: document.update(artifacts=[1]), "no lock that protogen wrote"),
        (lambda document: document.pop("artifacts"), "no lock that protogen wrote"),
    ],
)
def test_what_protogen_did_not_write_is_refused(
    path: Path, change: Callable[[dict[str, Any]], object], says: str
) -> None:
    document = json.loads(TEXT)
    change(document)
    path.write_text(json.dumps(document))
    with pytest.raises(IntegrityError) as caught:
        read_lock(path)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, SchemaError) == ("upgrade" in says)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (TEXT.replace('"coherence": 0.25', '"coherence": 1e999'), "coherence inf"),
        (TEXT.replace('"coherence": 0.25', '"coherence": NaN'), "NaN is no number"),
        (TEXT.replace('"schema": 1', '"schema": 1, "schema": 1'), "'schema' stands in it twice"),
        (TEXT.replace('"seed": 0', '"seed": 0, "seed": 0'), "'seed' stands in it twice"),
        (TEXT[:-20], "no lock that protogen wrote"),
        ("", "no lock that protogen wrote"),
        ("[]", "no lock that protogen wrote"),
        ("<<<<<<< HEAD\n" + TEXT, "no lock that protogen wrote"),
        ("[" * 100_000, "no lock that protogen wrote"),
        ("\udcff\udcfe", "no text"),
    ],
)
def test_text_of_another_form_is_refused(path: Path, text: str, says: str) -> None:
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(IntegrityError, match="no lock that protogen wrote") as caught:
        read_lock(path)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["backbone", "head-2", "a", "A.b_c-9", "x" * 100])
def test_names_that_a_project_may_give(name: str) -> None:
    check_name(name)


@pytest.mark.parametrize(
    "name", ["", ".hidden", "-x", "a/b", "a\\b", "a b", "a\n", "é", "x" * 101, "a.safetensors", *METHODS]
)
def test_names_that_a_project_may_not_give(name: str) -> None:
    with pytest.raises(BadRequest, match=r"^name "):
        check_name(name)


def test_the_cache_key_is_that_of_the_content_alone(path: Path) -> None:
    pins = {"backbone": PIN}
    assert cache_key(pins) == "protogen-2-fd03589111fdea7b"
    write_lock(path, [PIN])
    path.write_text(json.dumps(json.loads(path.read_text()), indent=None))
    assert cache_key(read_lock(path)) == cache_key(pins)
    others = [
        {},
        {"head": PIN},
        {"backbone": replace(PIN, digest="cd" * 32)},
        {"backbone": replace(PIN, version=4)},
        {**pins, "head": PIN},
    ]
    assert len({cache_key(each) for each in (pins, *others)}) == 6


class TestLoad:
    @pytest.fixture
    def store(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("PROTOGEN_STORE", str(tmp_path / "store"))
        return Store(tmp_path / "store")

    def publish(self, store: Store, turn: float) -> Path:
        rows = torch.tensor([[1, 0], [torch.tensor(turn).cos(), torch.tensor(turn).sin()]])
        return store.publish(Prototypes(SPEC, InMemory(rows), None, MADE), force=True)

    def test_takes_the_locked_content_whatever_its_version(self, store: Store, path: Path) -> None:
        first, second = self.publish(store, 0.5), self.publish(store, 0.6)
        pin = Pin.of("backbone", second, read_header(second))
        assert (pin.version, pin.coherence) == (2, None)
        write_lock(path, [pin])
        assert load("backbone").path == second
        first.unlink()
        second.rename(first)
        assert load("backbone").path == first
        assert load("backbone", rows=slice(0, 1)).n == 1

    def test_says_that_sync_brings_it(self, store: Store, path: Path) -> None:
        file = self.publish(store, 0.5)
        write_lock(path, [Pin.of("backbone", file, read_header(file))])
        file.unlink()
        self.publish(store, 0.6)
        with pytest.raises(NotFound, match=f"has not ebv/d2-n2/{file.name} with digest .* `protogen sync` brings it"):
            load("backbone")

    def test_the_lock_may_lie_elsewhere(
        self, store: Store, path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        file = self.publish(store, 0.5)
        write_lock(path, [Pin.of("backbone", file, read_header(file))])
        monkeypatch.chdir("/")
        with pytest.raises(BadRequest, match=r"protogen\.lock has no names"):
            load("backbone")
        monkeypatch.setenv("PROTOGEN_LOCK", str(path))
        assert load("backbone").path == file

    def test_other_names_are_refused(self, store: Store, path: Path) -> None:
        with pytest.raises(BadRequest, match=r"method 'evb', allowed are ebv.*; protogen\.lock has no names; a path"):
            load("evb")
        file = self.publish(store, 0.5)
        write_lock(path, [Pin.of("backbone", file, read_header(file))])
        with pytest.raises(BadRequest, match=r"names in protogen\.lock are backbone"):
            load("evb")
        with pytest.raises(BadRequest, match="backbone with d, alpha: the lock names one file"):
            load("backbone", d=2, alpha=0.1)

    def test_a_damaged_lock_is_an_error(self, store: Store, path: Path) -> None:
        path.write_text("{}")
        with pytest.raises(ProtogenError, match="no lock that protogen wrote"):
            load("backbone")
