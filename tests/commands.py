"""The command line in tests: what a command did, and what is asked of it."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from protogen.errors import MOST


@dataclass(frozen=True)
class Ran:
    """What a command did; a path among its words is as `os.fsdecode` gives it."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """All of stdout as one JSON document without NaN."""
        return json.loads(self.out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


Command = Callable[..., Ran]  # the fixture `run`


def done(ran: Ran) -> str:
    """Output without its last line's end, of a command that did what it should."""
    assert ran.code == 0, ran
    return ran.out.removesuffix("\n")


def make(run: Command, *words: object) -> Path:
    """Make a set by a command, and give its file."""
    return Path(done(run(*words, "--quiet")))


def one_error(ran: Ran, code: int, *says: object) -> None:
    """A refusal: its exit code, one line on stderr that is not too long and says why, nothing else."""
    assert (ran.code, ran.out) == (code, ""), ran
    assert ran.err.startswith("error: "), ran
    assert ran.err.endswith("\n"), ran
    assert ran.err[:-1].isprintable(), ran
    assert len(ran.err) <= len("error: \n") + MOST, ran
    for word in says:
        assert str(word) in ran.err, ran
