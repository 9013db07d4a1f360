"""The store: published once, found by Spec, never rewritten, and nothing left behind."""

import errno
import os
import resource
import shutil
import stat
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
from artifacts import MADE, names
from processes import FORK

from protogen.errors import BadRequest, DiskError, IntegrityError, NotFound
from protogen.files import disk
from protogen.files.disk import kept
from protogen.files.facts import Facts
from protogen.files.header import Header, check_file, read_header
from protogen.files.names import artifact_path
from protogen.files.prototypes import Prototypes
from protogen.files.reading import read
from protogen.measuring.measure import measure
from protogen.measuring.stats import AngleStats
from protogen.rows import InMemory
from protogen.run import Run
from protogen.spec import Spec
from protogen.store import loading
from protogen.store.access import ensure
from protogen.store.loading import load
from protogen.store.store import Store, store_path


def spec(alpha: float = 0.1, n: int = 2, method: str = "ebv") -> Spec:
    return Spec.of(method, 1, d=2, n=n, seed=0, params={"alpha": alpha})


def pair(cosine: float, of: Spec | None = None, reproducible: str = "statistical") -> Prototypes:
    """Two vectors of this cosine, which is their coherence."""
    rows = InMemory(torch.tensor([[1, 0], [cosine, (1 - cosine**2) ** 0.5]]))
    return Prototypes(of or spec(), rows, measure(rows), replace(MADE, reproducible=reproducible))


def many(n: int) -> Prototypes:
    """n equal rows, whose content depends on the process."""
    rows = torch.zeros(n, 2)
    rows[:, os.getpid() % 2] = 1
    return Prototypes(spec(n=n), InMemory(rows), None, MADE)


def damage(path: Path) -> None:
    """Cut the last byte."""
    os.truncate(path, path.stat().st_size - 1)


@pytest.fixture
def no_links(monkeypatch: pytest.MonkeyPatch) -> None:
    def link(source: Path, target: Path) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass
    class Rules:
        alpha: float = 0.1
        group: ClassVar[str | None] = None
        from_options: ClassVar[bool] = True

        def least_d(self, n: int) -> int | None:
            return None

        def rank(self, stats: AngleStats, facts: Facts) -> float:
            return stats.coherence.value

        def admits(self, of: Spec, stats: AngleStats, facts: Facts, params: Mapping[str, Any]) -> bool:
            alpha = params.get("alpha")
            return alpha is None or stats.coherence.value <= alpha + 1e-6

    class Equals(Rules):
        group = "polytope"

        def least_d(self, n: int) -> int | None:
            return n - 1

        def rank(self, stats: AngleStats, facts: Facts) -> float:
            return 0.0

    monkeypatch.setattr(loading, "METHODS", {"ebv": Rules(), "simplex": Equals()})


@pytest.fixture
def generated(monkeypatch: pytest.MonkeyPatch) -> list[Prototypes]:
    """Have `generate` give out, and take from the list, what a test puts there."""
    waiting: list[Prototypes] = []

    def generate(of: Spec, run: Run | None = None) -> Prototypes:
        return waiting.pop(0)

    monkeypatch.setitem(sys.modules, "protogen.generating", SimpleNamespace(make=generate))
    return waiting


def test_the_root_is_the_option_then_the_variable_then_a_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROTOGEN_STORE", "/from/variable")
    assert store_path("/from/option") == Path("/from/option")
    assert store_path() == Path("/from/variable")
    monkeypatch.setenv("PROTOGEN_STORE", "")
    assert store_path() == Path("prototypes")
    monkeypatch.setenv("HOME", "/home/me")
    assert store_path("~/sets") == Path("/home/me/sets")


def test_a_published_file_is_found_and_alone(here: Store) -> None:
    made = pair(0.5)
    assert here.find(made.spec) is None
    path = here.publish(made)
    assert path == here.root / artifact_path(made.spec, 1)
    assert here.find(made.spec) == path
    assert here.find(spec(0.2)) is None
    assert torch.equal(read(path).tensor, made.tensor)
    assert names(here.root) == ["ebv/d2-n2/.claims/1", f"ebv/d2-n2/v1-{made.spec.key}.safetensors"]
    assert (path.parent / ".claims" / "1").read_text() == made.spec.key
    assert path.stat().st_nlink == 1


def test_without_force_the_file_that_is_there_is_taken(here: Store) -> None:
    path = here.publish(pair(0.5))
    before = path.read_bytes()
    assert here.publish(pair(0.4)) == path
    assert path.read_bytes() == before
    assert len(here.entries()) == 1


def test_other_specs_get_the_next_version(here: Store) -> None:
    paths = [here.publish(pair(0.5, spec(alpha))) for alpha in (0.1, 0.2, 0.3)]
    assert [p.name.split("-")[0] for p in paths] == ["v1", "v2", "v3"]
    assert [e.version for e in here.entries()] == [1, 2, 3]


def test_no_hard_links_make_no_difference(here: Store, no_links: None) -> None:
    paths = [here.publish(pair(0.5, spec(alpha))) for alpha in (0.1, 0.2, 0.1)]
    assert paths == [here.root / artifact_path(spec(a), v) for a, v in ((0.1, 1), (0.2, 2), (0.1, 1))]
    assert names(here.root / "ebv/d2-n2") == [".claims/1", ".claims/2", *sorted(p.name for p in paths[:2])]
    assert torch.equal(read(paths[1]).tensor, pair(0.5).tensor)


def run_all(work: list[Callable[[], None]]) -> None:
    """Run each in a process of its own and see them all succeed."""
    processes = [FORK.Process(target=each) for each in work]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
    assert [process.exitcode for process in processes] == [0] * len(processes)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # Python 3.12 warns of the test's own way
@pytest.mark.parametrize("links", [True, False])
def test_processes_that_publish_the_same_spec_end_with_one_file(
    here: Store, links: bool, request: pytest.FixtureRequest
) -> None:
    if not links:
        request.getfixturevalue("no_links")
    barrier = FORK.Barrier(4)
    sizes = range(2, 22)

    def work() -> None:
        for n in sizes:
            made = many(n)
            barrier.wait(20)
            path = here.publish(made)
            assert path == here.root / artifact_path(made.spec, 1)
            read(path)

    run_all([work] * 4)
    for n in sizes:
        key = spec(n=n).key
        assert names(here.root / f"ebv/d2-n{n}") == [".claims/1", f"v1-{key}.safetensors"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("links", [True, False])
def test_processes_that_publish_two_specs_end_with_two_versions(
    here: Store, links: bool, request: pytest.FixtureRequest
) -> None:
    if not links:
        request.getfixturevalue("no_links")
    barrier = FORK.Barrier(2)
    sizes = range(2, 22)

    def work(alpha: float) -> Callable[[], None]:
        def publish() -> None:
            for n in sizes:
                made = replace(many(n), spec=spec(alpha, n))
                barrier.wait(20)
                read(here.publish(made))

        return publish

    run_all([work(0.1), work(0.2)])
    for n in sizes:
        entries = here.entries("ebv", d=2, n=n)
        assert [e.version for e in entries] == [1, 2]
        assert {e.name.key for e in entries} == {spec(0.1, n).key, spec(0.2, n).key}
        assert len(names(here.root / f"ebv/d2-n{n}")) == 4


def claim(here: Store, version: int, key: str) -> Path:
    path = here.root / f"ebv/d2-n2/.claims/{version}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(key)
    return path


def test_claims_of_dead_processes(here: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "SETTLE_S", 0.01)
    claim(here, 1, "0" * 12)  # another's
    claim(here, 2, "")  # died before it wrote its key
    mine = claim(here, 3, spec().key)
    before = mine.stat().st_mtime_ns
    assert here.publish(pair(0.5)).name == f"v3-{spec().key}.safetensors"
    assert mine.stat().st_mtime_ns == before
    assert len(names(here.root)) == 4


def test_a_store_copied_without_claims_keeps_its_versions(here: Store) -> None:
    first = here.publish(pair(0.5))
    (first.parent / ".claims" / "1").unlink()
    (first.parent / ".claims").rmdir()
    assert here.publish(pair(0.5, spec(0.2))).name.startswith("v2-")
    assert here.publish(pair(0.5)) == first


def on_sleep(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> list[float]:
    """Have `act` happen while the store waits for a file to get its content; give the waits."""
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        act()

    monkeypatch.setattr(disk, "time", SimpleNamespace(sleep=sleep, monotonic=lambda: 0.0))
    return waits


def test_a_file_is_found_only_once_it_has_content(here: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    path = here.publish(pair(0.5))
    raw = path.read_bytes()
    os.truncate(path, 0)
    waits = on_sleep(monkeypatch, lambda: path.write_bytes(raw))
    assert here.find(spec()) == path
    assert len(waits) == 1


def test_a_claim_is_read_only_once_it_has_content(here: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = claim(here, 1, "")
    waits = on_sleep(monkeypatch, lambda: mine.write_text(spec().key))
    assert here.publish(pair(0.5)).name.startswith("v1-")
    assert len(waits) == 1


def test_who_comes_second_waits_for_the_content_of_the_first(here: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = Store(here.root.parent / "other").publish(pair(0.4)).read_bytes()
    path = here.root / artifact_path(spec(), 1)
    link = os.link

    def second(source: Path, target: Path) -> None:
        if target == path:
            path.touch(exist_ok=False)
        link(source, target)

    monkeypatch.setattr(os, "link", second)
    waits = on_sleep(monkeypatch, lambda: path.write_bytes(raw))
    assert here.publish(pair(0.5)) == path
    assert path.read_bytes() == raw
    assert len(waits) == 1


def test_the_disk_has_the_file_before_its_name_and_then_the_name(here: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    fsync, link = os.fsync, os.link

    def synced(descriptor: int) -> None:
        seen.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        fsync(descriptor)

    def linked(source: Path, target: Path) -> None:
        seen.append(target.parent.name)
        link(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "link", linked)
    here.publish(pair(0.5))
    # The file, its claim and the folder of that, then each folder that has a new name in it: of the store, the
    # method, the size, the claims.
    assert seen == ["file", "file", ".claims", "folder", "d2-n2", "folder", "folder", "folder", "folder"]


def test_an_interruption_between_name_and_content_leaves_no_name(
    here: Store, no_links: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = Path.replace

    def interrupted(source: Path, target: Path) -> Path:
        if target.suffix == ".safetensors":
            raise KeyboardInterrupt
        return replace(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", interrupted)
        with pytest.raises(KeyboardInterrupt):
            here.publish(pair(0.5))
    assert here.entries() == []
    assert here.publish(pair(0.5)).name.startswith("v1-")


def test_a_download_that_fails_leaves_the_folder_to_another(here: Store) -> None:
    source = Store(here.root.parent / "other").publish(pair(0.4))

    def fill(target: Path) -> Header:
        with pytest.raises(NotFound):
            here.receive(replace(spec(), seed=9), 1, lambda _: (_ for _ in ()).throw(NotFound("nowhere")))
        shutil.copyfile(source, target)
        return check_file(target)

    assert here.receive(spec(), 1, fill).read_bytes() == source.read_bytes()


def test_folders_are_made_again_where_others_remove_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mkdir, errors = Path.mkdir, [FileExistsError(), FileNotFoundError()]

    def removed(self: Path, *given: Any, **more: Any) -> None:
        if errors:
            raise errors.pop()
        mkdir(self, *given, **more)

    monkeypatch.setattr(Path, "mkdir", removed)
    folder = tmp_path / "a" / "b"
    with kept(folder), pytest.raises(OSError, match="not empty"):
        folder.rmdir()
    assert list(folder.iterdir()) == errors == []
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError), kept(tmp_path / "file"):
        pass


def test_several_files_of_a_key_give_the_lowest_that_is_sound(here: Store) -> None:
    paths = [here.publish(pair(c), force=True) for c in (0.5, 0.4, 0.3)]
    assert [p.name for p in paths] == [f"v{k}-{spec().key}.safetensors" for k in (1, 2, 3)]
    assert here.find(spec()) == paths[0]
    damage(paths[0])
    assert here.find(spec()) == paths[1]
    damage(paths[1])
    damage(paths[2])
    with pytest.raises(IntegrityError, match=r"truncated.*--force, or `protogen sync`") as caught:
        here.find(spec())
    assert str(paths[0]) in str(caught.value)
    assert here.publish(pair(0.2), force=True).name.startswith("v4-")


def test_force_takes_the_same_content_and_never_rewrites(here: Store) -> None:
    first, second = here.publish(pair(0.5)), here.publish(pair(0.4), force=True)
    before = first.read_bytes()
    assert here.publish(pair(0.4), force=True) == second
    assert here.publish(pair(0.5), force=True) == first
    assert first.read_bytes() == before
    assert len(here.entries()) == 2
    first.unlink()  # its version is free again, and yet the content is there
    assert here.publish(pair(0.4), force=True) == second


def test_force_on_a_formula_that_gives_other_bytes_is_an_error(here: Store) -> None:
    first = here.publish(pair(0.5, reproducible="exact"))
    before = names(here.root)
    assert here.publish(pair(0.5, reproducible="exact"), force=True) == first
    with pytest.raises(IntegrityError) as caught:
        here.publish(pair(0.4, reproducible="exact"), force=True)
    other = Store(here.root.parent / "other").publish(pair(0.4))
    for path in (first, other):
        assert read_header(path).digest in str(caught.value)
    assert names(here.root) == before


def test_force_publishes_anew_where_the_bytes_of_the_same_content_are_gone(here: Store) -> None:
    path = here.publish(pair(0.5))
    with path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\x7f")
    damaged = path.read_bytes()
    anew = here.publish(pair(0.5), force=True)
    assert anew != path
    assert check_file(anew).digest == read_header(path).digest
    assert path.read_bytes() == damaged


def test_entries_are_headers_in_order_with_damage_reported(here: Store) -> None:
    damaged = here.publish(pair(0.5, spec(0.1)))
    sound = here.publish(pair(0.5, spec(0.2)))
    other = here.publish(pair(0.5, spec(method="simplex")))
    damage(damaged)
    (sound.parent / ".123-ab.tmp").write_text("left by a dead process")
    (sound.parent / "notes.safetensors").touch()
    (here.root / ".runs" / "d2-n2").mkdir(parents=True)
    (here.root / ".runs" / "d2-n2" / sound.name).touch()
    entries = here.entries()
    assert [e.path for e in entries] == [damaged, sound, other]
    assert [e.error is None for e in entries] == [False, True, True]
    assert "truncated" in str(entries[0].error)
    assert entries[0].spec is None
    assert entries[1].spec == spec(0.2)
    assert entries[1].stats == pair(0.5).stats
    assert entries[1].provenance == MADE
    assert entries[1].digest == read_header(sound).digest
    assert [e.path for e in here.entries("simplex")] == [other]
    assert here.entries("ebv", d=3) == here.entries(n=3) == here.entries("*") == []


def test_files_in_the_wrong_place_are_reported(here: Store) -> None:
    path = here.publish(pair(0.5))
    moved = here.root / "ebv/d2-n3" / path.name
    moved.parent.mkdir()
    path.rename(moved)
    assert f"holds what belongs into ebv/d2-n2/{path.name}" in str(here.entries()[0].error)
    renamed = moved.with_name("v1-000000000000.safetensors")
    moved.rename(renamed)
    assert "its name has the key 000000000000" in str(here.entries()[0].error)


def test_a_store_under_a_file_is_refused_before_the_work(tmp_path: Path, generated: list[Prototypes]) -> None:
    (tmp_path / "file").touch()
    generated.append(pair(0.5))
    for root in (tmp_path / "file", tmp_path / "file" / "store"):
        for call in (
            lambda root=root: Store(root).prepare(0),
            Store(root).entries,
            lambda root=root: Store(root).publish(pair(0.5)),
            lambda root=root: ensure(spec(), store=root),
        ):
            with pytest.raises(DiskError, match="--store") as caught:
                call()
            assert "\n" not in str(caught.value)
    assert len(generated) == 1
    assert names(tmp_path) == ["file"]


def test_ensure_tries_the_store_before_the_work(here: Store, generated: list[Prototypes]) -> None:
    here.root.symlink_to("gone")  # reads as a store without files, cannot be written
    generated.append(pair(0.5))
    with pytest.raises(DiskError, match="No such file"):
        ensure(spec(), store=here.root)
    assert len(generated) == 1


def test_prepare_leaves_nothing_behind(here: Store) -> None:
    here.prepare(1000)
    assert not here.root.exists()
    here.root.mkdir()
    here.prepare(1000)
    assert list(here.root.iterdir()) == []


def test_prepare_asks_for_room(here: Store) -> None:
    with pytest.raises(DiskError, match="needs 1,000,000,000"):
        here.prepare(10**18)
    assert not here.root.exists()


@pytest.mark.parametrize("existing", [True, False])
def test_a_full_disk_leaves_nothing_behind(here: Store, existing: bool) -> None:
    if existing:
        here.root.mkdir()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(DiskError, match="File too large"):
            here.publish(pair(0.5))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert here.root.exists() == existing
    assert list(here.root.parent.rglob("*")) == ([here.root] if existing else [])


def test_rows_that_may_not_be_published_leave_nothing_behind(here: Store) -> None:
    with pytest.raises(BadRequest, match="row 0 has norm 2"):
        here.publish(replace(pair(0.5), source=InMemory(2 * torch.eye(2))))
    assert not here.root.exists()


def test_ensure_generates_once_and_is_silent_on_a_hit(
    here: Store, generated: list[Prototypes], capfd: pytest.CaptureFixture[str]
) -> None:
    generated.append(pair(0.5))
    first = ensure(spec(), store=here.root)
    second = ensure(spec(), Run(), store=here.root)
    assert first.path == second.path == here.root / artifact_path(spec(), 1)
    assert torch.equal(second.tensor, pair(0.5).tensor)
    assert capfd.readouterr() == ("", "")
    generated.append(pair(0.4))
    assert ensure(spec(), store=here.root, force=True).version == 2


def test_runs_ended_early_are_kept_under_their_own_spec(here: Store, generated: list[Prototypes]) -> None:
    early = Spec.of("ebv", 1, d=2, n=2, seed=0, params={"alpha": 0.1, "ended": "time limit"})
    generated += [pair(0.5, early), pair(0.4, early), pair(0.3)]
    made = [ensure(spec(), store=here.root) for _ in range(3)]
    assert [(p.spec, p.version) for p in made] == [(early, 1), (early, 2), (spec(), 3)]
    assert here.find(spec()) == made[2].path


def test_load_takes_a_path(here: Store) -> None:
    path = here.publish(pair(0.5))
    assert torch.equal(load(path).tensor, load(str(path)).tensor)
    with pytest.raises(BadRequest, match="with d, alpha, store: a path names one file"):
        load(path, d=2, alpha=0.1, store=here.root)
    with pytest.raises(NotFound):
        load("none.safetensors")


def test_load_by_method_takes_the_best_and_then_the_lowest(here: Store, registry: None) -> None:
    worse, best, twin = (here.publish(pair(c, spec(alpha))) for c, alpha in ((0.5, 0.1), (0.3, 0.2), (0.3, 0.3)))
    assert load("ebv", store=here.root).path == best
    assert load("ebv", d=2, n=2, version=3, store=here.root).path == twin
    assert load("ebv", key=spec(0.1).key, store=here.root).path == worse
    damage(best)
    assert load("ebv", store=here.root).path == twin


def test_load_takes_the_lowest_version_of_equals(here: Store, registry: None) -> None:
    other, smaller = (here.publish(pair(0.5, spec(alpha, method="simplex"))) for alpha in (0.1, 0.2))
    other.unlink()
    larger = here.publish(replace(many(3), spec=spec(n=3, method="simplex")))
    assert smaller < larger
    assert load("simplex", store=here.root).path == larger


def test_load_filters_by_what_the_method_admits(here: Store, registry: None, monkeypatch: pytest.MonkeyPatch) -> None:
    path = here.publish(pair(0.3, spec(0.2)))
    monkeypatch.setenv("PROTOGEN_STORE", str(here.root))
    assert load("ebv", alpha=0.3).path == path
    with pytest.raises(NotFound) as caught:
        load("ebv", n=2, alpha=0.2)
    assert "no ebv with n=2, alpha=0.2 in" in str(caught.value)
    assert "d2-n2" in str(caught.value)
    assert "`protogen ebv --d D --n 2 --alpha 0.2`" in str(caught.value)
    with pytest.raises(NotFound, match="no ebv with d=3 in"):
        load("ebv", d=3)
    with pytest.raises(BadRequest, match="ebv has no parameter 'aplha'; there are alpha"):
        load("ebv", aplha=0.3)
    damage(path)
    with pytest.raises(IntegrityError, match="truncated"):
        load("ebv")


def test_load_says_how_to_make_what_is_not_there(here: Store, registry: None) -> None:
    with pytest.raises(NotFound, match="there are none at all; make it with `protogen ebv --d 10 --n 20`"):
        load("ebv", d=10, n=20, store=here.root)
    with pytest.raises(NotFound, match="`protogen polytope simplex --n 20`"):
        load("simplex", n=20, store=here.root)
    with pytest.raises(BadRequest, match="method 'evb', allowed are ebv, simplex"):
        load("evb", store=here.root)
