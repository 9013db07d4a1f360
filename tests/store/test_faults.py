"""A disk that fails, at one call or from one call on: a command ends well or says why, and nothing is lost."""

import contextlib
import errno
import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from failing_disk import ANY, ERRORS, Disk, Ended, Place

from protogen.errors import DiskError
from protogen.files import header
from protogen.files.facts import Facts
from protogen.files.header import Header, check_file
from protogen.files.reading import read
from protogen.files.writing import write
from protogen.methods import resolve
from protogen.rows import InMemory
from protogen.store import versions
from protogen.store.access import ensure
from protogen.store.prune import prune
from protogen.store.store import Store


def ended(ran: Ended, *codes: int) -> None:
    """It went well, or ended with one of these codes."""
    assert ran.returncode in (0, *codes), ran


@pytest.mark.slow
@pytest.mark.parametrize(("task", "step"), [("exact", 1), ("statistical", 5), ("sync", 5)])
def test_a_call_that_fails_once(task: str, step: int, tmp_path: Path) -> None:
    place = Place(tmp_path, task)
    for call, count in place.counts.items():
        for k in range(1, count + 1, step) if call != ANY else ():
            ended(place.fail(Disk(place.root, call, k, ERRORS[k // step % 4])), 4, 6)  # 6: the remote fails, too


@pytest.mark.slow
@pytest.mark.parametrize("task", ["exact", "statistical"])
def test_a_disk_that_fails_for_good(task: str, tmp_path: Path) -> None:
    place = Place(tmp_path, task)
    for k in range(1, place.counts[ANY] + 1, 11):
        ended(place.fail(Disk(place.root, ANY, k, ERRORS[k // 11 % 4], lasting=True)), 4)


@pytest.mark.slow
def test_where_no_room_is_left_anywhere_the_store_is_named(tmp_path: Path) -> None:
    place = Place(tmp_path, "statistical")
    for k in range(1, place.counts[ANY] + 1, 22):
        ran = place.fail(Disk(place.folder, ANY, k, errno.ENOSPC, lasting=True))
        assert ran.stderr.splitlines()[-1].startswith("error: store"), ran


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
        made, real = read(path), versions.link
        path.unlink()
        monkeypatch.setattr(versions, "link", lambda source, target: target != path and real(source, target))
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
        write(
            other, replace(made, source=InMemory(made.tensor.flip(0)), facts=Facts())
        )  # a header of another length, too

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
