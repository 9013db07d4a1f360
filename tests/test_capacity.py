"""`protogen capacity`: exact answers, probes, pruning, grids, resuming, and what is refused."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch.nn.functional import normalize

from protogen.access import ensure, load
from protogen.bounds import max_lines
from protogen.capacity import Capacity, End, capacity, sweep
from protogen.cli import main
from protogen.errors import BadRequest
from protogen.journal import Journal, Outcome, Probe
from protogen.methods import resolve
from protogen.search import prune
from protogen.solution import InMemory, Run


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PROTOGEN_STORE", str(tmp_path / "store"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "store"


def coherence(path: Path | None) -> float:
    assert path is not None
    stats = load(path).stats
    assert stats is not None
    return stats.coherence.value


@pytest.mark.parametrize(
    ("d", "alpha", "n"),
    [
        (3, 1 / math.sqrt(5), 6),
        (7, 1 / 3, 28),
        (23, 0.2, 276),
        (64, 0.125, 2112),
        (1024, 0.03125, 525_312),
        (9, 0.01, 9),
    ],
)
def test_where_the_catalogue_meets_the_bound_it_is_the_maximum(d: int, alpha: float, n: int, store: Path) -> None:
    found = capacity(d, alpha)
    assert (found.n, found.end, found.probes) == (n, End.MAXIMUM, ())
    assert found.limit is not None
    assert found.limit.n == n
    assert found.closed_form is not None
    assert found.path is None
    assert not store.exists()


def test_save_writes_the_closed_form() -> None:
    found = capacity(7, 1 / 3, save=True)
    assert coherence(found.path) == pytest.approx(1 / 3, abs=1e-6)
    assert load("ebv", d=7, n=28).path == found.path


def test_a_descent_goes_beyond_the_catalogue() -> None:
    found = capacity(6, 0.5, max_n=60)
    started = capacity(6, 0.5, max_n=36)  # E6 has 36
    assert (started.n, started.end) == (36, End.CAPPED if started.limit and started.limit.n > 36 else End.MAXIMUM)
    assert found.n >= 36
    small = capacity(5, 0.6)
    assert small.limit is not None
    assert 16 <= small.n <= small.limit.n
    assert small.probes
    assert small.end in (End.CLOSED, End.MAXIMUM)
    assert all(probe.kept <= probe.n for probe in small.probes)
    if small.closed_form is None:
        assert coherence(small.path) <= 0.6 + 1e-6
        assert load(small.path).n == small.n if small.path else False


def test_the_same_again_answers_from_the_record(monkeypatch: pytest.MonkeyPatch) -> None:
    first = capacity(8, 0.6, max_n=200)
    monkeypatch.setattr("protogen.search.Search._probe", None)
    again = capacity(8, 0.6, max_n=200)
    assert again == first


def test_a_grid_never_falls_and_stays_under_the_bound() -> None:
    cells = {(cell.d, cell.alpha): cell for cell in sweep([6, 4], [0.55, 0.4, 0.7], max_n=80)}
    assert list(cells) == [(d, alpha) for d in (4, 6) for alpha in (0.4, 0.55, 0.7)]
    for (d, alpha), cell in cells.items():
        limit = max_lines(d, alpha)
        assert limit is None or cell.n <= limit.n
        for (other_d, other_alpha), other in cells.items():
            if other_d <= d and other_alpha <= alpha:
                assert other.n <= cell.n


def test_pruning_drops_what_violates() -> None:
    # The standard basis, and four vectors too near to some of it.
    rows = torch.cat((torch.eye(8), normalize(torch.eye(8)[:4] + 0.1, dim=1)))
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    left = prune(rows[order], 0.3, 8, Run(tile=5))
    cosines = (left @ left.T).fill_diagonal_(0).abs()
    assert len(left) == 8
    assert cosines.max() <= 0.3 + 1e-6
    assert len(prune(rows[order], 0.3, 9, Run())) == 0
    assert torch.equal(prune(rows, 0.999, 2, Run()), rows)


KILLED = """
import os, signal, torch
from protogen import search
torch.set_num_threads(1)
probe, done = search.Search._probe, []
def counted(self, n):
    if len(done) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    probe(self, n)
    done.append(n)
search.Search._probe = counted
from protogen.capacity import capacity
capacity(9, 0.5, max_n=400)
"""


def same(one: Capacity, other: Capacity) -> bool:
    def what(found: Capacity) -> object:
        return found.n, found.end, [(p.n, p.outcome, p.coherence, p.kept, p.steps) for p in found.probes]

    return what(one) == what(other)


def test_after_a_kill_it_goes_on_to_the_same_answer(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    there = tmp_path / "killed"
    ended = subprocess.run([sys.executable, "-c", KILLED], env={**os.environ, "PROTOGEN_STORE": str(there)})
    assert ended.returncode == -signal.SIGKILL
    said: list[str] = []
    resumed = capacity(9, 0.5, max_n=400, store=there, say=said.append)
    assert said == ["the search goes on after probe 3"]
    whole = capacity(9, 0.5, max_n=400, store=tmp_path / "whole")
    assert len(whole.probes) > 3
    assert same(resumed, whole)
    assert torch.equal(load(resumed.path).tensor, load(whole.path).tensor) if resumed.path and whole.path else True


def test_a_damaged_journal_begins_anew(tmp_path: Path) -> None:
    first = capacity(8, 0.6, max_n=200)
    (journal,) = (tmp_path / "store" / ".runs").glob("*/journal.json")
    journal.write_text(journal.read_text().replace('"kept": ', '"kept": 1'))
    said: list[str] = []
    assert same(capacity(8, 0.6, max_n=200, say=said.append), first)
    assert len(said) == 1
    assert said[0].endswith("is damaged; the search starts anew")


def test_the_journal_keeps_probes_and_set(tmp_path: Path) -> None:
    spec = resolve("ebv", d=4, n=5, start="random")
    journal = Journal(tmp_path / "run", spec)
    assert journal.load() == ((), None, False)
    probe = Probe(5, Outcome.PRUNED, 0.25, 4, 7, 1.5)
    journal.save((probe,), InMemory(torch.eye(4)))
    probes, rows, done = journal.load()
    assert (probes, done) == ((probe,), False)
    assert rows is not None
    assert torch.equal(rows, torch.eye(4))
    journal.save((probe, probe), None, done=True)
    assert journal.load() == ((probe, probe), None, True)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["journal.json"]


def test_such_a_set_is_made_by_the_command_alone() -> None:
    found = capacity(5, 0.6)
    assert found.path is not None
    with pytest.raises(BadRequest, match=r"make it with `protogen capacity --d 5 --alpha 0\.6`"):
        ensure(load(found.path).spec, store="elsewhere")


def test_a_time_limit_ends_it_and_the_same_goes_on() -> None:
    began = time.monotonic()
    cut = capacity(60, 0.3, max_n=3000, run=Run(time_limit=0.2))
    assert cut.end is End.TIME_LIMIT
    assert time.monotonic() - began < 20


class TestCommand:
    @pytest.fixture
    def run(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
        def command(*words: object) -> tuple[int, str, str]:
            monkeypatch.setattr(sys, "argv", ["protogen", "capacity", *map(str, words)])
            with pytest.raises(SystemExit) as end:
                main()
            out, err = capsys.readouterr()
            return int(str(end.value.code)), out, err

        return command

    def test_says_the_maximum(self, run) -> None:
        code, out, err = run("--d", 3, "--alpha", "1/sqrt5")
        assert (code, err) == (0, "")
        assert "the maximum" in out
        assert " 6 " in out

    def test_json_has_every_probe(self, run) -> None:
        code, out, _ = run("--d", "4,5", "--alpha", "0.5:0.6:0.1", "--max-n", 40, "--json")
        cells = json.loads(out)["cells"]
        assert code == 0
        assert [(cell["d"], cell["alpha"]) for cell in cells] == [(4, 0.5), (4, 0.6), (5, 0.5), (5, 0.6)]
        assert {"n", "outcome", "coherence", "kept", "steps", "seconds"} <= set(cells[1]["probes"][0])

    @pytest.mark.parametrize(
        ("words", "says"),
        [
            (("--d", 1, "--alpha", 0.5), "d is 1"),
            (("--d", "x", "--alpha", 0.5), "d is 'x'"),
            (("--d", "50:10:5", "--alpha", 0.5), "d is '50:10:5'"),
            (("--d", "10:50", "--alpha", 0.5), "d is '10:50'"),
            (("--d", 10, "--alpha", 0), "alpha is 0"),
            (("--d", 10, "--alpha", 1), "alpha is 1"),
            (("--d", 10, "--alpha", "1/0"), "alpha is '1/0'"),
            (("--d", 10, "--alpha", "0.1:0.3:0"), "alpha is '0.1:0.3:0'"),
            (("--d", 10, "--alpha", "nan"), "alpha is nan"),
            (("--d", 10, "--alpha", 0.5, "--max-n", 1), "max-n is 1"),
            (("--d", 10, "--alpha", 0.5, "--steps", 0), "steps is 0"),
            (("--d", 10, "--alpha", 0.5, "--seed", -1), "seed is -1"),
            (("--d", 10, "--alpha", 0.5, "--tile", 0), "tile is 0"),
            (("--d", 10, "--alpha", 0.5, "--time-limit", -1), "time-limit is -1"),
            (("--d", 10, "--alpha", 0.5, "--device", "gpu"), "device is 'gpu'"),
            (("--d", 10), "Missing option '--alpha'"),
        ],
    )
    def test_refuses_in_one_line(self, run, words: tuple[object, ...], says: str) -> None:
        code, _, err = run(*words)
        assert code == 2, err
        assert err.startswith("error: ")
        assert err.count("\n") == 1
        assert says in err
