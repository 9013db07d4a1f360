"""Descents over ranks: as far as one process comes, the same state, and what is left where a rank is lost."""

import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from processes import on_ranks
from torch import Tensor, distributed

from protogen.descent import sharded
from protogen.descent.checkpoint import Checkpoint
from protogen.descent.evaluate import Sliced, evaluate
from protogen.descent.potentials import Potential
from protogen.descent.thresholds import SquaredThreshold
from protogen.errors import RankLost
from protogen.files.prototypes import Prototypes
from protogen.generating import generate
from protogen.measuring.geometry import random_rows
from protogen.methods import resolve
from protogen.ranks.group import Ranks
from protogen.run import Progress, Run
from protogen.solution import Status

SPEC = resolve("ebv", d=20, n=300, start="random", steps=12)
TILE = 32


@pytest.fixture(autouse=True)
def shared_however_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharded, "WORTH_IT", 0)


def made(run: Run) -> Prototypes:
    return generate(SPEC, replace(run, tile=TILE))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("ebv", {"start": "random", "steps": 12}),
        ("ebv", {"start": "random", "steps": 4, "update": "paper"}),
        ("uniform", {"start": "random", "steps": 8}),
        ("uniform", {"start": "random", "steps": 30, "sharpen": True}),
    ],
)
def test_ranks_come_as_far_as_one_process(tmp_path: Path, method: str, options: dict[str, Any]) -> None:
    spec = resolve(method, d=20, n=300, **options)
    alone = generate(spec, Run(tile=TILE))
    found = on_ranks(3, tmp_path / "meeting", lambda rank: generate(spec, Run(tile=TILE)))
    assert alone.stats is not None
    for each in found:
        assert each.spec == alone.spec
        assert each.provenance.steps == alone.provenance.steps
        assert each.stats.coherence.value == pytest.approx(alone.stats.coherence.value, abs=1e-5)
        assert each.stats.uniformity_t2 == pytest.approx(alone.stats.uniformity_t2, abs=1e-5)
        assert torch.equal(each.tensor, found[0].tensor)


@pytest.mark.slow
@pytest.mark.parametrize("objective", [SquaredThreshold, lambda: Potential(3.0)])
def test_gradient_and_loss_are_those_of_one_process(tmp_path: Path, objective: Any) -> None:
    rows, fixed = random_rows(1, 101, 5, 0).double(), random_rows(1, 37, 5, 1).double()

    def evaluated(run: Run) -> tuple[float, float, Tensor]:
        at = Sliced(objective(), replace(run, tile=16), fixed)(rows)
        return at.loss, float(at.coherence), at.gradient

    def work(rank: int) -> Any:
        ranks = Ranks(distributed.group.WORLD)
        return ranks.led(lambda: evaluated(Run(group=distributed.group.WORLD)))

    loss, coherence, gradient = evaluated(Run())
    assert loss == evaluate(objective(), rows, 16, fixed).loss
    for ours in on_ranks(2, tmp_path / "meeting", work):
        assert ours[:2] == (pytest.approx(loss, rel=1e-12), coherence)
        torch.testing.assert_close(ours[2], gradient, rtol=1e-12, atol=1e-12)


def interrupting(after: int) -> Any:
    def report(at: Progress) -> None:
        if at.step == after:
            os.kill(os.getpid(), signal.SIGINT)

    return report


@pytest.mark.slow
@pytest.mark.parametrize("later", [1, 3])
def test_an_interrupted_run_goes_on_with_other_ranks(tmp_path: Path, later: int) -> None:
    folder = tmp_path / "state"

    def first(rank: int) -> Prototypes:
        return made(Run(folder=folder, report=interrupting(7)))

    for each in on_ranks(2, tmp_path / "first", first):
        assert each.provenance.status == Status.INTERRUPTED
    said: list[str] = []
    found = on_ranks(later, tmp_path / "second", lambda rank: (made(Run(folder=folder, say=said.append)), said))
    result, lines = found[0]
    assert lines == ["the run goes on after step 6"]
    alone = made(Run())
    assert (result.provenance.steps, alone.provenance.steps) == (12, 12)
    assert result.stats.coherence.value == pytest.approx(alone.stats.coherence.value, abs=1e-5)


@pytest.mark.slow
def test_a_lost_rank_leaves_a_state_to_go_on_from(tmp_path: Path) -> None:
    folder = tmp_path / "state"

    def work(rank: int) -> Any:
        begin = sharded.RowsLBFGS.next

        def killed(self: Any, *arguments: Any) -> Any:
            if rank == 1 and len(self._pairs) == 4:
                os.kill(os.getpid(), signal.SIGKILL)
            return begin(self, *arguments)

        sharded.RowsLBFGS.next = killed
        return made(Run(folder=folder))

    leader, lost = on_ranks(2, tmp_path / "first", work)
    assert isinstance(leader, RankLost)
    assert lost is None
    said: list[str] = []
    result = made(Run(folder=folder, say=said.append))
    assert said[0].startswith("the run goes on after step ")
    assert (result.provenance.steps, result.provenance.status) == (12, Status.STEP_LIMIT)


@pytest.mark.slow
def test_the_history_of_all_rows_is_that_of_one_process(tmp_path: Path) -> None:
    def state(folder: Path, run: Run) -> dict[str, Any]:
        made(replace(run, folder=folder, report=interrupting(7)))
        keeper = Checkpoint(folder, SPEC, torch.device("cpu"), lambda line: None)
        return keeper._states[0]

    (ours, _), theirs = (
        on_ranks(2, tmp_path / "meeting", lambda rank: state(tmp_path / "ours", Run()) if rank == 0 else made(Run())),
        state(tmp_path / "theirs", Run()),
    )
    assert ours.keys() == theirs.keys()
    for one, other in zip(ours["stepper"]["_pairs"], theirs["stepper"]["_pairs"], strict=True):
        for mine, its in zip(one, other, strict=True):
            torch.testing.assert_close(mine, its, rtol=1e-3, atol=1e-5)
