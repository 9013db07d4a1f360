"""Commands on several processes: started by torchrun or by --processes, ended together."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from commands import Command, Ran, done, one_error

from protogen.cli.commands import GROUPS, SHARED, load_command
from protogen.ranks import launching
from protogen.store.store import Store

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "--", "protogen"]
PROTOGEN = [sys.executable, "-m", "protogen"]
LONG = ["ebv", "--d", "128", "--n", "4000", "--start", "random", "--quiet"]  # some ten steps a second


@pytest.fixture
def begin(store: Path) -> Iterator[Any]:
    """Start a command in processes of their own."""
    begun: list[subprocess.Popen[str]] = []

    def command(*words: object) -> "subprocess.Popen[str]":
        variables = {**os.environ, "OMP_NUM_THREADS": "1"}
        pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        begun.append(subprocess.Popen([*map(str, words)], env=variables, **pipes))
        return begun[-1]

    yield command
    for each in begun:
        each.kill()
        each.communicate()


def ended(process: "subprocess.Popen[str]") -> Ran:
    out, err = process.communicate(timeout=120)
    return Ran(process.returncode, out, err)


def rank_of(process: "subprocess.Popen[str]", rank: int) -> psutil.Process:
    """Wait until a rank of a command has begun to work, and return its process."""
    while process.poll() is None:
        for each in psutil.Process(process.pid).children(recursive=True):
            try:
                if each.environ().get("RANK") == str(rank) and each.cpu_times().user > 4:
                    return each
            except psutil.Error:
                pass
        time.sleep(0.05)
    raise AssertionError(ended(process))


def test_the_commands_that_make_and_measure_have_the_option() -> None:
    assert {*SHARED} == {*GROUPS["Make"]} - {"import"} | {"stats", "verify", "capacity"}
    for name in ("ebv", "stats"):
        assert "processes" in {each.name for each in load_command(name).params}
    (simplex, *_) = load_command("polytope").commands.values()  # type: ignore[union-attr]
    assert "processes" in {each.name for each in simplex.params}


def test_one_process_is_the_command_as_it_is(run: Command) -> None:
    assert done(run("ebv", "--d", 4, "--n", 4, "--processes", 1, "--quiet")).endswith(".safetensors")
    one_error(run("ebv", "--d", 4, "--n", 4, "--processes", 0), 2, "processes", "0")


def test_torchrun_has_started_others(run: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    from protogen.cli import commands

    monkeypatch.setattr(commands, "started", lambda: 2)
    one_error(run("ebv", "--d", 4, "--n", 4, "--processes", 3), 2, "torchrun has started 2", "leave --processes out")


def test_the_process_that_is_told_is_the_one_that_was_lost(capsys: pytest.CaptureFixture[str]) -> None:
    """The launcher ends the others by SIGTERM, which those that are still starting do not ignore yet."""
    codes = {0: -signal.SIGTERM, 1: -signal.SIGKILL, 2: 7}
    failures: Any = {rank: SimpleNamespace(local_rank=rank, exitcode=code) for rank, code in codes.items()}
    assert launching._ended(3, failures) == 7
    assert capsys.readouterr().err.startswith("error: process 1 of 3 was ended by SIGKILL; the same command goes on")


@pytest.mark.slow
def test_torchrun_and_the_option_share_one_work(begin: Any, run: Command, store: Path) -> None:
    asked = ["ebv", "--d", "8", "--n", "1600", "--start", "random", "--steps", "3", "--quiet"]
    two = ended(begin(*PROTOGEN, *asked, "--processes", "2"))
    assert (two.code, two.err) == (0, "")
    path = two.out.strip()
    assert done(run(*asked)) == path
    verified = ended(begin(*TORCHRUN, "verify", path))
    assert (verified.code, verified.out.split(":")[0]) == (0, path)


@pytest.mark.slow
def test_a_killed_rank_ends_the_command_and_the_next_goes_on(begin: Any, store: Path) -> None:
    process = begin(*PROTOGEN, *LONG, "--processes", "2")
    rank_of(process, 1).kill()
    one_error(ended(process), 7, "process 1 of 2", "SIGKILL", "goes on")
    assert Store(store).entries() == []
    after = ended(begin(*PROTOGEN, *LONG, "--time-limit", "1"))
    assert after.code == 0
    assert "the run goes on after step" in after.err


@pytest.mark.slow
def test_an_interruption_keeps_the_best(begin: Any, store: Path) -> None:
    process = begin(*PROTOGEN, *LONG, "--processes", "2")
    rank_of(process, 1)
    process.send_signal(signal.SIGINT)
    ran = ended(process)
    assert ran.code == 130
    assert ran.err.splitlines()[-1].startswith("interrupted: this is the best so far")
    (entry,) = Store(store).entries()
    assert entry.spec is not None
    assert "interrupted" in entry.spec.options["ended"]
