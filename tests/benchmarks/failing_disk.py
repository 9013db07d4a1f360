"""A disk that fails, and tasks of the store on it; the tests of faults and bench_store.py use them."""

import _pyio
import builtins
import contextlib
import errno
import io
import itertools
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest

from protogen import cli
from protogen.descent import checkpoint
from protogen.files.header import check_file
from protogen.files.names import parse_path
from protogen.report.progress import Display

Ended = subprocess.CompletedProcess[str]  # what a command did in this process
ERRORS = (errno.ENOSPC, errno.EIO, errno.EACCES, errno.EROFS)
# The functions of `os` behind each call, and how many paths they are given first; 0: a descriptor.
CALLS: Mapping[str, Mapping[str, int]] = {
    "open": {"open": 1},
    "write": {"write": 0, "sendfile": 0},
    "fsync": {"fsync": 0},
    "link": {"link": 2},
    "rename": {"rename": 2, "replace": 2},
    "unlink": {"unlink": 1, "remove": 1},
    "mkdir": {"mkdir": 1},
}
ANY = "any"  # all of them together
FORMULA = ("ebv", "--d", 4, "--n", 4)
OTHER = ("ebv", "--d", 4, "--n", 3)
DRAWN = ("ebv", "--d", 4, "--n", 6, "--start", "random", "--steps", 3)
TASKS = {
    "exact": FORMULA,
    "statistical": ("ebv", "--d", 5, "--n", 12, "--start", "random", "--steps", 300),
    "sync": ("sync", "--remote", "remote"),  # one is there, one a formula gives, one the remote alone has
}


@dataclass
class Disk:
    """A folder whose `call` fails when it comes for the k-th time, and with `lasting` from then on.

    Files are opened by Python's own model of them, which comes down to the calls of `os`; of a write that
    fails one half is written. `counts` are the calls that came.
    """

    root: Path
    call: str = ANY
    k: int = 0
    error: int = 0
    lasting: bool = False
    counts: Counter[str] = field(default_factory=Counter)

    @property
    def failed(self) -> bool:
        """Whether it has."""
        return 0 < self.k <= self.counts[self.call]

    @contextlib.contextmanager
    def mounted(self) -> Iterator[None]:
        """Have it in place."""
        with contextlib.ExitStack() as stack:
            for call, functions in CALLS.items():
                for name, paths in functions.items():
                    stack.enter_context(patch.object(os, name, self._failing(call, getattr(os, name), paths)))
            opener = self._opener(io.open)
            for module in (io, builtins):
                stack.enter_context(patch.object(module, "open", opener))
            yield

    def _failing(self, call: str, real: Callable[..., Any], paths: int) -> Callable[..., Any]:
        def act(*args: Any, **options: Any) -> Any:
            if any(self._is_mine(file, options.get("dir_fd")) for file in args[: paths or 1]):
                self.counts.update((call, ANY))
                if self.call in (call, ANY) and (self.counts[self.call] == self.k or (self.lasting and self.failed)):
                    if real.__name__ == "write":
                        real(args[0], bytes(args[1])[: len(args[1]) // 2])
                    raise OSError(self.error, os.strerror(self.error))
            return real(*args, **options)

        return act

    def _opener(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def opened(file: Any, *args: Any, **options: Any) -> Any:
            return (_pyio.open if self._is_mine(file) else real)(file, *args, **options)

        return opened

    def _is_mine(self, file: Any, folder: int | None = None) -> bool:
        if isinstance(file, int):
            path = os.readlink(f"/proc/self/fd/{file}")
        else:
            path = os.path.join(os.getcwd() if folder is None else os.readlink(f"/proc/self/fd/{folder}"), file)
        return Path(os.path.normpath(path)).is_relative_to(self.root)


class Place:
    """A task in a folder with a store, perhaps a remote and a lock, beside `spare`, the system's temporary folder."""

    def __init__(self, folder: Path, task: str) -> None:
        self.folder = folder.resolve()
        self.root, self.spare, self._fresh = (self.folder / name for name in ("root", "spare", "fresh"))
        self._words, self._steps = TASKS[task], itertools.count()
        for path in (self.root, self.spare):
            path.mkdir(parents=True)
        if task == "sync":
            for name, words in {"formula": FORMULA, "other": OTHER, "drawn": DRAWN}.items():
                self.done("lock", "add", name, self.done(*words, "--quiet"))
            (self.root / "store").rename(self.root / "remote")
            shutil.rmtree(self.root / "remote/ebv/d4-n3")
            self.done(*FORMULA)
        self.root.rename(self._fresh)
        whole = Disk(self.root)
        self._begin(whole)
        self.counts, self._files = whole.counts, self._sound()

    def fail(self, disk: Disk) -> Ended:
        """Do the task on a disk that fails, then on one that does not; say how the first ended."""
        ran = self._begin(disk)
        worked = next(self._steps) > 0
        assert disk.failed
        errors = sum(line.startswith("error: ") for line in ran.stderr.splitlines())
        assert errors == (ran.returncode != 0) or (disk.lasting and errors > 1 and ran.returncode != 0), (
            ran
        )  # of a sync, several
        assert "Traceback" not in ran.stderr
        there = self._sound()
        assert there.items() <= self._files.items()
        if ran.returncode == 0:
            assert there == self._files
        elif worked and there != self._files and disk.root == self.root:
            kept = re.search(r"what was made lies in (\S+)\n", ran.stderr)
            assert kept, ran
            assert check_file(kept[1]).digest in self._files.values()
        self.done(*self._words)
        assert self._sound() == self._files
        return ran

    def run(self, *words: object) -> Ended:
        """Run a command in this process; a descent has its state written every 66 steps or so."""
        out, err, clock = io.StringIO(), io.StringIO(), itertools.count(0.0, 0.15)
        self._steps = itertools.count()
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PROTOGEN_")}
        with (
            contextlib.chdir(self.root),
            patch.dict(os.environ, {**environment, "PROTOGEN_STORE": "store"}, clear=True),
            patch.object(sys, "argv", ["protogen", *map(str, words)]),
            patch.object(tempfile, "tempdir", str(self.spare)),
            patch.object(Display, "step", lambda *_: next(self._steps)),
            patch.object(checkpoint, "time", SimpleNamespace(monotonic=lambda: next(clock))),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            pytest.raises(SystemExit) as end,
        ):
            cli.main()
        assert isinstance(end.value.code, int)
        return Ended(list(map(str, words)), end.value.code, out.getvalue(), err.getvalue())

    def done(self, *words: object) -> str:
        """Run a command that does what it should, and return its output without the last line's end."""
        ran = self.run(*words)
        assert ran.returncode == 0, ran
        return ran.stdout.removesuffix("\n")

    def _begin(self, disk: Disk) -> Ended:
        """Do the task from the start, on this disk."""
        for path in (self.root, self.spare):
            shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(self._fresh, self.root)
        self.spare.mkdir()
        with disk.mounted():
            return self.run(*self._words)

    def _sound(self) -> dict[str, str]:
        """See that every visible file of the store and the remote is sound; their digests."""
        digests = {}
        for name in ("store", "remote"):
            for path in (self.root / name).rglob("*"):
                parts = path.relative_to(self.root).parts
                if path.is_file() and not any(part.startswith(".") for part in parts):
                    assert parse_path(path), path
                    digests["/".join(parts)] = check_file(path).digest
        return digests
