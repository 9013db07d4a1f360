"""A disk that fails: at any one call, or from one call on, a command ends well or says why, and loses nothing."""

import _pyio
import builtins
import contextlib
import errno
import io
import itertools
import os
import re
import shutil
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

from protogen import checkpoint, cli
from protogen.display import Display
from protogen.header import check_file, parse_path

ERRORS = (errno.ENOSPC, errno.EIO, errno.EACCES, errno.EROFS)
# What stands for each call, and which of the arguments say on what: 2 are two paths, 0 is a descriptor.
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
OUTCOMES = {0: "done", 1: "unmet", 2: "refused", 3: "not found", 4: "disk", 5: "integrity", 6: "remote"}


@dataclass
class Disk:
    """A folder whose `call` fails with `error` when it comes for the k-th time, and with `lasting` from then on.

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
    def mounted(self) -> Iterator["Disk"]:
        """Have it in place."""
        with contextlib.ExitStack() as stack:
            for call, names in CALLS.items():
                for name, paths in names.items():
                    stack.enter_context(patch.object(os, name, self._failing(call, getattr(os, name), paths)))
            for module in (io, builtins):
                stack.enter_context(patch.object(module, "open", self._opener(io.open)))
            yield self

    def _failing(self, call: str, real: Callable[..., Any], paths: int) -> Callable[..., Any]:
        def act(*args: Any, **options: Any) -> Any:
            if any(map(self._is_mine, args[: paths or 1], [options.get("dir_fd")] * 2)):
                self.counts.update((call, ANY))
                if self.call in (call, ANY) and (self.counts[self.call] == self.k or (self.lasting and self.failed)):
                    if real.__name__ == "write":
                        real(args[0], bytes(args[1])[: len(args[1]) // 2])
                    raise OSError(self.error, os.strerror(self.error))
            return real(*args, **options)

        return act

    def _opener(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def opened(file: Any, *args: Any, **options: Any) -> Any:
            return (_pyio.open if self._is_mine(file, None) else real)(file, *args, **options)  # type: ignore[operator]

        return opened

    def _is_mine(self, file: Any, folder: int | None) -> bool:
        if isinstance(file, int):
            path = os.readlink(f"/proc/self/fd/{file}")
        else:
            path = os.path.join(os.getcwd() if folder is None else os.readlink(f"/proc/self/fd/{folder}"), file)
        return Path(os.path.normpath(path)).is_relative_to(self.root)


@dataclass(frozen=True)
class Ran:
    """What a command did, and how many steps of descents it took."""

    code: int
    out: str
    err: str
    steps: int


FORMULA = ("ebv", "--d", 4, "--n", 4)
OTHER = ("ebv", "--d", 4, "--n", 3)
DRAWN = ("ebv", "--d", 4, "--n", 6, "--start", "random", "--steps", 3)
TASKS = {
    "exact": FORMULA,
    "statistical": ("ebv", "--d", 5, "--n", 12, "--start", "random", "--steps", 300),
    "sync": ("sync", "--remote", "remote"),  # one is there, one a formula gives, one only the remote has
}


class Place:
    """A task in a folder of its own, with a store and perhaps a remote and a lock, beside one where there is room."""

    def __init__(self, folder: Path, task: str) -> None:
        self.root, self.spare, self._fresh = (folder.resolve() / name for name in ("root", "spare", "fresh"))
        self._words = TASKS[task]
        for path in (self.root, self.spare):
            path.mkdir(parents=True)
        if task == "sync":
            for name, words in {"formula": FORMULA, "other": OTHER, "drawn": DRAWN}.items():
                self.run("lock", "add", name, self.run(*words, "--quiet").out.strip())
            (self.root / "store").rename(self.root / "remote")
            shutil.rmtree(self.root / "remote/ebv/d4-n3")
            self.run(*FORMULA)
        self.root.rename(self._fresh)
        self.outcomes: Counter[tuple[str, str, str]] = Counter()
        with self._anew(Disk(self.root)) as disk:
            ran = self.run(*self._words)
        assert (ran.code, ran.err) == (0, "")
        self.calls = disk.counts
        self._files, self._steps = self._sound(), ran.steps

    @contextlib.contextmanager
    def _anew(self, disk: Disk) -> Iterator[Disk]:
        """Begin again, on this disk."""
        for path in (self.root, self.spare):
            shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(self._fresh, self.root)
        self.spare.mkdir()
        with disk.mounted():
            yield disk

    def run(self, *words: object) -> Ran:
        """Run a command in this process; a descent has its state written every 66 steps or so."""
        out, err, steps, clock = io.StringIO(), io.StringIO(), itertools.count(), itertools.count(0.0, 0.15)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PROTOGEN_")}
        with (
            contextlib.chdir(self.root),
            patch.dict(os.environ, {**environment, "PROTOGEN_STORE": "store"}, clear=True),
            patch.object(sys, "argv", ["protogen", *map(str, words)]),
            patch.object(tempfile, "tempdir", str(self.spare)),
            patch.object(Display, "step", lambda *_: next(steps)),
            patch.object(checkpoint, "time", SimpleNamespace(monotonic=lambda: next(clock))),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            try:
                cli.main()
            except SystemExit as end:
                return Ran(int(end.code or 0), out.getvalue(), err.getvalue(), next(steps))
        raise AssertionError("it ends with a code")

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

    def fail(self, disk: Disk) -> None:
        """Do the task on a disk that fails, and once more on one that does not."""
        with self._anew(disk):
            ran = self.run(*self._words)
        assert disk.failed
        said = [line for line in ran.err.splitlines() if line.startswith("error: ")]
        assert "Traceback" not in ran.err
        assert len(said) == (ran.code != 0), ran
        assert self._sound().items() <= self._files.items()
        if ran.code == 0:
            assert self._sound() == self._files
        elif ran.steps and self._sound() != self._files:
            kept = re.search(r"what was made lies in (\S+)$", ran.err)
            assert kept, ran.err
            assert check_file(kept[1]).digest in self._files.values()
        again = self.run(*self._words)
        assert again.code == 0, again.err
        assert self._sound() == self._files
        self.outcomes[disk.call, errno.errorcode[disk.error], OUTCOMES[ran.code]] += 1
