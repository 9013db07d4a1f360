"""The commands that keep a store as their users meet them."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from artifacts import flip
from commands import Command, Ran, make, one_error

from protogen.files.header import check_file, read_header
from protogen.files.reading import read
from protogen.files.schemas import SCHEMA
from protogen.files.writing import write
from protogen.sharing import sync

pytestmark = pytest.mark.slow

FORMULA = ("ebv", "--d", 4, "--n", 4)
DESCENT = ("ebv", "--d", 4, "--n", 6, "--start", "random", "--steps", 3)


class TestLock:
    def test_pins_lists_and_forgets(self, run: Command, store: Path) -> None:
        formula, descent = make(run, *FORMULA), make(run, *DESCENT)
        added = run("lock", "add", "head", descent)
        assert (added.code, added.err) == (0, "")
        assert run("lock", "add", "backbone", formula.relative_to(store)).code == 0  # as the store names it
        lines = run("lock", "list").out.splitlines()
        digests = [read_header(path).digest for path in (formula, descent)]
        assert lines[0].split() == [
            "backbone",
            str(formula.relative_to(store)),
            digests[0][:12],
            "exact",
            "0.000000",
        ]
        assert lines[1].split()[:4] == ["head", str(descent.relative_to(store)), digests[1][:12], "statistical"]
        assert added.out == f"{re.sub(' +', ' ', lines[1]).replace(' ', '  ')}\n"
        listed = run("lock", "list", "--json").document
        assert listed["artifacts"] == json.loads(Path("protogen.lock").read_text())["artifacts"]
        assert [each["digest"] for each in listed["artifacts"].values()] == digests
        assert run("lock", "remove", "head").code == 0
        assert list(run("lock", "list", "--json").document["artifacts"]) == ["backbone"]
        assert descent.exists()

    def test_the_same_again_changes_nothing_and_another_is_refused(self, run: Command) -> None:
        formula, descent = make(run, *FORMULA), make(run, *DESCENT)
        run("lock", "add", "it", formula)
        before = Path("protogen.lock").read_bytes()
        assert run("lock", "add", "it", formula).code == 0
        one_error(
            run("lock", "add", "it", descent), 2, "it is ebv/d4-n4/", "remove it first: `protogen lock remove it`"
        )
        assert Path("protogen.lock").read_bytes() == before

    def test_refusals(self, run: Command) -> None:
        path = make(run, *FORMULA)
        one_error(run("lock", "add", "ebv", path), 2, "name 'ebv' is a method's")
        one_error(run("lock", "add", "a/b", path), 2, "name 'a/b'")
        one_error(run("lock", "add", "it", "ebv/d9-n9/v1-000000000000.safetensors"), 3, "no such file")
        one_error(run("lock", "list"), 3, "protogen.lock: no such lock")
        one_error(run("lock", "remove", "it"), 3, "no such lock")
        run("lock", "add", "it", path)
        one_error(run("lock", "remove", "that"), 3, "that: not in protogen.lock, which has it")
        flip(path)
        one_error(run("lock", "add", "more", path), 5, "do not give the digests")
        Path("protogen.lock").write_text("{}")
        one_error(run("lock", "list"), 5, "no lock that protogen wrote")

    def test_another_lock_is_an_option_or_the_variable(self, run: Command, monkeypatch: pytest.MonkeyPatch) -> None:
        path = make(run, *FORMULA)
        run("lock", "add", "it", path, "--lock", "other.lock")
        assert not Path("protogen.lock").exists()
        monkeypatch.setenv("PROTOGEN_LOCK", "other.lock")
        assert run("lock", "list").out.startswith("it ")


class TestSync:
    @pytest.fixture
    def locked(self, run: Command, store: Path) -> dict[str, Path]:
        """A lock on two artifacts, of a store that was moved away and is a remote now."""
        paths = {"formula": make(run, *FORMULA), "descent": make(run, *DESCENT)}
        for name, path in paths.items():
            run("lock", "add", name, path)
        store.rename("remote")
        return paths

    def test_says_how_each_came(self, run: Command, locked: dict[str, Path]) -> None:
        ran = run("sync", "--remote", "nowhere", "--remote", "remote")
        assert (ran.code, ran.err) == (0, "")
        assert ran.out.splitlines() == [
            f"{name}: fetched from remote/{locked[name].relative_to('store')}, {locked[name]}"
            for name in ("formula", "descent")
        ]
        again = run("sync")
        assert again.out.splitlines() == [f"{name}: present, {locked[name]}" for name in ("formula", "descent")]
        document = run("sync", "--json").document
        assert (document["lock"], document["store"]) == ("protogen.lock", "store")
        assert document["artifacts"][0] == {
            "name": "formula",
            "how": "present",
            "digest": check_file(locked["formula"]).digest,
            "lock_changed": False,
            "path": str(locked["formula"]),
            "url": None,
            "error": None,
        }

    def test_goes_on_after_a_failure_and_ends_with_its_code(self, run: Command, locked: dict[str, Path]) -> None:
        lock = Path("protogen.lock").read_bytes()
        ran = run("sync")
        assert ran.code == 3
        assert ran.out == f"formula: generated, {locked['formula']}\n"
        assert re.fullmatch(r"error: descent: [^\n]+--accept-equivalent[^\n]+\n", ran.err)
        assert Path("protogen.lock").read_bytes() == lock
        ran = run("sync", "--json")
        assert ran.code == 3
        assert [each["how"] for each in ran.document["artifacts"]] == ["present", "failed"]
        assert "--accept-equivalent" in ran.document["artifacts"][1]["error"]

    def test_accepts_an_equivalent_and_rewrites_the_lock(self, run: Command, locked: dict[str, Path]) -> None:
        lock = json.loads(Path("protogen.lock").read_text())
        entry = lock["artifacts"]["descent"]
        real = entry["digest"]
        entry["digest"] = "0" * 64  # of another machine
        Path("protogen.lock").write_text(json.dumps(lock))
        ran = run("sync", "--accept-equivalent")
        now = f"; the lock now has digest {real[:12]}"
        assert (ran.code, ran.out.splitlines()[1]) == (0, f"descent: generated, {locked['descent']}{now}")
        entry["digest"] = real
        assert Path("protogen.lock").read_text() == json.dumps(lock, indent=2, sort_keys=True) + "\n"
        assert run("sync").code == 0

    @pytest.mark.parametrize("change", ["removed", "deleted"])
    def test_a_lock_that_changed_meanwhile_stays(
        self, run: Command, locked: dict[str, Path], monkeypatch: pytest.MonkeyPatch, change: str
    ) -> None:
        lock = Path("protogen.lock")
        document = json.loads(lock.read_text())
        document["artifacts"]["descent"]["digest"] = "0" * 64  # of another machine
        lock.write_text(json.dumps(document))
        ensure_path = sync.ensure_path

        def generated(*given: Any, **more: Any) -> Path:
            if change == "removed":
                del document["artifacts"]["descent"]
                lock.write_text(json.dumps(document))
            else:
                lock.unlink()
            return ensure_path(*given, **more)

        monkeypatch.setattr(sync, "ensure_path", generated)
        ran = run("sync", "--accept-equivalent")
        assert (ran.code, ran.out.splitlines()[1]) == (0, f"descent: generated, {locked['descent']}")
        note = rf"note: protogen\.lock has changed meanwhile and stays as it is; [^\n]+{locked['descent'].stem}[^\n]+"
        assert re.fullmatch(note, ran.err.splitlines()[-1])
        assert "descent" not in lock.read_text() if change == "removed" else not lock.exists()

    def test_goes_on_when_nobody_reads_what_it_says(self, run: Command, locked: dict[str, Path]) -> None:
        command = f"{sys.executable} -m protogen sync --remote remote | true"
        subprocess.run(["bash", "-c", command], check=True, timeout=60)
        assert all(path.exists() for path in locked.values())

    def test_a_damaged_file_is_set_aside(self, run: Command, locked: dict[str, Path]) -> None:
        run("sync", "--remote", "remote")
        flip(locked["descent"])
        ran = run("sync", "--remote", "remote")
        assert ran.code == 0
        assert "descent: fetched from remote/" in ran.out
        assert re.fullmatch(r"set aside as store/\.quarantine/\S+: [^\n]+\n", ran.err)
        assert run("verify", "--all").code == 0

    def test_without_a_lock(self, run: Command) -> None:
        one_error(run("sync"), 3, "protogen.lock: no such lock")

    def test_the_cache_key_is_one_line(self, run: Command, locked: dict[str, Path]) -> None:
        ran = run("cache-key")
        assert (ran.code, ran.err) == (0, "")
        assert re.fullmatch(rf"protogen-{SCHEMA}-[0-9a-f]{{16}}\n", ran.out)
        run("lock", "remove", "descent")
        assert run("cache-key").out != ran.out


class TestPrune:
    def test_says_what_goes_and_keeps_the_lock(self, run: Command, store: Path) -> None:
        formula, descent = make(run, *FORMULA), make(run, *DESCENT)
        run("lock", "add", "it", descent)
        assert run("prune") == Ran(0, "0 removed, 0.00 MB\n", "")
        size = formula.stat().st_size
        ran = run("prune", "--keep-lock", "--max-size", "0KB", "--dry-run")
        assert ran == Ran(0, f"{formula}: artifact, 0.01 MB\n1 would be removed, 0.01 MB\n", "")
        assert formula.exists()
        assert run("prune", "--keep-lock", "--json").document == {
            "dry_run": False,
            "bytes": size,
            "removed": [{"path": str(formula), "why": "artifact", "bytes": size}],
        }
        assert (formula.exists(), descent.exists()) == (False, True)
        assert run("sync").code == 0

    def test_age_and_size_have_units(self, run: Command) -> None:
        path = make(run, *FORMULA)
        os.utime(path, (0, 0))
        for words in (("--older-than", "30000d"), ("--older-than", "9999 w"), ("--max-size", "0.1 GB")):
            assert run("prune", *words).out.startswith("0 removed"), words
        for words in (("--older-than", "30"), ("--older-than", "d"), ("--older-than", "-1d"), ("--max-size", "2Gb")):
            one_error(run("prune", *words), 2, repr(words[1]), "allowed is a number below 10^9 with a unit")
        assert run("prune", "--older-than", "1.5d", "--max-size", "1KB").out.startswith(f"{path}: artifact")

    def test_keep_lock_needs_a_lock(self, run: Command) -> None:
        path = make(run, *FORMULA)
        one_error(run("prune", "--keep-lock"), 3, "protogen.lock: no such lock")
        assert path.exists()


class TestVerifyAll:
    def test_a_sound_store(self, run: Command) -> None:
        make(run, *FORMULA)
        make(run, *DESCENT)
        for words in ((), ("--full",)):
            ran = run("verify", "--all", *words)
            assert ran == Ran(0, "store: 2 files, 0 damaged, 0 unreadable, 0 with other figures\n", "")
        one_error(run("verify", "--all", "--store", "none"), 3, "none: no such store")

    def test_damage_is_said_file_by_file(self, run: Command) -> None:
        paths = [make(run, "ebv", "--d", 4, "--n", n) for n in (2, 3, 4)]
        flip(paths[0])
        os.truncate(paths[2], 100)
        ran = run("verify", "--all")
        assert ran.code == 5
        lines = ran.out.splitlines()
        assert re.match(rf"damaged: {paths[0]}: the bytes of its tensors do not give", lines[0])
        assert re.match(rf"damaged: {paths[2]}: no safetensors file, or cut short", lines[1])
        assert lines[2:] == ["store: 3 files, 2 damaged, 0 unreadable, 0 with other figures"]
        assert re.fullmatch(r"error: store: 3 files, 2 damaged[^\n]+\n", ran.err)
        document = run("verify", "--all", "--json").document
        assert (document["files"], list(document["damaged"])) == (3, [str(paths[0]), str(paths[2])])

    def test_other_figures_are_found_by_measuring(self, run: Command) -> None:
        path = make(run, *DESCENT)
        sound = read(path)
        assert sound.stats
        path.unlink()
        write(path, sound_but(sound, mean_cos=sound.stats.mean_cos + 0.1))
        assert run("verify", "--all").code == 0
        ran = run("verify", "--all", "--full")
        assert ran.code == 1
        assert ran.out.startswith(f"differs: {path}: mean_cos recorded ")
        assert run("verify", "--all", "--full", "--json").document["differing"][str(path)]

    def test_takes_a_file_or_the_store(self, run: Command) -> None:
        path = make(run, *FORMULA)
        for words in ((), (path, "--all"), (path, "--full"), ("--full",)):
            one_error(run("verify", *words), 2, "verify takes a file, which is measured, or --all")


def sound_but(sound: Any, **figures: float) -> Any:
    """The same set, of which other figures are said."""
    return replace(sound, stats=replace(sound.stats, **figures), path=None, version=None, digest=None)


class TestList:
    def test_shows_the_cosine_that_counts_and_the_size(self, run: Command) -> None:
        for words in (DESCENT, ("uniform", "--d", 3, "--n", 7, "--steps", 3), ("polytope", "simplex", "--n", 4)):
            make(run, *words)
        rows = run("list", "--json").document["artifacts"]
        lines = run("list").out.splitlines()
        assert lines[0].split() == ["method", "d", "n", "version", "coherence", "ratio", "size", "created", "status"]
        for row, figure, kind in zip(
            rows, ("coherence", "max_cos", "max_cos"), ("lines", "points", "points"), strict=True
        ):
            shown = run("show", row["path"], "--json").document
            assert row["coherence"] == shown["stats"][figure]["value"]
            assert row["ratio"] == shown["bounds"][kind]["ratio"]
            assert row["bytes"] == Path(row["path"]).stat().st_size
        assert [row["method"] for row in rows] == ["ebv", "simplex", "uniform"]
        assert rows[1]["coherence"] == pytest.approx(-1 / 3)
        assert lines[2].split()[4:8] == ["-0.333333", "-", "0.01", "MB"]


class TestDiff:
    def test_the_same_content(self, run: Command) -> None:
        path = make(run, *FORMULA)
        shutil.copy(path, "copy.safetensors")
        ran = run("diff", path, "copy.safetensors")
        assert (ran.code, ran.err) == (0, "")
        assert ran.out.splitlines()[-1] == f"the same content, digest {read_header(path).digest[:12]}"
        found = run("diff", path, "copy.safetensors", "--json").document
        assert (found["same"], found["spec"], found["rows"]) == (True, {}, {"equal": 4, "largest": 0.0})
        assert found["figures"]["coherence"] == [0.0, 0.0]

    def test_other_content_of_one_shape(self, run: Command) -> None:
        one, other = make(run, *DESCENT), make(run, *DESCENT, "--seed", 1)
        ran = run("diff", one, other, "--json")
        assert ran.code == 1
        found, (a, b) = ran.document, (read(path) for path in (one, other))
        assert found["paths"] == [str(one), str(other)]
        assert found["digests"] == [a.digest, b.digest]
        assert (found["same"], found["spec"]) == (False, {"seed": [0, 1]})
        assert found["rows"] == {"equal": 0, "largest": float((a.tensor - b.tensor).abs().max())}
        assert a.stats
        assert b.stats
        assert found["figures"]["coherence"] == [a.stats.coherence.value, b.stats.coherence.value]
        text = run("diff", one, other)
        assert text.code == 1
        assert re.search(r"^seed +0 +1$", text.out, re.MULTILINE)
        assert re.search(r"^coherence +0\.\d+ +0\.\d+ +[+-]\d\.\d{3}e-\d\d$", text.out, re.MULTILINE)
        assert text.out.splitlines()[-1].startswith("other content: 0 rows are equal, the largest difference is ")

    def test_rows_that_are_equal_are_counted(self, run: Command) -> None:
        path = make(run, *FORMULA)
        made = read(path)
        made.tensor[0] *= -1
        Path("copies").mkdir()
        write("copies/turned.safetensors", sound_but(made))
        assert run("diff", path, "copies/turned.safetensors", "--json").document["rows"] == {"equal": 3, "largest": 2.0}

    def test_other_shapes(self, run: Command) -> None:
        ran = run("diff", make(run, *FORMULA), make(run, *DESCENT))
        assert ran.code == 1
        assert ran.out.splitlines()[-1] == "other content, of another shape"
        assert re.search(r"^n +4 +6$", ran.out, re.MULTILINE)

    def test_damage_is_an_error(self, run: Command) -> None:
        one, other = make(run, *FORMULA), make(run, *DESCENT)
        flip(other)
        one_error(run("diff", one, other), 5, other)
        one_error(run("diff", one, "none"), 3, "none: no such file")
