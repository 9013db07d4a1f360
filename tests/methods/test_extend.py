"""More classes later: the old vectors stay bit for bit, the new ones keep the coherence."""

from pathlib import Path
from typing import Any

import pytest
import torch
from commands import Command, one_error
from torch.nn.functional import normalize

from protogen.descent.evaluate import Sliced, evaluate
from protogen.descent.potentials import Potential
from protogen.descent.thresholds import SquaredThreshold
from protogen.errors import BadRequest, NotFound
from protogen.files.facts import Facts
from protogen.files.prototypes import Prototypes
from protogen.generating import generate
from protogen.methods import resolve
from protogen.run import Run
from protogen.solution import Status
from protogen.store.access import ensure
from protogen.store.loading import load

pytestmark = pytest.mark.usefixtures("store")


def extended(base: Prototypes, n: int, alpha: float | None = None, **params: object) -> Prototypes:
    spec = resolve("ebv", d=base.d, n=n, alpha=alpha, extends=str(base.path), **params)
    assert base.path is not None
    return ensure(spec, Run(files=(base.path,)))


def test_old_vectors_stay_and_new_ones_keep_alpha() -> None:
    base = ensure(resolve("ebv", d=20, n=60, alpha=0.36, start="random"))
    more = extended(base, 90, alpha=0.36)
    assert torch.equal(more.rows(0, 60), base.tensor)
    assert more.stats is not None
    assert more.stats.coherence.value <= 0.36 + 1e-6
    assert more.provenance.status == Status.REACHED
    assert more.spec.options["extends"] == base.digest
    assert more.facts == Facts(extended_n=60)
    # Once more, from what was extended.
    third = extended(more, 95, alpha=0.4)
    assert torch.equal(third.rows(0, 90), more.tensor)


def test_a_closed_form_gives_its_next_rows() -> None:
    base = ensure(resolve("ebv", d=16, n=100, start="closed-form"))
    more = extended(base, 144)
    assert torch.equal(more.rows(0, 100), base.tensor)
    assert more.spec == resolve("ebv", d=16, n=144, start="closed-form")
    assert more.provenance.reproducible == "exact"


def test_a_closed_form_that_a_descent_left_as_it_was_gives_its_next_rows() -> None:
    base = ensure(resolve("ebv", d=16, n=100, start="closed-form+descent", alpha=0.24, steps=1))
    more = extended(base, 144)
    assert torch.equal(more.rows(0, 100), base.tensor)
    assert more.spec == resolve("ebv", d=16, n=144, start="closed-form")


@pytest.mark.slow
def test_an_alpha_never_makes_an_extended_set_worse() -> None:
    base = ensure(resolve("ebv", d=5, n=8, start="random"))
    whole = extended(base, 20)
    assert whole.stats is not None
    for alpha in (0.49, 0.532, 0.7):
        more = extended(base, 20, alpha=alpha)
        assert more.stats is not None
        assert more.stats.coherence.value <= max(alpha, whole.stats.coherence.value) + 1e-6
        assert torch.equal(more.tensor, whole.tensor) == (alpha == 0.49)  # below what is expected, and not reached
        assert more.facts == Facts(extended_n=8)


@pytest.mark.slow
def test_beyond_a_closed_form_new_vectors_are_found() -> None:
    base = ensure(resolve("ebv", d=16, n=144, start="closed-form"))
    more = extended(base, 150)
    assert torch.equal(more.rows(0, 144), base.tensor)
    assert more.stats is not None
    assert 0.25 < more.stats.coherence.value < 0.75


@pytest.mark.slow
def test_without_alpha_the_new_ones_go_as_low_as_they_can() -> None:
    base = ensure(resolve("ebv", d=20, n=30, start="random"))
    one, two = extended(base, 60, steps=1), extended(base, 60)
    assert one.stats is not None
    assert two.stats is not None
    assert two.stats.coherence.value < one.stats.coherence.value - 0.1


@pytest.mark.slow
def test_restarts_keep_the_best() -> None:
    base = ensure(resolve("ebv", d=6, n=10, start="random"))
    one, four = extended(base, 20), extended(base, 20, restarts=4)
    assert one.stats is not None
    assert four.stats is not None
    # The best is chosen before its end: another may end a little lower.
    assert four.stats.coherence.value <= one.stats.coherence.value + 1e-3
    assert torch.equal(four.rows(0, 10), base.tensor)


@pytest.mark.parametrize("edge", [3, 7, 100])
@pytest.mark.parametrize("sets", [(), (2,)])
def test_the_loss_beside_fixed_rows_is_that_of_autograd(edge: int, sets: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    rows = normalize(torch.randn(*sets, 11, 5, generator=generator, dtype=torch.float64), dim=-1).requires_grad_()
    fixed = normalize(torch.randn(13, 5, generator=generator, dtype=torch.float64), dim=-1)
    objective = SquaredThreshold()
    objective.threshold = 0.2
    upper = torch.ones(11, 11).triu(1).bool()
    own = (rows @ rows.mT)[..., upper]
    beside = (rows @ fixed.T).flatten(-2)
    cosines = torch.cat((own, beside), -1)
    losses = (cosines.abs() - 0.2).clamp(min=0).square().sum(-1) / 2
    losses.sum().backward()
    at = evaluate(objective, rows.detach(), edge, fixed)
    assert torch.allclose(at.losses, losses.detach(), atol=1e-12)
    assert rows.grad is not None
    assert torch.allclose(at.gradient, rows.grad, atol=1e-12)
    assert torch.allclose(at.max_cos, cosines.detach().amax(-1))
    assert torch.allclose(at.coherence, cosines.detach().abs().amax(-1))


def test_fixed_rows_may_be_of_another_type() -> None:
    rows = normalize(torch.randn(4, 3, generator=torch.Generator().manual_seed(1)), dim=1)
    assert Sliced(Potential(2.0), Run(), rows)(rows[:2].double()).gradient.dtype == torch.float64


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ({"n": 30}, "has d=20, n=30, asked for are d=20, n=30"),
        ({"n": 10}, "has d=20, n=30, asked for are d=20, n=10"),
        ({"n": 60, "d": 21}, "has d=20, n=30, asked for are d=21, n=60"),
        ({"n": 60, "alpha": 0.2}, "alpha is 0.2, "),
        ({"n": 60, "start": "closed-form"}, "start is 'closed-form' with extends"),
    ],
)
def test_what_cannot_be_extended_is_refused(params: dict[str, object], says: str) -> None:
    base = ensure(resolve("ebv", d=20, n=30, alpha=0.3, start="random"))
    with pytest.raises(BadRequest) as caught:
        resolve("ebv", **{"d": 20, "extends": str(base.path), **params})
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("options", [{}, {"per_class": 1}, {"normalize": True}, {"per_class": 1, "normalize": True}])
def test_sub_centres_are_not_extended(options: dict[str, Any], run: Command) -> None:
    base = ensure(resolve("subcenters", d=8, n=5, **options))
    says = f"has {options.get('per_class', 4)} vectors a class; extends takes one vector a class, of length one"
    with pytest.raises(BadRequest, match=f"{says}; make the larger set anew, with `protogen subcenters`"):
        resolve("ebv", d=8, n=9, extends=str(base.path))
    one_error(run("extend", base.path, "--n", 9), 2, says)


@pytest.mark.parametrize(
    ("name", "d", "n", "more"), [("cube", 5, 12, 20), ("orthoplex", 6, 9, 15), ("simplex", 8, 9, 12)]
)
def test_vertices_of_a_polytope_are_extended(name: str, d: int, n: int, more: int) -> None:
    base = ensure(resolve(name, d=d, n=n))
    found = extended(base, more, steps=30)
    assert torch.equal(found.rows(0, n), base.tensor)
    assert (found.n, found.facts.extended_n) == (more, n)
    assert found.stats is not None
    assert base.stats is not None
    assert found.stats.coherence.value >= base.stats.coherence.value - 1e-7


def test_the_file_must_be_at_hand() -> None:
    base = ensure(resolve("ebv", d=20, n=30, alpha=0.3, start="random"))
    spec = resolve("ebv", d=20, n=40, alpha=0.35, extends=str(base.path))
    with pytest.raises(NotFound, match="which the store has not"):
        ensure(spec, store="other")
    with pytest.raises(BadRequest, match="name its file with --extends"):
        generate(spec)


def test_the_command(run: Command) -> None:
    base = ensure(resolve("ebv", d=20, n=60, alpha=0.36, start="random"))
    ran = run("extend", base.path, "--n", 80, "--alpha", 0.36, "--quiet")
    assert (ran.code, ran.err) == (0, "")
    found = load(Path(ran.out.strip()))
    assert torch.equal(found.rows(0, 60), base.tensor)
    assert load("ebv", d=20, n=80, extends=str(base.path)).path == found.path
    for words, code in (
        ((base.path, "--n", 50), 2),
        ((base.path, "--n", "many"), 2),
        ((base.path, "--n", 80, "--alpha", 2), 2),
        ((base.path,), 2),
        (("nothing.safetensors", "--n", 80), 3),
    ):
        one_error(run("extend", *words), code)
