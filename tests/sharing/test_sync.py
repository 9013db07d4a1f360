"""`protogen sync`: the store holds what the lock asks for, or it is said why not."""

import os
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from artifacts import flip

from protogen import generating
from protogen.errors import BadRequest, DiskError, IntegrityError, NotFound, RemoteError, Unmet
from protogen.files.arriving import write_arriving
from protogen.files.digests import BlockHasher
from protogen.files.header import check_file, read_header
from protogen.files.prototypes import Prototypes
from protogen.files.reading import read
from protogen.methods import resolve
from protogen.methods.subcenters import Subcenters
from protogen.run import Run
from protogen.sharing.remotes import Remote
from protogen.sharing.sync import Synced, sync_pins
from protogen.spec import Spec
from protogen.store.access import ensure_path
from protogen.store.pins import Pin
from protogen.store.store import Store

EXACT = resolve("ebv", d=4, n=4)
DESCENT = resolve("ebv", d=4, n=6, start="random", steps=3)


@pytest.fixture
def there(tmp_path: Path) -> Store:
    """The store of a colleague, who pinned what is in it."""
    return Store(tmp_path / "there")


def pinned(there: Store, spec: Spec, name: str = "it", **run: Any) -> Pin:
    path = ensure_path(spec, Run(**run), store=there.root)
    return Pin.of(name, path, read_header(path))


def only(here: Store, *pins: Pin, remote: Store | None = None, accept: bool = False, run: Run | None = None) -> Synced:
    """What became of the last of the pins."""
    places = [Remote.of(str(remote.root))] if remote else []
    return list(sync_pins(here, pins, places, run, accept=accept))[-1]


def no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(generating, "make", refuse)


@pytest.mark.parametrize("params", [{"start": 3, "steps": "x"}, {"start": "random", "extends": 3}])
def test_a_spec_that_no_method_writes_is_one_error(here: Store, there: Store, params: dict[str, Any]) -> None:
    forged = Spec.of("ebv", 1, d=4, n=4, seed=0, params=params)
    pin = pinned(there, EXACT)
    found = list(sync_pins(here, [replace(pin, name="forged", spec=forged), pin]))
    assert sorted(each.how for each in found) == ["failed", "generated"]
    (failed,) = [each.error for each in found if each.error]
    assert isinstance(failed, BadRequest)


def test_what_is_there_is_checked_and_left(here: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    pin = pinned(here, DESCENT)
    no_work(monkeypatch)
    before = {path: path.stat().st_mtime_ns for path in here.root.rglob("*")}
    assert only(here, pin) == Synced(pin, "present", here.root / pin.path)
    assert {path: path.stat().st_mtime_ns for path in here.root.rglob("*")} == before


def test_it_is_the_content_that_counts_not_the_version(here: Store, there: Store) -> None:
    pin = pinned(there, DESCENT)
    ensure_path(resolve("ebv", d=4, n=6, start="random", steps=2), store=here.root)
    fetched = only(here, pin, remote=there)
    assert fetched.path == here.root / f"ebv/d4-n6/v2-{DESCENT.key}.safetensors"
    assert only(here, pin).path == fetched.path


def test_what_is_missing_is_fetched(here: Store, there: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    pins = [pinned(there, DESCENT, "descent"), pinned(there, EXACT, "formula")]
    no_work(monkeypatch)
    done = list(sync_pins(here, pins, [Remote.of(str(there.root))]))
    assert {each.pin.name: (each.how, each.path) for each in done} == {
        pin.name: ("fetched", here.root / pin.path) for pin in pins
    }
    assert [each.url for each in done] == [f"{there.root}/{each.pin.path}" for each in done]
    for pin in pins:
        assert (here.root / pin.path).read_bytes() == (there.root / pin.path).read_bytes()


def test_what_is_fetched_is_hashed_once(here: Store, there: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    pin, update = pinned(there, DESCENT), BlockHasher.update
    taken: list[int] = []

    def counted(self: BlockHasher, data: memoryview) -> None:
        taken.append(len(data))
        update(self, data)

    monkeypatch.setattr(BlockHasher, "update", counted)
    assert only(here, pin, remote=there).how == "fetched"
    assert sum(taken) == read_header(here.root / pin.path).data_bytes


def test_the_same_content_under_another_version_is_no_second_file(here: Store, there: Store) -> None:
    pin = pinned(there, EXACT)
    assert only(here, replace(pin, version=7), remote=there).how == "generated"
    assert [entry.version for entry in here.entries()] == [7]
    assert only(here, pin, remote=there) == Synced(pin, "present", here.root / replace(pin, version=7).path)


def test_a_formula_is_generated_and_must_give_the_locked_digest(here: Store, there: Store) -> None:
    pin = pinned(there, EXACT)
    made = only(here, pin)
    assert (made.how, made.url) == ("generated", None)
    assert check_file(here.root / pin.path).digest == pin.digest
    other = Store(here.root.parent / "other")
    failed = only(other, replace(pin, digest="0" * 64))
    assert isinstance(failed.error, IntegrityError)
    assert f"generated again it has digest {pin.digest}, locked is {'0' * 64}" in str(failed.error)
    assert not other.root.exists()


def test_a_descent_that_no_remote_has_is_not_generated(
    here: Store, there: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    pin = pinned(there, DESCENT)
    no_work(monkeypatch)
    failed = only(here, pin)
    assert (failed.how, failed.path) == ("failed", None)
    assert isinstance(failed.error, NotFound)
    assert "no remote has it" in str(failed.error)
    assert "--accept-equivalent generates one as good and changes the lock" in str(failed.error)
    assert not here.root.exists()


def better(pin: Pin, by: float) -> Pin:
    """A pin of other content, whose coherence is by so much lower."""
    assert pin.coherence is not None
    return replace(pin, digest="0" * 64, coherence=pin.coherence - by)


class TestAcceptEquivalent:
    def test_generates_and_pins_what_is_as_good(self, here: Store, there: Store) -> None:
        pin = better(pinned(there, DESCENT), 9e-7)
        done = only(here, pin, accept=True)
        assert (done.how, done.path) == ("generated", here.root / pin.path)
        assert done.pin == pinned(here, DESCENT)
        assert done.pin.digest != pin.digest
        assert only(here, done.pin).how == "present"

    def test_takes_what_is_there_and_as_good(self, here: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        pin = pinned(here, DESCENT)
        no_work(monkeypatch)
        assert only(here, better(pin, -0.1), accept=True) == Synced(pin, "present", here.root / pin.path)

    def test_refuses_what_is_worse_and_keeps_it(self, here: Store, there: Store) -> None:
        pin = better(pinned(there, DESCENT), 2e-6)
        failed = only(here, pin, accept=True)
        assert failed.pin == pin
        assert isinstance(failed.error, Unmet)
        assert f"locked is {pin.coherence}; the lock stays as it is" in str(failed.error)
        assert here.find(DESCENT)

    def test_prefers_the_locked_content_of_a_remote(self, here: Store, there: Store) -> None:
        pin = pinned(there, DESCENT)
        assert only(here, pin, remote=there, accept=True).how == "fetched"

    def test_of_points_it_is_the_largest_cosine(self, here: Store, there: Store) -> None:
        pin = pinned(there, resolve("uniform", d=3, n=7, steps=3))
        made = read(there.root / pin.path)
        assert made.stats
        assert pin.coherence == made.stats.max_cos.value
        assert pin.coherence < made.stats.coherence.value

    def test_an_interruption_is_one(self, here: Store, there: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        pin = pinned(there, DESCENT)

        def generate(spec: Spec, run: Run) -> Prototypes:
            made = read(there.root / pin.path)
            ended = replace(spec, params=(*spec.params, ("ended", "interrupted at step 1")))
            return replace(made, spec=ended, provenance=replace(made.provenance, status="interrupted"))

        monkeypatch.setattr(generating, "make", generate)
        with pytest.raises(KeyboardInterrupt):
            only(here, pin, accept=True)
        assert len(here.entries()) == 1


def test_a_damaged_file_is_set_aside_and_brought_anew(here: Store, there: Store) -> None:
    said: list[str] = []
    for pin, remote in ((pinned(there, DESCENT, "descent"), there), (pinned(there, EXACT, "formula"), None)):
        path = only(here, pin, remote=remote).path
        assert path
        damaged = flip(path)
        again = only(here, pin, remote=remote, run=Run(say=said.append))
        assert again.how == ("fetched" if remote else "generated")
        assert again.path == path
        assert check_file(path).digest == pin.digest
        (aside,) = (file for file in (here.root / ".quarantine").iterdir() if pin.spec.key in file.name)
        assert aside.read_bytes() == damaged
        assert said.pop().startswith(f"set aside as {aside}: {path}: ")
    assert said == []


def test_a_remote_with_wrong_bytes_is_never_taken(here: Store, there: Store) -> None:
    descent, formula = pinned(there, DESCENT, "descent"), pinned(there, EXACT, "formula")
    for pin in (descent, formula):
        flip(there.root / pin.path)
    failed = only(here, descent, remote=there)
    assert isinstance(failed.error, RemoteError)
    assert not here.root.exists()
    # What a formula gives needs no remote, and yet it is said.
    said: list[str] = []
    assert only(here, formula, remote=there, run=Run(say=said.append)).how == "generated"
    assert [line.startswith(f"note: {formula.path}: ") for line in said] == [True]


def test_other_files_of_the_store_stay(here: Store, there: Store) -> None:
    other = ensure_path(resolve("ebv", d=3, n=3), store=here.root)
    assert only(here, pinned(there, EXACT)).how == "generated"
    assert other.exists()


def test_one_that_fails_keeps_none_of_the_others(here: Store, there: Store) -> None:
    pins = [pinned(there, resolve("ebv", d=4, n=n), f"n{n}") for n in (2, 3, 4)]
    pins[1] = replace(pins[1], digest="0" * 64)
    done = list(sync_pins(here, pins))
    assert [(each.pin.name, each.how) for each in done] == [("n2", "generated"), ("n3", "failed"), ("n4", "generated")]


class TestInputs:
    def derived(self, there: Store, centers: Path) -> Pin:
        spec = Subcenters(per_class=2, centers=str(centers)).resolve(4, 4, 0)
        return pinned(there, spec, "derived", files=(centers,))

    def test_are_brought_first(self, here: Store, there: Store) -> None:
        base = pinned(there, EXACT, "z-base")
        derived = self.derived(there, there.root / base.path)
        done = list(sync_pins(here, [derived, base], accept=True))
        assert [each.pin.name for each in done] == ["z-base", "derived"]
        assert [each.how for each in done] == ["generated", "generated"]

    def test_are_brought_first_also_where_their_method_comes_later(self, here: Store, there: Store) -> None:
        base = pinned(there, resolve("uniform", d=4, n=4), "z-base")
        derived = self.derived(there, there.root / base.path)
        done = list(sync_pins(here, [derived, base], accept=True))
        assert [(each.pin.name, each.how) for each in done] == [("z-base", "generated"), ("derived", "generated")]

    def test_that_the_store_has_not_are_asked_for(self, here: Store, there: Store) -> None:
        base = pinned(there, EXACT, "base")
        failed = only(here, self.derived(there, there.root / base.path), accept=True)
        assert isinstance(failed.error, NotFound)
        assert f"is made from the artifact with digest {base.digest}, which the store has not" in str(failed.error)


def test_a_full_disk_is_said_and_leaves_nothing(here: Store, there: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    pin = pinned(there, DESCENT)

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    failed = only(here, pin, remote=there)
    assert isinstance(failed.error, DiskError)
    assert "No space left on device" in str(failed.error)
    assert not here.root.exists()


class TestReceive:
    def test_takes_the_version_then_the_next_free(self, here: Store, there: Store) -> None:
        pins = [pinned(there, resolve("ebv", d=4, n=6, start="random", steps=k), str(k)) for k in (1, 2)]
        sources = [(there.root / pin.path).read_bytes() for pin in pins]

        def receive(pin: Pin, raw: bytes, version: int) -> str:
            path = here.receive(pin.spec, version, lambda target: write_arriving(target, BytesIO(raw), "a copy"))
            return path.name.partition("-")[0]

        assert receive(pins[0], sources[0], 3) == "v3"
        assert receive(pins[0], sources[0], 1) == "v3"  # there already
        assert receive(pins[1], sources[1], 3) == "v4"
        (here.root / "ebv/d4-n6" / f"v3-{pins[0].spec.key}.safetensors").unlink()
        assert receive(pins[0], sources[0], 3) == "v3"  # its own claim

    def test_refuses_what_is_damaged_or_another(self, here: Store, there: Store) -> None:
        pin = pinned(there, DESCENT)
        raw = flip(there.root / pin.path)
        with pytest.raises(IntegrityError, match="do not give the digests in the header"):
            here.receive(DESCENT, 1, lambda target: write_arriving(target, BytesIO(raw), "a copy"))
        path = ensure_path(EXACT, store=there.root)
        with pytest.raises(IntegrityError, match=f"asked for was {DESCENT.key}"):
            here.receive(DESCENT, 1, lambda target: write_arriving(target, BytesIO(path.read_bytes()), "a copy"))
        assert not here.root.exists()
