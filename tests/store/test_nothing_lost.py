"""Nothing finished is lost: damage that comes meanwhile, disks that refuse, folders that go, threads at once."""

import os
import re
import shutil
import tempfile
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from artifacts import MADE, flip, published

from protogen.capacity.journal import Journal
from protogen.errors import DiskError
from protogen.files import disk
from protogen.files.header import check_file
from protogen.files.prototypes import Prototypes
from protogen.rows import InMemory
from protogen.run import Run
from protogen.spec import Spec
from protogen.store.access import ensure, ensure_path
from protogen.store.pinning import pin, pins
from protogen.store.prune import prune
from protogen.store.repair import set_aside
from protogen.store.store import Store

SPEC = Spec.of("ebv", 1, d=2, n=3, seed=0, params={"start": "random"})


def made(angle: float = 0.1) -> Prototypes:
    turned = torch.tensor([0.0, angle, 2.0])
    return Prototypes(SPEC, InMemory(torch.stack([turned.cos(), turned.sin()], dim=1)), None, MADE)


def generating(monkeypatch: pytest.MonkeyPatch, generate: Callable[[Spec, Run], Prototypes]) -> None:
    monkeypatch.setattr("protogen.generating.make", generate)


@pytest.mark.parametrize("reproducible", ["statistical", "exact"])
@pytest.mark.parametrize("cut", [False, True])
def test_damage_that_appears_under_the_key_during_a_run_hides_nothing(
    store: Path, monkeypatch: pytest.MonkeyPatch, cut: bool, reproducible: Any
) -> None:
    def generate(spec: Spec, run: Run) -> Prototypes:
        path = Store(store).publish(made())
        os.truncate(path, 100) if cut else flip(path, 60)
        return replace(made(0.2), provenance=replace(MADE, reproducible=reproducible))

    generating(monkeypatch, generate)
    found = ensure(SPEC, store=store)
    assert found.path == store / f"ebv/d2-n3/v2-{SPEC.key}.safetensors"
    assert torch.equal(found.tensor, made(0.2).tensor)
    generating(monkeypatch, lambda *_: pytest.fail("it is there"))
    assert ensure(SPEC, store=store).digest == found.digest


@pytest.mark.parametrize("fault", ["gone", "rows"])
@pytest.mark.parametrize("force", [False, True])
def test_what_was_made_is_brought_again_where_its_file_goes_at_once(
    store: Path, monkeypatch: pytest.MonkeyPatch, fault: str, force: bool
) -> None:
    publish, left = Store.publish, 2

    def spoilt(self: Store, *given: Any) -> Path:
        nonlocal left
        path = publish(self, *given)
        if left:
            left -= 1
            path.unlink() if fault == "gone" else flip(path)
        return path

    generating(monkeypatch, lambda *_: made())
    monkeypatch.setattr(Store, "publish", spoilt)
    found = ensure(SPEC, store=store, force=force)
    assert left == 0
    assert torch.equal(found.tensor, made().tensor)
    assert found.path is not None
    assert check_file(found.path).digest == found.digest
    assert not (store / ".runs").exists()


def test_damage_in_the_rows_of_one_that_appears_during_a_run_hides_nothing(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def generate(spec: Spec, run: Run) -> Prototypes:
        flip(Store(store).publish(made()))
        return made(0.2)

    generating(monkeypatch, generate)
    found = ensure(SPEC, store=store)
    assert found.path == store / f"ebv/d2-n3/v2-{SPEC.key}.safetensors"
    assert torch.equal(found.tensor, made(0.2).tensor)


def test_a_sound_one_that_appears_during_a_run_is_taken(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def generate(spec: Spec, run: Run) -> Prototypes:
        Store(store).publish(made())
        return made(0.2)

    generating(monkeypatch, generate)
    assert torch.equal(ensure(SPEC, store=store).tensor, made().tensor)


@pytest.mark.parametrize("state", [False, True])
def test_a_store_and_a_rescue_that_refuse_say_what_is_left_where(
    store: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, state: bool
) -> None:
    def generate(spec: Spec, run: Run) -> Prototypes:
        assert run.folder is not None
        if state:
            run.folder.mkdir(parents=True)
            (run.folder / "state.safetensors").touch()
        return made()

    def full(*_: object) -> None:
        raise DiskError("store: No space left on device")

    generating(monkeypatch, generate)
    (tmp_path / "spare").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "spare"))
    monkeypatch.setattr(Store, "publish", full)
    with pytest.raises(DiskError) as error:
        ensure_path(SPEC, store=store)
    left = f"the last state of its descent is in {store}/.runs/{SPEC.key}, and the same call goes on from there"
    left = left if state else "nothing of it is left"
    refused = "store: No space left on device"
    assert str(error.value) == f"{refused}; nor could it be kept elsewhere ({refused}); {left}"
    assert list((tmp_path / "spare").iterdir()) == []


def test_a_store_that_refuses_after_an_interruption_is_gone_round(
    store: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ends: list[BaseException] = [KeyboardInterrupt(), DiskError("full")]
    publish = Store.publish

    def refused(self: Store, *given: Any) -> Path:
        if self.root == store:
            raise ends.pop(0)
        return publish(self, *given)

    generating(monkeypatch, lambda *_: made())
    (tmp_path / "spare").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "spare"))
    monkeypatch.setattr(Store, "publish", refused)
    with pytest.raises(DiskError, match="full; what was made lies in ") as error:
        ensure_path(SPEC, store=store)
    assert check_file(Path(str(error.value).rpartition(" ")[2])).spec == SPEC


class Rmdir:
    """What another process does at its worst: it removes a folder, empty as it is, as soon as that is made."""

    def __init__(self, folder: str, monkeypatch: pytest.MonkeyPatch, times: int = 3) -> None:
        self.folder, self.left, mkdir = folder, times, Path.mkdir

        def removed(path: Path, *given: Any, **more: Any) -> None:
            mkdir(path, *given, **more)
            if path.name == folder and self.left:
                self.left -= 1
                path.rmdir()

        monkeypatch.setattr(Path, "mkdir", removed)


def test_a_damaged_file_is_set_aside_though_the_folder_goes(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = published(store)
    damaged = flip(path)
    gone, said = Rmdir(".quarantine", monkeypatch), list[str]()
    set_aside(Store(store), path, said.append)
    assert gone.left == 0
    assert not path.exists()
    (aside,) = (store / ".quarantine").iterdir()
    assert aside.read_bytes() == damaged
    assert said[0].startswith(f"set aside as {aside}: ")


def test_a_file_that_another_has_set_aside_is_no_matter(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = published(store)
    flip(path)
    rename = Path.rename
    monkeypatch.setattr(Path, "rename", lambda self, target: (self.unlink(), rename(self, target)))
    set_aside(Store(store), path, lambda _: pytest.fail("nothing was set aside"))
    assert not path.exists()


def test_a_journal_is_saved_though_its_folder_goes(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(store / ".runs" / SPEC.key, SPEC)
    gone = Rmdir(SPEC.key, monkeypatch)
    journal.save((), made().source)
    assert gone.left == 0
    _, rows, over = journal.load()
    assert rows is not None
    assert torch.equal(rows, made().tensor)
    assert not over
    assert sorted(path.suffix for path in journal.folder.iterdir()) == [".json", ".safetensors"]


def test_prune_and_a_journal_at_once(store: Path) -> None:
    journal, over = Journal(store / ".runs" / SPEC.key, SPEC), threading.Event()

    def emptied() -> None:
        while not over.is_set():
            list(prune(Store(store)))

    thread = threading.Thread(target=emptied)
    thread.start()
    try:
        for _ in range(30):
            journal.save((), None)
            shutil.rmtree(journal.folder, ignore_errors=True)
    finally:
        over.set()
        thread.join()


def test_claims_are_on_the_disk_before_the_name(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls, fsync, link = list[str](), os.fsync, os.link

    def synced(descriptor: int) -> None:
        calls.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    def linked(source: Path, target: Path) -> None:
        calls.append(str(Path(target).absolute()))
        link(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "link", linked)
    path = published(store).absolute()
    claims = path.parent / ".claims"
    after = calls.index(str(claims / "1"))
    assert after < calls.index(str(claims)) < calls.index(str(path)) < calls.index(str(path.parent))
    assert str(store.absolute()) in calls[calls.index(str(path)) :]


def together(count: int, work: Callable[[int], object]) -> list[object]:
    """Do it in so many threads at once; the results in any order."""
    barrier, results = threading.Barrier(count), list[object]()

    def begin(index: int) -> None:
        barrier.wait()
        try:
            results.append(work(index))
        except BaseException as error:
            results.append(error)

    threads = [threading.Thread(target=begin, args=(index,)) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


@pytest.mark.slow
def test_of_threads_that_ask_at_once_one_generates(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs, at_work = list[int](), threading.Lock()

    def generate(spec: Spec, run: Run) -> Prototypes:
        assert at_work.acquire(blocking=False)
        runs.append(len(runs))
        threading.Event().wait(0.05)
        at_work.release()
        return made(0.1 + len(runs))

    generating(monkeypatch, generate)
    root = store.absolute()
    assert len(set(together(8, lambda _: ensure(SPEC, store=root).digest))) == 1
    assert len(runs) == 1
    forced = together(4, lambda _: ensure(SPEC, store=root, force=True).version)
    assert sorted(map(int, map(str, forced))) == [2, 3, 4, 5]
    assert len(runs) == 5
    assert {path.name for path in root.iterdir()} == {"ebv"}


@pytest.mark.slow
def test_threads_that_pin_at_once_all_stand_in_the_lock(store: Path) -> None:
    paths = [published(store, seed) for seed in range(6)]
    results = together(6, lambda index: pin(f"n{index}", paths[index]).digest)
    assert {held.digest for held in pins().values()} == set(results)
    assert sorted(path.name for path in Path().iterdir()) == ["protogen.lock", "store"]


def test_names_of_one_moment_differ_among_threads() -> None:
    names = together(8, lambda _: disk.temporary_name())
    assert len(set(names)) == 8
    assert all(re.fullmatch(rf"\.protogen-.+-{os.getpid()}-[0-9a-f]{{8}}\.tmp", str(name)) for name in names)
