"""A disk that fails, at one call or from one call on: a command ends well or says why, and nothing is lost."""

import _pyio
import builtins
import contextlib
import errno
import io
import itertools
import os
import re
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest
from commands import Ran, done

from protogen import cli
from protogen.descent import checkpoint
from protogen.errors import DiskError
from protogen.files import header
from protogen.files.header import Header, check_file
from protogen.files.names import parse_path
from protogen.files.reading import read
from protogen.files.writing import write
from protogen.methods import resolve
from protogen.report.progress import Display
from protogen.rows import InMemory
from protogen.store import store
from protogen.store.access import ensure
from protogen.store.prune import prune
from protogen.store.store import Store

ERRORS = (errno.ENOSPC, errno.EIO, errno.EACCES, errno.EROFS)
# The functions of `os` behind each call, and how many paths they are given first; 0: a descriptor.
CALLS: Mapping[str, Mapping[str, int]] = {
    "open": {"open": 1},
    "write": {"write": 0, "sendfile": 0},
    "fsync": {"fsync": 0},
    "link": {"link": 2},
    "rename": {"rename": 2, "replace": 2},
    "unlink": {"unlink": 1, "remove": 1},
    "mkdir": {"mkdir": 1},
}
ANY = "any"  # all of them together
FORMULA = ("ebv", "--d", 4, "--n", 4)
OTHER = ("ebv", "--d", 4, "--n", 3)
DRAWN = ("ebv", "--d", 4, "--n", 6, "--start", "random", "--steps", 3)
TASKS = {
    "exact": FORMULA,
    "statistical": ("ebv", "--d", 5, "--n", 12, "--start", "random", "--steps", 300),
    "sync": ("sync", "--remote", "remote"),  # one is there, one a formula gives, one the remote alone has
}


@dataclass
class Disk:
    """A folder whose `call` fails when it comes for the k-th time, and with `lasting` from then on.

    Files are opened by Python's own model of them, which comes down to the calls of `os`; of a write that
    fails one half is written. `counts` are the calls that came.
    """

    root: Path
    call: str = ANY
    k: int = 0
    error: int = 0
    lasting: bool = False
    counts: Counter[str] = field(default_factory=Counter)

    @property
    def failed(self) -> bool:
        """Whether it has."""
        return 0 < self.k <= self.counts[self.call]

    @contextlib.contextmanager
    def mounted(self) -> Iterator[None]:
        """Have it in place."""
        with contextlib.ExitStack() as stack:
            for call, functions in CALLS.items():
                for name, paths in functions.items():
                    stack.enter_context(patch.object(os, name, self._failing(call, getattr(os, name), paths)))
            opener = self._opener(io.open)
            for module in (io, builtins):
                stack.enter_context(patch.object(module, "open", opener))
            yield

    def _failing(self, call: str, real: Callable[..., Any], paths: int) -> Callable[..., Any]:
        def act(*args: Any, **options: Any) -> Any:
            if any(self._is_mine(file, options.get("dir_fd")) for file in args[: paths or 1]):
                self.counts.update((call, ANY))
                if self.call in (call, ANY) and (self.counts[self.call] == self.k or (self.lasting and self.failed)):
                    if real.__name__ == "write":
                        real(args[0], bytes(args[1])[: len(args[1]) // 2])
                    raise OSError(self.error, os.strerror(self.error))
            return real(*args, **options)

        return act

    def _opener(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def opened(file: Any, *args: Any, **options: Any) -> Any:
            return (_pyio.open if self._is_mine(file) else real)(file, *args, **options)

        return opened

    def _is_mine(self, file: Any, folder: int | None = None) -> bool:
        if isinstance(file, int):
            path = os.readlink(f"/proc/self/fd/{file}")
        else:
            path = os.path.join(os.getcwd() if folder is None else os.readlink(f"/proc/self/fd/{folder}"), file)
        return Path(os.path.normpath(path)).is_relative_to(self.root)


class Place:
    """A task in a folder with a store, perhaps a remote and a lock, beside `spare`, the system's temporary folder."""

    def __init__(self, folder: Path, task: str) -> None:
        self.folder = folder.resolve()
        self.root, self.spare, self._fresh = (self.folder / name for name in ("root", "spare", "fresh"))
        self._words, self._steps = TASKS[task], itertools.count()
        for path in (self.root, self.spare):
            path.mkdir(parents=True)
        if task == "sync":
            for name, words in {"formula": FORMULA, "other": OTHER, "drawn": DRAWN}.items():
                done(self.run("lock", "add", name, done(self.run(*words, "--quiet"))))
            (self.root / "store").rename(self.root / "remote")
            shutil.rmtree(self.root / "remote/ebv/d4-n3")
            done(self.run(*FORMULA))
        self.root.rename(self._fresh)
        whole = Disk(self.root)
        self._begin(whole)
        self.counts, self._files = whole.counts, self._sound()

    def fail(self, disk: Disk) -> Ran:
        """Do the task on a disk that fails, then on one that does not; say how the first ended."""
        ran = self._begin(disk)
        worked = next(self._steps) > 0
        assert disk.failed
        errors = sum(line.startswith("error: ") for line in ran.err.splitlines())
        assert errors == (ran.code != 0) or (disk.lasting and errors > 1 and ran.code != 0), ran  # of a sync, several
        assert "Traceback" not in ran.err
        there = self._sound()
        assert there.items() <= self._files.items()
        if ran.code == 0:
            assert there == self._files
        elif worked and there != self._files and disk.root == self.root:
            kept = re.search(r"what was made lies in (\S+)\n", ran.err)
            assert kept, ran
            assert check_file(kept[1]).digest in self._files.values()
        done(self.run(*self._words))
        assert self._sound() == self._files
        return ran

    def run(self, *words: object) -> Ran:
        """Run a command in this process; a descent has its state written every 66 steps or so."""
        out, err, clock = io.StringIO(), io.StringIO(), itertools.count(0.0, 0.15)
        self._steps = itertools.count()
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PROTOGEN_")}
        with (
            contextlib.chdir(self.root),
            patch.dict(os.environ, {**environment, "PROTOGEN_STORE": "store"}, clear=True),
            patch.object(sys, "argv", ["protogen", *map(str, words)]),
            patch.object(tempfile, "tempdir", str(self.spare)),
            patch.object(Display, "step", lambda *_: next(self._steps)),
            patch.object(checkpoint, "time", SimpleNamespace(monotonic=lambda: next(clock))),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            pytest.raises(SystemExit) as end,
        ):
            cli.main()
        assert isinstance(end.value.code, int)
        return Ran(end.value.code, out.getvalue(), err.getvalue())

    def _begin(self, disk: Disk) -> Ran:
        """Do the task from the start, on this disk."""
        for path in (self.root, self.spare):
            shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(self._fresh, self.root)
        self.spare.mkdir()
        with disk.mounted():
            return self.run(*self._words)

    def _sound(self) -> dict[str, str]:
        """See that every visible file of the store and the remote is sound; their digests."""
        digests = {}
        for name in ("store", "remote"):
            for path in (self.root / name).rglob("*"):
                parts = path.relative_to(self.root).parts
                if path.is_file() and not any(part.startswith(".") for part in parts):
                    assert parse_path(path), path
                    digests["/".join(parts)] = check_file(path).digest
        return digests


def ended(ran: Ran, *codes: int) -> None:
    """It went well, or ended with one of these codes."""
    assert ran.code in (0, *codes), ran


@pytest.mark.parametrize(("task", "step"), [("exact", 1), ("statistical", 5), ("sync", 5)])
def test_a_call_that_fails_once(task: str, step: int, tmp_path: Path) -> None:
    place = Place(tmp_path, task)
    for call, count in place.counts.items():
        for k in range(1, count + 1, step) if call != ANY else ():
            ended(place.fail(Disk(place.root, call, k, ERRORS[k // step % 4])), 4, 6)  # 6: the remote fails, too


@pytest.mark.parametrize("task", ["exact", "statistical"])
def test_a_disk_that_fails_for_good(task: str, tmp_path: Path) -> None:
    place = Place(tmp_path, task)
    for k in range(1, place.counts[ANY] + 1, 11):
        ended(place.fail(Disk(place.root, ANY, k, ERRORS[k // 11 % 4], lasting=True)), 4)


def test_where_no_room_is_left_anywhere_the_store_is_named(tmp_path: Path) -> None:
    place = Place(tmp_path, "statistical")
    for k in range(1, place.counts[ANY] + 1, 22):
        ran = place.fail(Disk(place.folder, ANY, k, errno.ENOSPC, lasting=True))
        assert ran.err.splitlines()[-1].startswith("error: store"), ran


class TestGoneMeanwhile:
    """What another process takes out of the store, at a bad moment."""

    @pytest.fixture
    def here(self, tmp_path: Path) -> Store:
        """A store of two artifacts."""
        for n in (3, 4):
            ensure(resolve("ebv", d=4, n=n), store=tmp_path)
        return Store(tmp_path)

    def test_a_folder_hides_no_other(self, here: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        first, second = (entry.path for entry in here.entries())

        def listed(folder: Path, real: Callable[[Path], list[str]] = os.listdir) -> list[str]:
            names = real(folder)
            if Path(folder) == here.root / "ebv":
                shutil.rmtree(first.parent)
            return names

        monkeypatch.setattr(os, "listdir", listed)
        assert [entry.path for entry in here.entries()] == [second]

    def test_a_folder_that_cannot_be_read_is_an_error(self, here: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        first = here.entries()[0].path

        def listed(folder: Path, real: Callable[[Path], list[str]] = os.listdir) -> list[str]:
            if Path(folder) == first.parent:
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))
            return real(folder)

        monkeypatch.setattr(os, "listdir", listed)
        with pytest.raises(DiskError, match=rf"{re.escape(str(first.parent))}: Permission denied"):
            here.entries()

    @pytest.mark.parametrize("force", [False, True])
    def test_a_file_that_was_first_gives_way(self, here: Store, monkeypatch: pytest.MonkeyPatch, force: bool) -> None:
        path = here.entries()[0].path
        made, real = read(path), store.link
        path.unlink()
        monkeypatch.setattr(store, "link", lambda source, target: target != path and real(source, target))
        found = here.publish(made, force)
        assert found.name == path.name.replace("v1-", "v2-")
        check_file(found)

    @pytest.mark.parametrize("replaced", [False, True])
    @pytest.mark.parametrize("reader", [check_file, read])
    def test_a_file_that_is_being_read_is_read_to_its_end(
        self, here: Store, monkeypatch: pytest.MonkeyPatch, reader: Callable[[Path], Any], replaced: bool
    ) -> None:
        path, real = here.entries()[0].path, header.header_from
        made, other = read(path), here.root / "other.safetensors"
        write(other, replace(made, source=InMemory(made.tensor.flip(0)), facts={}))  # a header of another length, too

        def header_from(*given: Any) -> Header:
            found = real(*given)
            path.unlink()
            if replaced:
                other.rename(path)
            return found

        monkeypatch.setattr(header, "header_from", header_from)
        assert reader(path).digest == made.digest

    def test_folders_are_nothing_to_prune(self, here: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        (here.root / ".locks").mkdir()

        class Scanned(contextlib.AbstractContextManager[Any], Iterator[Any]):
            """What a folder had, of which `.locks` is gone by now."""

            def __init__(self, folder: Path, real: Callable[[Path], Any] = os.scandir) -> None:
                with real(folder) as entries:
                    self._entries = list(entries)
                with contextlib.suppress(FileNotFoundError):
                    (here.root / ".locks").rmdir()

            def __next__(self) -> Any:
                if not self._entries:
                    raise StopIteration
                return self._entries.pop()

            def __exit__(self, *_: object) -> None:
                pass

        monkeypatch.setattr(os, "scandir", Scanned)
        assert list(prune(here)) == []
