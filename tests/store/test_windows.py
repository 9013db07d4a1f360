"""What Windows lacks or forbids, taken away here: reads at a place, hard links, open folders, open files' names.

This is a simulation. protogen has not been run on Windows.
"""

import ast
import json
import os
import re
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import Command, done, make

import protogen
from protogen.files.disk import create, link, read_at, sync, temporary_name
from protogen.files.names import artifact_path
from protogen.methods import METHODS
from protogen.spec import Spec

SIMPLEX = ("polytope", "simplex", "--n", 5)
DESCENT = ("ebv", "--d", 5, "--n", 12, "--start", "random", "--steps", 3)
DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{i}" for port in ("com", "lpt") for i in range(10))}


def is_allowed(name: str) -> bool:
    """Whether Windows has a file of this name: https://learn.microsoft.com/windows/win32/fileio/naming-a-file."""
    plain = not re.search(r'[<>:"/\\|?*\x00-\x1f]', name) and not name.endswith((".", " "))
    return plain and name.split(".")[0].lower() not in DEVICES


def is_open(path: Any) -> bool:
    """Whether this process has a file of this path open."""
    try:
        wanted = os.stat(path)
    except OSError:
        return False
    for each in os.listdir("/proc/self/fd"):
        try:
            found = os.fstat(int(each))
        except OSError:
            continue
        if (found.st_dev, found.st_ino) == (wanted.st_dev, wanted.st_ino):
            return True
    return False


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Take away what Windows has not; the names of files that are made from then on."""
    seen: list[str] = []
    opened, synced = os.open, os.fsync

    def open_(path: Any, flags: int, *rest: Any, **more: Any) -> int:
        if os.path.isdir(path):
            raise PermissionError(13, "Permission denied", path)
        seen.append(os.path.basename(os.fspath(path)))
        return opened(path, flags, *rest, **more)

    def fsync(file: int) -> None:
        if stat.S_ISDIR(os.fstat(file).st_mode):
            raise PermissionError(13, "Permission denied")
        if int(Path(f"/proc/self/fdinfo/{file}").read_text().split("flags:")[1].split()[0], 8) & 3 == os.O_RDONLY:
            raise OSError(9, "Bad file descriptor")
        synced(file)

    def closed(real: Callable[..., None]) -> Callable[..., None]:
        def change(path: Any, *rest: Any, **more: Any) -> None:
            if is_open(path) or (rest and is_open(rest[0])):
                raise PermissionError(13, "The process cannot access the file", path)
            seen.extend(os.path.basename(os.fspath(each)) for each in rest)
            real(path, *rest, **more)

        return change

    for name in ("pread", "pwrite", "link", "mkfifo", "O_DIRECTORY", "O_NOFOLLOW"):
        monkeypatch.delattr(os, name)
    monkeypatch.setattr(tempfile, "TemporaryFile", tempfile.NamedTemporaryFile)  # which is so there
    monkeypatch.setattr(os, "open", open_)
    monkeypatch.setattr(os, "fsync", fsync)
    for name in ("unlink", "rename", "replace"):
        monkeypatch.setattr(os, name, closed(getattr(os, name)))
    return seen


@pytest.mark.slow
def test_a_store_without_what_windows_lacks(run: Command, store: Path, windows: list[str]) -> None:
    path = make(run, *SIMPLEX)
    assert make(run, *SIMPLEX) == path
    other = make(run, *DESCENT)
    assert protogen.load(path).tensor.shape == (5, 4)
    assert torch.equal(protogen.load(other, rows=slice(2, 5)).tensor, protogen.load(other, full=True).tensor[2:5])
    assert protogen.best("simplex", n=5).path == path
    assert "2 files, 0 damaged" in done(run("verify", "--all", "--full"))
    done(run("lock", "add", "mine", path))
    assert b"\r" not in Path("protogen.lock").read_bytes()
    os.truncate(path, 100)
    ran = run("sync")
    assert done(ran).split()[1] == "generated,"
    assert "set aside as" in ran.err
    assert [each["path"] for each in json.loads(done(run("list", "--json")))["artifacts"]] == [str(other), str(path)]
    assert done(run("prune")) == "0 removed, 0.00 MB"
    everything = [each for each in Path().rglob("*") if each.is_file()]
    assert {each.parts[1] for each in everything if each.is_relative_to(store)} == {".quarantine", "simplex", "ebv"}
    assert [name for name in (*windows, *(each.name for each in everything)) if not is_allowed(name)] == []


def test_names_are_those_that_windows_allows() -> None:
    assert [name for name in METHODS if not is_allowed(name)] == []
    assert is_allowed(temporary_name())
    spec = Spec.of("ebv", 1, d=3, n=5, seed=0, params={})
    assert all(map(is_allowed, artifact_path(spec, 12).parts))
    assert not any(map(is_allowed, ("a:b", "con", "NUL.txt", "a.", "a ", "a?")))


def test_the_steps_of_the_disk(windows: list[str], tmp_path: Path) -> None:
    file, other = tmp_path / "a", tmp_path / "b"
    with os.fdopen(create(file), "wb") as writing:
        writing.write(b"0123\n567\n")
    with pytest.raises(FileExistsError):
        create(file)
    with file.open("rb") as reading:
        assert [read_at(reading.fileno(), 3, start) for start in (5, 0, 8, 20)] == [b"567", b"012", b"\n", b""]
    sync(file)
    sync(tmp_path)
    assert link(file, other)
    assert (other.read_bytes(), file.exists()) == (b"0123\n567\n", False)
    file.touch()
    assert not link(file, other)
    with pytest.raises(FileNotFoundError):
        sync(tmp_path / "none")


def test_no_module_is_needed_that_windows_has_not() -> None:
    missing = {"fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "posix"}
    found = set()
    for path in Path(protogen.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [each.name for each in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            found |= {name.split(".")[0] for name in names}
    assert "os" in found
    assert found & missing == set()
