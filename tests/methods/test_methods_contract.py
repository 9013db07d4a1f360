"""What every registered method keeps: how it resolves, what it gives, and how it ends early."""

import dataclasses
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from protogen.files.facts import Facts
from protogen.generating import generate
from protogen.measuring.measure import measure
from protogen.methods import METHODS, Task, method_of, resolve
from protogen.methods.start import AUTO, ORBITS, PACKING, RANDOM, Start
from protogen.rows import has_classes
from protogen.run import Progress, Run
from protogen.solution import Status
from protogen.spec import Spec

D, N, SEED = 11, 12, 5
MADE = [name for name, method in METHODS.items() if method.from_options]  # of options alone, without any data
DESCENDING = [name for name in MADE if "time_limit" in METHODS[name].takes]
GUARANTEES = {"guaranteed_coherence": "coherence", "guaranteed_max_cos": "max_cos"}

names = pytest.mark.parametrize("name", MADE)
starts = pytest.mark.parametrize(
    ("name", "options"), [*((name, {}) for name in MADE), *((name, {"start": RANDOM}) for name in DESCENDING)]
)


@pytest.mark.slow
@names
@settings(deadline=None, max_examples=40)
@given(d=st.integers(2, 60), n=st.integers(2, 80), seed=st.integers(0, 2**63 - 1))
def test_a_spec_is_resolved_for_good(name: str, d: int, n: int, seed: int) -> None:
    spec = resolve(name, d=max(d, METHODS[name].least_d(n) or 2), n=n, seed=seed)
    method = method_of(spec)
    assert isinstance(method, METHODS[name])
    parameters = dataclasses.asdict(method)
    assert {key: parameters[key] for key in spec.options} == spec.options
    assert Spec.from_dict(spec.to_dict()).key == spec.key
    start = Start.parse(str(spec.options.get("start")))
    if start.word in (PACKING, ORBITS):  # which are chosen, not asked for
        assert METHODS[name](**{**parameters, "start": AUTO}).resolve(spec.d, spec.n, spec.seed) == spec
    elif start.form is None:
        assert method.resolve(spec.d, spec.n, spec.seed) == spec
    else:  # the closed form that is found again, by its kind
        asked: dict[str, Any] = {**parameters, "start": start.word}
        assert METHODS[name](**asked).resolve(spec.d, spec.n, spec.seed) == spec


@starts
def test_it_gives_the_rows_and_facts_that_it_promises(name: str, options: dict[str, Any]) -> None:
    spec = resolve(name, d=D, n=N, seed=SEED, **options)
    method = method_of(spec)
    found = method.solve(Task.of(spec))
    rows = found.source.rows(0, N)
    assert (rows.shape, rows.dtype, rows.device.type) == (found.source.shape, torch.float32, "cpu")
    assert (rows.shape[0], rows.shape[-1]) == (N, D)
    assert found.facts.norms == "free" or (rows.double().norm(dim=-1) - 1).abs().max() < 1e-6
    assert found.guaranteed == (found.status == Status.FORMULA)
    assert found.guaranteed == any(getattr(found.facts, fact) is not None for fact in GUARANTEES)
    assert method.peak_bytes(D, N) > method.file_bytes(D, N) >= 4 * rows.numel()
    stats = measure(found.source)
    for fact, figure in GUARANTEES.items():
        guaranteed = getattr(found.facts, fact)
        assert guaranteed is None or getattr(stats, figure).value <= guaranteed + 1e-6


@starts
def test_the_same_spec_gives_the_same_rows(name: str, options: dict[str, Any]) -> None:
    spec = resolve(name, d=D, n=N, seed=SEED, **options)
    again = resolve(name, d=D, n=N, seed=SEED, **options)
    assert (again, again.key) == (spec, spec.key)
    before = torch.get_rng_state()
    one, other = (method_of(each).solve(Task.of(each)).source.rows(0, N) for each in (spec, again))
    assert torch.equal(one, other)
    assert torch.equal(torch.get_rng_state(), before)
    changed = resolve(name, d=D, n=N, seed=SEED + 1, **options)
    drawn = changed != spec  # a formula knows no seed
    assert drawn == (not torch.equal(method_of(changed).solve(Task.of(changed)).source.rows(0, N), one))


@starts
def test_its_rank_and_cosine_are_those_of_its_rows(name: str, options: dict[str, Any]) -> None:
    made = generate(resolve(name, d=D, n=N, seed=SEED, **options))
    assert made.stats is not None
    assert math.isfinite(METHODS[name].rank(made.stats, made.facts))
    cosine = METHODS[name].cosine(made.stats, made.facts)
    assert cosine == getattr(made.stats, METHODS[name].figure).value
    assert has_classes(made.source) == (made.facts.within_class is not None)


@pytest.mark.slow
@pytest.mark.parametrize("name", DESCENDING)
@pytest.mark.parametrize("how", ["time limit", "interrupted", "out of memory"])
def test_what_ends_it_early_leaves_the_best(name: str, how: str) -> None:
    spec = resolve(name, d=D, n=3 * N, start=RANDOM)
    reports: list[Progress] = []

    def report(at: Progress) -> None:
        reports.append(at)
        if at.step == 3 and how != "time limit":
            raise KeyboardInterrupt if how == "interrupted" else MemoryError

    clock = map(float, range(10**6)).__next__
    limit = 2.5 if how == "time limit" else None
    found = method_of(spec).solve(Task.of(spec, Run(time_limit=limit, report=report, clock=clock)))
    assert found.status == how
    assert found.steps == len(reports)
    assert found.source.shape == (3 * N, D)
    whole = method_of(spec).solve(Task.of(spec))
    assert whole.steps > found.steps
    rank = METHODS[name].rank
    assert rank(measure(whole.source), Facts()) < rank(measure(found.source), Facts())
