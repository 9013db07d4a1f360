"""Heads of the demo with hyper-parameters of their own, by name and from the command line."""

import math
from pathlib import Path

import pytest
import torch
from commands import Command, one_error

from protogen.demo.contestants import HEADS, build, canonical, settings_of, spec_of
from protogen.demo.data import Task
from protogen.demo.results import plan
from protogen.demo.tasks import load_task
from protogen.demo.trained import TrainedMargin, TrainedUniform
from protogen.demo.variants import Variant, split_heads, varied
from protogen.errors import BadRequest
from protogen.nn import uniformity_loss

pytestmark = pytest.mark.slow


def vectors(classes: int = 4) -> Task:
    labels = torch.arange(20) % classes
    samples = torch.randn(20, 6, generator=torch.Generator().manual_seed(0))
    return Task("vectors", classes, *(samples, labels) * 3, width=1)


def test_a_variant_is_read_as_it_is_written() -> None:
    for text in ("learned", "multicenter(per_class=4,variance_weight=0)", "ebv(learn_scale=true,temperature=0.02)"):
        assert str(Variant.parse(text)) == text
    assert str(Variant.parse(" a( c = 1e-4 , b = none ) ")) == "a(b=none,c=0.0001)"
    assert split_heads("a, b(c=1,d=2),e") == ["a", "b(c=1,d=2)", "e"]


@pytest.mark.parametrize("text", ["a(", "a(b)", "a(=1)", "a(b=)", ")", "a(b=1)c"])
def test_what_is_no_variant_is_refused(text: str) -> None:
    with pytest.raises(BadRequest, match="allowed is a name, or name"):
        Variant.parse(text)


def test_settings_are_combined() -> None:
    found = varied(["learned", "multicenter"], ["multicenter.per_class=1,2", "multicenter.variance_weight=1,0"])
    assert found == [
        "learned",
        "multicenter(per_class=1,variance_weight=1)",
        "multicenter(per_class=1,variance_weight=0)",
        "multicenter(per_class=2,variance_weight=1)",
        "multicenter(per_class=2,variance_weight=0)",
    ]
    # What is usual is left out: these rows are those of the head alone.
    assert [str(canonical(head)) for head in found[3:]] == ["multicenter", "multicenter(variance_weight=0)"]


@pytest.mark.parametrize("head", HEADS)
def test_every_setting_of_every_head_is_known_with_its_default(head: str, tmp_path: Path) -> None:
    own, made = settings_of(head)
    assert str(canonical(head)) == head
    for name, value in (own | made).items():
        text = str(value).lower() if value is None or isinstance(value, bool) else value
        assert str(canonical(f"{head}({name}={text})")) == head
    with pytest.raises(BadRequest, match=f"{head} has no setting 'colour'; its settings are"):
        canonical(f"{head}(colour=1)")


def test_a_setting_reaches_the_head_and_its_prototypes(tmp_path: Path) -> None:
    task = vectors()
    assert build("multicenter(per_class=5)", 5, task, tmp_path).module.per_class == 5
    assert build("ebv(temperature=0.02)", 5, task, tmp_path).module.temperature == 0.02
    assert build("assignment(momentum=0.5,means_per=sample)", 5, task, tmp_path).module.means_per == "sample"
    assert build("simplex", 5, task, tmp_path).module.margin == 0
    assert build("simplex-margin(continuation=printed)", 5, task, tmp_path).module.continuation == "printed"
    assert spec_of("subcenters(variance=0.01)", 5, 4).options["variance"] == 0.01
    assert build("subcenters(per_class=2,beta=0)", 5, task, tmp_path).module.prototypes.s == 2
    assert build("codes(temperature=0.1,learned=false)", 5, task, tmp_path).temperature() == pytest.approx(0.1)
    with pytest.raises(BadRequest, match="per_class is 0; allowed"):
        build("multicenter(per_class=0)", 5, task, tmp_path)


def test_the_trained_baselines_take_the_angles_of_the_polytopes() -> None:
    for kind, angle in (("simplex", math.acos(-1 / 9)), ("orthoplex", math.pi / 2), ("cube", math.acos(2 / 4))):
        assert TrainedMargin(4, 10, kind).margin == pytest.approx(angle)
    with pytest.raises(BadRequest, match="margin is 'sphere'; allowed is simplex, orthoplex, cube or"):
        TrainedMargin(4, 10, "sphere")
    with pytest.raises(BadRequest, match="continuation is 'up'"):
        TrainedMargin(4, 10, continuation="up")


@pytest.mark.parametrize("continuation", ["printed", "falling"])
def test_the_trained_baseline_is_equation_9(continuation: str) -> None:
    """Eq. 9 of the polytope paper, a sample and a class at a time, with rows that get a gradient too."""
    torch.manual_seed(0)
    head = TrainedMargin(3, 4, "simplex", kappa=5.0, continuation=continuation).double()
    free = head.weight.detach().clone().requires_grad_()
    labels = torch.arange(6) % 4
    x = torch.cat([torch.randn(5, 3, dtype=torch.float64), -head.weight.detach()[1:2] + 0.05])  # the last is beyond pi
    ours, theirs = (x.clone().requires_grad_() for _ in range(2))
    m, total = math.acos(-1 / 3), torch.zeros((), dtype=torch.float64)
    for f, y in zip(theirs, labels.tolist(), strict=True):
        angles = [torch.acos(f @ w / (f @ f).sqrt() / (w @ w).sqrt()) for w in free]
        beyond = continuation == "falling" and angles[y].item() + m > math.pi
        own = torch.cos(angles[y]) - (1 - math.cos(m)) if beyond else torch.cos(angles[y] + m)
        others = sum(torch.exp(5 * torch.cos(angle)) for j, angle in enumerate(angles) if j != y)
        total = total - torch.log(torch.exp(5 * own) / (torch.exp(5 * own) + others)) / len(x)
    loss = head.loss(ours, labels)
    loss.backward()
    total.backward()
    for got, expected in ((loss, total), (ours.grad, theirs.grad), (head.weight.grad, free.grad)):
        torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-6)


def test_the_direct_objective_stands_on_the_rows_of_ebv(tmp_path: Path) -> None:
    task = vectors()
    direct, softmax = (build(head, 5, task, tmp_path) for head in ("ebv-direct", "ebv"))
    features, labels = torch.randn(6, 5), torch.arange(6) % 4
    assert torch.equal(direct.vectors(features, labels), softmax.vectors(features, labels))
    cosines = torch.cosine_similarity(features, softmax.vectors(features, labels))
    torch.testing.assert_close(direct.loss(features, labels), (1 - cosines).mean())
    assert torch.equal(direct.logits(features).argmax(1), softmax.logits(features).argmax(1))


def test_a_learned_classifier_with_uniformity_has_both_losses() -> None:
    head = TrainedUniform(3, 4, uniformity=0.5)
    features, labels = torch.randn(6, 3), torch.arange(6) % 4
    expected = torch.nn.functional.cross_entropy(head(features), labels) + 0.5 * uniformity_loss(head.weight)
    torch.testing.assert_close(head.loss(features, labels), expected)


def test_plan_varies_heads_and_takes_ablations_that_are_varied() -> None:
    task = load_task("digits")
    trials = plan(task, None, "learned", [4], 1, 1, 1, settings=["learned-uniform.uniformity=0.1"])
    heads = [trial.head for trial in trials]
    assert "learned-uniform(uniformity=0.1)" in heads
    assert "learned-margin" not in heads
    trials = plan(task, ["multicenter"], "multicenter", [4], 1, 1, 1, settings=["multicenter.per_class=1,2"])
    assert [trial.head for trial in trials] == ["multicenter", "multicenter(per_class=1)"]


def test_the_command_varies_a_head(run: Command) -> None:
    words = ("demo", "--task", "digits", "--d", 4, "--epochs", 1, "--seeds", 1, "--json", "--heads", "multicenter")
    ran = run(*words, "--set", "multicenter.per_class=1,2", "--set", "multicenter.variance_weight=0")
    names = [one["head"] for one in ran.document["comparisons"]]
    assert names == ["learned", "multicenter(per_class=1,variance_weight=0)", "multicenter(variance_weight=0)"]
    ran = run(*words, "--against", "multicenter(per_class=2,variance_weight=0)")
    assert [one["against"] for one in ran.document["comparisons"]] == ["multicenter(variance_weight=0)"] * 2


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("multicenter", "set is 'multicenter'; allowed is head.name=value,value"),
        ("multicenter.per_class=", "allowed is head.name=value,value"),
        ("ebv.temperature=1", "allowed are settings of the heads that are trained, multicenter"),
        ("multicenter.colour=1", "multicenter has no setting 'colour'"),
    ],
)
def test_a_wrong_setting_is_one_line(run: Command, setting: str, message: str) -> None:
    one_error(run("demo", "--task", "digits", "--heads", "multicenter", "--set", setting), 2, message)
