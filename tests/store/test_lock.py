"""One process makes, the others wait; and the same end where there are no locks."""

import contextlib
import errno
import fcntl
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from threading import Timer
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from artifacts import MADE
from processes import FORK

from protogen.errors import IntegrityError
from protogen.files.header import read_header
from protogen.files.prototypes import Prototypes
from protogen.methods import resolve
from protogen.rows import InMemory
from protogen.run import Run
from protogen.spec import Spec
from protogen.store import access, turns
from protogen.store.access import ensure, ensure_path
from protogen.store.store import Store
from protogen.store.turns import Patience, alone, is_held

pytestmark = pytest.mark.slow

SPEC = Spec.of("ebv", 1, d=2, n=2, seed=0, params={"alpha": 0.1})
forks = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # Python 3.12 warns of the test's own way


def made_here(spec: Spec = SPEC) -> Prototypes:
    """Two rows, whose content depends on the process."""
    angle = torch.tensor(os.getpid() * 1e-4)
    return Prototypes(
        spec, InMemory(torch.stack([torch.eye(2)[0], torch.stack([angle.cos(), angle.sin()])])), None, MADE
    )


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def generations(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[], list[int]]:
    """Have `generate` take a moment and write down its process; give the processes that it ran in."""
    log = tmp_path / "generations"
    log.touch()

    def generate(spec: Spec, run: Run) -> Prototypes:
        with log.open("a") as file:
            file.write(f"{os.getpid()}\n")
        time.sleep(0.2)
        return made_here(spec)

    monkeypatch.setitem(sys.modules, "protogen.generating", SimpleNamespace(make=generate))
    return lambda: [int(line) for line in log.read_text().split()]


def together(count: int, work: Callable[[], object]) -> None:
    """Do it in so many processes at once, and see them all succeed."""
    barrier = FORK.Barrier(count)

    def begin() -> None:
        barrier.wait(20)
        work()

    processes = [FORK.Process(target=begin) for _ in range(count)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
    assert [process.exitcode for process in processes] == [0] * count


@contextlib.contextmanager
def another(work: Callable[[], object]) -> Iterator[int]:
    """Do it in another process, which is killed at the end."""
    process = FORK.Process(target=work)
    process.start()
    try:
        yield process.pid or 0
    finally:
        process.kill()
        process.join(20)


def hold(root: Path, key: str, ready: Path) -> None:
    with alone(root, key):
        ready.touch()
        time.sleep(60)


def wait_for(path: Path) -> None:
    end = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < end
        time.sleep(0.01)


def left(root: Path) -> list[str]:
    """All files of a store."""
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


ONE_FILE = ["ebv/d2-n2/.claims/1", f"ebv/d2-n2/v1-{SPEC.key}.safetensors"]


@forks
def test_one_generates_and_the_others_wait(root: Path, generations: Callable[[], list[int]]) -> None:
    together(4, lambda: ensure(SPEC, store=root))
    assert len(generations()) == 1
    assert left(root) == ONE_FILE
    assert not (root / ".locks").exists()


@forks
def test_who_waits_is_told_for_whom_again_and_again(root: Path, tmp_path: Path) -> None:
    said: list[str] = []
    with another(lambda: hold(root, "key", tmp_path / "ready")) as holder:
        wait_for(tmp_path / "ready")

        def say(line: str) -> None:
            said.append(line)
            if len(said) == 2:
                os.kill(holder, signal.SIGKILL)

        with alone(root, "key", say=say, patience=Patience(0.02, 0.02, 0.005)) as free:
            assert free
    waiting = rf"waiting: key is being made by process {holder} on \S+ since [\d:T+-]+"
    assert len(said) >= 2
    assert all(re.fullmatch(waiting, line) for line in said)


@forks
def test_who_waits_in_silence_is_not_told(root: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with another(lambda: hold(root, "key", tmp_path / "ready")) as holder:
        wait_for(tmp_path / "ready")
        Timer(0.2, os.kill, (holder, signal.SIGKILL)).start()
        with alone(root, "key", patience=Patience(0.02, 0.02, 0.005)) as free:
            assert free
    assert capfd.readouterr() == ("", "")


def test_an_error_of_who_is_told_is_not_taken_for_a_disk_without_locks(root: Path, tmp_path: Path) -> None:
    def say(line: str) -> None:
        raise BrokenPipeError

    with another(lambda: hold(root, "key", tmp_path / "ready")):
        wait_for(tmp_path / "ready")
        with pytest.raises(BrokenPipeError), alone(root, "key", say=say, patience=Patience(0.02, 0.02, 0.005)):
            pass


def test_who_does_not_wait_is_told(root: Path) -> None:
    with alone(root, "key", wait=False) as free:
        assert free
        with another(lambda: hold(root, "other", root / "ready")):
            wait_for(root / "ready")
            with alone(root, "other", wait=False) as free:
                assert not free
            assert is_held(root / ".locks/other.lock")
    (root / ".locks/other.lock").unlink()


def test_a_folder_that_is_removed_in_the_making_is_made_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mkdir, errors = Path.mkdir, [FileExistsError(), FileNotFoundError()]

    def removed(self: Path, *given: Any, **more: Any) -> None:
        if self.name == ".locks" and errors:
            raise errors.pop()
        mkdir(self, *given, **more)

    monkeypatch.setattr(Path, "mkdir", removed)
    with alone(root, "key"):
        assert is_held(root / ".locks/key.lock")
    assert errors == []


def test_a_folder_that_can_not_be_made_is_no_lock(root: Path) -> None:
    root.mkdir()
    (root / ".locks").touch()
    with alone(root, "key") as free:
        assert free


@forks
def test_without_locks_the_end_is_the_same(
    root: Path, generations: Callable[[], list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "_acquire", lambda *_: (None, True))
    digests = root.parent / "digests"

    def work() -> None:
        digest = str(ensure(SPEC, store=root).digest)
        with digests.open("a") as file:
            file.write(f"{digest}\n")

    together(4, work)
    assert len(generations()) == 4
    assert left(root) == ONE_FILE
    assert digests.read_text().split() == [read_header(root / ONE_FILE[1]).digest] * 4


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_that_refuses_locks_is_gone_on_without(
    root: Path, generations: Callable[[], list[int]], monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def flock(descriptor: int, how: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", flock)
    ensure(SPEC, store=root)
    assert len(generations()) == 1
    assert set(left(root)) - {f".locks/{SPEC.key}.lock"} == set(ONE_FILE)


def test_a_folder_that_takes_no_lock_is_gone_on_without(root: Path, generations: Callable[[], list[int]]) -> None:
    root.mkdir()
    (root / ".locks").touch()  # no folder
    ensure(SPEC, store=root)
    assert len(generations()) == 1
    assert left(root) == [".locks", *ONE_FILE]


def test_a_hit_takes_no_lock(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = Store(root).publish(made_here())

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr(access, "alone", refuse)
    assert ensure_path(SPEC, store=root) == path


@forks
def test_the_lock_of_a_killed_process_is_free(root: Path, generations: Callable[[], list[int]], tmp_path: Path) -> None:
    lock = root / ".locks" / f"{SPEC.key}.lock"
    with another(lambda: hold(root, SPEC.key, tmp_path / "ready")) as holder:
        wait_for(tmp_path / "ready")
        assert is_held(lock)
        os.kill(holder, signal.SIGKILL)
    assert lock.exists()
    assert not is_held(lock)
    ensure(SPEC, store=root)
    assert left(root) == ONE_FILE


@forks
def test_an_interruption_ends_the_wait_at_once(root: Path, tmp_path: Path) -> None:
    key = resolve("ebv", d=3, n=3).key
    with another(lambda: hold(root, key, tmp_path / "ready")) as holder:
        wait_for(tmp_path / "ready")
        words = [sys.executable, "-m", "protogen", "ebv", "--d", "3", "--n", "3", "--store", str(root)]
        child = subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert child.stderr
        assert child.stderr.readline().startswith(f"waiting: {key} is being made by process {holder} on ")
        began = time.monotonic()
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=20)
        assert time.monotonic() - began < 2
        assert (child.returncode, out, err.splitlines()[-1]) == (130, "", "interrupted")
    assert left(root) == [f".locks/{key}.lock"]


class TestStateOfARun:
    @pytest.fixture
    def folders(self, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Path, Spec]]:
        """Have `generate` leave a state in the folder that it is given; what it gives is of the Spec in the list."""
        seen: list[tuple[Path, Spec]] = []

        def generate(spec: Spec, run: Run) -> Prototypes:
            assert run.folder
            run.folder.mkdir(parents=True, exist_ok=True)
            (run.folder / "state.safetensors").touch()
            seen.append((run.folder, spec))
            return made_here(replace(spec, params=(*spec.params, ("ended", "time limit"))) if run.time_limit else spec)

        monkeypatch.setitem(sys.modules, "protogen.generating", SimpleNamespace(make=generate))
        return seen

    def test_lies_under_its_key_until_the_whole_is_published(
        self, root: Path, folders: list[tuple[Path, Spec]]
    ) -> None:
        ensure(SPEC, Run(time_limit=1.0), store=root)
        assert folders == [(root / ".runs" / SPEC.key, SPEC)]
        assert (folders[0][0] / "state.safetensors").exists()  # to go on from
        ensure(SPEC, store=root)
        assert folders[1] == folders[0]
        assert not folders[0][0].exists()

    def test_a_journal_of_another_key_stays(self, root: Path, folders: list[tuple[Path, Spec]]) -> None:
        journal = root / ".runs" / "0123456789ab" / "journal.json"
        journal.parent.mkdir(parents=True)
        journal.touch()
        ensure(SPEC, store=root)
        assert journal.exists()


class TestDamage:
    def test_is_set_aside_and_generated_under_the_same_claim(
        self, root: Path, generations: Callable[[], list[int]], capfd: pytest.CaptureFixture[str]
    ) -> None:
        path = Store(root).publish(made_here())
        damaged = path.read_bytes()[:-1] + b"\x7f"  # the rows, of which the header says nothing
        path.write_bytes(damaged)
        assert ensure_path(SPEC, store=root) == path  # a hit reads the header alone
        said: list[str] = []
        kept = ensure(SPEC, Run(say=said.append), store=root)
        assert kept.path == path
        assert len(generations()) == 1
        (aside,) = (root / ".quarantine").iterdir()
        assert re.fullmatch(rf"\d{{8}}T\d{{6}}\.\d{{6}}Z-ebv-d2-n2-v1-{SPEC.key}\.safetensors", aside.name)
        assert aside.read_bytes() == damaged
        assert left(root) == [f".quarantine/{aside.name}", *ONE_FILE]
        assert said == [f"set aside as {aside}: {path}: the bytes of its tensors do not give the digests in the header"]
        assert capfd.readouterr() == ("", "")

    def test_in_the_header_too(self, root: Path, generations: Callable[[], list[int]]) -> None:
        path = Store(root).publish(made_here())
        os.truncate(path, 100)
        assert ensure(SPEC, store=root).path == path
        assert len(list((root / ".quarantine").iterdir())) == 1

    def test_in_a_store_that_cannot_be_written_is_an_error(
        self, root: Path, generations: Callable[[], list[int]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = Store(root).publish(made_here())
        os.truncate(path, 100)
        before = left(root)

        def refuse(*_: object, **__: object) -> None:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))

        for name in ("mkdir", "rename", "link", "unlink"):
            monkeypatch.setattr(os, name, refuse)
        with pytest.raises(IntegrityError, match=f"{path.name}: no safetensors file, or cut short"):
            ensure(SPEC, store=root)
        assert left(root) == before
        assert generations() == []

    def test_a_file_of_a_later_protogen_stays(self, root: Path, generations: Callable[[], list[int]]) -> None:
        path = Store(root).publish(made_here())
        path.write_bytes(path.read_bytes().replace(rb"\"schema\":2", rb"\"schema\":9"))
        with pytest.raises(IntegrityError, match="schema 9, this protogen reads 2; upgrade protogen"):
            ensure(SPEC, store=root)
        assert left(root) == ONE_FILE

    @forks
    def test_found_by_several_at_once_is_set_aside_once(self, root: Path, generations: Callable[[], list[int]]) -> None:
        path = Store(root).publish(made_here())
        path.write_bytes(path.read_bytes()[:-1] + b"\x7f")
        together(4, lambda: ensure(SPEC, store=root))
        assert len(generations()) == 1
        assert len(list((root / ".quarantine").iterdir())) == 1
        assert left(root)[1:] == ONE_FILE
