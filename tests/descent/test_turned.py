"""Large symmetric sets: their rows by formula, what they say of all pairs, and that nothing of a run is lost."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from protogen.descent import turned
from protogen.descent.checkpoint import Checkpoint
from protogen.descent.turned import Orbits, Turned, TurnedRequest, drawn_frequencies, turned_descent
from protogen.errors import BadRequest
from protogen.files.facts import Turns
from protogen.measuring.measure import measure
from protogen.run import Progress, Run
from protogen.solution import Status
from protogen.spec import Spec


def asked(d: int = 8, n: int = 60, order: int = 12, lines: bool = True, steps: int = 60, **more: int) -> TurnedRequest:
    return TurnedRequest(lines, d, n, more.get("seed", 3), order, steps, more.get("restarts", 1))


def found(request: TurnedRequest, **run: Callable[[Progress], None]) -> Turned:
    return turned_descent(request, Run(**run), "coherence")  # type: ignore[arg-type]  # a report


@pytest.mark.parametrize(("d", "lines"), [(8, True), (9, True), (8, False)])
def test_rows_are_whole_orbits_whose_largest_cosine_is_that_of_all_pairs(d: int, lines: bool) -> None:
    made = found(asked(d, lines=lines))
    assert made.orbits.shape == (60, d)
    stats = measure(made.orbits)
    assert (stats.coherence if lines else stats.max_cos).value == pytest.approx(made.largest, abs=2e-6)
    rows = made.orbits.rows(0, 60).unflatten(0, (5, 12))
    # The map that takes each vector of the first orbits to the next is orthogonal, and takes all orbits to themselves.
    step = torch.linalg.lstsq(rows.flatten(0, 1).double(), rows.roll(-1, 1).flatten(0, 1).double()).solution
    assert (step.mT @ step - torch.eye(d)).abs().max() < 1e-5
    assert (rows.double() @ step - rows.roll(-1, 1)).abs().max() < 1e-5


def test_any_range_of_rows_is_that_of_all() -> None:
    orbits = found(asked(6, 31, 7, steps=3)).orbits
    whole = orbits.rows(0, 31)
    assert whole.shape == (31, 6)
    assert whole.dtype == torch.float32
    assert torch.equal(torch.cat([orbits.rows(start, start + 4) for start in range(0, 31, 4)]), whole)
    assert torch.equal(orbits.at(torch.tensor([[30, 2], [7, 7]])), whole[[30, 2, 7, 7]].view(2, 2, 6))
    assert torch.equal(whole[::7], orbits.vectors)


def test_the_same_seed_gives_the_same_set_and_descends() -> None:
    first, again = (found(asked(12, 400, 20, seed=5)) for _ in range(2))
    assert torch.equal(first.orbits.vectors, again.orbits.vectors)
    start = found(asked(12, 400, 20, seed=5, steps=1))
    assert start.steps == 1
    assert first.largest < start.largest - 0.1


def test_the_best_of_several_restarts_is_kept() -> None:
    alone, several = found(asked(steps=150, seed=1)), found(asked(steps=150, seed=1, restarts=2))
    assert several.largest < alone.largest - 1e-3
    assert measure(several.orbits).coherence.value == pytest.approx(several.largest, abs=2e-6)


def test_the_progress_says_the_stage_and_what_is_left() -> None:
    told: list[Progress] = []
    made = found(asked(steps=5000), report=told.append)
    assert made.status == Status.CONVERGED
    assert told[0].phase == "stage 1 of 13"
    assert told[-1].phase == "stage 13 of 13"
    left = [at.steps - at.step for at in told]
    assert left == sorted(left, reverse=True)
    assert left[-1] == 0
    assert [at.step for at in told] == list(range(1, made.steps + 1))
    assert told[-1].best == made.largest


def test_a_run_that_was_ended_goes_on_where_it_was(tmp_path: Path) -> None:
    spec = Spec.of("ebv", 2, d=8, n=60, seed=3, params={})

    def kept() -> Checkpoint:
        return Checkpoint(tmp_path, spec, torch.device("cpu"), lambda line: None)

    def stop(at: Progress) -> None:
        if at.step == 25:
            raise KeyboardInterrupt

    request = asked(restarts=2)
    ended = turned_descent(request, Run(report=stop), "coherence", kept())
    assert (ended.status, ended.steps) == (Status.INTERRUPTED, 25)
    again = turned_descent(request, Run(time_limit=0), "coherence", kept())
    assert (again.status, again.steps) == (Status.TIME_LIMIT, 25)
    gone_on, whole = turned_descent(request, Run(), "coherence", kept()), found(request)
    assert (gone_on.steps, gone_on.status) == (60, Status.STEP_LIMIT)
    assert torch.equal(gone_on.orbits.vectors, whole.orbits.vectors)


def test_an_interruption_before_anything_was_evaluated_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(turned.TurnLoss, "__call__", interrupted)
    with pytest.raises(KeyboardInterrupt):
        found(asked())


@pytest.mark.parametrize("order", [2, 3, 7, 12])
@pytest.mark.parametrize("lines", [False, True])
def test_elements_keep_vectors_apart(order: int, lines: bool) -> None:
    d, generator = 6, torch.Generator().manual_seed(0)
    vector = torch.nn.functional.normalize(torch.ones(1, d), dim=1)
    for _ in range(20):
        frequencies = drawn_frequencies(asked(d, 40, order, lines), generator)
        rows = Orbits(vector, Turns(order, tuple(frequencies)), order).rows(1, order)
        cosines = (rows @ vector[0]).abs() if lines else rows @ vector[0]
        assert cosines.max() < 1 - 1e-4


def test_a_group_that_keeps_no_lines_apart_is_refused() -> None:
    with pytest.raises(BadRequest, match=r"cyclic\(4\) has no orbits of so many vectors in R\^2; take another order"):
        found(asked(2, 8, 4))
