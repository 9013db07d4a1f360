"""The one loop: gradients held to autograd in float64, the best kept, and every reason to stop."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
import torch
from draws import double_rows
from torch import Tensor

from protogen.descent import loop
from protogen.descent.evaluate import Evaluation, Sliced, evaluate
from protogen.descent.loop import Descent, descend
from protogen.descent.steppers import LBFGS, GradientDescent, Stepper
from protogen.descent.thresholds import PaperThreshold, SquaredThreshold, Threshold
from protogen.run import Progress, Run
from protogen.solution import Status


def squared_loss(rows: Tensor, threshold: float) -> Tensor:
    i, j = torch.triu_indices(len(rows), len(rows), 1)
    return (torch.relu((rows @ rows.T)[i, j].abs() - threshold) ** 2).sum() / 2


def paper_loss(rows: Tensor, threshold: float) -> Tensor:
    # Algorithm 1 on the whole matrix at once, so that each pair counts twice; the diagonal becomes 0.
    cosines = (rows @ rows.T).masked_fill(torch.eye(len(rows), dtype=torch.bool), 0)
    return torch.relu(cosines.abs() - threshold).sum()


@dataclass(frozen=True)
class Case:
    """A kind of loss, ours and the plain one."""

    objective: type[Threshold]
    plain: Callable[[Tensor, float], Tensor]

    def both(self, rows: Tensor, threshold: float, edge: int) -> tuple[Evaluation, float, Tensor]:
        """Evaluate by tiles, and the loss and its gradient by autograd."""
        objective = self.objective()
        objective.threshold = threshold
        free = rows.clone().requires_grad_()
        loss = self.plain(free, threshold)
        (gradient,) = torch.autograd.grad(loss, free)
        return evaluate(objective, rows, edge), loss.item(), gradient


CASES = [Case(SquaredThreshold, squared_loss), Case(PaperThreshold, paper_loss)]
both_losses = pytest.mark.parametrize("case", CASES, ids=["squared", "paper"])


def cell24() -> Tensor:
    """The 24 vectors (+-1/2)^4 and +-e_i: their cosines are 0, +-1/2 and -1, exactly, in binary."""
    signs = torch.cartesian_prod(*[torch.tensor([0.5, -0.5])] * 4)
    return torch.cat((signs, torch.eye(4), -torch.eye(4))).double()


# Rows by name, and a threshold.
INPUTS: dict[str, tuple[Tensor, float]] = {
    "random": (double_rows(40, 6), 0.3),
    "prime sizes": (double_rows(37, 11, seed=1), 0.4),
    "two rows": (double_rows(2, 3, seed=2), 0.0),
    "threshold 0": (double_rows(23, 5, seed=3), 0.0),
    "nothing over the threshold": (torch.eye(7).double(), 0.5),
    "ties at the threshold": (cell24(), 0.5),
    "ties over the threshold": (cell24(), 0.25),
    "duplicates": (double_rows(5, 4, seed=4).repeat(3, 1), 0.2),
    "antipodes": (torch.cat((double_rows(6, 5, seed=5), -double_rows(6, 5, seed=5))), 0.2),
    "one direction": (double_rows(1, 3, seed=6).repeat(9, 1), 0.9),
    "long rows, few over the threshold": (double_rows(61, 131, seed=7), 0.22),
    "long rows, many over the threshold": (double_rows(61, 131, seed=7), 0.02),
}


@both_losses
@pytest.mark.parametrize("name", INPUTS)
def test_loss_gradient_and_coherence_are_the_plain_ones(case: Case, name: str) -> None:
    rows, threshold = INPUTS[name]
    n = len(rows)
    gram = rows @ rows.T
    for edge in sorted({7, n // 2, n - 1, n, n + 1, 10 * n} | ({1, 2} if n <= 24 else set())):
        at, loss, gradient = case.both(rows, threshold, edge)
        assert at.loss == pytest.approx(loss, rel=1e-12, abs=1e-14)
        assert at.losses.item() == at.loss
        assert (at.gradient - gradient).norm() <= 1e-10 * gradient.norm()
        without = gram.clone().fill_diagonal_(-math.inf)
        assert at.max_cos.item() == pytest.approx(without.max().item(), abs=1e-15)
        assert at.coherence.item() == pytest.approx(gram.clone().fill_diagonal_(0).abs().max().item(), abs=1e-15)


def test_ties_at_the_threshold_weigh_nothing() -> None:
    # Of the 276 pairs of the 24-cell the 12 antipodal ones alone exceed 1/2: by 1/2.
    for case, per_pair in ((CASES[0], 0.5**2 / 2), (CASES[1], 2 * 0.5)):
        at, loss, _ = case.both(cell24(), 0.5, 5)
        assert at.loss == loss == 12 * per_pair
        # Row i is pulled by its antipode alone, -r_i: -1/2 (-r_i), or for the paper's sum 2 (-1) (-r_i).
        assert torch.equal(at.gradient, (0.5 if per_pair < 0.5 else 2.0) * cell24())


@both_losses
def test_several_sets_at_once_are_each_its_own(case: Case) -> None:
    sets = torch.stack([double_rows(19, 5, seed=seed) for seed in range(3)])
    objective = case.objective()
    objective.threshold = 0.3
    for edge in (1, 6, 19):
        together = evaluate(objective, sets, edge)
        apart = [evaluate(objective, rows, edge) for rows in sets]
        assert together.loss == pytest.approx(sum(at.loss for at in apart), rel=1e-13)
        for index, at in enumerate(apart):
            assert together.losses[index].item() == pytest.approx(at.loss, rel=1e-13)
            assert together.max_cos[index].item() == pytest.approx(at.max_cos.item(), abs=1e-15)
            assert together.coherence[index].item() == pytest.approx(at.coherence.item(), abs=1e-15)
            assert torch.allclose(together.gradient[index], at.gradient, rtol=0, atol=1e-13)


@pytest.fixture
def conversions(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of weights of each tile that is made sparse."""
    seen: list[int] = []
    to_sparse = Tensor.to_sparse

    def counted(weights: Tensor) -> Tensor:
        seen.append(weights.numel())
        return to_sparse(weights)

    monkeypatch.setattr(Tensor, "to_sparse", counted)
    return seen


@both_losses
@pytest.mark.parametrize("edge", [7, 61])
def test_sparse_and_dense_products_agree(
    case: Case, edge: int, conversions: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = double_rows(61, 131, seed=7)
    objective = case.objective()
    objective.threshold = 0.1
    blocks = -(-61 // edge)
    found = []
    for share, least_d, tiles in ((0.0, 0, 0), (2.0, 0, blocks * (blocks + 1) // 2), (2.0, 132, 0)):
        monkeypatch.setattr("protogen.descent.evaluate.SPARSE_SHARE", share)
        monkeypatch.setattr("protogen.descent.evaluate.SPARSE_MIN_D", least_d)
        conversions.clear()
        found.append(evaluate(objective, rows, edge))
        assert len(conversions) == tiles
    dense, sparse, short = found
    assert sparse.loss == dense.loss
    assert (sparse.gradient - dense.gradient).norm() <= 1e-14 * dense.gradient.norm()
    assert torch.equal(short.gradient, dense.gradient)


def test_sparse_products_are_for_long_rows_with_few_weights(conversions: list[int]) -> None:
    # A cosine in R^131 has a deviation of 1/sqrt(131) = 0.087: 1% lie over 0.22, four in five over 0.02.
    for d, threshold, sparse in ((131, 0.22, True), (131, 0.02, False), (127, 0.22, False)):
        conversions.clear()
        objective = SquaredThreshold()
        objective.threshold = threshold
        evaluate(objective, double_rows(61, d, seed=7), 61)
        assert bool(conversions) == sparse


def test_an_objective_that_adapts_is_evaluated_again() -> None:
    class Doubtful(SquaredThreshold):
        asked = 0

        def adapt(self, at: Evaluation) -> bool:
            self.asked += 1
            self.threshold = 0.2
            return self.asked < 2

    objective, expected = Doubtful(), SquaredThreshold()
    expected.threshold = 0.2
    rows = double_rows(9, 3)
    assert Sliced(objective, Run(tile=4))(rows).loss == evaluate(expected, rows, 4).loss
    assert objective.asked == 2


# The loop is driven by pairs of rows of a given cosine, which no tile or rounding disturbs.


def pair(cosine: float) -> Tensor:
    return torch.tensor([[1.0, 0.0], [cosine, math.sqrt(1 - cosine**2)]], dtype=torch.float64)


@dataclass
class Script:
    """A stepper that follows a list of cosines, then repeats the last."""

    cosines: Iterator[float]
    restarts: int = 0
    calls: int = 0

    def next(self, rows: Tensor, at: Evaluation) -> Tensor | None:
        self.calls += 1
        cosine = next(self.cosines, None)
        return rows if cosine is None else pair(cosine)

    def restart(self) -> None:
        self.restarts += 1


@dataclass
class Plan:
    """A goal by hand: what is watched at each step, and the steps at which the target moves."""

    name: str = "figure"
    keeps_last: bool = False
    target: float = 0.0
    watch: Callable[[int], float] = field(default=lambda step: 0.5**step)
    moves: tuple[int, ...] = ()
    steps: int = 0

    def figure(self, at: Evaluation) -> Tensor:
        return at.coherence

    def reached(self, best: float) -> bool:
        return best <= self.target

    def watched(self, at: Evaluation, best: float) -> float:
        self.steps += 1
        return self.watch(self.steps)

    def stalled(self, before: float, now: float) -> bool:
        return now > 0.999 * before

    def advance(self, at: Evaluation, best: float) -> bool:
        return self.steps in self.moves


def follow(
    cosines: list[float], plan: Plan | None = None, steps: int = 1000, stepper: Script | None = None, **run: Any
) -> Descent:
    """Descend along given cosines, the first of them the start."""
    stepper = stepper or Script(iter(cosines[1:]))
    how = Run(**run)
    return descend(pair(cosines[0]), Sliced(SquaredThreshold(), how), plan or Plan(), lambda: stepper, steps, how)


def test_the_best_is_kept_where_the_last_is_worse() -> None:
    found = follow([0.9, 0.3, 0.6, 0.5], steps=4)
    assert found.status == Status.STEP_LIMIT
    assert found.steps == 4
    assert found.best == pytest.approx(0.3, abs=1e-15)
    assert torch.equal(found.rows, pair(0.3).float())
    assert found.rows.dtype == torch.float32


def test_the_start_is_kept_where_all_is_worse() -> None:
    found = follow([0.2, 0.3, 0.9], steps=3)
    assert torch.equal(found.rows, pair(0.2).float())


def test_negative_cosines_count_by_their_size() -> None:
    found = follow([-0.9, -0.2, 0.5], steps=3)
    assert found.best == pytest.approx(0.2, abs=1e-15)


def test_it_ends_as_soon_as_the_target_is_reached() -> None:
    stepper = Script(iter([0.5, 0.25, 0.1]))
    found = follow([0.9], Plan(target=0.3), stepper=stepper)
    assert found.status == Status.REACHED
    assert found.steps == 3
    assert stepper.calls == 2
    assert found.best == pytest.approx(0.25, abs=1e-15)
    assert follow([0.3], Plan(target=0.3)).steps == 1


def test_it_ends_at_its_steps() -> None:
    found = follow([0.9], steps=7)
    assert (found.status, found.steps) == (Status.STEP_LIMIT, 7)


@pytest.mark.parametrize(
    ("watch", "ends"),
    [
        # Never an improvement: as soon as there are 20 steps to look back over.
        (lambda step: 1.0, 21),
        # Halved up to step 11: step 31 is the first to see no fall in the 20 before it.
        (lambda step: 0.5 ** min(step, 11), 31),
        # Over 400 steps a tenth is more than 20: of step s the window is s // 10, and s - s // 10 = 401 at 445.
        (lambda step: 0.9 ** min(step, 401), 445),
        # A fall of exactly 0.1% at step 21 is an improvement, and stays in sight up to step 40.
        (lambda step: 1.0 if step < 21 else 0.999, 41),
        (lambda step: 1.0 if step < 21 else 0.99901, 21),
        # A fall of 0.1% over 20 steps, again and again, goes on to the limit.
        (lambda step: 0.99994**step, 600),
        (lambda step: 0.99996**step, 21),
        # A step that leads up, among others that lead down, is no standstill.
        (lambda step: 3.0 if step % 25 == 0 else 0.99**step, 600),
        (lambda step: math.nan if step == 25 else 0.99**step, 600),
    ],
)
def test_no_further_improvement_is_less_than_a_thousandth_over_a_tenth(
    watch: Callable[[int], float], ends: int
) -> None:
    found = follow([0.9], Plan(watch=watch), steps=600)
    assert found.steps == ends
    assert found.status == (Status.STEP_LIMIT if ends == 600 else Status.CONVERGED)


def test_a_stepper_without_a_way_down_ends_it() -> None:
    class Lost(Script):
        def next(self, rows: Tensor, at: Evaluation) -> Tensor | None:
            return None if self.calls else super().next(rows, at)

    found = follow([0.9], stepper=Lost(iter([0.5])))
    assert (found.status, found.steps) == (Status.CONVERGED, 2)
    assert found.best == pytest.approx(0.5, abs=1e-15)


def test_the_time_limit_ends_it() -> None:
    ticks = map(float, range(1000))  # one second at each look at the clock: at the start, then after each step
    reports: list[Progress] = []
    clock = partial(next, ticks)
    found = follow([0.9, 0.4, 0.7, 0.1, 0.05], time_limit=3.0, report=reports.append, clock=clock)
    assert (found.status, found.steps) == (Status.TIME_LIMIT, 3)
    assert found.best == pytest.approx(0.4, abs=1e-15)
    assert [at.seconds for at in reports] == [1.0, 2.0, 3.0]


@pytest.mark.parametrize(("stop", "best"), [(1, 0.9), (2, 0.4), (4, 0.1)])
def test_an_interruption_keeps_the_best(stop: int, best: float) -> None:
    def report(at: Progress) -> None:
        if at.step == stop:
            raise KeyboardInterrupt

    found = follow([0.9, 0.4, 0.7, 0.1, 0.05], report=report)
    assert (found.status, found.steps) == (Status.INTERRUPTED, stop)
    assert found.best == pytest.approx(best, abs=1e-15)
    assert torch.equal(found.rows, pair(best).float())


@pytest.mark.parametrize(("stop", "kept"), [(1, 0.9), (3, 0.4)])
def test_an_interruption_within_an_evaluation_keeps_the_best(stop: int, kept: float) -> None:
    class Stopped(SquaredThreshold):
        calls = 0

        def weigh(self, cosines: Tensor) -> tuple[Tensor, Tensor]:
            self.calls += 1
            if self.calls == stop:
                raise KeyboardInterrupt
            return super().weigh(cosines)

    stepper = Script(iter([0.4, 0.1]))
    found = descend(pair(0.9), Sliced(Stopped(), Run()), Plan(), lambda: stepper, 9, Run())
    assert found.status == Status.INTERRUPTED
    assert torch.equal(found.rows, pair(kept).float())


def test_every_step_is_reported() -> None:
    reports: list[Progress] = []
    follow([0.9, 0.3, 0.6, 0.2], Plan(target=0.25), steps=50, report=reports.append)
    assert [at.step for at in reports] == [1, 2, 3, 4]
    assert [at.value for at in reports] == pytest.approx([0.9, 0.3, 0.6, 0.2], abs=1e-15)
    assert [at.best for at in reports] == pytest.approx([0.9, 0.3, 0.3, 0.2], abs=1e-15)
    assert {(at.steps, at.target) for at in reports} == {(50, 0.25)}
    assert all(before.seconds <= after.seconds for before, after in pairwise(reports))
    assert reports[0].seconds >= 0


def test_a_target_that_moves_restarts_the_stepper() -> None:
    stepper = Script(iter([0.8, 0.7, 0.6]))
    reports: list[Progress] = []
    follow([0.9], Plan(moves=(2, 3)), steps=6, stepper=stepper, report=reports.append)
    # The rows of a step at which it moved are evaluated again: their loss is another.
    assert [at.value for at in reports] == pytest.approx([0.9, 0.8, 0.8, 0.8, 0.7, 0.6], abs=1e-15)
    assert stepper.restarts == 2


def test_of_several_sets_the_best_comes_back() -> None:
    class Turn:
        """The sets' cosines step by step: .9 .8, then .2 .7, then .6 .3."""

        steps = iter([torch.stack((pair(0.2), pair(0.7))), torch.stack((pair(0.6), pair(0.3)))])

        def next(self, rows: Tensor, at: Evaluation) -> Tensor | None:
            return next(self.steps, rows)

        def restart(self) -> None:
            raise AssertionError("the objective has not changed")

    reports: list[Progress] = []
    run = Run(report=reports.append)
    start = torch.stack((pair(0.9), pair(0.8)))
    found = descend(start, Sliced(SquaredThreshold(), run), Plan(), Turn, 3, run)
    assert [at.value for at in reports] == pytest.approx([0.8, 0.2, 0.3], abs=1e-15)
    assert found.best == pytest.approx(0.2, abs=1e-15)
    assert torch.equal(found.rows, pair(0.2).float())


def test_sets_that_stand_still_leave_the_best_to_go_on_alone() -> None:
    steppers: list[Script] = []

    def make_stepper() -> Script:
        steppers.append(Script(iter([0.1] if steppers else [])))
        return steppers[-1]

    reports: list[Progress] = []
    run = Run(report=reports.append)
    start = torch.stack((pair(0.9), pair(0.5), pair(0.7)))
    plan = Plan(watch=lambda step: 1.0)
    found = descend(start, Sliced(SquaredThreshold(), run), plan, make_stepper, 100, run)
    # 21 steps show that three sets stand still, 21 more that the second of them does, which went to .1 at once.
    assert (found.status, found.steps) == (Status.CONVERGED, 42)
    assert [at.value for at in reports] == pytest.approx([0.5] * 22 + [0.1] * 20, abs=1e-15)
    assert torch.equal(found.rows, pair(0.1).float())
    assert [stepper.calls for stepper in steppers] == [20, 20]


# The steppers.


@dataclass
class Noted(Plan):
    """A goal out of reach that notes the losses on the way."""

    target: float = -1.0
    losses: list[float] = field(default_factory=list)

    def watched(self, at: Evaluation, best: float) -> float:
        self.losses.append(at.loss)
        return 0.5 ** len(self.losses)


def lower(
    rows: Tensor, make_stepper: Callable[[], Stepper], steps: int, threshold: float = 0.0, tile: int | None = None
) -> list[float]:
    """Descend and return the losses on the way."""
    objective, goal, run = SquaredThreshold(), Noted(), Run(tile=tile)
    objective.threshold = threshold
    descend(rows, Sliced(objective, run), goal, make_stepper, steps, run)
    return goal.losses


def lbfgs() -> LBFGS:
    return LBFGS(10, first=0.5)


@pytest.mark.parametrize(("n", "d", "sets"), [(12, 5, 1), (31, 7, 1), (12, 5, 3)])
def test_lbfgs_finds_tight_frames(n: int, d: int, sets: int) -> None:
    # At threshold 0 the loss is a quarter of (frame potential - n), which has no minima but the tight frames
    # (Benedetto and Fickus 2003), where it is (n^2 / d - n) / 4.
    rows = torch.stack([double_rows(n, d, seed=seed) for seed in range(sets)]) if sets > 1 else double_rows(n, d)
    losses = lower(rows, lbfgs, 80)
    least = sets * (n**2 / d - n) / 4
    assert losses[0] > 1.05 * least
    assert min(losses, key=lambda loss: abs(loss - least)) == pytest.approx(least, rel=1e-9)
    # Of several sets the best goes on alone, with its own share of the loss, unless all come to the least at once.
    assert min(losses) == pytest.approx(least if min(losses) > 0.9 * least else least / sets, rel=1e-9)


def test_lbfgs_steps_are_unit_rows_and_end_at_an_optimum() -> None:
    objective = SquaredThreshold()
    stepper = LBFGS(4, first=0.5)
    rows: Tensor | None = double_rows(4, 6)
    for _ in range(200):
        assert rows is not None
        assert (rows.norm(dim=1) - 1).abs().max() < 1e-14
        at = evaluate(objective, rows, 4)
        rows = stepper.next(rows, at)
        if rows is None:
            break
    # 4 rows in R^6 can be orthonormal, and no step leads down from there.
    assert rows is None
    assert at.coherence.item() < 1e-7
    identity = torch.eye(3).double()
    assert LBFGS(4, first=0.5).next(identity, evaluate(objective, identity, 3)) is None


def test_lbfgs_goes_back_from_a_step_that_leads_up() -> None:
    rows = double_rows(12, 5)
    objective = SquaredThreshold()
    at = evaluate(objective, rows, 12)
    stepper = LBFGS(4, first=0.5)
    ahead = stepper.next(rows, at)
    assert ahead is not None
    lengths = []
    for worse in (at.loss * 2, math.inf, math.nan):
        lengths.append((ahead - rows).norm().item())
        ahead = stepper.next(ahead, Evaluation(worse, at.losses, at.max_cos, at.coherence, at.gradient))
        assert ahead is not None
    lengths.append((ahead - rows).norm().item())
    # Half the step each time; normalised, so nearly so.
    assert [after / before for before, after in pairwise(lengths)] == pytest.approx([0.5] * 3, rel=0.1)


def test_plain_steps_are_as_printed() -> None:
    # Algorithm 1, steps 4 and 13: W - rate * gradient, then each row normalised.
    rows = double_rows(7, 3)
    at = evaluate(PaperThreshold(), rows, 7)
    expected = rows - 0.3 * at.gradient
    assert torch.allclose(
        GradientDescent(0.3).next(rows, at), expected / expected.norm(dim=1, keepdim=True), rtol=0, atol=1e-15
    )


@pytest.mark.slow
@pytest.mark.parametrize("tile", [1, 7, 29, 30, 31])
def test_the_tile_changes_rounding_alone(tile: int) -> None:
    one = lower(double_rows(30, 4), lbfgs, 15, threshold=0.3)
    other = lower(double_rows(30, 4), lbfgs, 15, threshold=0.3, tile=tile)
    assert other == pytest.approx(one, rel=1e-8)
    assert len(one) == 15


def test_small_sets_are_worked_on_in_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.dtype] = []

    def evaluator(rows: Tensor) -> Evaluation:
        seen.append(rows.dtype)
        return evaluate(SquaredThreshold(), rows, 8)

    for small in (24, 23):
        monkeypatch.setattr(loop, "SMALL", small)
        found = descend(double_rows(8, 3), evaluator, Plan(), lbfgs, 1, Run())
        assert found.rows.dtype == torch.float32
    assert seen == [torch.float64, torch.float32]
