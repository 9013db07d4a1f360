"""What may be removed from a store, and what may not."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from artifacts import MADE

from protogen.cli.files import verify
from protogen.errors import DiskError
from protogen.files import disk
from protogen.files.disk import host, is_stale, temporary, temporary_name
from protogen.files.header import check_file
from protogen.files.prototypes import Prototypes
from protogen.rows import InMemory
from protogen.spec import Spec
from protogen.store.prune import prune
from protogen.store.repair import set_aside
from protogen.store.store import Store
from protogen.store.turns import alone

DAY = 86_400.0


@pytest.fixture(scope="module")
def dead() -> int:
    """The id of a process that is no more."""
    child = subprocess.Popen([sys.executable, "-S", "-c", ""])
    child.wait()
    return child.pid


def publish(here: Store, n: int, days: float) -> Path:
    """An artifact of n rows that was written so many days ago."""
    spec = Spec.of("ebv", 1, d=2, n=n, seed=0, params={})
    path = here.publish(Prototypes(spec, InMemory(torch.eye(2)[torch.arange(n) % 2]), None, MADE))
    return aged(path, days)


def of(process: int, number: str = "0123abcd") -> str:
    """The name of a temporary file of a process here."""
    return re.sub(r"-\d+-[0-9a-f]+\.tmp$", f"-{process}-{number}.tmp", temporary_name())


def aged(path: Path, days: float) -> Path:
    then = time.time() - days * DAY
    os.utime(path, (then, then))
    return path


def touch(path: Path, days: float = 0.0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * 10)
    return aged(path, days)


def files(here: Store) -> set[Path]:
    """The files of a store but for its claims."""
    return {path for path in here.root.rglob("*") if path.is_file() and not re.search(r"\.claims/\d+$", str(path))}


def test_temporary_files_are_stale_when_nobody_writes_them(tmp_path: Path, dead: int) -> None:
    def is_(name: str, days: float = 0.0) -> bool:
        return is_stale(touch(tmp_path / name, days))

    with temporary(tmp_path) as mine:
        assert not is_(mine.name)
        assert is_(mine.name, 1.1)
    assert list(tmp_path.iterdir()) == []
    assert is_(of(dead))
    assert is_(of(dead, "01234567"))
    assert not is_(f".elsewhere-{dead}-0123abcd.tmp")
    assert not is_(f".elsewhere-{dead}-0123abcd.tmp", 0.9)
    assert is_(f".elsewhere-{dead}-0123abcd.tmp", 1.1)
    assert not is_(f".elsewhere-{dead}-0123abcd.tmp", -1.0)  # the clock was set back
    for other in (
        f".{dead}.tmp",
        "notes.tmp",
        ".notes.tmp",
        of(dead).replace(".tmp", ".txt"),
        of(0),
    ):
        assert not is_(other, 9.0)


def test_the_name_of_a_machine_fits_a_file_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, dead: int) -> None:
    monkeypatch.setattr(disk.platform, "node", lambda: "a/b c-1")
    assert host() == "a_b_c-1"
    assert is_stale(touch(tmp_path / of(dead)))


def test_the_numbers_of_processes_are_those_of_their_own_space(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, dead: int
) -> None:
    """Containers of one host may share its name and a store, and each count its processes from 1."""
    elsewhere, real = touch(tmp_path / of(dead)), os.stat

    def stat(path: Any, *rest: Any, **more: Any) -> Any:
        return real("/proc/self/ns/net" if path == "/proc/self/ns/pid" else path, *rest, **more)

    assert is_stale(elsewhere)
    monkeypatch.setattr(os, "stat", stat)
    assert not is_stale(elsewhere)
    assert is_stale(touch(tmp_path / of(dead)))


def test_publishing_cleans_its_folder(here: Store, dead: int) -> None:
    folder = publish(here, 2, 0).parent
    stale = [touch(folder / where / of(dead)) for where in (".", ".claims")]
    live = [touch(folder / where / f".elsewhere-{dead}-0123abcd.tmp") for where in (".", ".claims")]
    spec = Spec.of("ebv", 1, d=2, n=2, seed=1, params={})
    here.publish(Prototypes(spec, InMemory(torch.eye(2)), None, MADE))
    assert [path.exists() for path in (*stale, *live)] == [False, False, True, True]


def test_a_sound_file_that_came_in_the_place_of_a_damaged_one_stays(
    here: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = publish(here, 2, 0)
    raw = path.read_bytes()
    path.write_bytes(raw[:-1])

    def replaced(checked: Path) -> Any:
        try:
            return check_file(checked)
        finally:
            path.write_bytes(raw) if checked == path else None

    monkeypatch.setattr("protogen.store.repair.check_file", replaced)
    said: list[str] = []
    set_aside(here, path, said.append)
    assert path.read_bytes() == raw
    assert list((here.root / ".quarantine").iterdir()) == []
    assert said == []


class TestLeftovers:
    @pytest.mark.parametrize("name", [".locks/0123456789ab.lock", ".runs/0123456789ab/state.safetensors"])
    def test_what_another_has_just_taken_stays(self, here: Store, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        path = touch(here.root / name, 9)
        monkeypatch.setattr("protogen.store.prune.is_held", lambda _: False)  # a moment ago
        with alone(here.root, "0123456789ab"):
            assert list(prune(here, older_than=DAY)) == []
            assert path.exists()

    def test_alone_go_where_nothing_is_asked(self, here: Store, dead: int) -> None:
        kept = {publish(here, 2, 400), publish(here, 3, 0)}
        gone = {
            touch(here.root / "ebv/d2-n2" / of(dead)),
            touch(here.root / "ebv/d2-n2/.claims" / of(dead)),
            touch(here.root / of(dead)),
            touch(here.root / ".runs/0123456789ab" / of(dead)),
            touch(here.root / ".locks/0123456789ab.lock"),
        }
        kept |= {
            touch(here.root / "ebv/d2-n2" / f".elsewhere-{dead}-0123abcd.tmp"),
            touch(here.root / ".runs/0123456789ab/state.safetensors", 400),
            touch(here.root / ".quarantine/damaged.safetensors", 400),
            touch(here.root / "notes.txt", 400),
        }
        (here.root / "ebv/d9-n9").mkdir()
        claims = sorted(here.root.rglob(".claims/?"))
        would = list(prune(here, dry_run=True))
        assert files(here) == kept | gone
        assert (here.root / "ebv/d9-n9").exists()
        removed = list(prune(here))
        assert removed == would
        assert {each.path for each in removed} == gone
        assert all(each.size == 10 for each in removed)
        assert files(here) == kept
        assert sorted(here.root.rglob(".claims/*")) == claims
        assert not (here.root / "ebv/d9-n9").exists()
        assert not (here.root / ".locks").exists()
        assert list(prune(here)) == []

    def test_folders_of_others_stay(self, here: Store) -> None:
        for name in (".git/refs/tags", "data/raw", "ebv/d2-n2"):
            (here.root / name).mkdir(parents=True)
        assert list(prune(here)) == []
        assert {path.name for path in here.root.rglob("*")} == {".git", "refs", "tags", "data", "raw"}

    def test_a_lock_that_is_held_stays_with_its_run(self, here: Store) -> None:
        run = touch(here.root / ".runs/0123456789ab/state.safetensors", 400)
        aged(run.parent, 400)
        with alone(here.root, "0123456789ab"):
            assert list(prune(here, older_than=DAY)) == []
            assert len(files(here)) == 2
        assert [each.path for each in prune(here, older_than=DAY)] == [run.parent]
        assert files(here) == set()

    def test_runs_go_when_they_are_published_or_forgotten(self, here: Store) -> None:
        key = publish(here, 2, 0).stem.partition("-")[2]
        done = touch(here.root / ".runs" / key / "state.safetensors").parent
        journal = touch(here.root / ".runs" / publish(here, 3, 0).stem.partition("-")[2] / "journal.json").parent
        fresh = touch(here.root / ".runs/0123456789ab/state.safetensors", 1).parent
        forgotten = touch(here.root / ".runs/ba9876543210/journal.json", 9).parent
        for folder in (done, journal, fresh, forgotten):
            aged(folder, 9)
        assert [each.path for each in prune(here)] == [done]
        aged(journal / "journal.json", 9)
        assert {each.path for each in prune(here, older_than=5 * DAY)} == {journal, forgotten}
        assert fresh.exists()

    def test_no_store_has_none(self, here: Store) -> None:
        assert list(prune(here, older_than=0, max_size=0, keep=())) == []
        assert not here.root.exists()


class TestArtifacts:
    @pytest.fixture
    def aged_files(self, here: Store) -> list[Path]:
        """Four files, the oldest first, of which the name says nothing of the age."""
        return [publish(here, n, days) for n, days in ((4, 40), (2, 30), (5, 20), (3, 10))]

    def pruned(self, here: Store, **conditions: Any) -> list[Path]:
        return [each.path for each in prune(here, **conditions)]

    def keys(self, here: Store, *paths: Path) -> set[tuple[str, str]]:
        return {(entry.name.key, str(entry.digest)) for entry in here.entries() if entry.path in paths}

    def test_by_age(self, here: Store, aged_files: list[Path]) -> None:
        assert self.pruned(here, older_than=25 * DAY) == aged_files[:2]
        assert files(here) == set(aged_files[2:])

    def test_by_size_the_oldest_first(self, here: Store, aged_files: list[Path]) -> None:
        sizes = [path.stat().st_size for path in aged_files]
        assert self.pruned(here, max_size=sum(sizes)) == []
        assert self.pruned(here, max_size=sum(sizes) - 1) == aged_files[:1]
        assert self.pruned(here, max_size=sizes[3]) == aged_files[1:3]
        assert self.pruned(here, max_size=0) == aged_files[3:]

    def test_by_the_lock(self, here: Store, aged_files: list[Path]) -> None:
        keep = self.keys(here, aged_files[0])
        assert set(self.pruned(here, keep=keep)) == set(aged_files[1:])
        assert files(here) == {aged_files[0]}
        other = {(key, "0" * 64) for key, _ in keep}
        assert self.pruned(here, keep=other) == aged_files[:1]  # another content of the key is not what is locked

    def test_what_is_damaged_is_kept_by_its_key(self, here: Store, aged_files: list[Path]) -> None:
        keep = self.keys(here, aged_files[0])
        os.truncate(aged_files[0], 9)
        os.truncate(aged_files[1], 9)
        assert set(self.pruned(here, keep=keep)) == set(aged_files[1:])

    def test_only_what_all_conditions_allow(self, here: Store, aged_files: list[Path]) -> None:
        sizes = [path.stat().st_size for path in aged_files]
        keep = self.keys(here, aged_files[0])
        assert self.pruned(here, keep=keep, older_than=25 * DAY) == aged_files[1:2]
        assert self.pruned(here, keep=keep, max_size=sizes[0] + sizes[3]) == aged_files[2:3]
        assert self.pruned(here, older_than=25 * DAY, max_size=0) == aged_files[:1]
        assert files(here) == {aged_files[3]}

    def test_a_version_that_went_comes_again(self, here: Store, aged_files: list[Path]) -> None:
        self.pruned(here, max_size=0)
        assert publish(here, 4, 0) == aged_files[0]

    def test_what_the_disk_refuses_is_an_error(
        self, here: Store, aged_files: list[Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: object, **__: object) -> None:
            raise OSError(30, "Read-only file system")

        monkeypatch.setattr(os, "unlink", refuse)
        with pytest.raises(DiskError, match="Read-only file system"):
            self.pruned(here, max_size=0)


def test_entries_say_what_a_file_takes(here: Store) -> None:
    path = publish(here, 2, 0)
    (entry,) = here.entries()
    assert entry.size == path.stat().st_size


def test_what_goes_while_all_are_verified_is_not_damaged(
    here: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [publish(here, n, 0) for n in (2, 3)]
    entries = here.entries()
    paths[0].unlink()
    monkeypatch.setattr(Store, "entries", lambda _: entries)
    verify(all_=True, store=here.root)
    assert capsys.readouterr().out == f"{here.root}: 2 files, 0 damaged, 0 unreadable, 0 with other figures\n"
