"""Uniform prototypes: Eq. 5 against its definition, exact starts, sharpening, restarts."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from protogen.descent.evaluate import evaluate
from protogen.descent.potentials import PaperPotential, Potential, Subsets
from protogen.errors import BadRequest
from protogen.measuring.geometry import random_rows
from protogen.measuring.measure import measure
from protogen.measuring.stats import AngleStats
from protogen.methods import Task, method_of, resolve
from protogen.rows import InMemory
from protogen.run import Run
from protogen.solution import Solution, Status
from protogen.spec import Value


def eq5(rows: Tensor, t: float, chosen: Tensor | None = None) -> Tensor:
    """Eq. 5 line by line: log of the mean over the subset of the sum over all j, j = i included."""
    left = rows if chosen is None else rows[chosen]
    g = torch.exp(-t * (left[:, None, :] - rows[None, :, :]).square().sum(-1))
    return (g.sum() / len(left)).log()


def autograd(rows: Tensor, t: float, chosen: Tensor | None = None) -> tuple[float, Tensor]:
    """Eq. 5 by cosines, whose gradient by free rows is what a step takes; equal to eq5 on unit rows."""
    free = rows.clone().requires_grad_()
    left = free if chosen is None else free[chosen]
    # |u - v|^2 = 2 - 2 cos on the sphere; i = j counts exp(0) = 1 and pulls nowhere.
    g = torch.exp(2 * t * (left @ free.T - 1))
    own = torch.arange(len(rows)) if chosen is None else chosen
    g = g.index_put((torch.arange(len(left)), own), torch.ones(len(left), dtype=g.dtype))
    loss = (g.sum() / len(left)).log()
    (gradient,) = torch.autograd.grad(loss, free)
    return loss.item(), gradient


def solve(d: int, n: int, seed: int = 0, **params: Value) -> tuple[Solution, AngleStats]:
    spec = resolve("uniform", d=d, n=n, seed=seed, **params)
    solution = method_of(spec).solve(Task.of(spec))
    return solution, measure(solution.source)


@pytest.mark.parametrize(("n", "d", "tile"), [(7, 3, 1), (7, 3, 7), (7, 3, 8), (13, 5, 4), (31, 20, 11)])
@pytest.mark.parametrize("t", [0.5, 2.0, 40.0])
def test_eq5_and_its_gradient_are_those_of_autograd(n: int, d: int, tile: int, t: float) -> None:
    rows = normalize(random_rows(1, n, d, 3).double(), dim=1)
    at = evaluate(PaperPotential(t, n), rows, tile)
    loss, gradient = autograd(rows, t)
    assert at.loss == pytest.approx(eq5(rows, t).item(), rel=1e-10)
    assert at.loss == pytest.approx(loss, rel=1e-10)
    assert (at.gradient - gradient).norm() <= 1e-10 * gradient.norm()


def test_the_logarithm_of_the_sum_falls_where_eq5_falls() -> None:
    n, t = 20, 2.0
    rows = normalize(random_rows(1, n, 6, 1).double(), dim=1)
    log_sum = evaluate(Potential(t), rows, n)
    printed = evaluate(PaperPotential(t, n), rows, n)
    # Eq. 5 = log(1 + 2 S / n) with S the sum over pairs.
    assert math.log1p(2 * math.exp(log_sum.loss) / n) == pytest.approx(printed.loss, rel=1e-12)
    share = (printed.gradient * log_sum.gradient).sum() / (printed.gradient.norm() * log_sum.gradient.norm())
    assert share.item() == pytest.approx(1, abs=1e-12)


def test_a_sharp_potential_neither_overflows_nor_vanishes() -> None:
    rows = random_rows(1, 50, 8, 0)
    potential = Potential(1e5)
    at = evaluate(potential, rows, 16)
    assert potential.adapt(at)
    at = evaluate(potential, rows, 16)
    assert not potential.adapt(at)
    cosines = rows.double() @ rows.double().T
    above = cosines[torch.ones(50, 50).triu(1).bool()]
    expected = torch.logsumexp(2e5 * (above - 1), 0).item()
    # Cosines in float32 are off by 1e-7, which 2 t turns into 0.02.
    assert at.loss == pytest.approx(expected, abs=0.1)
    assert at.gradient.isfinite().all()
    assert at.gradient.norm() > 0


def test_a_subset_moves_alone_by_eq5s_gradient() -> None:
    n, d, size, t = 12, 4, 5, 2.0
    rows = normalize(random_rows(1, n, d, 0).double(), dim=1)
    at = Subsets(PaperPotential(t, n), size, 9, Run(tile=3))(rows)
    chosen = torch.randperm(n, generator=torch.Generator().manual_seed(9))[:size]
    loss, gradient = autograd(rows, t, chosen)
    assert at.loss == pytest.approx(loss, rel=1e-12)
    torch.testing.assert_close(at.gradient[chosen], gradient[chosen], rtol=1e-10, atol=1e-12)
    others = torch.ones(n).bool().index_fill(0, chosen, False)
    assert (at.gradient[others] == 0).all()


def test_the_papers_update_is_its_gradient_step() -> None:
    n, d, steps = 10, 4, 7
    rows = random_rows(1, n, d, 0).double()
    for _ in range(steps - 1):
        rows = normalize(rows - 0.1 * autograd(rows, 2.0)[1], dim=1)
    spec = resolve("uniform", d=d, n=n, start="random", update="paper", steps=steps)
    solution = method_of(spec).solve(Task.of(spec))
    assert solution.status == Status.STEP_LIMIT
    torch.testing.assert_close(solution.source.rows(0, n).double(), rows, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("d", "n", "largest"),
    # Rankin: a simplex up to d + 1 points, then 0 up to 2d.
    [(9, 5, -1 / 4), (9, 10, -1 / 9), (9, 11, 0.0), (9, 14, 0.0), (9, 17, 0.0), (9, 18, 0.0)],
)
def test_auto_is_exact_up_to_twice_the_dimension(d: int, n: int, largest: float) -> None:
    solution, stats = solve(d, n)
    assert solution.reproducible == "exact"
    assert stats.max_cos.value == pytest.approx(largest, abs=1e-7)
    assert stats.duplicate_pairs == 0


def test_beyond_twice_the_dimension_and_by_wish_it_descends() -> None:
    assert resolve("uniform", d=9, n=19).options["start"] == "random"
    assert resolve("uniform", d=9, n=10, start="random").options["start"] == "random"


@pytest.mark.parametrize(("d", "n", "largest"), [(3, 12, 5**-0.5), (5, 16, 1 / 5), (6, 27, 1 / 4)])
def test_sharp_configurations_are_found_from_random_starts(d: int, n: int, largest: float) -> None:
    for seed in range(3):
        assert solve(d, n, seed)[1].max_cos.value == pytest.approx(largest, abs=1e-6)


@pytest.mark.slow
def test_several_starts_find_what_one_misses() -> None:
    # The Petersen code of 10 points in R^4, largest cosine 1/6, has rivals that single starts end in.
    single = [solve(4, 10, seed)[1].max_cos.value for seed in range(10)]
    several = [solve(4, 10, seed, restarts=8)[1].max_cos.value for seed in range(10)]
    assert max(several) == pytest.approx(1 / 6, abs=1e-6)
    assert max(single) > 1 / 6 + 1e-3


def test_sharpening_lowers_the_largest_cosine() -> None:
    plain, sharp = solve(8, 40)[1], solve(8, 40, sharpen=True, steps=500)[1]
    assert sharp.max_cos.value < plain.max_cos.value - 0.01
    # And it is the potential that pays for it.
    assert plain.uniformity_t2 < sharp.uniformity_t2


def test_same_seed_same_set_other_seed_another() -> None:
    def rows(seed: int) -> Tensor:
        return solve(4, 30, seed)[0].source.rows(0, 30)

    assert torch.equal(rows(1), rows(1))
    assert not torch.equal(rows(1), rows(2))


def test_result_is_measured_and_unit() -> None:
    solution, stats = solve(6, 40)
    rows = InMemory.of(solution.source).tensor
    assert rows.shape == (40, 6)
    assert rows.dtype == torch.float32
    assert (rows.norm(dim=1) - 1).abs().max() < 1e-6
    assert stats.max_cos.value < 0.9


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"t": 0.0}, "t is 0.0"),
        ({"t": math.nan}, "t is nan"),
        ({"t": math.inf}, "t is inf"),
        ({"batch": 0}, "batch is 0"),
        ({"batch": 41, "update": "paper"}, "batch is 41"),
        ({"batch": 5}, "belongs to --update paper"),
        ({"batch": 5, "update": "paper", "restarts": 2}, "restarts is 2"),
        ({"rate": 0.1}, "belongs to --update paper"),
        ({"rate": -0.1, "update": "paper"}, "rate is -0.1"),
        ({"sharpen": True, "update": "paper"}, "belongs to --update lbfgs"),
        ({"start": "zero"}, "start is 'zero'"),
        ({"update": "sgd"}, "update is 'sgd'"),
        ({"steps": 0}, "steps is 0"),
        ({"restarts": 0}, "restarts is 0"),
    ],
)
def test_wrong_parameters_are_one_line(params: dict[str, Value], words: str) -> None:
    with pytest.raises(BadRequest, match=words) as caught:
        resolve("uniform", d=6, n=40, **params)
    assert "\n" not in str(caught.value)


def test_a_closed_form_is_taken_where_it_is_proven_best_or_asked_for() -> None:
    def start(n: int, **params: str) -> object:
        return resolve("uniform", d=8, n=n, **params).options["start"]

    assert start(16) == "closed-form:simplices(n=16,k=8)"
    assert start(240) == "closed-form:sharp-points(d=8,n=240)"  # the kissing configuration of E8
    assert start(200) == "random"  # its cosine is not proven best for fewer
    assert start(200, start="closed-form") == "closed-form:sharp-points(d=8,n=240)"
    with pytest.raises(BadRequest, match="no closed form reaches d=3, n=5000"):
        resolve("uniform", d=3, n=5000, start="closed-form")
