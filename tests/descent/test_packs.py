"""The search by effort: what it finds, that it goes on where it was, and how it ends."""

import math
from collections.abc import Generator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from draws import double_rows

from protogen.descent.checkpoint import Checkpoint
from protogen.descent.effort import BUDGETS
from protogen.descent.hops import deepest_holes, fitted, hopped
from protogen.descent.packing import Packed, pack
from protogen.descent.pieces import Kept, Pieces
from protogen.descent.search import Request, Search
from protogen.descent.smooth import of_lines
from protogen.run import Progress, Run
from protogen.solution import Status
from protogen.spec import Spec

NONE = torch.zeros(0, 1, 1)
SPEC = Spec.of("any", 1, d=3, n=7, seed=0, params={})


@pytest.fixture
def little(monkeypatch: pytest.MonkeyPatch) -> None:
    """An effort that takes a moment."""
    monkeypatch.setitem(BUDGETS, "low", 1e8)


def found(
    lines: bool, d: int, n: int, effort: str = "low", alpha: float | None = None, run: Run | None = None
) -> Packed:
    return pack(Request(lines, d, n, 0, effort, alpha), torch.zeros(0, n, d), run or Run())


def three_sets(kept: Kept) -> Generator[None, None, torch.Tensor]:
    """Draw three sets to start from, one after the other."""
    generator = torch.Generator().manual_seed(0)
    pieces, made = Pieces(kept, generator), []
    for _ in range(3):
        made += pieces.do(lambda: [torch.randn(9, 4, generator=generator, dtype=torch.float64)])
        yield
    return torch.nn.functional.normalize(torch.stack(made), dim=2)


def coherence(rows: torch.Tensor) -> float:
    return (rows.double() @ rows.double().T).fill_diagonal_(0).abs().max().item()


@pytest.mark.parametrize(
    ("lines", "d", "n", "optimum"),
    [(True, 3, 6, 1 / math.sqrt(5)), (False, 4, 10, 1 / 6)],
)
@pytest.mark.usefixtures("little")
def test_small_optima_to_the_last_digits(lines: bool, d: int, n: int, optimum: float) -> None:
    packed = found(lines, d, n)
    assert packed.largest == pytest.approx(optimum, abs=1e-9)
    assert packed.status == Status.CONVERGED
    assert packed.jammed is not None
    assert packed.jammed.slope < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("lines", "d", "n", "published"),
    [
        (True, 3, 9, 0.669362320),
        (True, 4, 11, 0.5),
        (False, 3, 13, 0.542637),
    ],
)
def test_the_best_that_was_published(lines: bool, d: int, n: int, published: float) -> None:
    assert found(lines, d, n).largest <= published + 1e-6


@pytest.mark.slow
@pytest.mark.usefixtures("little")
def test_a_target_ends_it_and_takes_nothing_away() -> None:
    free = found(True, 4, 9)
    early = found(True, 4, 9, alpha=free.largest + 0.01)
    assert (early.status, early.largest <= free.largest + 0.01 + 1e-6) == (Status.REACHED, True)
    assert early.steps < free.steps
    never = found(True, 4, 9, alpha=free.largest - 0.01)
    assert (never.largest, never.status) == (free.largest, Status.CONVERGED)


@pytest.mark.slow
def test_every_phase_is_reported_in_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BUDGETS, "low", 1e10)
    monkeypatch.setattr("protogen.descent.search.OFTEN", 2.0)  # which no share is
    seen: list[Progress] = []
    found(False, 3, 9, run=Run(report=seen.append))
    assert list(dict.fromkeys(at.phase for at in seen)) == [
        "symmetric",
        "freed",
        "soft",
        "blunt",
        "sharp",
        "hops",
        "landed",
        "last",
        "polish",
    ]
    assert [at.step for at in seen] == sorted(at.step for at in seen)
    assert {at.steps for at in seen} == {10000}
    assert [at.best for at in seen] == sorted((at.best for at in seen), reverse=True)


@pytest.mark.slow
@pytest.mark.parametrize("making", [None, three_sets], ids=["random starts alone", "others too"])
def test_after_a_kill_it_goes_on_and_ends_bit_for_bit_the_same(
    making: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is killed in each phase, some pieces of work after this began; and goes on from each of these in turn."""
    monkeypatch.setitem(BUDGETS, "low", 1e9)
    monkeypatch.setattr("protogen.descent.search.OFTEN", 2.0)  # which no share is
    asked, none = Request(True, 4, 9, 0, "low"), NONE.expand(0, 9, 4)
    seen: list[str] = []
    whole = pack(asked, none, Run(report=lambda at: seen.append(str(at.phase))), making=making)
    phases = dict.fromkeys(seen)
    assert {"symmetric", "freed", "soft", "blunt", "sharp", "last", "polish"} <= {*phases}
    assert (making is not None) == ({"forms", "given"} <= {*phases})
    for phase in phases:
        left = [seen.count(phase) // 2 + 1]

        def interrupt(at: Progress, phase: str = phase, left: list[int] = left) -> None:
            left[0] -= at.phase == phase
            if not left[0]:
                raise KeyboardInterrupt

        checkpoint = Checkpoint(tmp_path, SPEC, torch.device("cpu"), lambda line: None)
        broken = pack(asked, none, Run(report=interrupt), checkpoint, making)
        assert broken.status == Status.INTERRUPTED
        assert coherence(broken.rows) == pytest.approx(broken.largest, abs=1e-12)
    checkpoint = Checkpoint(tmp_path, SPEC, torch.device("cpu"), lambda line: None)
    again = pack(asked, none, Run(), checkpoint, making)
    assert again.steps == whole.steps
    assert torch.equal(again.rows, whole.rows)
    assert (again.jammed, again.group, again.status) == (whole.jammed, whole.group, whole.status)


@pytest.mark.slow
def test_symmetric_sets_that_were_tried_are_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BUDGETS, "low", 1e9)
    first, second = (Search(Request(True, 4, 9, 0, "low"), NONE.expand(0, 9, 4), "cpu") for _ in range(2))
    first.advance()
    assert first.symmetric is not None
    while first.symmetric.batches < 3:
        first.advance()
    second.restore(first.state())
    assert second.symmetric is not None
    assert second.symmetric.spent == pytest.approx(first.symmetric.spent, rel=0.01)
    for one in (first, second):
        while one.symmetric is not None:
            one.advance()
    assert (first.step, first.spent, first.best, first.group) == (second.step, second.spent, second.best, second.group)
    assert torch.equal(first.batch.rows, second.batch.rows)  # type: ignore[union-attr]


def test_pieces_that_were_kept_are_not_done_again_and_what_is_drawn_after_them_is_the_same() -> None:
    kept: Kept = []
    done: list[int] = []

    def drawn(count: int) -> list[torch.Tensor]:
        generator = torch.Generator().manual_seed(0)
        pieces = Pieces(kept, generator)

        def work(place: int) -> list[torch.Tensor]:
            done.append(place)
            return [torch.rand(2, generator=generator)]

        return [pieces.do(partial(work, place))[0] for place in range(count)]

    broken, whole = drawn(1), drawn(2)
    assert done == [0, 1]
    generator = torch.Generator().manual_seed(0)
    assert torch.equal(torch.cat(whole), torch.cat([torch.rand(2, generator=generator) for _ in range(2)]))
    assert torch.equal(broken[0], whole[0])


@pytest.mark.usefixtures("little")
def test_time_and_interruptions_end_it_while_sets_to_start_from_are_made() -> None:
    def endless(kept: Kept) -> Generator[None, None, torch.Tensor]:
        while True:
            yield

    def interrupt(at: Progress) -> None:
        raise KeyboardInterrupt

    asked, none = Request(True, 3, 7, 0, "low"), NONE.expand(0, 7, 3)
    for run, status in (
        (Run(time_limit=1e-9), Status.TIME_LIMIT),
        (Run(report=interrupt), Status.INTERRUPTED),
    ):
        ended = pack(asked, none, run, making=endless)
        assert (ended.status, ended.steps) == (status, 0)
        assert coherence(ended.rows) == pytest.approx(ended.largest, abs=1e-12)


@pytest.mark.usefixtures("little")
def test_each_program_of_the_polish_is_a_step_that_it_can_go_on_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("protogen.descent.phases.SYMMETRIC_SHARE", 0.01)
    monkeypatch.setattr("protogen.descent.search.starts", lambda d, n, effort: 1)
    asked, none = Request(True, 3, 8, 0, "low"), NONE.expand(0, 8, 3)
    search, again = Search(asked, none, "cpu"), Search(asked, none, "cpu")
    search._hop_or_end = search._make_sharp  # type: ignore[method-assign]
    states = list[tuple[float, object]]()
    while search.status is None:
        before = search.spent
        search.advance()
        if search.polishing is not None:
            states.append((search.spent - before, search.state()))
    assert len(states) > 5
    assert min(spent for spent, _ in states[1:]) > 0
    again.restore(states[2][1])  # type: ignore[arg-type]
    while again.status is None:
        again.advance()
    assert (again.step, again.spent, again.best, again.jammed) == (
        search.step,
        search.spent,
        search.best,
        search.jammed,
    )
    assert torch.equal(again.best_rows, search.best_rows)


@pytest.mark.parametrize(("lines", "d", "n"), [(False, 4, 620), (True, 6, 60)])
def test_an_effort_is_kept(lines: bool, d: int, n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BUDGETS, "low", 4e8)
    monkeypatch.setattr("protogen.descent.search.LEAST_STEPS", 2)
    search = Search(Request(lines, d, n, 0, "low"), torch.zeros(0, n, d), "cpu")
    assert search.budget == (1.2e9 if n > 600 else 4e8)
    while search.status is None:
        search.advance()
    assert search.spent < 1.25 * search.budget


def test_time_that_runs_out_leaves_the_best_so_far() -> None:
    packed = found(True, 5, 20, "high", run=Run(time_limit=1e-9))
    assert (packed.status, packed.steps) == (Status.TIME_LIMIT, 1)
    assert coherence(packed.rows) == pytest.approx(packed.largest, abs=1e-12)


@pytest.mark.usefixtures("little")
def test_a_set_that_is_given_is_where_it_starts() -> None:
    angles = torch.arange(5, dtype=torch.float64) * (math.pi / 5)
    best = torch.stack((angles.cos(), angles.sin()), 1)[None]  # five lines at equal angles
    search = Search(Request(True, 2, 5, 0, "low"), best, "cpu")
    search.advance()
    assert search.phase == "given"
    assert search.best == pytest.approx(math.cos(math.pi / 5), abs=1e-12)


@pytest.mark.usefixtures("little")
def test_descents_are_in_short_numbers_but_for_the_first_and_the_last() -> None:
    search = Search(Request(True, 4, 9, 0, "low"), double_rows(9, 4)[None], "cpu")
    types: dict[str, torch.dtype] = {}
    while search.status is None:
        if search.batch is not None:
            types[search.phase] = search.batch.rows.dtype
        search.advance()
        if search.best < math.inf:
            assert search.best_rows.dtype == torch.float64
            assert coherence(search.best_rows) == pytest.approx(search.best, abs=1e-14)
    assert {"given", "soft", "blunt", "sharp", "last"} <= set(types)
    assert {phase for phase, dtype in types.items() if dtype == torch.float64} == {"given", "last"}


@pytest.mark.usefixtures("little")
def test_random_starts_have_descended_before_they_go_on_with_the_others() -> None:
    given = double_rows(9, 4)[None]
    search = Search(Request(True, 4, 9, 0, "low"), given, "cpu")
    while search.phase != "soft":
        search.advance()
    assert search.batch is not None
    drawn = search.batch.rows
    while search.phase == "soft":
        search.advance()
    rows = search.batch.rows
    assert torch.equal(rows[:1], given.float())
    assert len(rows) == 1 + len(drawn)
    assert rows[1:].abs().max() <= 1 + 1e-6
    ten = rows.new_full((len(drawn),), 10.0)
    before, after = (of_lines(some, ten, ten).values for some in (drawn, rows[1:]))
    assert (after < before - 0.05).all()


@pytest.mark.parametrize("lines", [False, True])
def test_what_hops_lands_in_a_hole(lines: bool) -> None:
    rows = torch.stack([double_rows(12, 4, seed=seed) for seed in range(5)])
    rows[:, 1] = rows[:, 0]  # jammed beyond all others
    moved = hopped(rows, lines, 0.0, torch.Generator().manual_seed(0))
    cosines = (moved @ moved.mT).abs() if lines else moved @ moved.mT
    cosines.diagonal(dim1=1, dim2=2).fill_(-1)
    assert cosines.amax().item() < 0.99
    stays = (moved == rows).all(-1).sum(1)
    assert (stays == 11).all()  # SHARE of 12 rows is one
    assert (moved.norm(dim=-1) - 1).abs().max() < 1e-14


def test_a_search_is_the_same_again_and_another_by_another_seed() -> None:
    searches = [Search(Request(True, 3, 7, seed, "low"), NONE.expand(0, 7, 3), "cpu") for seed in (0, 0, 1)]
    for search in searches:
        for _ in range(10):
            search.advance()
    first, same, other = (search.best_rows for search in searches)
    assert coherence(first) == pytest.approx(searches[0].best, abs=1e-9)
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


@pytest.mark.usefixtures("little")
def test_an_interruption_among_symmetric_sets_ends_the_search_with_the_best() -> None:
    seen: list[Progress] = []
    calls = 0

    def clock() -> float:
        nonlocal calls
        if seen and seen[-1].phase == "symmetric":
            calls += 1
            if calls == 20:
                raise KeyboardInterrupt
        return 0.0

    ended = found(True, 3, 7, run=Run(report=seen.append, clock=clock, time_limit=1.0))
    assert calls == 20
    assert seen[-1].phase == "symmetric"
    assert ended.status == Status.INTERRUPTED
    assert coherence(ended.rows) == pytest.approx(ended.largest, abs=1e-9)


def test_what_is_taken_out_is_the_most_jammed_and_what_comes_in_fills_a_hole() -> None:
    generator = torch.Generator().manual_seed(0)
    rows = torch.eye(4, dtype=torch.float64)
    assert coherence(fitted(rows[:3], 4, True, generator)) < 0.4
    crowded = torch.cat((rows, torch.nn.functional.normalize(rows[:1] + 0.01 * rows[1:2], dim=1)))
    left = fitted(crowded, 4, True, generator)
    assert left.shape == (4, 4)
    assert coherence(left) < 0.05


def test_the_deepest_holes_of_the_axes_are_the_diagonals_and_each_is_listed_once() -> None:
    axes = torch.cat((torch.eye(3), -torch.eye(3))).double()
    generator = torch.Generator().manual_seed(0)
    points, lines = deepest_holes(axes, False, generator, 1e9), deepest_holes(axes[:3], True, generator, 1e9)
    assert (len(points.figures), len(lines.figures)) == (8, 4)
    for holes in (points, lines):
        assert (holes.figures - 3**-0.5).abs().max() < 1e-6
        assert (holes.places.abs() - 3**-0.5).abs().max() < 1e-3


def test_deep_holes_are_filled_each_once_and_then_others() -> None:
    axes = torch.cat((torch.eye(3), -torch.eye(3))).double()
    holes = deepest_holes(axes, False, torch.Generator().manual_seed(0), 1e9)
    cube = fitted(axes, 14, False, torch.Generator().manual_seed(1), holes)
    assert float((cube @ cube.T).fill_diagonal_(-1).max()) == pytest.approx(3**-0.5, abs=4e-3)
    assert fitted(axes, 15, False, torch.Generator().manual_seed(1), holes).shape == (15, 3)
