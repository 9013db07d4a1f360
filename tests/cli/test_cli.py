"""The command line as its users meet it: results, messages, exit codes, and nothing left behind."""

import dataclasses
import math
import os
import pickle
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from operator import itemgetter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from artifacts import flip
from commands import Command, Ran, make, one_error
from processes import FORK
from safetensors.torch import save_file

import protogen
from protogen.bounds import coherence_bound
from protogen.files.facts import Facts
from protogen.files.header import read_header
from protogen.files.reading import read
from protogen.files.writing import write
from protogen.report import progress
from protogen.store.store import Store

TOO_LARGE = 10**30
OPTIONS = "d n alpha seed start steps time-limit device tile store json quiet force strict update"
# Welch for (5, 12) is sqrt(7 / 55) = .356753: in three steps no descent gets to .36.
RANDOM = ("ebv", "--d", 5, "--n", 12, "--start", "random", "--steps", 3)
# Welch for (100, 2000) is sqrt(1900 / (100 * 1999)) = .0975, which no descent comes within 3% of.
ENDLESS = ("ebv", "--d", 100, "--n", 2000, "--start", "random", "--alpha", 0.1, "--steps", 1000000)


@pytest.fixture
def children() -> Iterator[list[subprocess.Popen[str]]]:
    """The processes of a test, ended with it."""
    started: list[subprocess.Popen[str]] = []
    yield started
    for child in started:
        child.kill()
        child.wait()
        for stream in (child.stdout, child.stderr):
            if stream:
                stream.close()


@pytest.fixture
def start(store: Path, children: list[subprocess.Popen[str]]) -> Callable[..., subprocess.Popen[str]]:
    """Start a command as a process of its own; `first` is Python that runs before it."""

    def command(*words: object, first: str | None = None, **how: Any) -> subprocess.Popen[str]:
        python = ["-m", "protogen"] if first is None else ["-c", f"{first}\nfrom protogen.cli import main; main()"]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **how}
        plain = {"COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb", "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": ""}
        line = [sys.executable, *python, *map(str, words)]
        child = subprocess.Popen(line, text=True, env={**os.environ, **plain}, **pipes)
        children.append(child)
        return child

    return command


def finish(child: subprocess.Popen[str]) -> Ran:
    out, err = child.communicate(timeout=50)
    return Ran(child.returncode, out, err)


def tree(folder: Path) -> list[tuple[str, int]]:
    """All that lies in a folder and below: paths and, of files, sizes."""
    return sorted((str(p.relative_to(folder)), p.stat().st_size if p.is_file() else -1) for p in folder.rglob("*"))


def artifacts(store: Path) -> list[Path]:
    """The files of a store but for its claims and the states of its runs; whatever is left over is among them."""
    kept = (p for p in store.rglob("*") if p.is_file() and ".runs" not in p.parts)
    return sorted(p for p in kept if p.parent.name != ".claims")


def raiser(error: BaseException) -> Callable[..., None]:
    """A function that raises, whatever it is called with."""

    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


class TestEbv:
    def test_says_what_it_made_on_stdout(self, run: Command, store: Path) -> None:
        ran = run("ebv", "--d", 3, "--n", 3)
        (path,) = artifacts(store)
        assert (ran.code, ran.err) == (0, "")
        assert str(path) in ran.out
        assert "coherence" in ran.out

    def test_n_up_to_d_is_orthonormal_and_exact(self, run: Command) -> None:
        for n in (2, 7):
            made = run("ebv", "--d", 7, "--n", n, "--json").document
            assert made["stats"]["coherence"]["value"] == 0
            assert made["provenance"]["reproducible"] == "exact"
            rows = read(made["path"]).tensor
            assert torch.equal(rows @ rows.T, torch.eye(n))

    def test_json_is_one_document(self, run: Command, store: Path) -> None:
        ran = run(*RANDOM, "--seed", 5, "--json")
        made = ran.document
        (path,) = artifacts(store)
        assert (ran.code, ran.err) == (0, "")
        assert (made["path"], made["version"], made["key"]) == (str(path), 1, path.stem.removeprefix("v1-"))
        assert made["bytes"] == path.stat().st_size
        assert made["spec"] == read_header(path).spec.to_dict()
        assert (made["spec"]["d"], made["spec"]["n"], made["spec"]["seed"]) == (5, 12, 5)
        assert made["stats"]["pairs"] == 12 * 11 // 2
        assert made["provenance"]["status"] == "step limit"
        assert made["provenance"]["steps"] == 3

    def test_quiet_prints_the_path_alone(self, run: Command, store: Path) -> None:
        ran = run(*RANDOM, "--quiet")
        assert ran == Ran(0, f"{artifacts(store)[0]}\n", "")

    def test_a_hit_is_silent_and_the_same(self, run: Command, store: Path) -> None:
        first, before = run(*RANDOM, "--json"), tree(store)
        again = run(*RANDOM, "--json")
        assert again == first
        assert again.err == ""
        assert tree(store) == before

    def test_store_option_comes_before_the_environment(self, run: Command, store: Path, tmp_path: Path) -> None:
        other = tmp_path / "other"
        path = make(run, "ebv", "--d", 3, "--n", 3, "--store", other)
        assert path.is_relative_to(other)
        assert not store.exists()

    def test_without_either_it_is_prototypes_here(
        self, run: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.delenv("PROTOGEN_STORE")
        assert run("ebv", "--d", 3, "--n", 3, "--quiet").out.startswith("prototypes/ebv/d3-n3/v1-")
        assert len(artifacts(tmp_path / "prototypes")) == 1

    def test_force_gives_the_same_path_for_the_same_bytes(self, run: Command, store: Path) -> None:
        for words in (("ebv", "--d", 4, "--n", 3), RANDOM):
            first = run(*words, "--json").document
            again = run(*words, "--json", "--force").document
            assert (again["path"], again["digest"]) == (first["path"], first["digest"])
        assert len(artifacts(store)) == 2

    @pytest.mark.parametrize("force", [(), ("--force",)])
    def test_a_damaged_file_is_set_aside_and_generated(self, run: Command, store: Path, force: tuple[str, ...]) -> None:
        path = make(run, *RANDOM)
        os.truncate(path, path.stat().st_size - 1)
        damaged = path.read_bytes()
        ran = run(*RANDOM, "--quiet", *force)
        assert (ran.code, ran.out) == (0, f"{path}\n")
        (aside,) = (store / ".quarantine").iterdir()
        assert re.fullmatch(rf"set aside as {re.escape(str(aside))}: {path}: the file is truncated: [^\n]+\n", ran.err)
        assert aside.read_bytes() == damaged
        assert run("verify", path).code == 0
        # The sound one is a hit from now on.
        assert run(*RANDOM, "--quiet") == Ran(0, f"{path}\n", "")

    def test_a_missed_alpha_is_a_note(self, run: Command, store: Path) -> None:
        ran = run(*RANDOM, "--alpha", 0.36, "--json")
        best = ran.document["stats"]["coherence"]["value"]
        assert ran.code == 0
        assert best > 0.36 + 1e-6
        assert re.fullmatch(
            rf"note: coherence is {best:.6f}, asked for was at most 0\.36; step limit: [^\n]+\n", ran.err
        )

    def test_strict_makes_it_a_failure_but_saves(self, run: Command, store: Path) -> None:
        # Generated, then from the store: the answer is the same.
        for _ in range(2):
            ran = run(*RANDOM, "--alpha", 0.36, "--strict", "--quiet")
            assert ran.code == 1
            assert re.fullmatch(r"error: coherence is [^\n]+\n", ran.err)
            assert artifacts(store) == [Path(ran.out.strip())]
        assert run("verify", artifacts(store)[0]).code == 0

    def test_strict_is_content_with_an_alpha_reached(self, run: Command) -> None:
        # (5, 12): the rows of seed 0 are at about .8 before any step.
        ran = run("ebv", "--d", 5, "--n", 12, "--start", "random", "--alpha", 0.95, "--strict", "--json")
        assert (ran.code, ran.err) == (0, "")
        assert ran.document["provenance"]["status"] == "target reached"
        assert ran.document["stats"]["coherence"]["value"] <= 0.95 + 1e-6

    @pytest.mark.slow
    def test_time_limit_saves_the_best_and_does_not_answer_the_full_request(self, run: Command, store: Path) -> None:
        # 300 steps at (100, 3000) are some 300 * 2 * 2 * 3000^2 / 2 * 100 = 1e12 operations: not in 0.05 s.
        words = ("ebv", "--d", 100, "--n", 3000, "--start", "random", "--alpha", 0.1, "--json")
        ran = run(*words, "--steps", 300, "--time-limit", 0.05)
        ended = ran.document
        step = ended["provenance"]["steps"]
        assert ran.code == 0
        assert 1 <= step < 300
        assert ended["spec"]["params"]["ended"] == f"time limit at step {step}"
        assert "time limit: this is the best so far, not what was asked for" in ran.err
        assert Store(store).find(protogen.resolve("ebv", d=100, n=3000, alpha=0.1, start="random", steps=300)) is None
        assert run("verify", ended["path"]).code == 0

    def test_the_full_request_is_made_anew(self, run: Command, store: Path) -> None:
        # Every limit is passed after one step.
        ended = run(*RANDOM, "--time-limit", 1e-9, "--json").document
        full = run(*RANDOM, "--json").document
        assert (ended["provenance"]["steps"], full["provenance"]["steps"]) == (1, 3)
        assert (ended["version"], full["version"]) == (1, 2)
        assert "ended" not in full["spec"]["params"]
        # Once it is there it is the answer, whatever the limit.
        assert run(*RANDOM, "--time-limit", 1e-9, "--json").document == full

    def test_update_paper(self, run: Command) -> None:
        made = run(*RANDOM, "--update", "paper", "--rate", 0.01, "--json").document
        assert made["spec"]["params"]["update"] == "paper"
        assert made["spec"]["params"]["rate"] == 0.01

    def test_tile_is_no_part_of_the_request(self, run: Command, store: Path) -> None:
        first = run(*RANDOM, "--tile", 5, "--quiet")
        assert run(*RANDOM, "--quiet") == first
        assert len(artifacts(store)) == 1


class TestProgress:
    WORDS = ("ebv", "--d", 5, "--n", 12, "--start", "random", "--steps", 2, "--alpha", 0.36)

    def test_a_plain_line_off_a_terminal(self, run: Command, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(progress, "PLAIN_EVERY_S", 0.0)
        lines = run(*self.WORDS, "--json").err.splitlines()
        # The bound is Welch's, sqrt((12 - 5) / (5 * 11)) = .356753.
        step = re.compile(
            r"\[0:00:0\d\] coherence (0\.\d{6})  best (0\.\d{6})  target 0\.360000  bound 0\.356753  "
            r"step ([12])/2  at most 0:00:0\d left"
        )
        found = [match for line in lines if (match := step.fullmatch(line))]
        assert [match[3] for match in found] == ["1", "2"]
        assert float(found[1][2]) == min(float(found[0][1]), float(found[1][1]))
        assert any(re.fullmatch(r"\[0:00:0\d\] statistics over all pairs  100%", line) for line in lines)

    def test_quiet_shows_none(self, run: Command, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(progress, "PLAIN_EVERY_S", 0.0)
        assert run(*RANDOM, "--quiet").err == ""

    def test_not_more_often_than_every_ten_seconds(self, run: Command) -> None:
        assert run(*RANDOM).err == ""

    def test_a_plain_line_on_a_terminal_that_cannot_move(self, run: Command, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(progress, "PLAIN_EVERY_S", 0.0)
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
        monkeypatch.setenv("TERM", "dumb")
        assert "step 1/3" in run(*RANDOM).err

    @pytest.mark.slow
    def test_live_on_a_terminal(self, start: Callable[..., subprocess.Popen[str]]) -> None:
        ours, theirs = pty.openpty()
        first = "import os; os.environ['TERM'] = 'xterm'; import protogen.report.progress as p; p.LIVE_EVERY_S = 0.0"
        child = start(*RANDOM, "--json", first=first, stderr=theirs)
        os.close(theirs)
        shown = b""
        while True:
            try:
                shown += os.read(ours, 4096)
            except OSError:  # the other end is closed
                break
        os.close(ours)
        ran = finish(child)
        assert ran.code == 0
        assert ran.document["provenance"]["steps"] == 3
        plain = re.sub(rb"\x1b\[[\d;?]*[a-zA-Z]", b"", shown)
        assert b"step 1/3" in plain
        assert b"statistics over all pairs  100%" in plain


class TestShow:
    def test_says_what_the_header_says(self, run: Command, store: Path) -> None:
        made = run(*RANDOM, "--json")
        path = made.document["path"]
        assert run("show", path, "--json") == made
        ran = run("show", path)
        assert (ran.code, ran.err) == (0, "")
        assert f"{made.document['stats']['coherence']['value']:.6f}" in ran.out

    def test_does_not_read_the_data(self, run: Command) -> None:
        path = make(run, *RANDOM)
        flip(path)
        assert run("show", path).code == 0


class TestList:
    def test_of_no_store_is_empty(self, run: Command, store: Path) -> None:
        assert run("list") == Ran(0, "no artifacts\n", "")
        assert run("list", "--json").document == {"store": str(store), "artifacts": []}
        assert not store.exists()

    def test_has_each_file_with_its_coherence(self, run: Command, store: Path) -> None:
        made = [run(*words, "--json").document for words in (("ebv", "--d", 4, "--n", 3), RANDOM)]
        listed = run("list", "--json", "--store", store).document["artifacts"]
        assert [row["path"] for row in listed] == [record["path"] for record in made]
        assert [row["coherence"] for row in listed] == [record["stats"]["coherence"]["value"] for record in made]
        assert listed[0]["ratio"] is None  # the bound is 0
        # Welch for (5, 12) is sqrt((12 - 5) / (5 * 11)), and no bound that applies is better.
        assert listed[1]["ratio"] == pytest.approx(listed[1]["coherence"] / math.sqrt(7 / 55))
        ran = run("list")
        assert (ran.code, ran.err) == (0, "")
        assert len(ran.out.splitlines()) == 3

    def test_names_a_damaged_file(self, run: Command) -> None:
        path = make(run, *RANDOM)
        os.truncate(path, 100)
        run("ebv", "--d", 4, "--n", 3)
        ran = run("list")
        assert (ran.code, ran.err) == (0, "")
        assert [("damaged: " in line) for line in ran.out.splitlines()] == [False, False, True]
        errors = [row.get("error") for row in run("list", "--json").document["artifacts"]]
        assert errors[0] is None
        assert str(path) in errors[1]


class TestStats:
    # Three vectors, of lengths 3, 5 and 2 sqrt(2), at 90, 135 and 45 degrees.
    ROWS = ((3.0, 0.0), (0.0, 5.0), (-2.0, 2.0))

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
    def test_measures_a_foreign_file_and_leaves_it_alone(
        self, run: Command, tmp_path: Path, dtype: torch.dtype
    ) -> None:
        path = tmp_path / "theirs.safetensors"
        save_file({"weight": torch.tensor(self.ROWS, dtype=dtype), "bias": torch.ones(3)}, path)
        before = path.read_bytes(), path.stat().st_mtime_ns, tree(tmp_path)
        ran = run("stats", path, "--json")
        got = ran.document
        assert (ran.code, ran.err, got["path"], got["n"], got["d"]) == (0, "", str(path), 3, 2)
        half = math.sqrt(0.5)
        for name, value, pair in (("coherence", half, None), ("max_cos", half, (1, 2)), ("min_cos", -half, (0, 2))):
            assert got["stats"][name]["value"] == pytest.approx(value, abs=1e-7)
            assert pair in (None, (got["stats"][name]["i"], got["stats"][name]["j"]))
        assert got["stats"]["min_angle_lines_deg"] == pytest.approx(45, abs=1e-5)
        assert got["stats"]["mean_deviation_deg"] == pytest.approx((0 + 45 + 45) / 3, abs=1e-4)
        assert sum(got["stats"]["histogram"]) == 3
        # Three lines in the plane are best at 60 degrees.
        assert got["bounds"]["lines"]["gap_deg"] == pytest.approx(15, abs=1e-5)
        assert (path.read_bytes(), path.stat().st_mtime_ns, tree(tmp_path)) == before

    def test_in_lines(self, run: Command, tmp_path: Path) -> None:
        path = tmp_path / "theirs.safetensors"
        save_file({"weight": torch.tensor(self.ROWS)}, path)
        ran = run("stats", path, "--tile", 2)
        assert (ran.code, ran.err) == (0, "")
        assert "coherence   0.707107" in ran.out

    def test_agrees_with_what_an_artifact_records(self, run: Command) -> None:
        made = run(*RANDOM, "--json").document
        assert run("stats", made["path"], "--json").document["stats"] == made["stats"]

    def test_length_is_no_matter(self, run: Command, tmp_path: Path) -> None:
        path = tmp_path / "theirs.safetensors"
        save_file({"w": torch.tensor(self.ROWS) * torch.tensor([[1e-20], [1e18], [1]])}, path)
        found = run("stats", path, "--json").document["stats"]
        assert found["coherence"]["value"] == pytest.approx(math.sqrt(0.5), abs=1e-7)
        assert found["mean_deviation_deg"] == pytest.approx((0 + 45 + 45) / 3, abs=1e-4)

    def test_flattens_leading_dimensions(self, run: Command, tmp_path: Path) -> None:
        path = tmp_path / "theirs.safetensors"
        save_file({"centers": torch.eye(4).view(2, 2, 4)}, path)
        got = run("stats", path, "--json").document
        assert (got["n"], got["d"], got["stats"]["coherence"]["value"]) == (4, 4, 0)

    def test_a_tensor_by_name(self, run: Command, tmp_path: Path) -> None:
        path = tmp_path / "theirs.safetensors"
        save_file({"a": torch.eye(3), "b": torch.tensor(self.ROWS)}, path)
        one_error(run("stats", path), 2, "a, b", "--tensor")
        one_error(run("stats", path, "--tensor", "c"), 2, "'c'", "a, b")
        assert run("stats", path, "--tensor", "b", "--json").document["d"] == 2

    @pytest.mark.parametrize(
        ("tensor", "says"),
        [
            (torch.tensor([[1.0, 0.0], [0.0, 0.0]]), "row 1 has norm 0.0"),
            (torch.tensor([[1.0, 0.0], [0.0, 1.0], [math.nan, 1.0]]), "row 2 has norm nan"),
            (torch.tensor([[math.inf, 0.0], [0.0, 1.0]]), "row 0 has norm inf"),
            (torch.ones(5), "--tensor"),
            (torch.tensor(1.0), "--tensor"),
            (torch.eye(3, dtype=torch.int64), "I64 (3, 3)"),
            (torch.ones(1, 4), "(1, 4)"),
            (torch.ones(4, 1), "(4, 1)"),
            (torch.ones(0, 4), "(0, 4)"),
        ],
    )
    def test_refuses_what_has_no_angles(self, run: Command, tmp_path: Path, tensor: torch.Tensor, says: str) -> None:
        path = tmp_path / "theirs.safetensors"
        save_file({"weight": tensor}, path)
        one_error(run("stats", path), 2, path, says)


class TestCatalog:
    def test_lists_the_forms_best_first_with_the_bound(self, run: Command, store: Path) -> None:
        listed = run("catalog", "--d", 100, "--n", 1000, "--json").document
        assert listed["bound"] == {"name": "Welch", "value": coherence_bound(100, 1000).value}
        guaranteed = [form["guaranteed"] for form in listed["forms"]]
        assert guaranteed == sorted(guaranteed)
        best = listed["forms"][0]
        assert best["closed_form"] == "labels(form=kerdock(k=3),count=16,cut=1)"
        assert (best["own_d"], best["own_n"]) == (79, 1024)
        assert best["guaranteed"] == pytest.approx(1 / 9)
        assert best["ratio"] == pytest.approx(1 / 9 / coherence_bound(100, 1000).value)
        assert not store.exists()

    def test_says_the_same_in_lines(self, run: Command) -> None:
        ran = run("catalog", "--d", 100, "--n", 1000)
        lines = ran.out.splitlines()
        assert (ran.code, ran.err) == (0, "")
        assert "closed form" in lines[0]
        assert re.fullmatch(r" *0\.111111 +1\.171 +79 +1,024 +-  labels\(.*\)", lines[1])
        assert "0.094916 (Welch)" in lines[-1]
        assert "protogen ebv --d 100 --n 1000 --start random" in lines[-1]

    def test_points_have_families_of_their_own(self, run: Command) -> None:
        listed = run("catalog", "--points", "--d", 10, "--n", 11, "--json").document
        assert listed["forms"][0]["closed_form"] == "simplices(n=11,k=1)"
        assert listed["forms"][0]["guaranteed"] == -0.1
        assert listed["forms"][0]["ratio"] is None

    def test_beyond_every_family_it_says_what_a_descent_can_do(self, run: Command) -> None:
        ran = run("catalog", "--d", 4, "--n", 500)
        assert ran.code == 0
        assert ran.out.startswith("no closed form reaches n=500 in d=4\n")
        assert "gets to about 0.9" in ran.out

    @pytest.mark.parametrize(
        ("words", "says"),
        [
            (("--d", 1, "--n", 10), "d is 1; allowed is a whole number, at least 2"),
            (("--d", 10, "--n", 1), "n is 1; allowed is a whole number, at least 2"),
            (("--d", 10, "--n", TOO_LARGE), f"n is {TOO_LARGE}"),
            (("--d", "x", "--n", 10), "'x' is not a whole number"),
            (("--d", 10), "Missing option '--n'"),
        ],
    )
    def test_refuses_what_is_no_size(self, run: Command, words: tuple[object, ...], says: str) -> None:
        one_error(run("catalog", *words), 2, says)

    @pytest.mark.slow
    @pytest.mark.parametrize(("d", "n"), [(8192, 10**8), (8192, 9000), (8191, 30_000), (1024, 10**7), (2, 10**8)])
    def test_asks_the_families_without_torch(self, d: int, n: int) -> None:
        code = f"import sys; from protogen.report import listing; listing({d}, {n}, False); listing({d}, {n}, True)"
        code += "; print([name for name in ('torch', 'numpy', 'scipy') if name in sys.modules])"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout == "[]\n"


class TestVerify:
    @pytest.mark.slow
    def test_of_a_sound_file(self, run: Command) -> None:
        made = run(*RANDOM, "--json").document
        ran = run("verify", made["path"])
        assert (ran.code, ran.err) == (0, "")
        assert f"{made['stats']['coherence']['value']:.6f}" in ran.out
        checked = run("verify", made["path"], "--json").document
        assert (checked["path"], checked["differences"], checked["stats"]) == (made["path"], [], made["stats"])

    def test_a_better_coherence_recorded_than_measured(self, run: Command, tmp_path: Path) -> None:
        sound = read(make(run, *RANDOM))
        assert sound.stats
        was = sound.stats.coherence.value
        better = dataclasses.replace(sound.stats.coherence, value=0.9 * was)
        path = tmp_path / "better.safetensors"
        write(path, dataclasses.replace(sound, stats=dataclasses.replace(sound.stats, coherence=better)))
        one_error(run("verify", path), 1, f"{0.9 * was:.9f}", f"{was:.9f}")
        ran = run("verify", path, "--json")
        assert ran.code == 1
        assert len(ran.document["differences"]) == 1

    def test_a_better_coherence_guaranteed_than_measured(self, run: Command, tmp_path: Path) -> None:
        sound = read(make(run, *RANDOM))
        assert sound.stats
        path = tmp_path / "better.safetensors"
        write(path, dataclasses.replace(sound, facts=Facts(guaranteed_coherence=0.125)))
        one_error(run("verify", path), 1, "0.125000000", f"{sound.stats.coherence.value:.9f}")


PAIR = {"--d": 10, "--n": 30}


class TestWrongRequests:
    """One line, the right exit code, nothing on stdout, nothing left behind."""

    @pytest.mark.parametrize("option", ["--d", "--n"])
    @pytest.mark.parametrize("value", [0, -1, 1, "1e30", "abc", TOO_LARGE, "", "3.5", "nan"])
    def test_sizes(self, run: Command, tmp_path: Path, option: str, value: object) -> None:
        words = [word for pair in {**PAIR, option: value}.items() for word in pair]
        one_error(run("ebv", *words), 2, option.strip("-"), value)
        assert tree(tmp_path) == []

    @pytest.mark.parametrize("method", ["auto", "random"])
    def test_alpha_under_the_lower_bound(self, run: Command, tmp_path: Path, method: str) -> None:
        ran = run("ebv", "--d", 1000, "--n", 100000, "--alpha", 0.02, "--start", method)
        # Welch, the best up to n = d(d+1)/2: sqrt((100000 - 1000) / (1000 * 99999)) = .0314643.
        one_error(ran, 2, "alpha is 0.02", f"{math.sqrt(99000 / 99999e3):.6f}")
        assert tree(tmp_path) == []

    @pytest.mark.parametrize(
        ("words", "says"),
        [
            *((f"--alpha {value}", "alpha") for value in (0, 1, 2, "nan", "inf", -0.1, "x", "1e-400")),
            *((f"--tile {value}", "tile") for value in (0, -1, "x", 1.5)),
            *((f"--time-limit {value}", "time-limit") for value in (0, -1, "nan", "inf", "x")),
            *((f"--steps {value}", "steps") for value in (0, -1, "x")),
            *((f"--seed {value}", "seed") for value in (-1, TOO_LARGE, "x")),
            *((f"--device {value}", "cpu") for value in ("gpu", "cuda:99", "meta", "CPU")),
            ("--rate 0.1", "--update paper"),
            *((f"--update paper --rate {value}", "rate") for value in (0, -1, "nan", "inf", "x")),
            ("--start nowhere", "auto, random, closed-form"),
            ("--update adam", "lbfgs, paper"),
            ("--alfa 0.5", "--alpha"),
            ("--alpha", "--alpha"),
            ("more", "more"),
        ],
    )
    def test_options(self, run: Command, tmp_path: Path, words: str, says: str) -> None:
        one_error(run("ebv", "--d", 10, "--n", 30, *words.split()), 2, says)
        assert tree(tmp_path) == []

    def test_no_closed_form(self, run: Command, tmp_path: Path) -> None:
        # No set of 500 lines in R^3 stands in any table.
        one_error(run("ebv", "--d", 3, "--n", 500, "--start", "closed-form"), 2, "d=3, n=500", "--start random")
        assert tree(tmp_path) == []

    @pytest.mark.parametrize(
        ("words", "says"),
        [
            ("ebw", "`protogen ebv`"),
            ("ebv", "issing"),
            ("ebv --n 3", "issing"),
            ("ebv --d 3", "--n"),
            ("show", "file"),
            ("list x", "x"),
        ],
    )
    def test_commands(self, run: Command, tmp_path: Path, words: str, says: str) -> None:
        one_error(run(*words.split()), 2, says)
        assert tree(tmp_path) == []

    @pytest.mark.parametrize(
        "words", ["list", "verify --all", "prune", "sync", "ebv --d 4 --n 3", "capacity --d 5 --alpha 0.5"]
    )
    def test_a_store_without_a_name(self, run: Command, tmp_path: Path, words: str) -> None:
        one_error(run(*words.split(), "--store", ""), 2, "store is ''", "PROTOGEN_STORE")
        assert tree(tmp_path) == []

    @pytest.mark.parametrize("command", ["stats", "verify"])
    def test_how_to_measure(self, run: Command, command: str) -> None:
        path = make(run, *RANDOM)
        one_error(run(command, path, "--tile", 0), 2, "tile is 0")
        one_error(run(command, path, "--device", "gpu"), 2, "'gpu'", "cpu")

    @pytest.mark.parametrize("start", ["auto", "random"])
    def test_more_than_the_disk_holds(self, run: Command, tmp_path: Path, start: str) -> None:
        ran = run("ebv", "--d", 1000, "--n", 10**10, "--start", start)
        one_error(ran, 4, "40,000.0 GB")  # 4 * 1000 * 10^10 bytes
        assert tree(tmp_path) == []

    def test_more_than_the_memory_holds(self, run: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=10**15))
        ran = run("ebv", "--d", 1000, "--n", 10**10, "--start", "random")
        one_error(ran, 2, "d=1000, n=10000000000", "of memory, free are")
        needed = re.search(r"needs about ([\d,]+)\.\d GB", ran.err)
        # The rows alone are 4 * 1000 * 10^10 bytes.
        assert needed
        assert int(needed[1].replace(",", "")) >= 40_000
        assert tree(tmp_path) == []

    def test_a_tile_that_the_memory_does_not_hold(self, run: Command, tmp_path: Path) -> None:
        n = 10**6  # a tile of n x n takes at least 4 * 10^12 bytes
        one_error(
            run("ebv", "--d", 2, "--n", n, "--start", "random", "--alpha", 0.9999999, "--tile", n),
            2,
            "needs about",
            "--tile",
        )
        path = tmp_path / "rows.safetensors"
        save_file({"rows": torch.ones(n, 2)}, path)
        one_error(run("stats", path, "--tile", n), 2, "needs about", "--tile")
        assert [name for name, _ in tree(tmp_path)] == ["rows.safetensors"]

    @pytest.mark.parametrize("below", ["", "store", "store/deeper"])
    def test_a_store_that_is_no_directory(self, run: Command, tmp_path: Path, below: str) -> None:
        file = tmp_path / "file"
        file.write_text("kept")
        place = file / below
        one_error(run("ebv", "--d", 3, "--n", 3, "--store", place), 4, file)
        one_error(run("list", "--store", place), 4, file)
        assert tree(tmp_path) == [("file", 4)]

    def test_as_a_process(self, start: Callable[..., subprocess.Popen[str]]) -> None:
        one_error(finish(start("ebv", "--d", 0, "--n", 3)), 2, "d is 0")


class TestWrongFiles:
    @pytest.fixture
    def path(self, run: Command, tmp_path: Path) -> Path:
        """A sound artifact outside any store."""
        return make(run, *RANDOM).rename(tmp_path / "file.safetensors")

    @pytest.mark.parametrize("command", ["show", "stats", "verify"])
    def test_missing(self, run: Command, tmp_path: Path, command: str) -> None:
        one_error(run(command, "nothing.safetensors"), 3, "nothing.safetensors")
        file = tmp_path / "file"
        file.touch()
        one_error(run(command, file / "below"), 3, "below")

    @pytest.mark.parametrize("command", ["show", "stats", "verify"])
    def test_directory(self, run: Command, tmp_path: Path, command: str) -> None:
        one_error(run(command, tmp_path), 4, tmp_path, "directory")

    @pytest.mark.parametrize("command", ["show", "stats", "verify"])
    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"\0\0\0",
            b"<!DOCTYPE html>\n<html><body>404: not found</body></html>\n",
            pickle.dumps({"prototypes": [1.0, 2.0]}),
            b"\xff" * 64,
        ],
        ids=["empty", "short", "html", "pickle", "ones"],
    )
    def test_something_else(self, run: Command, tmp_path: Path, command: str, content: bytes) -> None:
        path = tmp_path / "page.safetensors"
        path.write_bytes(content)
        one_error(run(command, path), 5, path)
        assert path.read_bytes() == content

    @pytest.mark.parametrize("command", ["show", "stats", "verify"])
    @pytest.mark.parametrize("left", [0.1, 0.5, 0.999])
    def test_truncated(self, run: Command, path: Path, command: str, left: float) -> None:
        os.truncate(path, int(path.stat().st_size * left))
        one_error(run(command, path), 5, path)

    def test_a_flipped_bit_in_the_data(self, run: Command, path: Path) -> None:
        flip(path, -10)
        one_error(run("verify", path), 5, path, "sha256")

    @pytest.mark.parametrize("command", ["show", "verify"])
    @pytest.mark.parametrize("part", [0.0, 0.3, 0.7, 0.9])
    def test_a_flipped_bit_in_the_header(self, run: Command, path: Path, command: str, part: float) -> None:
        flip(path, int(read_header(path).data_start * part))
        one_error(run(command, path), 5, path)

    def test_a_foreign_file_is_no_artifact(self, run: Command, tmp_path: Path) -> None:
        path = tmp_path / "theirs.safetensors"
        save_file({"prototypes": torch.eye(3)}, path)
        for command in ("show", "verify"):
            one_error(run(command, path), 5, "not a protogen artifact", "protogen stats")


class TestInterrupted:
    PLAIN = "from protogen.report import progress; progress.PLAIN_EVERY_S = 0.0"

    def wait_for(self, child: subprocess.Popen[str], word: str) -> str:
        """Read the child's messages up to the line that has the word."""
        assert child.stderr
        seen = ""
        for line in child.stderr:
            seen += line
            if word in line:
                return seen
        pytest.fail(f"no {word!r} in {seen!r}")

    @pytest.mark.slow
    def test_saves_the_best_so_far(
        self, run: Command, start: Callable[..., subprocess.Popen[str]], store: Path
    ) -> None:
        child = start(*ENDLESS, "--json", first=self.PLAIN)
        self.wait_for(child, "step 3/")
        child.send_signal(signal.SIGINT)
        ran = finish(child)
        saved = ran.document
        assert ran.code == 130
        assert "Traceback" not in ran.err
        # The steps go on until the signal is seen; one line after them says what there is.
        assert re.fullmatch(
            r"(?:\[[\d:]+\] [^\n]+\n)*interrupted: this is the best so far, not what was asked for; "
            r"run the command again to go on\n",
            ran.err,
        )
        assert artifacts(store) == [Path(saved["path"])]
        assert saved["provenance"]["status"] == "interrupted"
        assert saved["spec"]["params"]["ended"] == f"interrupted at step {saved['provenance']['steps']}"
        assert run("verify", saved["path"]).code == 0
        asked = protogen.resolve("ebv", d=100, n=2000, start="random", alpha=0.1, steps=1000000)
        assert Store(store).find(asked) is None

    @pytest.mark.slow
    def test_a_second_one_stops_at_once(
        self, run: Command, start: Callable[..., subprocess.Popen[str]], store: Path
    ) -> None:
        # Statistics of 8 blocks of rows, after each of which the process waits long enough to be hit.
        slow = "import time; progress.Display.measuring = lambda *at: (print('block', flush=True), time.sleep(2))"
        child = start(*ENDLESS, "--tile", 250, "--json", first=f"{self.PLAIN}; {slow}")
        self.wait_for(child, "step 1/")
        child.send_signal(signal.SIGINT)
        assert child.stdout
        assert child.stdout.readline() == "block\n"
        child.send_signal(signal.SIGINT)
        ran = finish(child)
        assert ran.code == 130
        assert "Traceback" not in ran.err
        # What it had is saved, unmeasured.
        assert artifacts(store) == [Path(ran.document["path"])]
        assert ran.document["stats"] is None
        assert run("verify", ran.document["path"]).code == 0

    @pytest.mark.slow
    def test_before_any_work(self, start: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> None:
        first = "import os, signal, protogen.generating as p\ndef stop(*_): os.kill(os.getpid(), signal.SIGINT)\n"
        ran = finish(start(*RANDOM, first=f"{first}p.make = stop"))
        assert ran == Ran(130, "", "interrupted\n")
        assert tree(tmp_path) == []

    def test_in_the_statistics_of_a_formula_nothing_is_kept(
        self, run: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("protogen.measuring.measure.measure", raiser(KeyboardInterrupt()))
        assert run("ebv", "--d", 3, "--n", 3) == Ran(130, "", "interrupted\n")
        assert tree(tmp_path) == []

    def test_in_the_statistics_of_a_descent_the_set_is_kept(
        self, run: Command, store: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as patched:
            patched.setattr("protogen.measuring.measure.measure", raiser(KeyboardInterrupt()))
            ran = run(*RANDOM, "--json")
        saved = ran.document
        assert ran.code == 130
        assert (saved["stats"], saved["provenance"]["status"]) == (None, "interrupted")
        assert artifacts(store) == [Path(saved["path"])]
        for words in (("show", saved["path"]), ("verify", saved["path"]), ("list",), ("list", "--json")):
            assert run(*words).code == 0
        assert run(*RANDOM, "--json").document["stats"]

    def test_in_publishing_nothing_is_left(self, run: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "fsync", raiser(KeyboardInterrupt()))
        assert run(*RANDOM) == Ran(130, "", "interrupted\n")
        assert tree(tmp_path) == []


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # Python 3.12 warns of the test's own way
class TestTwoAtOnce:
    def both(self, run: Command, *commands: tuple[object, ...]) -> list[Ran]:
        """Run the commands in processes of their own, all together."""
        barrier, ended = FORK.Barrier(len(commands)), FORK.SimpleQueue()

        def work(index: int, words: tuple[object, ...]) -> None:
            barrier.wait(50)
            ended.put((index, run(*words)))

        processes = [FORK.Process(target=work, args=each, daemon=True) for each in enumerate(commands)]
        for process in processes:
            process.start()
        for process in processes:
            process.join(50)
        assert [process.exitcode for process in processes] == [0] * len(commands)
        return [ran for _, ran in sorted((ended.get() for _ in commands), key=itemgetter(0))]

    def test_of_the_same_end_with_one_file(self, run: Command, store: Path) -> None:
        first, second = self.both(run, *[(*RANDOM, "--quiet")] * 2)
        assert first == second == Ran(0, f"{artifacts(store)[0]}\n", "")
        assert len(artifacts(store)) == 1
        assert run("verify", artifacts(store)[0]).code == 0

    @pytest.mark.slow
    def test_of_pins_lose_none(self, run: Command, store: Path) -> None:
        path = make(run, *RANDOM)
        names = [f"name{index}" for index in range(8)]
        made = self.both(run, *[("lock", "add", name, path) for name in names])
        assert [ran.code for ran in made] == [0] * len(names)
        assert list(run("lock", "list", "--json").document["artifacts"]) == names
        assert sorted(each.name for each in Path().iterdir()) == ["protogen.lock", str(store)]

    def test_of_different_ones_get_a_version_each(self, run: Command, store: Path) -> None:
        made = self.both(run, *[(*RANDOM, "--json", "--seed", seed) for seed in (1, 2)])
        assert [(ran.code, ran.err) for ran in made] == [(0, "")] * 2
        assert [ran.document["spec"]["seed"] for ran in made] == [1, 2]
        assert {ran.document["version"] for ran in made} == {1, 2}
        assert artifacts(store) == sorted(Path(ran.document["path"]) for ran in made)
        for path in artifacts(store):
            assert run("verify", path).code == 0


class TestStarting:
    @pytest.mark.slow
    def test_what_needs_no_torch_loads_none(
        self, run: Command, start: Callable[..., subprocess.Popen[str]], store: Path
    ) -> None:
        path = make(run, *RANDOM)
        commands = [
            ["--help"],
            ["ebv", "--help"],
            [*map(str, RANDOM), "--json"],  # a hit
            [*map(str, RANDOM), "--alpha", "0.01"],
            ["ebv", "--d", "1000", "--n", "10000000000"],
            ["show", str(path)],
            ["list"],
        ]
        script = f"""
import sys
from protogen.cli import main
for words in {commands}:
    sys.argv[1:] = words
    try:
        main()
    except SystemExit as end:
        print(f"\\n> {{end.code}}", *sorted({{"torch", "scipy", "numpy"}} & set(sys.modules)))
sys.argv[1:] = ["list"]
"""
        ran = finish(start(first=script))
        assert [line for line in ran.out.splitlines() if line.startswith(">")] == [
            f"> {code}" for code in (0, 0, 0, 2, 4, 0, 0)
        ]
        assert ran.err.count("\n") == 2

    @pytest.mark.slow
    def test_a_hit_as_a_process(self, run: Command, start: Callable[..., subprocess.Popen[str]]) -> None:
        first = run(*RANDOM, "--json")
        assert finish(start(*RANDOM, "--json")) == first

    def test_help_names_every_option(self, run: Command, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("COLUMNS", "100")
        ran = run("ebv", "--help")
        assert (ran.code, ran.err) == (0, "")
        named = set(re.findall(r"--([a-z-]+)", ran.out))
        assert named >= set(OPTIONS.split())

    def test_help_names_every_command(self, run: Command) -> None:
        ran = run("--help")
        assert (ran.code, ran.err) == (0, "")
        for name in ("ebv", "show", "stats", "verify", "list"):
            assert re.search(rf"^\W+{name}\s", ran.out, re.MULTILINE)

    def test_no_command_shows_the_help(self, run: Command) -> None:
        ran = run()
        assert (ran.code, ran.err) == (2, "")
        assert "Usage" in ran.out


class TestOutOfMemory:
    """What the prediction did not see coming."""

    # As torch 2 says it on a CPU and on a GPU.
    CPU = RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: ...")
    GPU = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 7.45 GiB. GPU 0 has a total capacity of ...")

    @pytest.mark.parametrize("error", [CPU, GPU, MemoryError()], ids=["cpu", "gpu", "python"])
    def test_is_one_line(self, run: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
        monkeypatch.setattr("protogen.measuring.measure.measure", raiser(error))
        one_error(run("ebv", "--d", 3, "--n", 3), 2, "memory", "--tile")
        assert tree(tmp_path) == []

    def test_another_fault_is_not_hidden(self, run: Command, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("protogen.measuring.measure.measure", raiser(RuntimeError("a bug")))
        with pytest.raises(RuntimeError, match="a bug"):
            run("ebv", "--d", 3, "--n", 3)


class TestStdout:
    @pytest.mark.slow
    def test_closed_by_its_reader(self, start: Callable[..., subprocess.Popen[str]]) -> None:
        reader, writer = os.pipe()
        os.close(reader)
        child = start("list", stdout=writer)
        os.close(writer)
        assert child.communicate(timeout=50)[1] == ""
        assert child.returncode == 141

    @pytest.mark.slow
    def test_that_cannot_be_written(self, start: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> None:
        file = tmp_path / "file"
        file.touch()
        with file.open() as unwritable:
            child = start("list", stdout=unwritable)
        _, err = child.communicate(timeout=50)
        assert child.returncode == 4
        assert re.fullmatch(r"error: [^\n]+\n", err)

    @pytest.mark.slow
    @pytest.mark.parametrize("words", ["list", "show FILE", "show FILE --plot", "show FILE --json", "verify FILE"])
    def test_that_the_shell_has_closed(
        self, run: Command, start: Callable[..., subprocess.Popen[str]], words: str
    ) -> None:
        path = make(run, *RANDOM)
        child = start(*words.replace("FILE", str(path)).split(), stdout=None, preexec_fn=lambda: os.close(1))
        assert finish(child) == Ran(0, None, "")

    @pytest.mark.slow
    def test_an_error_where_stderr_is_closed(self, start: Callable[..., subprocess.Popen[str]]) -> None:
        child = start("show", "nothing", stderr=None, preexec_fn=lambda: os.close(2))
        assert finish(child) == Ran(3, "", None)

    def test_what_a_file_says_moves_no_cursor(self, run: Command, tmp_path: Path) -> None:
        sound = read(make(run, *RANDOM))
        made = dataclasses.replace(sound.provenance, created="x\n\x1b[31my\x9b2J\u202e", status="z\r\x07")
        changed = dataclasses.replace(sound, provenance=made)
        Store(tmp_path / "other").publish(changed)
        for words, lines in ((("list",), 2), (("show", next((tmp_path / "other").rglob("v1-*"))), 9)):
            ran = run(*words, *(["--store", "other"] if words[0] == "list" else []))
            assert (ran.code, ran.err) == (0, "")
            assert len(ran.out.split("\n")) == lines + 1
            assert all(line.isprintable() for line in ran.out.splitlines())
            assert r"x\n\x1b[31my\x9b2J\u202e" in ran.out
            assert r"z\r\x07" in ran.out

    @pytest.mark.slow
    def test_a_path_that_is_no_text(
        self,
        run: Command,
        start: Callable[..., subprocess.Popen[str]],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setenv("PYTHONIOENCODING", "utf-8:strict")
        place = os.fsdecode(bytes(tmp_path) + b"/\xff")
        words = ("ebv", "--d", 3, "--n", 3, "--store", place)
        path = make(run, *words)
        assert path.is_relative_to(place)
        assert path.exists()
        assert finish(start(*words, "--quiet", errors="surrogateescape")) == Ran(0, f"{path}\n", "")
