"""`ebv`: what is asked for and refused, the paper's own update step by step, and what is reached."""

import math
import subprocess
import sys
from dataclasses import replace
from itertools import islice
from typing import Any

import pytest
import torch
from algorithm1 import algorithm1
from torch import Tensor
from torch.nn.functional import normalize

from protogen.bounds import coherence_bound
from protogen.catalog import LINES, Padded, choose, label
from protogen.catalog.direct.kerdock import Kerdock
from protogen.catalog.direct.mub import ComplexMUB
from protogen.descent.evaluate import Evaluation, Sliced
from protogen.descent.loop import descend
from protogen.descent.steppers import LBFGS, GradientDescent
from protogen.descent.thresholds import FixedAlpha, PaperThreshold, SquaredThreshold
from protogen.errors import BadRequest
from protogen.files.facts import Facts
from protogen.measuring.measure import measure
from protogen.measuring.stats import AngleStats
from protogen.methods import Task, method_of, resolve
from protogen.methods.ebv import EBV
from protogen.methods.start import AFFORDABLE, best_word, descent_promise
from protogen.rows import InMemory
from protogen.run import Progress, Run
from protogen.solution import Solution, Status
from protogen.spec import Spec, Value


def solve(spec: Spec, **run: Any) -> Solution:
    return method_of(spec).solve(Task.of(spec, Run(**run)))


def coherence(solution: Solution) -> float:
    return measure(solution.source).coherence.value


def start_of(spec: Spec) -> Tensor:
    """The rows that a descent starts from: a single step evaluates them and goes no further."""
    first = resolve("ebv", d=spec.d, n=spec.n, seed=spec.seed, start="random", steps=1)
    return solve(first).source.rows(0, spec.n)


# The paper's update.


def normal_rows(n: int, d: int) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(n * d))


@pytest.mark.slow
@pytest.mark.parametrize("rate", [1e-4, 1e-3, 1e-2])
@pytest.mark.parametrize(
    ("n", "d", "alpha", "slice", "tile"),
    [
        (50, 8, 0.4, 50, None),
        (50, 8, 0.4, 7, 16),  # neither divides n
        (101, 12, 0.35, 64, 10),
        (61, 131, 0.1, 13, 30),  # rows long enough for sparse products
        (520, 127, 0.15, 512, 300),  # n d > 2^16: worked on in float32
    ],
)
def test_the_paper_update_is_algorithm_1_step_by_step(
    n: int, d: int, alpha: float, slice: int, tile: int | None, rate: float
) -> None:
    steps = 8
    start = normal_rows(n, d)
    threshold, run = PaperThreshold(), Run(tile=tile)
    evaluator = Sliced(threshold, run)
    rows: list[Tensor] = []
    found: list[Evaluation] = []

    def noted(at: Tensor) -> Evaluation:
        rows.append(at)
        found.append(evaluator(at))
        return found[-1]

    goal = FixedAlpha(threshold, alpha, margin=0.0)
    descend(normalize(start), noted, goal, lambda: GradientDescent(rate), steps, run)
    assert len(rows) == steps
    assert torch.allclose(rows[0], normalize(start).to(rows[0]), rtol=0, atol=1e-6)
    for at, evaluated, following in zip(rows, found, rows[1:], strict=False):
        (W, C_max), (after, _) = islice(algorithm1(at, alpha, rate, slice), 2)
        assert evaluated.coherence.item() == pytest.approx(C_max, abs=1e-5)
        # Rounding says whether a pair counts whose |cos| is alpha, and so where its rows go.
        clear = (((W @ W.T).abs() - alpha).abs() > 1e-6).all(1)
        assert clear.double().mean() > 0.9
        assert (following - after)[clear].abs().max() <= 1e-5
    assert (rows[-1] - rows[0]).abs().max() > 1e-4  # it has moved


@pytest.mark.parametrize("rate", [1e-3, 1e-2])
def test_the_method_by_name_is_algorithm_1(rate: float) -> None:
    spec = resolve("ebv", d=10, n=40, alpha=0.4, start="random", update="paper", rate=rate, seed=3)
    reports: list[Progress] = []
    found = solve(spec, report=reports.append)
    theirs = [C_max for _, C_max in algorithm1(start_of(spec).double(), 0.4, rate, slice=16)]
    # Both end at the target: the paper at alpha + 1e-6, we at half of that.
    assert found.status == Status.REACHED
    assert len(reports) - len(theirs) in (0, 1)
    assert [at.value for at in reports[: len(theirs)]] == pytest.approx(theirs, abs=1e-5)
    assert theirs[-1] < 0.4 + 1e-6
    assert coherence(found) <= 0.4 + 1e-6


def test_ours_needs_fewer_steps_than_the_paper() -> None:
    ours = resolve("ebv", d=10, n=40, alpha=0.4, start="random", seed=3)
    papers = resolve("ebv", d=10, n=40, alpha=0.4, start="random", update="paper", seed=3)
    assert torch.equal(start_of(ours), start_of(papers))
    assert solve(ours).steps * 5 < solve(papers).steps


# What is reached.


def test_six_lines_in_three_dimensions_become_the_diagonals_of_the_icosahedron() -> None:
    found = [coherence(solve(resolve("ebv", d=3, n=6, seed=seed, start="random"))) for seed in range(10)]
    assert min(found) >= 1 / math.sqrt(5) - 1e-6  # Welch: nothing is lower
    assert sum(value <= 1 / math.sqrt(5) + 1e-3 for value in found) >= 7


@pytest.mark.parametrize(
    ("d", "n", "optimum"),
    [
        (2, 2, 0.0),
        (2, 3, 1 / 2),  # lines of the plane, evenly: cos(pi / n)
        (2, 5, math.cos(math.pi / 5)),
        (8, 5, 0.0),  # fewer than d: a random start goes to an orthonormal set
        (3, 4, 1 / 3),  # n = d + 1: 1/d
        (5, 6, 1 / 5),
    ],
)
def test_small_optima_are_found_from_random(d: int, n: int, optimum: float) -> None:
    spec = resolve("ebv", d=d, n=n, start="random")
    assert spec.options["start"] == "random"
    assert coherence(solve(spec)) == pytest.approx(optimum, abs=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(("d", "n", "alpha"), [(32, 100, 0.2), (8, 30, 0.36), (16, 40, 0.25), (20, 15, 0.05)])
def test_a_target_is_reached(d: int, n: int, alpha: float) -> None:
    for seed in range(8):
        found = solve(resolve("ebv", d=d, n=n, alpha=alpha, start="random", seed=seed))
        assert found.status == Status.REACHED
        assert coherence(found) <= alpha + 1e-6
        assert found.reproducible == "statistical"


def test_a_target_at_the_bound_is_reached_within_the_tolerance() -> None:
    # (3, 6) attains its bound 1/sqrt(5): alpha may lie 1e-6 under it, the paper's o(alpha).
    alpha = 1 / math.sqrt(5) - 1e-7
    found = solve(resolve("ebv", d=3, n=6, alpha=alpha, start="random"))
    assert found.status == Status.REACHED
    assert coherence(found) <= alpha + 1e-6


def test_reached_is_a_millionth_over_alpha_at_the_most() -> None:
    goal = FixedAlpha(PaperThreshold(), 0.3, margin=0.0)
    # Half of it is left for what the figure is off by.
    assert goal.reached(0.3)
    assert goal.reached(0.3 + 4e-7)
    assert not goal.reached(0.3 + 6e-7)


def test_a_missed_target_keeps_the_best() -> None:
    # Ten lines in R^4 have a bound of .40825 (Welch) and no set that is known to come near it.
    spec = resolve("ebv", d=4, n=10, alpha=0.409, start="random")
    reports: list[Progress] = []
    found = solve(spec, report=reports.append)
    assert found.status == Status.CONVERGED
    assert found.steps == len(reports) < 5000
    assert coherence(found) == pytest.approx(min(at.value for at in reports), abs=1e-6)
    assert {at.target for at in reports} == {0.409}


@pytest.mark.slow
@pytest.mark.parametrize("update", ["lbfgs", "paper"])
@pytest.mark.parametrize("alpha", [None, 0.42])
@pytest.mark.parametrize("steps", [1, 2, 3, 7, 40])
def test_a_set_is_never_worse_than_its_start(update: str, alpha: float | None, steps: int) -> None:
    for seed in range(3):
        spec = resolve("ebv", d=6, n=20, seed=seed, start="random", alpha=alpha, update=update, steps=steps)
        begun = normalize(start_of(spec).double())
        worst = (begun @ begun.T).fill_diagonal_(0).abs().max().item()
        found = solve(spec)
        assert found.steps <= (steps if spec.version == 1 else 2 * steps)  # an alpha that is missed: two descents
        assert coherence(found) <= worst + 1e-7
        assert coherence(found) == pytest.approx(worst, abs=1e-7) if steps == 1 else True


@pytest.mark.slow
@pytest.mark.parametrize(("d", "n", "seed"), [(4, 10, 0), (5, 20, 0), (8, 40, 0), (10, 60, 4), (16, 200, 0)])
def test_an_alpha_never_makes_a_result_worse(d: int, n: int, seed: int) -> None:
    request: dict[str, Any] = {"d": d, "n": n, "seed": seed, "start": "random"}
    low, promise = coherence_bound(d, n).value, descent_promise(d, n)
    whole = solve(resolve("ebv", **request))
    reached = coherence(whole)
    ends = set()
    near = (low, 0.999 * reached, 1.003 * reached)
    for alpha in (*near, 0.97 * promise, 1.001 * promise, 1.01 * promise, 1.1 * promise):
        found = solve(resolve("ebv", **request, alpha=alpha))
        ends.add(found.status)
        assert coherence(found) <= max(alpha, reached) + 1e-6
        if alpha < promise:
            assert found.steps < whole.steps or torch.equal(found.source.rows(0, n), whole.source.rows(0, n))
            assert found.steps <= whole.steps
    assert ends == {Status.CONVERGED, Status.REACHED}


@pytest.mark.slow
@pytest.mark.parametrize(("d", "n", "seed", "alpha"), [(5, 20, 0, 0.532), (10, 15, 1, 0.1975)])
def test_where_an_alpha_is_missed_the_descent_without_one_follows(d: int, n: int, seed: int, alpha: float) -> None:
    # Both are above what is expected. The first is brought lower without an alpha, the second straight on. The better
    # of the two is kept: the tolerance is none.
    assert alpha > descent_promise(d, n)
    aimed, reports = resolve("ebv", d=d, n=n, seed=seed, start="random", alpha=alpha), list[Progress]()
    straight, whole = solve(replace(aimed, version=1)), solve(resolve("ebv", d=d, n=n, seed=seed, start="random"))
    found = solve(aimed, report=reports.append)
    better = min(straight, whole, key=coherence)
    assert better is (whole if d == 5 else straight)
    assert torch.equal(found.source.rows(0, n), better.source.rows(0, n))
    assert found.steps == len(reports) == straight.steps + whole.steps
    assert {at.target for at in reports} == {alpha}


def test_time_that_is_up_ends_both_descents() -> None:
    found = solve(resolve("ebv", d=5, n=20, start="random", alpha=0.532), time_limit=1e-9)
    assert (found.status, found.steps) == (Status.TIME_LIMIT, 1)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("alpha", [0.5, 0.532])
def test_an_old_request_for_an_alpha_gives_what_it_gave(version: int, alpha: float) -> None:
    new = resolve("ebv", d=5, n=20, start="random", alpha=alpha, steps=30)
    found, threshold, run = solve(replace(new, version=version)), SquaredThreshold(), Run()
    goal = FixedAlpha(threshold, alpha, margin=max(0.0, 0.1 * (1 - descent_promise(5, 20) / alpha)))
    alone = descend(start_of(new), Sliced(threshold, run), goal, lambda: LBFGS(10, first=0.5), 30, run)
    assert torch.equal(found.source.rows(0, 20), alone.rows)
    assert (new.version, found.steps) == (4, 30)


def test_the_version_is_that_of_the_descent() -> None:
    def version(**options: Any) -> int:
        return resolve("ebv", d=47, n=500, **options).version

    assert version(start="random", alpha=0.2) == version(start="closed-form+descent", alpha=0.14) == 4
    assert version(start="random") == version(start="random", alpha=0.2, update="paper") == 1
    assert version(start="closed-form+descent") == version(start="closed-form", alpha=0.2) == 2
    assert version(alpha=0.14) == 3  # a search


def test_the_target_falls_and_then_rises_to_what_can_be_reached() -> None:
    reports: list[Progress] = []
    found = solve(resolve("ebv", d=5, n=15, start="random"), report=reports.append)
    assert found.status == Status.CONVERGED
    assert reports[0].target == pytest.approx(0.85 * descent_promise(5, 15))
    assert all(at.target < at.best for at in reports)
    assert reports[-1].target >= 0.95 * reports[-1].best


@pytest.mark.slow
@pytest.mark.parametrize(
    ("d", "n", "seed", "early"),
    [(8, 30, 2, 0.447), (8, 30, 3, 0.447), (10, 60, 4, 0.478), (16, 40, 2, 0.269)],
)
def test_it_does_not_end_before_the_threshold_has_come_up(d: int, n: int, seed: int, early: float) -> None:
    # Here the best does not improve for 20 steps while the threshold still lies far under it; ended there, it would
    # be at `early`, a fifth to a third over what other seeds reach.
    assert coherence(solve(resolve("ebv", d=d, n=n, seed=seed, start="random"))) < 0.85 * early


def test_the_paper_update_goes_as_low_as_it_can_too() -> None:
    found = solve(resolve("ebv", d=32, n=100, start="random", update="paper"))
    assert found.status == Status.CONVERGED
    assert coherence(found) < 0.2  # .558 at the start, .167 by the default update


def test_seeds_are_reproducible_and_differ() -> None:
    def rows(seed: int) -> Tensor:
        return solve(resolve("ebv", d=6, n=20, seed=seed, start="random", alpha=0.45)).source.rows(0, 20)

    assert torch.equal(rows(5), rows(5))
    assert (rows(5) - rows(6)).abs().max() > 0.1
    assert torch.equal(rows(2**63 - 1), rows(2**63 - 1))


def test_the_global_generator_is_neither_used_nor_moved() -> None:
    spec = resolve("ebv", d=6, n=20, start="random", alpha=0.45)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one = solve(spec).source.rows(0, 20)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert torch.equal(solve(spec).source.rows(0, 20), one)


def test_starts_are_uniform_on_the_sphere() -> None:
    rows = start_of(resolve("ebv", d=3, n=3000, start="random"))
    assert (rows.norm(dim=1) - 1).abs().max() < 1e-6
    # Archimedes: each coordinate is uniform in -1 to 1. Standard errors: .58 / sqrt(3000) = .011 of the means, and
    # sqrt(3 / 16 / 3000) = .008 of the quarters' shares.
    assert rows.mean(0).abs().max() < 0.05
    shares = torch.histc(rows[:, 0], bins=4, min=-1, max=1) / len(rows)
    assert (shares - 0.25).abs().max() < 0.04


# What is asked for.


def test_auto_takes_the_closed_form_a_descent_or_both() -> None:
    def start(d: int = 46, n: int = 1104, **options: Any) -> str:
        return str(resolve("ebv", d=d, n=n, **options).options["start"]).partition(":")[0]

    form = choose(LINES, 46, 1104)  # all of the MUB in C^23: no coordinate is left free
    assert form == ComplexMUB(23)
    assert start(steps=5000) == "closed-form+descent"
    assert start() == "closed-form+descent"  # more vectors than are searched for
    assert start(d=8, n=30) == "packing"
    # Where it is good enough for the alpha that is asked for, there is nothing to search.
    assert start(alpha=form.cosine) == start(d=47, alpha=form.cosine) == "closed-form"
    for asked in ("random", "closed-form", "closed-form+descent"):
        assert start(start=asked) == asked
    # Nothing is below the bound, nor much where it lies within 5%, unless that is asked for.
    assert start(d=64, n=2112) == start(d=7, n=28) == start(d=64, n=1000) == "closed-form"
    assert start(d=64, n=1000, alpha=0.1249) == "closed-form+descent"


@pytest.mark.parametrize(("d", "n", "combined"), [(1000, 100_000, True), (46, 1104, False)])
def test_without_both_the_lower_promise_is_taken(d: int, n: int, combined: bool) -> None:
    promise = descent_promise(d, n)
    assert best_word(d, n, None, promise, combined) == "closed-form"
    assert best_word(d, n, None, promise + 1e-9, combined) == "random"
    assert best_word(d, n, promise + 1e-9, promise + 1e-9, combined) == "closed-form"


def test_both_are_taken_as_long_as_a_pass_is_affordable() -> None:
    n = math.isqrt(int(AFFORDABLE / 100))  # n^2 d multiplications
    assert best_word(100, n, 0.21, 0.5, combined=True) == "closed-form+descent"
    assert best_word(100, n + 1, 0.21, 0.5, combined=True) == "random"


@pytest.mark.slow
@pytest.mark.parametrize(("d", "n"), [(47, 500), (50, 1000)])
def test_a_descent_from_a_closed_form_ends_below_it(d: int, n: int) -> None:
    form = choose(LINES, d, n)
    assert form is not None
    spec = resolve("ebv", d=d, n=n, start="closed-form+descent")
    assert spec.options["start"] == f"closed-form+descent:{label(form)}"
    found = solve(spec)
    assert coherence(found) < form.cosine - 1e-3
    assert found.facts == Facts(outdone=label(form), guaranteed_coherence=form.cosine)
    assert found.reproducible == "statistical"
    assert found.steps > 0


def test_what_a_descent_does_not_improve_stays_as_it_was_built() -> None:
    spec = resolve("ebv", d=64, n=2112, start="closed-form+descent", steps=3)
    found = solve(spec)
    assert torch.equal(found.source.rows(0, 2112), Padded(Kerdock(3), 2112, 64, signed=True).rows(0, 2112))
    assert found.facts == Facts(closed_form="kerdock(k=3)", guaranteed_coherence=0.125)
    assert found.status == Status.FORMULA
    assert found.steps == 3


def test_a_closed_form_is_at_hand_when_time_runs_out() -> None:
    found = EBV.of(resolve("ebv", d=47, n=500, start="closed-form+descent")).solve(
        Task(47, 500, run=Run(time_limit=1e-9))
    )
    assert found.status == Status.TIME_LIMIT
    assert coherence(found) <= choose(LINES, 47, 500).cosine + 1e-6


def test_the_promises_decide() -> None:
    # (1000, 100000): 1/sqrt(499) = .0448 against z / sqrt(999 + z^2) = .0734, z = 2.33 the 99% quantile.
    assert descent_promise(1000, 100_000) == pytest.approx(2.3263479 / math.sqrt(999 + 2.3263479**2), rel=1e-7)
    assert descent_promise(4, 500) < 1
    assert str(resolve("ebv", d=1000, n=100_000).options["start"]).startswith("closed-form:")
    # What descents reached (README, tests/bench_table2.py).
    for d, reached in ((100, 0.1322), (200, 0.0775), (300, 0.0555), (400, 0.0428), (500, 0.0341)):
        assert descent_promise(d, 1000) == pytest.approx(reached, rel=0.01)
    assert descent_promise(10, 10) == 0
    # Never below the bound: (2, 1000) would be 2.88/sqrt(2).
    for d, n in ((2, 3), (2, 1000), (3, 6), (7, 28), (100, 101)):
        assert descent_promise(d, n) >= coherence_bound(d, n).value


@pytest.mark.parametrize(("d", "n"), [(8, 8), (8, 5), (16, 10), (2, 2)])
@pytest.mark.parametrize("options", [{}, {"alpha": 0.1}, {"alpha": 1e-9}, {"start": "closed-form"}])
def test_no_more_vectors_than_dimensions_are_orthonormal(d: int, n: int, options: dict[str, Any]) -> None:
    spec = resolve("ebv", d=d, n=n, seed=4, **options)
    # Seed and alpha change nothing of a formula, hence are no part of its Spec.
    assert spec == resolve("ebv", d=d, n=n)
    found = solve(spec)
    assert found.status == Status.FORMULA
    assert found.reproducible == "exact"
    assert found.facts.guaranteed_coherence == 0
    assert coherence(found) == 0
    rows = found.source.rows(0, n).double()
    assert rows.shape == (n, d)
    assert torch.equal(rows @ rows.T, torch.eye(n).double())


@pytest.mark.parametrize(("d", "n"), [(3, 6), (100, 1000), (1000, 100_000), (4, 9), (50, 51)])
def test_alpha_is_held_to_the_bound(d: int, n: int) -> None:
    bound = coherence_bound(d, n).value
    for alpha in (bound - 1e-7, bound, bound + 1e-3):
        assert resolve("ebv", d=d, n=n, alpha=alpha, start="random").options["alpha"] == alpha
    for alpha in (bound - 2e-6, bound / 2):
        with pytest.raises(BadRequest) as caught:
            resolve("ebv", d=d, n=n, alpha=alpha)
        assert repr(alpha) in str(caught.value)
        assert f"{bound:.6f}" in str(caught.value)
        assert "\n" not in str(caught.value)


def test_alpha_under_the_bound_of_the_headline_is_refused_with_both_numbers() -> None:
    with pytest.raises(BadRequest, match=r"alpha is 0\.02, the lower bound \(.+\) for d=1000, n=100000 is 0\.0314"):
        resolve("ebv", d=1000, n=100_000, alpha=0.02)


REFUSED: list[tuple[dict[str, Any], str]] = [
    *(({name: value}, f"{name} is {value!r}") for name in ("d", "n") for value in (0, -1, 1, 1e30, "abc", 2.0)),
    *(({name: value}, f"{name} is {value!r}") for name in ("d", "n") for value in (True, 10**30, 10**12 + 1)),
    *(({"alpha": value}, f"alpha is {value!r}") for value in (0, 1, 2, math.nan, math.inf, -0.1, "x", True)),
    *(({"seed": value}, f"seed is {value!r}") for value in (-1, 2**63, 0.0, "x", None)),
    *(({"steps": value}, f"steps is {value!r}") for value in (0, -1, 1.5, True)),
    *(({"rate": value, "update": "paper"}, f"rate is {value!r}") for value in (0, -1, math.nan, math.inf, "x")),
    ({"rate": 0.1}, "rate is 0.1 with --update lbfgs"),
    ({"start": "zero"}, "start is 'zero'"),
    ({"start": "closed-form:mub(p=3)"}, "start is"),
    ({"update": "adam"}, "update is 'adam'"),
    ({"momentum": 1}, "no parameter 'momentum'"),
    *(
        ({"d": 4, "n": 500, "start": start}, "no closed form reaches d=4, n=500")
        for start in ("closed-form", "closed-form+descent")
    ),
]


@pytest.mark.parametrize(("options", "message"), REFUSED, ids=[str(options) for options, _ in REFUSED])
def test_what_is_not_allowed_is_refused_in_one_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(BadRequest) as caught:
        resolve("ebv", **{"d": 8, "n": 30, **options})
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_largest_sizes_are_resolved_at_once() -> None:
    assert resolve("ebv", d=10**12, n=10**12).options["start"] == f"closed-form:orthonormal(k={10**12})"
    assert resolve("ebv", d=2, n=10**12, start="random").n == 10**12


def test_the_papers_update_is_not_dropped_for_a_formula() -> None:
    with pytest.raises(BadRequest, match="update is 'paper' where a formula gives the set, orthonormal"):
        resolve("ebv", d=10, n=5, update="paper")


def test_an_unknown_method_is_refused() -> None:
    with pytest.raises(BadRequest, match="unknown method 'evb'; the methods are ebv"):
        resolve("evb", d=3, n=6)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"alpha": 0.5},
        {"alpha": 0.5, "update": "paper", "rate": 0.2, "steps": 9, "start": "random"},
        {"start": "closed-form"},
    ],
)
def test_a_spec_gives_its_parameters_back(options: dict[str, Any]) -> None:
    spec = resolve("ebv", d=10, n=60, **options)
    method = method_of(spec)
    assert isinstance(method, EBV)
    for name, value in spec.options.items():
        assert getattr(method, name) == value
    assert EBV(**options).target() == options.get("alpha")


# What is chosen from a store.

RANDOM = resolve("ebv", d=10, n=60, start="random", alpha=0.4)
FORMULA = resolve("ebv", d=10, n=60, start="closed-form")


def stats_of(value: float) -> AngleStats:
    """The statistics of two vectors of the plane with this cosine."""
    return measure(InMemory(torch.tensor([[1.0, 0.0], [value, math.sqrt(1 - value**2)]])))


def test_rank_is_coherence_as_measured_then_as_guaranteed() -> None:
    facts = Facts(guaranteed_coherence=0.4)
    assert EBV.rank(stats_of(0.39), facts) == pytest.approx(0.39, abs=1e-7)
    assert EBV.rank(None, facts) == 0.4
    assert EBV.rank(None, Facts()) == math.inf


@pytest.mark.parametrize(
    ("spec", "value", "wanted", "admitted"),
    [
        (RANDOM, 0.3999, {}, True),
        (RANDOM, 0.3999, {"alpha": 0.4}, True),
        (RANDOM, 0.3999, {"alpha": 0.45}, True),  # better than asked for
        (RANDOM, 0.3999, {"alpha": 0.3999 - 9e-7}, True),
        (RANDOM, 0.3999, {"alpha": 0.3999 - 2e-6}, False),
        (RANDOM, 0.41, {"alpha": 0.4}, False),  # missed: what was asked for does not count
        (RANDOM, None, {"alpha": 0.4}, False),  # interrupted before it was measured
        (RANDOM, 0.3999, {"alpha": None}, True),
        (RANDOM, 0.3999, {"start": "random"}, True),
        (RANDOM, 0.3999, {"start": "closed-form"}, False),
        (RANDOM, 0.3999, {"update": "lbfgs", "steps": 5000}, True),
        (RANDOM, 0.3999, {"update": "paper"}, False),
        (RANDOM, 0.3999, {"steps": 1}, False),
        (FORMULA, 1 / math.sqrt(5), {"start": "closed-form"}, True),
        (FORMULA, 1 / math.sqrt(5), {"start": FORMULA.options["start"]}, True),
        (FORMULA, 1 / math.sqrt(5), {"start": "closed-form:mub(p=3)"}, False),
        (FORMULA, 1 / math.sqrt(5), {"start": "random"}, False),
        (FORMULA, 1 / math.sqrt(5), {"alpha": 0.4473}, True),
        (FORMULA, None, {"alpha": 0.4473}, True),  # by its guarantee
        (FORMULA, None, {"alpha": 0.447}, False),
    ],
)
def test_a_set_is_admitted_by_what_it_is(
    spec: Spec, value: float | None, wanted: dict[str, Value], admitted: bool
) -> None:
    facts = Facts(guaranteed_coherence=1 / math.sqrt(5)) if spec is FORMULA else Facts()
    assert EBV.admits(spec, stats_of(value) if value else None, facts, wanted) == admitted


# What it takes.


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        'd=65536, n=40, start="random", steps=13',  # all 10 steps that are remembered
        'd=65536, n=40, start="random", steps=5, update="paper"',
        'd=1400, n=8000, start="closed-form"',
    ],
)
def test_the_memory_that_is_foretold_is_enough(options: str) -> None:
    code = f"""
import pathlib, re
import psutil
from protogen.methods import method_of, resolve
from protogen.generating import generate
def peak():
    # Not getrusage's figure, which begins at that of the process that has started this one.
    return 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", pathlib.Path("/proc/self/status").read_text())[1])
generate(resolve("ebv", d=4, n=9, start="random", steps=30))  # what is loaded at first use
spec = resolve("ebv", {options})
before = psutil.Process().memory_info().rss
print(generate(spec).provenance.steps, peak() - before, method_of(spec).peak_bytes(spec.d, spec.n), 4 * spec.d * spec.n)
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=True)
    steps, grown, foretold, matrix = map(int, ran.stdout.split())
    assert steps == (13 if "steps=13" in options else 5 if "paper" in options else 0)
    assert matrix <= grown <= foretold


@pytest.mark.parametrize("start", ["auto", "random"])
def test_alpha_0_asks_for_orthonormal_vectors(start: str) -> None:
    rows = method_of(spec := resolve("ebv", d=6, n=6, alpha=0, start=start)).solve(Task.of(spec)).source.rows(0, 6)
    assert (rows @ rows.T - torch.eye(6)).abs().max() < 2e-6
    with pytest.raises(BadRequest, match=r"alpha is 0, the lower bound \(Welch\) for d=6, n=7 is 0.166667"):
        resolve("ebv", d=6, n=7, alpha=0)
    with pytest.raises(BadRequest, match=r"alpha is -0\.1; allowed is a number from 0 on"):
        resolve("ebv", d=6, n=6, alpha=-0.1)


def test_while_true_takes_every_step_and_ends_at_alpha() -> None:
    common = {"d": 4, "n": 12, "update": "paper", "start": "random"}
    # At this rate the descent swings and falls no more; 300 steps are far beyond where it is given up.
    swinging = {**common, "alpha": 0.5, "rate": 0.05, "steps": 300}
    ended = method_of(spec := resolve("ebv", **swinging)).solve(Task.of(spec))
    endless = method_of(spec := resolve("ebv", **swinging, endless=True)).solve(Task.of(spec))
    assert ended.steps < endless.steps == 300
    reached = method_of(spec := resolve("ebv", **{**common, "alpha": 0.7}, endless=True)).solve(Task.of(spec))
    assert (reached.status, reached.steps < 5000) == (Status.REACHED, True)
    assert "endless" not in resolve("ebv", **swinging).options
    for wrong in ({"update": "lbfgs", "rate": None}, {"alpha": None}):
        with pytest.raises(BadRequest, match="endless is True; it belongs to --update paper with an alpha"):
            resolve("ebv", **{**swinging, **wrong}, endless=True)
    # An effort is that of a search, which has an end of its own.
    for given in (swinging, {"d": 4, "n": 12, "update": "paper", "alpha": 0.5}):
        with pytest.raises(BadRequest, match="effort is 'low' with endless True; a search goes by its effort alone"):
            resolve("ebv", **given, endless=True, effort="low")
