"""How many lines fit: the catalogue, probes by descent, pruning, a search that goes on, and the command."""

import json
import math
import os
import shutil
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import Command, Ran, one_error
from processes import FORK
from safetensors.torch import save_file

from protogen import cli, prune_store
from protogen.bounds import max_lines
from protogen.capacity.capacity import Capacity, End, capacity, sweep
from protogen.capacity.journal import Journal, Outcome, Probe
from protogen.capacity.search import Search, prune
from protogen.errors import BadRequest
from protogen.files.header import check_file, read_header
from protogen.generating import generate
from protogen.measuring.stats import AngleStats
from protogen.methods import resolve
from protogen.rows import InMemory
from protogen.run import Progress, Run
from protogen.store.loading import load
from protogen.store.turns import is_held

EXACT = [(3, 5**-0.5, 6), (7, 1 / 3, 28), (23, 0.2, 276), (64, 0.125, 2112), (1024, 0.03125, 525312), (9, 0.01, 9)]
# A search of four probes or more that takes less than a second.
SEARCHED = {"d": 11, "alpha": 0.45, "max_n": 130, "steps": 60}
AT_ONCE = Run(time_limit=1e-9)
WORDS = ("capacity", "--d", 11, "--alpha", 0.45, "--max-n", 130, "--steps", 60)

pytestmark = pytest.mark.usefixtures("store")


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Capacity:
    """A search that came to its end, in a store of its own, which no test changes."""
    return capacity(**SEARCHED, store=tmp_path_factory.mktemp("searched") / "store")


@pytest.fixture
def finished(searched: Capacity, store: Path) -> Capacity:
    """The same, in the store of the test."""
    assert searched.path is not None
    there = searched.path.parents[2]
    shutil.copytree(there, store)
    return replace(searched, path=store / searched.path.relative_to(there))


def tried(found: Capacity) -> list[Probe]:
    """The probes but for their time."""
    return [replace(probe, seconds=0.0) for probe in found.probes]


def measured(path: Path | None) -> AngleStats:
    assert path is not None
    stats = load(path).stats
    assert stats is not None
    return stats


def journal(store: Path) -> Path:
    (path,) = store.glob(".runs/*/journal.json")
    return path


def no_probe(*_: object) -> None:
    pytest.fail("a probe where the answer is known")


@pytest.mark.parametrize(("d", "alpha", "n"), EXACT)
def test_a_closed_form_that_meets_the_bound_is_the_maximum(d: int, alpha: float, n: int, store: Path) -> None:
    found = capacity(d, alpha)
    assert (found.n, found.end, found.probes, found.path) == (n, End.MAXIMUM, (), None)
    assert found.limit is not None
    assert found.limit.n == n
    assert not store.exists()


def test_save_writes_the_file_that_ebv_would() -> None:
    found = capacity(7, 1 / 3, save=True)
    assert found.path is not None
    spec = read_header(found.path).spec
    assert spec == resolve("ebv", d=7, n=28, start="closed-form")
    assert spec.options["start"] == f"closed-form:{found.closed_form}"
    assert measured(found.path).coherence.value == pytest.approx(1 / 3, abs=1e-6)


def test_max_n_caps_and_says_so() -> None:
    assert (capacity(23, 0.2, max_n=276).end, capacity(23, 0.2, max_n=275).end) == (End.MAXIMUM, End.CAPPED)
    assert capacity(50, 0.4, max_n=10).n == 10


def test_a_size_too_large_for_a_descent_is_left_to_max_n(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Search, "_probe", no_probe)
    found = capacity(100, 0.3)
    assert found.end == End.COSTLY
    assert found.n > 10**5


@pytest.mark.slow
def test_probes_go_beyond_the_catalogue(finished: Capacity, store: Path) -> None:
    known = capacity(**SEARCHED, run=AT_ONCE, store="other").n
    found = finished
    assert known < found.n <= 130
    assert found.closed_form is None
    stats = measured(found.path)
    assert stats.pairs == found.n * (found.n - 1) // 2
    assert stats.coherence.value <= 0.45 + 1e-6
    for probe in found.probes:
        kept = {Outcome.REACHED: probe.n, Outcome.MISSED: 0}.get(probe.outcome, probe.kept)
        assert probe.kept == kept
        assert probe.kept == 0 or known < probe.kept
        assert (probe.coherence <= 0.45 + 1e-6) == (probe.outcome == Outcome.REACHED)
        known = max(known, probe.kept)
    assert known == found.n
    assert [p.name for p in store.rglob("*.safetensors")] == [found.path.name] if found.path else False


def test_a_descent_that_meets_the_bound_is_the_maximum_too() -> None:
    # 7 lines in R^5 can have coherence .2863, the bound on n at .3 is 7; the catalogue has 6 of 1/5.
    found = capacity(5, 0.3)
    assert (found.n, found.end, found.closed_form) == (7, End.MAXIMUM, None)
    assert max_lines(5, 0.3) == found.limit


def test_a_set_found_answers_load_and_says_who_makes_it() -> None:
    found = capacity(5, 0.3)
    made = load("ebv", d=5, start="capacity", alpha=0.3)
    assert made.path == found.path
    assert made.provenance.status == "target reached"
    assert made.provenance.steps == sum(probe.steps for probe in found.probes)
    with pytest.raises(BadRequest, match=r"make it with `protogen capacity --d 5 --alpha 0\.3`"):
        generate(made.spec)
    assert made.spec.options["alpha"] == 0.3


@pytest.mark.slow
def test_n_rises_with_d_and_alpha_and_stays_below_the_bound() -> None:
    cells = list(sweep([7, 4, 5], [0.5, 0.3, 0.4], max_n=40, steps=60))
    assert [(cell.d, cell.alpha) for cell in cells] == [(d, alpha) for d in (4, 5, 7) for alpha in (0.3, 0.4, 0.5)]
    for cell in cells:
        assert cell.limit is not None
        assert cell.n <= min(cell.limit.n, 40)
        assert all(cell.n >= other.n for other in cells if other.d <= cell.d and other.alpha <= cell.alpha)
    assert any(cell.probes for cell in cells)


@pytest.mark.slow
def test_a_smaller_set_serves_for_larger_d_and_alpha(searched: Capacity, monkeypatch: pytest.MonkeyPatch) -> None:
    small = searched
    monkeypatch.setattr(Search, "following", lambda _: None)
    larger = capacity(12, 0.46, start=small.path)
    assert (larger.n, larger.closed_form) == (small.n, None)
    before, after = (load(found.path or "") for found in (small, larger))
    assert torch.equal(after.tensor, torch.nn.functional.pad(before.tensor, (0, 1)))
    assert after.spec.options["from"] == before.digest


def test_a_start_that_does_not_fit_is_refused() -> None:
    path = capacity(5, 0.3).path
    for d, alpha in ((4, 0.5), (5, 0.28)):
        with pytest.raises(BadRequest, match=f"has d=5, coherence .*d at most {d} and coherence at most {alpha}"):
            capacity(d, alpha, start=path)


@pytest.mark.parametrize("tile", [None, 1, 3, 5])
def test_pruning_drops_the_vector_in_most_violating_pairs(tile: int | None) -> None:
    # The one of index 4 meets three of the basis at 1 / sqrt 3; the last is a copy of row 3.
    one = torch.tensor([[1.0, 1.0, 1.0, 0.0, 0.0, 0.0]]) / math.sqrt(3)
    basis = torch.eye(6)
    rows = torch.cat((basis[:4], one, basis[4:], -basis[3:4]))
    left = prune(rows, 0.5, 6, Run(tile=tile))
    assert len(left) == 6
    assert torch.equal(left[:3], basis[:3])
    assert (left @ left.T - torch.eye(6)).abs().max() == 0
    assert len(prune(rows, 0.5, 7, Run(tile=tile))) == 0
    assert torch.equal(prune(rows, 1.0, 8, Run(tile=tile)), rows)


def test_pruning_gives_up_where_nearly_all_pairs_violate() -> None:
    rows = torch.eye(60)[:, :1].expand(60, 1).clone().fill_(1.0)
    assert len(prune(rows, 0.5, 2, Run())) == 0


@pytest.mark.slow
def test_a_finished_search_answers_at_once(finished: Capacity, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Search, "_probe", no_probe)
    assert capacity(**SEARCHED) == finished


def test_other_requests_have_other_journals(store: Path) -> None:
    for more in ({}, {"max_n": 12}, {"steps": 9}, {"seed": 1}):
        capacity(**{"d": 5, "alpha": 0.37, "max_n": 11, "steps": 20, **more})
    assert len(list(store.glob(".runs/*"))) == 4


def test_the_journal_keeps_the_probes_and_the_last_set(tmp_path: Path) -> None:
    kept = Journal(tmp_path / "run", resolve("ebv", d=4, n=5, start="random"))
    assert kept.load() == ((), None, False)
    probe = Probe(5, Outcome.PRUNED, 0.25, 4, 7, 1.5)
    for rows in (torch.eye(4), -torch.eye(4)):
        kept.save((probe,), InMemory(rows))
        probes, found, done = kept.load()
        assert (probes, done) == ((probe,), False)
        assert found is not None
        assert torch.equal(found, rows)
        assert len(list((tmp_path / "run").iterdir())) == 2
    kept.save((probe, probe), None, done=True)
    assert kept.load() == ((probe, probe), None, True)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["journal.json"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # Python 3.12 warns of the test's own way
def test_a_killed_search_goes_on_to_the_same_answer(searched: Capacity, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Journal.save

    def save(self: Journal, probes: tuple[Probe, ...], *rest: Any, **how: Any) -> None:
        real(self, probes, *rest, **how)
        if len(probes) == 3:
            os.kill(os.getpid(), signal.SIGKILL)

    with monkeypatch.context() as patched:
        patched.setattr(Journal, "save", save)
        process = FORK.Process(target=capacity, kwargs=SEARCHED, daemon=True)
        process.start()
        process.join(60)
    assert process.exitcode == -signal.SIGKILL
    said: list[str] = []
    again = capacity(**SEARCHED, say=said.append)
    assert said == ["the search goes on after probe 3"]
    assert tried(again) == tried(searched)
    assert searched.path is not None
    assert again.path is not None
    assert again.path.name == searched.path.name
    assert load(again.path).digest == load(searched.path).digest


@pytest.mark.slow
def test_a_search_that_the_time_limit_ends_goes_on() -> None:
    said: list[str] = []
    short = capacity(**SEARCHED, run=AT_ONCE, say=said.append)
    assert (short.end, short.probes, said) == (End.TIME_LIMIT, (), [])
    whole = capacity(**SEARCHED)
    assert whole.end in (End.CLOSED, End.CAPPED)
    assert whole.n > short.n


def interrupted_after(probes: int) -> Run:
    """A run that a Ctrl-C ends in the descent after so many probes."""
    sizes: list[str] = []

    def report(at: Progress) -> None:
        if at.figure not in sizes:
            sizes.append(at.figure)
        if len(sizes) > probes:
            raise KeyboardInterrupt

    return Run(report=report)


@pytest.mark.slow
def test_an_interrupted_search_keeps_its_probes(searched: Capacity, store: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        capacity(**SEARCHED, run=interrupted_after(2))
    assert len(json.loads(journal(store).read_text())["probes"]) == 2
    said: list[str] = []
    found = capacity(**SEARCHED, say=said.append)
    assert said == ["the search goes on after probe 2"]
    assert tried(found) == tried(searched)


@pytest.mark.slow
def test_a_search_has_the_lock_of_its_run(store: Path) -> None:
    held: list[bool] = []

    def report(at: Progress) -> None:
        (folder,) = [each for each in (store / ".runs").glob("*") if each.is_dir()] or [None]
        if folder is not None:
            held.append(is_held(store / ".locks" / f"{folder.name}.lock"))
            assert prune_store(store, older_than=1e-9) == []

    capacity(**SEARCHED, run=Run(report=report))
    assert set(held) == {True}


@pytest.mark.slow
def test_a_set_that_goes_while_it_is_read_begins_the_search_anew(
    searched: Capacity, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(KeyboardInterrupt):
        capacity(**SEARCHED, run=interrupted_after(2))
    said: list[str] = []

    def gone(_: object) -> None:
        raise RuntimeError("unable to open file")

    monkeypatch.setattr("safetensors.torch.load_file", gone)
    found = capacity(**SEARCHED, say=said.append)
    assert [line.endswith("is damaged; the search starts anew") for line in said] == [True]
    assert tried(found) == tried(searched)


def damage_text(path: Path) -> None:
    path.write_text(path.read_text().replace('"steps": ', '"steps": 1', 1))


def cut_text(path: Path) -> None:
    path.write_text(path.read_text()[:-9])


def replace_text(path: Path) -> None:
    path.write_text("[]")


def remove_set(path: Path) -> None:
    (rows,) = path.parent.glob("*.safetensors")
    rows.unlink()


def cut_set(path: Path) -> None:
    (rows,) = path.parent.glob("*.safetensors")
    rows.write_bytes(rows.read_bytes()[:-4])


def replace_set(path: Path) -> None:
    (rows,) = path.parent.glob("*.safetensors")
    save_file({"prototypes": torch.eye(11)}, rows)


@pytest.mark.slow
@pytest.mark.parametrize("damage", [damage_text, cut_text, replace_text, remove_set, cut_set, replace_set])
def test_a_damaged_journal_begins_anew_and_says_so(damage: Callable[[Path], None], store: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        capacity(**SEARCHED, run=interrupted_after(1))
    damage(journal(store))
    said: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        capacity(**SEARCHED, run=interrupted_after(0), say=said.append)
    assert said == [f"{journal(store)}: the journal, or the set that it names, is damaged; the search starts anew"]


def test_a_set_that_is_gone_or_damaged_is_searched_anew(store: Path) -> None:
    small = {"d": 5, "alpha": 0.3}
    first = capacity(**small)
    assert first.path is not None

    def anew() -> list[str]:
        said: list[str] = []
        again = capacity(**small, say=said.append)
        assert "its set of 7 lines is gone; the search starts anew" in said.pop()
        assert (again.path, tried(again)) == (first.path, tried(first))
        return said

    first.path.unlink()
    assert anew() == []
    whole = first.path.read_bytes()
    for damaged in (whole[:-1], whole[:-1] + bytes([whole[-1] ^ 1])):
        first.path.write_bytes(damaged)
        assert [line.startswith("set aside as ") for line in anew()] == [True]
        check_file(first.path)
    assert len(list((store / ".quarantine").iterdir())) == 2


class TestCommand:
    @pytest.mark.slow
    def test_one_cell_has_its_probes(self, run: Command) -> None:
        ran = run(*WORDS)
        lines = ran.out.splitlines()
        found = capacity(**SEARCHED)
        assert (ran.code, ran.err) == (0, "")
        assert lines[1].split()[:3] == ["11", "0.45", str(found.n)]
        assert f"{found.end}; by descent, {len(found.probes)} probes" in lines[1]
        assert [line.split()[:5] for line in lines[2:-1]] == [
            ["probe", str(index), "n", str(probe.n), probe.outcome] for index, probe in enumerate(found.probes, 1)
        ]
        assert lines[-1] == f"  file  {found.path}"

    @pytest.mark.parametrize(("d", "alpha", "n"), [(3, "1/sqrt5", 6), (7, "1/3", 28), (64, "0.125", 2112)])
    def test_the_maximum_is_called_so(self, d: int, alpha: str, n: int, run: Command, store: Path) -> None:
        ran = run("capacity", "--d", d, "--alpha", alpha)
        row = ran.out.splitlines()[1]
        assert (ran.code, ran.err, row.split()[2:4]) == (0, "", [f"{n:,}"] * 2)
        assert "the maximum; by closed form" in row
        assert not store.exists()

    def test_json_is_the_trace(self, run: Command, finished: Capacity) -> None:
        ran = run(*WORDS, "--json")
        (cell,) = ran.document["cells"]
        assert (ran.code, ran.err) == (0, "")
        assert cell == json.loads(json.dumps(finished.to_dict()))
        assert [set(probe) for probe in cell["probes"]] == [
            {"n", "outcome", "coherence", "kept", "steps", "seconds"}
        ] * len(finished.probes)
        assert (cell["n"], cell["maximum"], cell["path"]) == (finished.n, False, str(finished.path))

    def test_a_grid_is_one_table(self, run: Command) -> None:
        words = ("capacity", "--d", "5,3:4:1", "--alpha", "0.1:0.3:0.05,1/sqrt5", "--max-n", 30, "--steps", 20)
        ran = run(*words)
        rows = [line.split() for line in ran.out.splitlines()[1:]]
        alphas = ["0.1", "0.15", "0.2", "0.25", "0.3", "0.4472136"]
        assert ran.code == 0
        assert [row[:2] for row in rows] == [[d, alpha] for d in "345" for alpha in alphas]
        assert run(*words, "--quiet") == Ran(0, "".join(f"{row[2]}\n" for row in rows), "")

    def test_a_range_does_not_drift(self) -> None:
        assert cli.options.values("alpha", "0.1:0.3:0.05", cli.sizes._cosine) == [0.1, 0.15, 0.2, 0.25, 0.3]
        assert cli.options.values("alpha", "0.1:0.3:0.08", cli.sizes._cosine) == [0.1, 0.18, 0.26]
        assert cli.options.values("alpha", "1/3, .2", cli.sizes._cosine) == [0.2, 1 / 3]
        assert cli.options.values("d", "50:200:50,100", int) == [50, 100, 150, 200]

    @pytest.mark.slow
    def test_a_picture_of_the_grid(self, run: Command, tmp_path: Path) -> None:
        pytest.importorskip("matplotlib")
        words = ("--d", "3,200", "--alpha", "0.2,0.3", "--max-n", 300, "--plot", tmp_path / "figure.png")
        assert run("capacity", *words).code == 0
        assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")

    def test_a_picture_that_cannot_be_made_is_refused_before_any_work(
        self, run: Command, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Search, "_probe", no_probe)
        one_error(run(*WORDS, "--plot", "nowhere/figure.png"), 4, "nowhere/figure.png")
        monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
        one_error(run(*WORDS, "--plot", "figure.png"), 2, "pip install 'protogen-codes[plot]'")

    @pytest.mark.slow
    def test_ctrl_c_says_how_to_go_on(self, run: Command, monkeypatch: pytest.MonkeyPatch, store: Path) -> None:
        from protogen.report.progress import Display

        stop = interrupted_after(2).report
        with monkeypatch.context() as patched:
            patched.setattr(Display, "step", lambda _, at: stop and stop(at))
            ran = run(*WORDS)
        assert ran == Ran(130, "", "interrupted: the same command goes on after the last finished probe\n")
        assert len(json.loads(journal(store).read_text())["probes"]) == 2
        again = run(*WORDS)
        assert (again.code, again.err) == (0, "the search goes on after probe 2\n")

    @pytest.mark.parametrize(
        ("words", "says"),
        [
            (("--d", 1), "d is 1; allowed is a whole number, at least 2"),
            (("--d", "x"), "d is 'x'; allowed are a number, a list and a range"),
            (("--d", "10.5"), "write 100 or 50,100,200 or 50:200:50"),
            (("--d", "10,,"), "d is '10,,'"),
            (("--d", "10:20:0"), "d is '10:20:0'"),
            (("--alpha", 0), "alpha is 0.0; allowed is a number above 0 and below 1"),
            (("--alpha", "0.2,1"), "alpha is 1.0"),
            (("--alpha", "nan"), "alpha is nan"),
            (("--alpha", "0.1:0.3"), "write 0.1 or 1/3 or 1/sqrt5 or 0.1,0.2 or 0.1:0.3:0.05"),
            (("--alpha", "0.3:0.1:0.05"), "alpha is '0.3:0.1:0.05'"),
            (("--alpha", "0.1:0.3:1e-9"), "less than 10000 steps"),
            (("--alpha", "0.1:nan:0.1"), "alpha is '0.1:nan:0.1'"),
            (("--alpha", "1/0"), "alpha is '1/0'"),
            (("--max-n", 1), "max-n is 1; allowed is a whole number, at least 2"),
            (("--steps", 0), "steps is 0"),
            (("--seed", -1), "seed is -1"),
            (("--device", "tpu"), "device is 'tpu'; this machine has cpu"),
            (("--tile", 0), "tile is 0"),
            (("--time-limit", 0), "time-limit is 0.0"),
            (("--plot", "figure.jpg"), "'figure.jpg'; allowed is a file name that ends in .png"),
            (("--alpha", None), "Missing option '--alpha'"),
        ],
    )
    def test_a_wrong_input_is_one_line(self, words: tuple[Any, ...], says: str, run: Command, store: Path) -> None:
        given = {"--d": 10, "--alpha": 0.2} | {words[0]: words[1]}
        words = (part for pair in given.items() if pair[1] is not None for part in pair)
        one_error(run("capacity", *words), 2, says)
        assert not store.exists()
