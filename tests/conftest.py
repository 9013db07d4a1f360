"""What tests share: a store of their own, and the command line run on it in this process."""

import os
import signal
import sys
from pathlib import Path

import pytest
import torch
from commands import Command, Ran

from protogen import cli
from protogen.store.store import Store

# One thread, as there are tests on the other cores. Small products are faster so, and a forked process can go on.
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"  # of processes that tests start

# A shell has what it runs in the background ignore Ctrl-C, which the tests send.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store that is not there yet, the one that PROTOGEN_STORE names, in an empty working directory."""
    for name in os.environ:
        if name.startswith("PROTOGEN_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PROTOGEN_STORE", "store")
    monkeypatch.chdir(tmp_path)
    return Path("store")


@pytest.fixture
def here(tmp_path: Path) -> Store:
    """A store that is not there yet, which no environment names."""
    return Store(tmp_path / "store")


@pytest.fixture
def run(store: Path, monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]) -> Command:
    """Run a command in this process."""

    def command(*words: object) -> Ran:
        monkeypatch.setattr(sys, "argv", ["protogen", *map(str, words)])
        sys.stderr.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # as it is outside of a test
        with pytest.raises(SystemExit) as end:
            cli.main()
        assert isinstance(end.value.code, int)
        return Ran(end.value.code, *map(os.fsdecode, capsysbinary.readouterr()))

    return command
