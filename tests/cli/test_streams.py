"""Streams that are closed or full: exit codes, and nothing but one line."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from artifacts import published
from commands import Command, one_error

pytestmark = pytest.mark.slow
Started = Callable[..., subprocess.CompletedProcess[str]]

SCRIPT = """
import os, sys
from protogen import cli
def take_away(where, kept):
    if where == "gone":
        reader, there = os.pipe()
        os.close(reader)
    else:
        there = os.open("/dev/full", os.O_WRONLY)
    os.dup2(there, kept)
words = sys.argv[1:]
take_away(*((words[0], 1) if words[1] == "stdout" else (words[0], 2)))
sys.argv = ["protogen", *words[2:]]
cli.main()
"""


@pytest.fixture
def start(store: Path) -> Started:
    """Run a command in a process of its own, one of whose streams is gone, or on a disk that is full."""

    def command(*words: object) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-c", SCRIPT, *map(str, words)]
        variables = {**os.environ, "OMP_NUM_THREADS": "1"}
        return subprocess.run(line, text=True, capture_output=True, timeout=60, env=variables, check=False)

    return command


@pytest.mark.parametrize(
    ("where", "words", "code"),
    [
        ("gone", "list", 141),
        ("gone", "list --json", 141),
        ("gone", "diff ONE OTHER --json", 141),
        ("gone", "show nothing", 3),
        ("full", "list", 4),
        ("full", "show ONE", 4),
        ("full", "--help", 4),
        ("full", "diff ONE OTHER --json", 4),
        ("full", "show nothing", 3),
    ],
)
def test_stdout(start: Started, tmp_path: Path, where: str, words: str, code: int) -> None:
    files = {"ONE": published(tmp_path / "a"), "OTHER": published(tmp_path / "b", seed=1)}
    ran = start(where, "stdout", *(files.get(word, word) for word in words.split()))
    lines = ran.stderr.splitlines()
    assert (ran.returncode, ran.stdout) == (code, ""), ran
    assert len(lines) == (code in (3, 4)), ran
    assert all(line.startswith("error: ") for line in lines)
    assert code != 4 or "No space left" in lines[0]


@pytest.mark.parametrize("where", ["gone", "full"])
@pytest.mark.parametrize(("words", "code"), [("show nothing", 3), ("list", 0), ("ebv --d 0 --n 2", 2)])
def test_stderr(start: Started, where: str, words: str, code: int) -> None:
    ran = start(where, "stderr", *words.split())
    assert (ran.returncode, ran.stderr) == (code, ""), ran
    assert bool(ran.stdout) == (code == 0)


@pytest.mark.parametrize("where", ["gone", "full"])
def test_the_work_is_done_though_nobody_reads_the_messages(start: Started, where: str) -> None:
    words = ["ebv", "--d", "5", "--n", "12", "--start", "random", "--steps", "3", "--alpha", "0.36", "--quiet"]
    ran = start(where, "stderr", *words)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert Path(ran.stdout.strip()).exists()


def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(run: Command, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for words in (
        ("lock", "list", "--lock", pipe),
        ("sync", "--lock", pipe),
        ("lock", "remove", "a", "--lock", pipe),
        ("cache-key", "--lock", pipe),
        ("stats", pipe),
        ("show", pipe),
        ("fit", "--features", pipe, "--labels", pipe, "--d", 4),
    ):
        one_error(run(*words), 4, pipe)
