"""Files of other programs: whatever their names, they stay, where a store or a lock is kept among them."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from artifacts import published
from commands import Command, done

from protogen.files.disk import is_stale, temporary_name
from protogen.store.prune import prune
from protogen.store.store import Store

OLD = time.time() - 40 * 86_400


@pytest.fixture(scope="module")
def dead() -> int:
    """The id of a process that is no more."""
    child = subprocess.Popen([sys.executable, "-S", "-c", ""])
    child.wait()
    return child.pid


def strange(dead: int) -> list[str]:
    """Names that protogen has given, now or in 0.1, or that look so."""
    ours = temporary_name().replace(f"-{os.getpid()}-", f"-{dead}-")
    return [ours, ours.replace("protogen-", ""), ".name-123-0a1b2c3d.tmp", f".name-{dead}-0a1b2c3d.tmp"]


def old(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("another program's")
    os.utime(path, (OLD, OLD))
    return path


def test_a_store_among_other_files_removes_none_of_them(store: Path, dead: int, run: Command) -> None:
    path = published(Path())
    os.utime(path, (OLD, OLD))
    folders = (".", "src", "ebv", ".git", "data/d3-n5", ".claims", ".runs", ".runs/mine", "ebv/d3-n5/more", "a/b/c")
    kept = [old(Path(folder, name)) for folder in folders for name in strange(dead)[folder == "." :]]
    kept += [old(Path(".locks", name)) for name in ("mine.lock", "0123.lock", "0123456789ab.txt")]
    kept += [old(Path(".runs", name, "state.safetensors")) for name in ("mine", "0123456789AB")]
    for folder in ("fit/empty", "cube", "src/empty", ".runs/empty", ".quarantine/empty"):
        Path(folder).mkdir(parents=True)
    before = sorted(Path().rglob("*"))
    assert done(run("prune", "--store", ".", "--older-than", "1m")) == f"{path}: artifact, 0.00 MB\n1 removed, 0.00 MB"
    published(Path())
    done(run("lock", "add", "mine", path, "--store", "."))
    done(run("polytope", "simplex", "--n", 3, "--store", "."))
    assert all(each.exists() for each in kept)
    assert {*before} <= {*Path().rglob("*")}  # the artifact came again


def test_what_protogen_left_in_its_own_folders_goes(store: Path, dead: int) -> None:
    folder = published(store).parent
    own = (folder, folder / ".claims", store / ".quarantine", store / ".locks", store / ".runs/0123456789ab")
    left = {old(place / name) for place in own for name in strange(dead)}
    assert {each.path for each in prune(Store(store))} == left
    assert not any(path.exists() for path in left)


def test_a_lock_is_written_in_a_folder_of_its_own(store: Path, dead: int, run: Command) -> None:
    path = published(store)
    kept = [old(Path(name)) for name in strange(dead)]
    left = old(Path(".locks") / strange(dead)[0])
    done(run("lock", "add", "mine", path))
    assert all(each.exists() for each in kept)
    assert not left.exists()
    assert not Path(".locks").exists()
    done(run("lock", "remove", "mine"))
    assert {each.name for each in Path().iterdir()} == {"protogen.lock", "store", *(each.name for each in kept)}


def test_a_trial_in_a_store_goes_by_its_name_alone(store: Path, dead: int) -> None:
    published(store)
    ours, *kept = (old(store / name) for name in strange(dead))
    assert [each.path for each in prune(Store(store))] == [ours]
    assert all(path.exists() for path in kept)


def test_a_trial_of_a_place_that_is_no_store_yet_leaves_and_removes_nothing(store: Path, dead: int) -> None:
    kept = {old(Path(name)) for name in strange(dead)}
    Store(store).prepare(1)
    assert {*Path().iterdir()} == kept


def test_a_name_says_whose_it_is() -> None:
    assert temporary_name().startswith(".protogen-")
    assert not is_stale(Path(".other-1-0123abcd.tmp"))  # which is not there
