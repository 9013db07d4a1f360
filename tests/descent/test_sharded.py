"""Descents over ranks: as far as one process comes, the same state, and what is left where a rank is lost."""

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from processes import on_ranks
from torch import Tensor, distributed

from protogen.descent import checkpoint, ring, sharded, shards
from protogen.descent.checkpoint import Checkpoint
from protogen.descent.evaluate import Evaluation, Sliced, evaluate
from protogen.descent.potentials import Potential
from protogen.descent.thresholds import SquaredThreshold
from protogen.errors import RankLost
from protogen.files.prototypes import Prototypes
from protogen.generating import generate
from protogen.measuring.geometry import random_rows
from protogen.measuring.tiles import gram_tile
from protogen.methods import resolve
from protogen.ranks.group import Ranks
from protogen.run import Progress, Run
from protogen.solution import Status

SPEC = resolve("ebv", d=20, n=300, start="random", steps=12)
TILE = 32


@pytest.fixture(autouse=True)
def shared_however_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharded, "WORTH_IT", 0)


def none_free(ranks: Ranks, device: str) -> int:
    return 0


def made(run: Run) -> Prototypes:
    return generate(SPEC, replace(run, tile=TILE))


ALONE: list[tuple[str, dict[str, Any]]] = [
    ("ebv", {"n": 300, "steps": 12}),
    ("ebv", {"n": 300, "steps": 4, "update": "paper"}),
    ("uniform", {"n": 300, "steps": 8}),
    ("uniform", {"n": 300, "steps": 30, "sharpen": True}),
]
STARTS: list[tuple[str, dict[str, Any]]] = [
    ("ebv", {"n": 100, "restarts": 3, "steps": 12}),
    ("ebv", {"n": 100, "restarts": 2, "steps": 4, "update": "paper"}),
    ("uniform", {"n": 100, "restarts": 3, "steps": 8}),
    ("uniform", {"n": 100, "restarts": 3, "steps": 40, "sharpen": True}),
]


@pytest.mark.slow
@pytest.mark.parametrize(("asked", "world"), [(ALONE, 3), (STARTS, 2)])
def test_ranks_come_as_far_as_one_process(tmp_path: Path, asked: list[tuple[str, dict[str, Any]]], world: int) -> None:
    """Tiles of one set are dealt, and whole sets where there are several starts."""
    specs = [resolve(method, d=20, start="random", **options) for method, options in asked]
    found = on_ranks(world, tmp_path / "meeting", lambda rank: [generate(spec, Run(tile=TILE)) for spec in specs])
    for place, spec in enumerate(specs):
        alone = generate(spec, Run(tile=TILE))
        assert alone.stats is not None
        for each in (made[place] for made in found):
            assert each.spec == alone.spec
            assert each.provenance.steps == alone.provenance.steps
            assert each.stats.coherence.value == pytest.approx(alone.stats.coherence.value, abs=1e-5)
            assert each.stats.uniformity_t2 == pytest.approx(alone.stats.uniformity_t2, abs=1e-5)
            assert torch.equal(each.tensor, found[0][place].tensor)


@pytest.mark.slow
@pytest.mark.parametrize("free", [none_free, None], ids=["by a ring", "by tiles"])
def test_every_rank_multiplies_in_full_precision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: Callable[..., int] | None
) -> None:
    if free is not None:
        monkeypatch.setattr(sharded, "least_free", free)

    def work(rank: int) -> set[str]:
        seen: set[str] = set()

        def noted(*tensors: Tensor) -> Tensor:
            seen.add(torch.backends.mkldnn.matmul.fp32_precision)  # type: ignore[attr-defined]
            return gram_tile(*tensors)

        monkeypatch.setattr("protogen.descent.evaluate.gram_tile", noted)
        torch.set_float32_matmul_precision("medium")
        made(Run())
        return seen

    assert on_ranks(2, tmp_path / "meeting", work) == [{"ieee"}, {"ieee"}]


OBJECTIVES: list[Callable[[], Any]] = [SquaredThreshold, lambda: Potential(3.0)]
ROWS, FIXED = random_rows(1, 101, 5, 0).double(), random_rows(1, 37, 5, 1).double()


def same(ours: tuple[float, float, float, Tensor], theirs: Evaluation) -> None:
    assert ours[0] == pytest.approx(theirs.loss, rel=1e-12)
    assert ours[1:3] == (float(theirs.max_cos), float(theirs.coherence))
    torch.testing.assert_close(ours[3], theirs.gradient, rtol=1e-12, atol=1e-12)


@pytest.mark.slow
def test_gradient_and_loss_are_those_of_one_process(tmp_path: Path) -> None:
    def evaluated(objective: Any) -> tuple[float, float, float, Tensor]:
        at = Sliced(objective, Run(tile=16, group=distributed.group.WORLD), FIXED)(ROWS)
        return at.loss, float(at.max_cos), float(at.coherence), at.gradient

    def work(rank: int) -> Any:
        ranks = Ranks(distributed.group.WORLD)
        return ranks.led(lambda: [evaluated(objective()) for objective in OBJECTIVES])

    for found in on_ranks(2, tmp_path / "meeting", work):
        for ours, objective in zip(found, OBJECTIVES, strict=True):
            same(ours, evaluate(objective(), ROWS, 16, FIXED))


@pytest.mark.slow
@pytest.mark.parametrize("world", [2, 3, 4])
def test_blocks_that_go_round_meet_each_pair_once(tmp_path: Path, world: int) -> None:
    def evaluated(objective: Any) -> tuple[float, float, float, Tensor]:
        sliced = Sliced(objective, Run(tile=8, group=distributed.group.WORLD), FIXED)
        assert sliced.ranks is not None
        at = ring.Ring(sliced, sliced.ranks, "cpu")(ROWS)
        return at.loss, float(at.max_cos), float(at.coherence), sliced.ranks.together(own_gradient)

    def work(rank: int) -> Any:
        ranks = Ranks(distributed.group.WORLD)
        return ranks.led(lambda: [evaluated(objective()) for objective in OBJECTIVES])

    for found in on_ranks(world, tmp_path / "meeting", work):
        for ours, objective in zip(found, OBJECTIVES, strict=True):
            same(ours, evaluate(objective(), ROWS, 8, FIXED))


def own_gradient(ranks: Ranks) -> Tensor:
    """Bring the gradients of the ranks' rows together."""
    gradient = shards.Shard.of(ranks).gradient
    assert gradient is not None
    return ranks.gather_rows(gradient, len(ROWS))


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
        begin = shards.RowsLBFGS.next

        def killed(self: Any, *arguments: Any) -> Any:
            if rank == 1 and len(self._pairs) == 4:
                os.kill(os.getpid(), signal.SIGKILL)
            return begin(self, *arguments)

        shards.RowsLBFGS.next = killed
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


@pytest.mark.slow
@pytest.mark.parametrize("world", [2, 3, 4])
def test_rows_that_fit_no_rank_come_as_far_as_those_that_do(
    tmp_path: Path, world: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = made(Run())
    monkeypatch.setattr(sharded, "least_free", none_free)
    sizes: list[int] = []

    def work(rank: int) -> tuple[Prototypes, list[int]]:
        step = ring._next

        def noted(ranks: Ranks, *arguments: Any) -> Any:
            sizes.append(sum(len(part) for part in shards.Shard.of(ranks).parts.values()))
            return step(ranks, *arguments)

        noted.__module__, noted.__qualname__ = step.__module__, step.__qualname__
        ring._next = noted
        return made(Run()), sizes

    assert alone.stats is not None
    found = on_ranks(world, tmp_path / "meeting", work)
    for result, held in found:
        assert result.provenance.steps == alone.provenance.steps
        assert result.stats.coherence.value == pytest.approx(alone.stats.coherence.value, abs=1e-6)
        assert torch.equal(result.tensor, found[0][0].tensor)
        assert 0 < max(held) <= 4 * -(-SPEC.n // world)  # of the rows now and before, and of the best now and before


@pytest.mark.slow
@pytest.mark.parametrize("later", [1, 3])
def test_a_ring_that_is_interrupted_goes_on_with_other_ranks(
    tmp_path: Path, later: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharded, "least_free", none_free)
    folder = tmp_path / "state"
    for each in on_ranks(2, tmp_path / "first", lambda rank: made(Run(folder=folder, report=interrupting(7)))):
        assert each.provenance.status == Status.INTERRUPTED
    said: list[str] = []
    found = on_ranks(later, tmp_path / "second", lambda rank: (made(Run(folder=folder, say=said.append)), said))
    result, lines = found[0]
    assert lines == ["the run goes on after step 6"]
    assert (result.provenance.steps, result.provenance.status) == (12, Status.STEP_LIMIT)


@pytest.mark.slow
def test_a_ring_that_loses_a_rank_goes_on_from_the_state_that_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharded, "least_free", none_free)
    monkeypatch.setattr(checkpoint, "EVERY_S", 0.0)
    monkeypatch.setattr(checkpoint, "SHARE", 1e9)
    folder = tmp_path / "state"

    def work(rank: int) -> Any:
        begin = shards.RowsLBFGS.next

        def killed(self: Any, *arguments: Any) -> Any:
            if rank == 1 and len(self._pairs) == 4:
                os.kill(os.getpid(), signal.SIGKILL)
            return begin(self, *arguments)

        shards.RowsLBFGS.next = killed
        return made(Run(folder=folder))

    leader, lost = on_ranks(2, tmp_path / "first", work)
    assert isinstance(leader, RankLost)
    assert lost is None
    said: list[str] = []
    result = made(Run(folder=folder, say=said.append))
    assert said[0].startswith("the run goes on after step ")
    assert (result.provenance.steps, result.provenance.status) == (12, Status.STEP_LIMIT)
