"""The demo beside others: two that add to one file of rows, Ctrl-C while prototypes are made, damaged data."""

import gzip
import struct
from dataclasses import replace
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import pytest
import torch
from processes import FORK

from protogen.demo import fashion
from protogen.demo.contestants import build, spec_of
from protogen.demo.data import Task
from protogen.demo.results import RowFile
from protogen.demo.training import Row, Trial
from protogen.descent.evaluate import evaluate
from protogen.errors import IntegrityError
from protogen.store.store import Store

pytestmark = pytest.mark.slow

ROW = Row(Trial("digits", 10, "0" * 12, 1.0, "learned", None, 4, 0, 2), 90.0, 30.0, 60.0, 100, 50, 800, 1.5, 1, (2.0,))


def add(path: Path, first: int, start: Barrier) -> None:
    start.wait()
    for seed in range(first, first + 100):
        RowFile(path).add(replace(ROW, trial=replace(ROW.trial, seed=seed)))


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # Python 3.12 warns of the test's own way
def test_two_add_rows_to_one_file_and_none_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    start = FORK.Barrier(2)
    both = [FORK.Process(target=add, args=(path, first, start)) for first in (0, 100)]
    for each in both:
        each.start()
    for each in both:
        each.join()
    assert [each.exitcode for each in both] == [0, 0]
    assert sorted(trial.seed for trial in RowFile(path).rows()) == list(range(200))


def test_an_interrupted_descent_trains_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, labels = torch.eye(12), torch.arange(12)
    task = Task("vectors", 12, *(vectors, labels) * 3, width=1)
    steps = iter(range(5))

    def interrupted(*given: Any) -> Any:
        if next(steps, None) is None:
            raise KeyboardInterrupt
        return evaluate(*given)

    with monkeypatch.context() as patched:
        patched.setattr("protogen.descent.evaluate.evaluate", interrupted)
        with pytest.raises(KeyboardInterrupt):
            build("uniform", 4, task, tmp_path)
    assert [entry.provenance.status for entry in Store(tmp_path).entries()] == ["interrupted"]
    build("uniform", 4, task, tmp_path)
    spec = spec_of("uniform", 4, 12)
    assert spec is not None
    assert Store(tmp_path).find(spec) is not None


def test_data_that_no_longer_unpacks_is_one_error(tmp_path: Path) -> None:
    for name in (name for pair in fashion.FILES.values() for name in pair):
        (tmp_path / name).write_bytes(gzip.compress(struct.pack(">HBBI", 0, 8, 1, 256) + bytes(range(256))))
    damaged = tmp_path / fashion.FILES["train"][0]
    raw = bytearray(damaged.read_bytes())
    raw[10] ^= 0xFF  # the kind of the first deflate block
    damaged.write_bytes(raw)
    with pytest.raises(IntegrityError, match=r"train-images.*get it anew"):
        fashion.read(tmp_path)
