"""Stores in odd places: other umasks, read-only, behind links, strange names, no hard links, a wrong clock."""

import contextlib
import errno
import json
import os
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import Command, done, make, one_error

import protogen
from protogen.capacity.journal import Journal
from protogen.descent import checkpoint
from protogen.errors import DiskError
from protogen.files.disk import temporary_name
from protogen.files.header import read_header
from protogen.rows import InMemory
from protogen.store.prune import prune
from protogen.store.store import Store

pytestmark = pytest.mark.slow

SIMPLEX = ("polytope", "simplex", "--n", 5)
DESCENT = ("ebv", "--d", 5, "--n", 12, "--start", "random", "--steps", 3)
EARLY = ("ebv", "--d", 50, "--n", 500, "--start", "random", "--steps", 10**6, "--time-limit", 0.3)
ROWS = InMemory(torch.eye(5))
DAY = 86_400.0
NOBODY = 65534


def everything(run: Command) -> None:
    """Use a store in every way: make, take, list, show, check, pin, bring, push, pull, set aside, prune."""
    path = make(run, *SIMPLEX)
    assert make(run, *SIMPLEX) == path
    other = make(run, *DESCENT)
    listed = json.loads(done(run("list", "--json")))["artifacts"]
    assert [Path(each["path"]) for each in listed] == [other, path]
    assert json.loads(done(run("show", path, "--json")))["path"] == str(path)
    assert "2 files, 0 damaged" in done(run("verify", "--all"))
    assert torch.equal(protogen.load(path).tensor, protogen.load("simplex", n=5).tensor)
    for name, each in (("mine", path), ("yours", other)):
        done(run("lock", "add", name, each))
    assert protogen.load("yours").path == other
    done(run("push", path, other, "--remote", "remote"))
    os.truncate(path, 100)
    assert "1 damaged" in run("verify", "--all").err
    other.unlink()
    ran = run("sync", "--remote", "remote")
    assert [line.split()[1] for line in done(ran).splitlines()] == ["fetched", "fetched"]
    assert "set aside as" in ran.err
    done(run("pull", path.relative_to("store"), "--remote", "remote", "--store", "third"))
    assert done(run("prune")) == "0 removed, 0.00 MB"
    assert json.loads(done(run("sync", "--json")))["artifacts"][0]["how"] == "present"
    assert list(Path().rglob("*.tmp")) == []


# umask


def modes(folder: Path) -> dict[str, int]:
    return {str(p): stat.S_IMODE(p.lstat().st_mode) for p in folder.rglob("*")}


@pytest.fixture
def umask() -> Iterator[Callable[[int], None]]:
    before = os.umask(0o022)
    yield lambda mask: os.umask(mask) and None
    os.umask(before)


@pytest.mark.parametrize("mask", [0o077, 0o002])
def test_files_and_folders_get_the_modes_of_the_umask(
    tmp_path: Path, run: Command, umask: Callable[[int], None], mask: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "EVERY_S", 0.0)
    umask(mask)
    everything(run)
    make(run, *EARLY)
    assert list(Path("store/.runs").glob("*/state.safetensors"))
    Journal(Path("store/.runs/0123456789ab"), read_header(make(run, *SIMPLEX)).spec).save((), ROWS)
    assert len(list(Path("store/.runs/0123456789ab").iterdir())) == 2
    found = modes(tmp_path)
    assert len(found) > 20
    for name, mode in found.items():
        allowed = 0o777 if Path(name).is_dir() else 0o666
        assert oct(mode) == oct(allowed & ~mask), name


# A store that is another's, or cannot be written


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch, run: Command) -> Iterator[Path]:
    """An empty working directory that every user may enter, as that of a test is not."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        monkeypatch.chdir(folder)
        yield Path(folder)
        monkeypatch.undo()


@contextlib.contextmanager
def another_user() -> Iterator[None]:
    """Be a user without rights; who is not the superuser is one already."""
    if os.geteuid() != 0:
        yield
        return
    groups, group = os.getgroups(), os.getegid()
    os.setgroups([])
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(group)
        os.setgroups(groups)


@contextlib.contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Let nobody write in a folder, nor this process with a superuser's rights."""
    found = [folder, *folder.rglob("*")]
    before = [stat.S_IMODE(path.stat().st_mode) for path in found]
    for path, mode in zip(found, before, strict=True):
        path.chmod(mode & 0o555)
    try:
        with another_user():
            yield
    finally:
        for path, mode in zip(found, before, strict=True):
            path.chmod(mode)


def tree(folder: Path) -> dict[Path, bytes | None]:
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def test_a_store_that_cannot_be_written_still_answers(shared: Path, run: Command) -> None:
    path = make(run, *SIMPLEX)
    done(run("lock", "add", "mine", path))
    hits = [(*SIMPLEX, "--quiet"), ("list",), ("show", path), ("verify", path), ("verify", "--all"), ("sync",)]
    hits += [("prune",), ("prune", "--older-than", "1d"), ("cache-key",), ("diff", path, path)]
    expected = [run(*hit) for hit in hits]
    endless = ("ebv", "--d", 100, "--n", 2000, "--start", "random", "--alpha", 0.1, "--steps", 10**6)
    misses = [endless, ("polytope", "simplex", "--n", 6), (*SIMPLEX, "--force"), ("prune", "--older-than", "0m")]
    run("prune", "--older-than", "1h", "--dry-run")
    before = tree(shared)
    with read_only(shared / "store"):
        assert [run(*hit) for hit in hits] == expected
        assert protogen.load("mine").path == protogen.load("simplex", n=5).path == path
        assert protogen.ensure(protogen.resolve("simplex", n=5)).path == path
        for miss in misses:
            one_error(run(*miss), 4, "store: Permission denied")
        with pytest.raises(DiskError, match="Permission denied"):
            protogen.ensure(protogen.resolve("simplex", n=7))
    assert tree(shared) == before
    os.truncate(path, 100)
    with read_only(shared / "store"):
        one_error(run(*SIMPLEX), 5, "cut short")
    assert path.stat().st_size == 100


@pytest.mark.parametrize(("mask", "readable"), [(0o077, False), (0o002, True)])
def test_another_user_reads_what_the_umask_lets(
    shared: Path, run: Command, umask: Callable[[int], None], mask: int, readable: bool
) -> None:
    umask(mask)
    path = make(run, *SIMPLEX)
    rows = protogen.load(path).tensor
    listed = run("list")
    if os.geteuid() != 0:  # who made it reads it: what others may is in the modes alone
        assert bool(path.stat().st_mode & stat.S_IROTH) == readable
        return
    with another_user():
        if readable:
            assert torch.equal(protogen.load(path).tensor, rows)
            assert run("list") == listed
        else:
            one_error(run("list"), 4, "store: Permission denied")
            one_error(run("show", path), 4, "Permission denied")


# Links and names


def test_a_store_behind_a_link(tmp_path: Path, run: Command) -> None:
    Path("real").mkdir()
    Path("store").symlink_to("real")
    everything(run)
    assert Path("store").is_symlink()
    assert Store(Path("real")).entries()
    assert [e.digest for e in Store(Path("real")).entries()] == [e.digest for e in Store(Path("store")).entries()]
    assert {path.name for path in tmp_path.iterdir()} == {"real", "store", "remote", "third", "protogen.lock"}


def test_a_folder_of_the_store_behind_a_link(tmp_path: Path, run: Command) -> None:
    for name in ("ebv", "simplex"):
        (tmp_path / "elsewhere" / name).mkdir(parents=True)
        (tmp_path / "store").mkdir(exist_ok=True)
        (tmp_path / "store" / name).symlink_to(tmp_path / "elsewhere" / name)
    everything(run)
    assert len(list((tmp_path / "elsewhere").glob("*/*/v*.safetensors"))) == 2


NAMES = ["with spaces and  two", "größe 日本 \U0001f600", "[a]*?{b}", "~", "-x", "a\nb", os.fsdecode(b"caf\xe9 \xff")]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_names_of_any_kind(tmp_path: Path, run: Command, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    place = tmp_path / name / "sets"
    place.parent.mkdir()
    monkeypatch.chdir(place.parent)
    for words in (SIMPLEX, DESCENT):
        path = make(run, *words, "--store", place)
        assert path.parents[2] == place
        assert read_header(path).spec.method == path.parts[-3]
        assert torch.equal(protogen.load(path).tensor, protogen.load(path.parents[1].name, store=place).tensor)
    assert "2 files, 0 damaged" in done(run("verify", "--all", "--store", place))
    for each in json.loads(done(run("list", "--json", "--store", place)))["artifacts"]:
        done(run("show", each["path"]))
        done(run("lock", "add", f"my-{each['method']}", each["path"]))
    assert protogen.load("my-simplex", store=place).n == 5
    assert "my-ebv: present" in done(run("sync", "--store", place))
    one_error(run("show", place / "none"), 3, "no such file")
    done(run("prune", "--store", place))


# No hard links; a wrong clock


@pytest.mark.parametrize("number", [errno.ENOTSUP, errno.ENOSYS], ids=errno.errorcode.get)
def test_a_file_system_without_hard_links(run: Command, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def link(source: Path, target: Path) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", link)
    everything(run)


def test_a_clock_that_was_set_back_a_day(run: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "EVERY_S", 0.0)
    paths = [make(run, *words) for words in (SIMPLEX, EARLY)]
    state = next(Path("store/.runs").glob("*/state.safetensors"))
    gone = subprocess.Popen([sys.executable, "-S", "-c", ""])
    gone.wait()
    mine = temporary_name().replace(f"-{os.getpid()}-", f"-{gone.pid}-")
    dead, foreign = (paths[0].parent / name for name in (mine, ".elsewhere-1-0123abcd.tmp"))
    for path in (dead, foreign):
        path.touch()

    def pruned(days: float, **conditions: Any) -> list[str]:
        """Prune with a clock that is so many days ahead."""
        place = Store(Path("store"))
        return [each.path.name for each in prune(place, clock=lambda: time.time() + days * DAY, **conditions)]

    assert pruned(-1, older_than=3600, dry_run=True) == [dead.name]
    assert pruned(-1, older_than=3600) == [dead.name]
    assert not dead.exists()
    assert all(path.exists() for path in (*paths, state, foreign))
    assert "goes on after step" in run(*EARLY).err
    assert make(run, *DESCENT).exists()
    assert pruned(-1, older_than=3600) == []
    assert pruned(2) == [foreign.name]  # far ahead: what is old goes, when asked for alone
    assert all(path.exists() for path in paths)
    assert not foreign.exists()
