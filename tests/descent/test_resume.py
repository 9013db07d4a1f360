"""A run that was killed goes on: bit for bit where it would have ended, whatever was left of its state."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import protogen
from protogen.descent import checkpoint, states
from protogen.descent.checkpoint import Checkpoint
from protogen.descent.states import State
from protogen.descent.steppers import LBFGS
from protogen.descent.thresholds import LowestCoherence, SquaredThreshold
from protogen.files.disk import temporary_name
from protogen.files.prototypes import Prototypes
from protogen.files.reading import read
from protogen.generating import generate
from protogen.run import Progress, Run
from protogen.solution import Status
from protogen.spec import Spec

pytestmark = pytest.mark.slow

SPECS = {
    "lbfgs": protogen.resolve("ebv", d=8, n=40, start="random", steps=60),
    "float32": protogen.resolve("ebv", d=140, n=500, start="random", steps=12),
    "sparse products": protogen.resolve("ebv", d=140, n=500, start="random", alpha=0.14),
    "alpha missed": protogen.resolve("ebv", d=5, n=20, start="random", alpha=0.5),
    "alpha missed twice": protogen.resolve("ebv", d=5, n=20, start="random", alpha=0.532, steps=40),
    "restarts": protogen.resolve("ebv", d=4, n=7, start="random", restarts=3),
    "paper": protogen.resolve("ebv", d=8, n=30, start="random", update="paper", steps=30),
    "two descents": protogen.resolve("ebv", d=20, n=60, start="closed-form+descent", steps=30),
    "uniform": protogen.resolve("uniform", d=5, n=30, start="random"),
    "uniform restarts": protogen.resolve("uniform", d=7, n=13, start="random", restarts=3),
    "sharpen": protogen.resolve("uniform", d=4, n=13, start="random", sharpen=True, steps=120),
    "uniform paper": protogen.resolve("uniform", d=5, n=30, start="random", update="paper", steps=30),
    "batch": protogen.resolve("uniform", d=5, n=30, start="random", update="paper", batch=7, steps=30),
}


class Killed(Exception):
    """Ends a process: nothing of the package catches it."""


@dataclass
class Clock:
    """The time that a run goes by."""

    now: float = 1e6

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@dataclass
class Runner:
    """Runs a Spec in one folder, and kills it: the state before the killed step, and the one before, are written."""

    folder: Path
    clock: Clock
    step_s: float = 0.0
    said: list[str] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)

    def __call__(self, spec: Spec, kill: int = 0, how: type[BaseException] = Killed, **more: Any) -> Prototypes:
        self.said.clear()
        self.steps.clear()

        def report(at: Progress) -> None:
            self.steps.append(at.step)
            self.clock.now += self.step_s
            if kill and len(self.steps) >= kill - 2:
                self.clock.now += 1000 * checkpoint.EVERY_S
            if len(self.steps) == kill:
                raise how

        run = Run(folder=self.folder, report=report, say=self.said.append, clock=self.clock, **more)
        return generate(spec, run)

    def killed(self, spec: Spec, kill: int, **more: Any) -> None:
        with pytest.raises(Killed):
            self(spec, kill, **more)


@pytest.fixture
def runner(tmp_path: Path, clock: Clock) -> Runner:
    return Runner(tmp_path / "run", clock)


def same(one: Prototypes, other: Prototypes) -> bool:
    """Whether two runs ended in the same place, bit for bit."""
    ends = [(p.spec, p.provenance.steps, p.provenance.status, p.facts, p.stats) for p in (one, other)]
    return ends[0] == ends[1] and torch.equal(one.tensor, other.tensor)


@pytest.mark.parametrize("name", SPECS)
def test_a_killed_run_ends_where_it_would_have_ended(name: str, tmp_path: Path, clock: Clock) -> None:
    spec = SPECS[name]
    whole = generate(spec)
    steps = whole.provenance.steps
    for kill in sorted({3, steps // 3, steps // 2, 2 * steps // 3, steps - 1, steps}):
        runner = Runner(tmp_path / str(kill), clock)
        runner.killed(spec, kill)
        again = runner(spec)
        assert same(again, whole), kill
        # The killed step is taken again, and none before it.
        assert len(runner.steps) == steps - kill + 1
        assert runner.said in ([f"the run goes on after step {runner.steps[0] - 1}"], [])


@pytest.mark.parametrize("name", ["lbfgs", "restarts", "two descents", "batch"])
def test_a_run_may_be_killed_again_and_again(name: str, runner: Runner) -> None:
    spec, kills = SPECS[name], 0
    while True:
        try:
            again = runner(spec, 7)
            break
        except Killed:
            kills += 1
    whole = generate(spec)
    assert same(again, whole)
    assert kills == (whole.provenance.steps - 1) // 6  # each time the last step is lost


def test_extended_sets_go_on(runner: Runner, tmp_path: Path) -> None:
    first = protogen.ensure(protogen.resolve("ebv", d=8, n=10, start="random", steps=5), store=tmp_path / "store")
    assert first.path
    spec = protogen.resolve("ebv", d=8, n=30, extends=str(first.path), steps=40)
    whole = generate(spec, Run(files=(first.path,)))
    for kill in (3, 25, 40):
        runner.killed(spec, kill, files=(first.path,))
        assert same(runner(spec, files=(first.path,)), whole)
        shutil.rmtree(runner.folder)


def test_what_has_ended_is_not_done_again(runner: Runner) -> None:
    spec = SPECS["two descents"]
    whole = generate(spec)
    runner.killed(spec, 45)
    assert runner.steps == [*range(1, 31), *range(1, 16)]
    assert same(runner(spec, 17), whole)  # one step less than to be killed, but the end is written
    assert runner.steps == list(range(15, 31))
    assert same(runner(spec), whole)
    assert runner.steps == runner.said == []


def test_a_process_that_is_killed(tmp_path: Path) -> None:
    words = ["ebv", "--d", "30", "--n", "120", "--start", "random", "--steps", "200", "--json"]
    how = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    code = """
from protogen import cli
from protogen.descent import checkpoint, states
from protogen.report import progress
checkpoint.EVERY_S, checkpoint.SHARE, progress.PLAIN_EVERY_S = 0.0, 1e9, 0.0
cli.main()
"""
    child = [sys.executable, "-c", code, *words, "--store", str(tmp_path / "store")]
    with subprocess.Popen(child, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=how) as process:
        assert process.stderr
        assert any("step 40/" in line for line in process.stderr)
        os.kill(process.pid, signal.SIGKILL)
    (folder,) = (tmp_path / "store" / ".runs").iterdir()
    assert {"state.safetensors", "before.safetensors"} <= {path.name for path in folder.iterdir()}
    ran = subprocess.run(child, capture_output=True, text=True, timeout=60, check=True, env=how)
    messages = ran.stderr.splitlines()
    after = int(messages[0].removeprefix("the run goes on after step "))
    assert after >= 39
    assert f"step {after + 1}/200" in messages[1]
    whole = generate(protogen.resolve("ebv", d=30, n=120, start="random", steps=200))
    assert same(read(json.loads(ran.stdout)["path"]), whole)
    assert not folder.exists()


# Ended early, by hand, by time or for want of memory.


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
@pytest.mark.parametrize("kill", [1, 2, 23])
def test_an_interrupted_run_goes_on(runner: Runner, kill: int, error: type[BaseException]) -> None:
    spec = SPECS["lbfgs"]
    ended = runner(spec, kill, error)
    assert ended.provenance.steps == kill
    assert ended.spec.options["ended"] == ended.provenance.status + f" at step {kill}"
    assert same(runner(spec), generate(spec))
    assert runner.steps == list(range(kill, 61))


@pytest.mark.parametrize(
    ("owner", "name", "call"),
    [
        (SquaredThreshold, "weigh", 20),
        (LowestCoherence, "advance", 20),
        (LBFGS, "_remember", 20),
        (LBFGS, "_descent_direction", 20),
        (LBFGS, "next", 40),
        (LBFGS, "restart", 2),
    ],
)
def test_an_interruption_within_a_step_leaves_the_state_before_it(
    owner: type, name: str, call: int, runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = SPECS["lbfgs"]
    whole = generate(spec)
    plain, calls = getattr(owner, name), []

    def interrupted(*given: Any) -> Any:
        calls.append(name)
        answer = plain(*given)
        if len(calls) == call:
            raise KeyboardInterrupt
        return answer

    monkeypatch.setattr(owner, name, interrupted)
    assert runner(spec).provenance.status == Status.INTERRUPTED
    assert same(runner(spec), whole)


def test_steps_that_were_interrupted_do_not_count_for_a_standstill(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, plain, calls = SPECS["uniform"], LBFGS.next, []
    whole = generate(spec)
    assert whole.provenance.status == Status.CONVERGED

    def interrupted(*given: Any) -> Any:
        calls.append("next")
        if len(calls) % 9 == 0:
            raise KeyboardInterrupt
        return plain(*given)

    monkeypatch.setattr(LBFGS, "next", interrupted)
    while (ended := runner(spec)).provenance.status == Status.INTERRUPTED:
        pass
    assert len(calls) > 81
    assert same(ended, whole)


def test_an_interruption_of_a_draw_leaves_the_state_before_it(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    spec, plain, draws = SPECS["batch"], torch.randperm, []
    whole = generate(spec)

    def interrupted(*given: Any, **more: Any) -> Any:
        drawn = plain(*given, **more)
        draws.append(drawn)
        if len(draws) == 9:
            raise KeyboardInterrupt
        return drawn

    monkeypatch.setattr(torch, "randperm", interrupted)
    assert runner(spec).provenance.steps == 8
    assert same(runner(spec), whole)
    assert torch.equal(draws[8], draws[9])


def test_a_second_interruption_does_not_lose_the_best(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Checkpoint) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoint, "write", refuse)
    ended = runner(SPECS["lbfgs"], 9)
    assert (ended.provenance.status, ended.provenance.steps) == (Status.INTERRUPTED, 7)


def test_the_time_limit_is_that_of_the_call(runner: Runner) -> None:
    spec, ends, seconds, runner.step_s = SPECS["lbfgs"], [], [], 1.0
    for _ in range(3):
        made = runner(spec, time_limit=24.0)  # which is up as step 25 ends, before its second is counted
        ends.append((made.provenance.status, made.provenance.steps))
        seconds.append(made.provenance.seconds)
    assert ends == [("time limit", 25), ("time limit", 50), ("step limit", 60)]
    assert 25 <= seconds[1] < 50 <= seconds[2] < 60  # calls before count as effort
    assert same(made, generate(spec))


def test_the_progress_goes_on(runner: Runner, clock: Clock) -> None:
    reports: list[Progress] = []

    def report(at: Progress) -> None:
        reports.append(at)
        clock.now += 1000 * checkpoint.EVERY_S
        if len(reports) == 20:
            raise Killed

    run = Run(folder=runner.folder, report=report, clock=clock)
    with pytest.raises(Killed):
        generate(SPECS["lbfgs"], run)
    generate(SPECS["lbfgs"], run)
    step_s = 1000 * checkpoint.EVERY_S
    assert [(at.step, at.seconds) for at in reports[:20]] == [(step, (step - 1) * step_s) for step in range(1, 21)]
    # The killed step is taken again: its time is that of a run of its own, after the 19 steps that were kept.
    assert [(at.step, at.seconds) for at in reports[20:]] == [(step, (step - 2) * step_s) for step in range(20, 61)]


# What is left of the state.


@pytest.fixture
def left(runner: Runner) -> Path:
    """The folder of a run that was killed at step 30, with the states after 29 and 28 steps."""
    runner.killed(SPECS["lbfgs"], 30)
    assert sorted(path.name for path in runner.folder.iterdir()) == ["before.safetensors", "state.safetensors"]
    return runner.folder


def cut(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])


def flip(path: Path, bit: int) -> None:
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (lambda path: cut(path, 0), "is damaged"),
    "truncated": (lambda path: cut(path, 5000), "is damaged"),
    "a bit of the header": (lambda path: flip(path, 999), "is damaged"),
    "a bit of the rows": (lambda path: flip(path, 8 * 20000), "is damaged"),
    "a directory": (lambda path: (path.unlink(), path.mkdir()), "Is a directory"),
    "other content": (lambda path: path.write_text("nothing of the kind, and more than 32 bytes"), "is damaged"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_state_counts_for_nothing(name: str, left: Path, runner: Runner) -> None:
    damage, fault = DAMAGE[name]
    last, before = left / "state.safetensors", left / "before.safetensors"
    whole = generate(SPECS["lbfgs"])
    damage(last)
    sound = before.read_bytes()
    runner.killed(SPECS["lbfgs"], 1)  # writes nothing
    assert runner.said == [
        f"{last}: {fault}; the run goes back to the state before",
        "the run goes on after step 28",
    ]
    if last.is_file():  # the next state takes the place of the damaged one, not of the sound one
        assert runner(SPECS["lbfgs"], 1, KeyboardInterrupt).provenance.steps == 29
        assert before.read_bytes() == sound
        damage(last)
    damage(before)
    assert same(runner(SPECS["lbfgs"]), whole)
    assert runner.said == [f"{last}: {fault}; {before}: {fault}; the run begins anew"]
    assert runner.steps == list(range(1, 61))


def test_no_bit_and_no_cut_goes_unseen(left: Path, runner: Runner) -> None:
    path = left / "state.safetensors"
    sound = path.read_bytes()
    (left / "before.safetensors").unlink()
    size = len(sound)
    header = 8 + int.from_bytes(sound[:8], "little")
    generator = torch.Generator().manual_seed(0)
    bits = [*range(64), *torch.randint(8 * header, (80,), generator=generator).tolist()]
    bits += [*torch.randint(8 * size, (80,), generator=generator).tolist(), *range(8 * size - 256, 8 * size)]
    for count, damaged in enumerate(damages(sound, bits, [*range(100), *range(size - 100, size)])):
        path.write_bytes(damaged)
        runner.said.clear()
        Checkpoint(left, SPECS["lbfgs"], torch.device("cpu"), runner.said.append)
        assert runner.said == [f"{path}: is damaged; the run begins anew"], count
    path.write_bytes(sound)
    Checkpoint(left, SPECS["lbfgs"], torch.device("cpu"), pytest.fail)


def damages(sound: bytes, bits: list[int], cuts: list[int]) -> Iterator[bytes]:
    for bit in bits:
        data = bytearray(sound)
        data[bit // 8] ^= 1 << bit % 8
        yield bytes(data)
    for size in cuts:
        yield sound[:size]
    yield sound + b"\0"


def test_a_kill_between_two_names_goes_on_from_the_one_before(left: Path, runner: Runner) -> None:
    (left / "state.safetensors").unlink()
    assert same(runner(SPECS["lbfgs"]), generate(SPECS["lbfgs"]))
    assert runner.said == ["the run goes on after step 28"]


def test_a_state_that_is_replaced_while_it_is_read_is_read_anew(
    left: Path, runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As another process does where there are no locks: the file that is opened last is not the one checked."""
    state, parsed, faults = left / "state.safetensors", states._parsed, [RuntimeError("No such file"), None]
    raw = state.read_bytes()

    def replaced(*given: Any) -> Any:
        found = parsed(*given)
        if faults:
            fault = faults.pop()
            other = state.with_name("other")
            other.write_bytes(raw)
            other.replace(state)
            if fault:
                raise fault
            return [{"rows": "of two files"}]
        return found

    monkeypatch.setattr(states, "_parsed", replaced)
    runner.killed(SPECS["lbfgs"], 3)
    assert runner.said[0].startswith("the run goes on after step")
    assert faults == []


def test_what_a_dead_process_was_writing_is_removed(left: Path) -> None:
    torn = left / temporary_name().replace(str(os.getpid()), "999999999")
    torn.write_bytes(b"half a state")
    Checkpoint(left, SPECS["lbfgs"], torch.device("cpu"), pytest.fail)
    assert sorted(path.name for path in left.iterdir()) == ["before.safetensors", "state.safetensors"]


@pytest.mark.parametrize("what", ["spec", "protogen", "torch", "schema"])
def test_a_foreign_state_counts_for_nothing(
    what: str, left: Path, runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = SPECS["paper"] if what == "spec" else SPECS["lbfgs"]
    if what == "protogen":
        monkeypatch.setattr("importlib.metadata.version", lambda name: "0.0.1")
    elif what == "torch":
        monkeypatch.setattr(torch, "__version__", "2.0.1")
    elif what == "schema":
        monkeypatch.setattr(checkpoint, "SCHEMA", checkpoint.SCHEMA - 1)
    assert torch.equal(runner(spec).tensor, generate(spec).tensor)
    assert len(runner.said) == 1
    assert runner.said[0].count("is of another request, or of another version of protogen or torch") == 2
    assert runner.said[0].endswith("the run begins anew")


class Taker:
    """A descent that takes every state."""

    held: State

    def __init__(self) -> None:
        self.held = {}

    def state(self) -> State:
        return self.held

    def restore(self, state: State) -> None:
        self.held = state


@pytest.mark.parametrize("part", ["step", "best", "rows", "goal", "evaluator", "stepper"])
def test_a_state_of_another_form_counts_for_nothing(part: str, left: Path, runner: Runner) -> None:
    spec, held = SPECS["lbfgs"], Taker()
    kept = Checkpoint(left, spec, torch.device("cpu"), runner.said.append)
    kept.begin(held)
    kept.note({name: value for name, value in held.state().items() if name != part})
    kept.write()
    assert same(runner(spec), generate(spec))
    (line,) = runner.said
    assert line.endswith("state.safetensors: is not the state of this descent; it begins anew")


def test_states_are_safetensors_that_others_can_read(left: Path) -> None:
    tensors = load_file(left / "state.safetensors")
    assert {tuple(tensor.shape) for tensor in tensors.values()} >= {(40, 8), (32,)}


# When, and where the disk refuses.


def state(numbers: int) -> State:
    return {"step": 1, "seconds": 0.0, "status": None, "rows": torch.zeros(numbers)}


def test_states_are_written_no_more_often_than_they_cost(tmp_path: Path, clock: Clock) -> None:
    kept = Checkpoint(tmp_path / "run", SPECS["lbfgs"], torch.device("cpu"), pytest.fail, clock)
    kept.begin(Taker())
    began, written = clock.now, []
    path = tmp_path / "run" / "state.safetensors"
    for second in range(200):
        clock.now = began + second
        kept.note(state(10))
        if path.exists():
            written.append(second)
            path.unlink()
    assert written == [*range(10, 200, 10)]


def test_a_large_state_waits_until_it_costs_a_fiftieth(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "SPEED", 200_000)
    kept = Checkpoint(tmp_path / "run", SPECS["lbfgs"], torch.device("cpu"), pytest.fail, clock)
    kept.begin(Taker())
    began = clock.now
    for second in range(60):
        clock.now = began + second
        kept.note(state(40_000))  # 0.8 s of writing, which is 2% of 40 s
        assert (tmp_path / "run").exists() == (second > 40)


@pytest.mark.parametrize("fault", ["fsync", "room", "folder"])
def test_a_disk_that_refuses_ends_nothing(
    fault: str, runner: Runner, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if fault == "fsync":
        monkeypatch.setattr(os, "fsync", refuse)
    elif fault == "room":
        monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    else:
        runner.folder.write_text("in the way")
    spec = SPECS["lbfgs"]
    assert same(runner(spec, 63), generate(spec))  # from step 61 on all would be written
    clock.now += 1000
    assert same(runner(spec, 61, KeyboardInterrupt), generate(spec))
    with pytest.raises(Killed):
        runner(spec, 40)
    refused = os.strerror(errno.EEXIST if fault == "folder" else errno.ENOSPC)
    (line,) = [line for line in runner.said if "not kept" in line]
    assert line == f"{runner.folder / 'state.safetensors'}: {refused}; the run goes on, but its state is not kept"
    assert runner.folder.is_file() or list(runner.folder.iterdir()) == []


def test_short_runs_and_runs_without_a_folder_write_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generate(SPECS["lbfgs"], Run(folder=tmp_path / "run"))
    assert list(tmp_path.iterdir()) == []
