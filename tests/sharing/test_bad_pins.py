"""Locks that someone forged: each pin that cannot be is one line, and the others are served."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from artifacts import published
from commands import Command, one_error

from protogen.errors import BadRequest, IntegrityError
from protogen.files.header import read_header
from protogen.methods import resolve
from protogen.sharing.sync import sync_pins
from protogen.spec import Spec
from protogen.store import pins as pins_
from protogen.store.access import ensure_path
from protogen.store.pins import Pin, read_lock
from protogen.store.store import Store

SOUND = resolve("ebv", d=4, n=4)
IMPOSSIBLE: dict[str, dict[str, Any]] = {
    "dimensions": {"d": 10**17},
    "vectors": {"n": 10**17},
    "disk": {"d": 10**12, "n": 10**12},
    "seed": {"seed": 2**63 - 1, "params": {"steps": 0}},
    "one-dimension": {"d": 1},
    "method": {"method": "none"},
    "version": {"version": 77},
    "parameter": {"params": {"beta": 1}},
    "value": {"params": {"alpha": 7.0}},
    "kind": {"params": {"start": 3}},
    "label": {"params": {"start": "closed-form:" + "projection(form=" * 500 + ")" * 500}},
    "large": {"params": {"start": "closed-form:kerdock(k=1000000007)"}},
    "few": {"d": 6, "n": 900, "params": {"start": "closed-form:mub(p=3)"}},
    "ended": {"params": {"start": "random", "ended": "time limit at step 3"}},
    "hypercube": {"method": "cube", "version": 2, "d": 3, "n": 10**11, "params": {}},
    "memory": {"method": "subcenters", "params": {"per_class": 2**62}},
    "input": {"params": {"start": "random", "extends": "0" * 63}},
}


@pytest.fixture
def lock(store: Path) -> Path:
    """A lock whose pins are all impossible but for the last, in order of names and of sync."""
    path = ensure_path(SOUND)
    sound = Pin.of("z", path, read_header(path)).to_dict()
    artifacts = {"z": sound}
    for name, changes in IMPOSSIBLE.items():
        spec = {"method": "ebv", "version": 1, "d": 2, "n": 2, "seed": 0, "params": {}, **changes}
        artifacts[name] = {**sound, "spec": spec, "key": Spec.from_dict(spec).key}
    path.unlink()
    document = {"schema": 1, "artifacts": artifacts}
    Path("protogen.lock").write_text(json.dumps(document))
    return Path("protogen.lock")


def test_impossible_pins_fail_in_one_line_each_and_the_others_are_served(lock: Path, run: Command) -> None:
    ran = run("sync")
    assert ran.code == 2
    assert ran.out.startswith("z: generated, store/")
    lines = ran.err.splitlines()
    assert sorted(line.split(":")[1].strip() for line in lines) == sorted(IMPOSSIBLE)
    assert all(line.startswith("error: ") and line.isprintable() for line in lines)
    ran = run("sync", "--accept-equivalent", "--json")
    assert ran.code == 2
    assert {each["name"]: each["how"] for each in ran.document["artifacts"]} == {
        "z": "present",
        **dict.fromkeys(IMPOSSIBLE, "failed"),
    }


def test_a_pin_that_needs_more_memory_than_there_is_keeps_none_of_the_others(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [ensure_path(resolve("ebv", d=4, n=n)) for n in (3, 4)]
    pins = [Pin.of(f"n{index}", path, read_header(path)) for index, path in enumerate(paths)]
    for path in paths:
        path.unlink()
    receive = Store.receive

    def filled(self: Store, spec: Spec, *rest: Any) -> Path:
        if spec.n == 3:
            raise MemoryError
        return receive(self, spec, *rest)

    monkeypatch.setattr(Store, "receive", filled)
    first, second = sync_pins(Store(store), pins)
    assert isinstance(first.error, BadRequest)
    assert "out of memory" in str(first.error)
    assert second.how == "generated"


def test_a_lock_is_read_no_further_than_one_goes(store: Path, run: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    path = published(store)
    run("lock", "add", "mine", path)
    text = Path("protogen.lock").read_text()
    monkeypatch.setattr(pins_, "LONGEST", len(text))
    assert list(read_lock(Path("protogen.lock"))) == ["mine"]
    Path("protogen.lock").write_text(text + " ")
    one_error(run("lock", "list"), 5, f"more than {len(text)} characters")
    for many in ("[" * 300_000, "[" + "{}," * 300_000, '{"a":' * 300_000):
        Path("protogen.lock").write_text(many)
        with pytest.raises(IntegrityError, match="more than"):
            read_lock(Path("protogen.lock"))


def test_a_lock_that_is_a_pipe_is_not_waited_for(store: Path, run: Command) -> None:
    os.mkfifo("protogen.lock")
    one_error(run("lock", "list"), 4, "is a directory or a device, needed is a file")
    one_error(run("sync"), 4)
