"""Fixed sub-centres, against Eq. 2, 3 and 6 to 8 in float64 and against nn's own habits."""

import copy
import math
import pickle
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import protogen
from protogen.errors import BadRequest
from protogen.nn import CosineHead, FrozenPrototypes, SubcenterHead, ddp_ignore, subcenter_logits, subcenter_loss


def draw(*shape: int, seed: int = 0) -> Tensor:
    """Draw numbers in float64 that float32 holds exactly."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).double()


def written_out(features: Tensor, subcenters: Tensor, labels: list[int], beta: float, mean: bool) -> Tensor:
    """Eq. 8, one sample and one sub-centre at a time."""
    n, s, _ = subcenters.shape
    entropy, compactness = torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    for x, y in zip(features, labels, strict=True):
        logits = [[subcenters[j, m] @ x for m in range(s)] for j in range(n)]
        top = max(logit.item() for row in logits for logit in row)  # cancels in Eq. 6
        total = sum(torch.exp(logits[j][m] - top) for j in range(n) for m in range(s))
        p = [torch.exp(logits[y][k] - top) / total for k in range(s)]
        entropy = entropy - torch.log(sum(p)) / len(labels)
        k = max(range(s), key=lambda k: logits[y][k].item())
        compactness = compactness + ((x - subcenters[y, k]) ** 2).sum() / 2
    return entropy + beta * compactness / (len(labels) if mean else 1)


CASES = {
    "random": (draw(6, 4), draw(5, 3, 4, seed=1), [0, 4, 2, 2, 1, 3]),
    "one sub-centre": (draw(3, 4), draw(5, 1, 4, seed=1), [0, 4, 2]),
    "one class": (draw(3, 4), draw(1, 3, 4, seed=1), [0, 0, 0]),
    "zero features": (torch.zeros(2, 4, dtype=torch.float64), draw(5, 3, 4, seed=1), [0, 4]),
    "on a sub-centre": (draw(5, 3, 4, seed=1)[:2, 1], draw(5, 3, 4, seed=1), [0, 1]),
    "equal sub-centres": (draw(2, 4), draw(5, 1, 4, seed=1).expand(5, 3, 4), [0, 4]),
    "large features": (30 * draw(4, 4), draw(5, 3, 4, seed=1), [0, 4, 2, 2]),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("beta", [0.0, 1e-4, 0.5])
@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_loss_is_equation_8(case: str, beta: float, reduction: str) -> None:
    features, subcenters, labels = CASES[case]
    ours, theirs = (features.clone().requires_grad_() for _ in range(2))
    got = subcenter_loss(ours, subcenters.float(), torch.tensor(labels), beta, reduction=reduction)
    expected = written_out(theirs, subcenters, labels, beta, reduction == "mean")
    got.backward()
    expected.backward()
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-12, atol=1e-12)


def test_where_the_labels_probability_is_0_in_float_its_logarithm_is_not() -> None:
    subcenters = torch.tensor([[[1.0], [1.0]], [[-1.0], [-1.0]]])
    features = torch.tensor([[1e4]], requires_grad=True)
    loss = subcenter_loss(features, subcenters, torch.tensor([1]), beta=0.0)
    loss.backward()
    assert loss.item() == 2e4
    assert features.grad.item() == pytest.approx(2, rel=1e-3)  # exponents of 1e4 are good to 1e-3 in float32


def test_the_gradient_is_that_of_the_formula() -> None:
    # d/dx of Eq. 3 is sum_jm P_jm w_jm - sum_k (P_yk / sum P_y) w_yk, that of Eq. 7 is x - w_yk*.
    w, x, y, beta = draw(5, 3, 4, seed=1), draw(4), 2, 0.1
    p = (w @ x).flatten().softmax(0).view(5, 3)
    own = p[y] / p[y].sum()
    expected = (p[..., None] * w).sum((0, 1)) - own @ w[y] + beta * (x - w[y, own.argmax()])
    leaf = x.requires_grad_()
    subcenter_loss(leaf, w.float(), torch.tensor(y), beta).backward()
    torch.testing.assert_close(leaf.grad, expected, rtol=1e-12, atol=1e-13)


def test_the_sum_grows_with_the_batch_and_the_mean_does_not() -> None:
    head = SubcenterHead(draw(5, 3, 4).float(), beta=1.0, compactness="sum")
    averaging = SubcenterHead(draw(5, 3, 4).float(), beta=1.0, compactness="mean")
    features, labels = draw(2, 4, seed=2), torch.tensor([0, 3])
    twice = features.repeat(2, 1), labels.repeat(2)
    entropy = cross_entropy(head(features), labels)
    torch.testing.assert_close(head.loss(*twice) - entropy, 2 * (head.loss(features, labels) - entropy))
    torch.testing.assert_close(averaging.loss(*twice), averaging.loss(features, labels))


def test_head_gives_the_log_of_the_summed_probabilities() -> None:
    head, features, labels = SubcenterHead(draw(5, 3, 4).float(), beta=0.0), draw(6, 4, seed=2), torch.arange(6) % 5
    summed = subcenter_logits(features, head.prototypes.prototypes).flatten(1).softmax(1).view(6, 5, 3).sum(2)
    torch.testing.assert_close(head(features).softmax(1), summed, rtol=1e-12, atol=0)
    torch.testing.assert_close(head.loss(features, labels), cross_entropy(head(features), labels))
    # A class of two weak sub-centres beats one with the single nearest: it is sums that count.
    weak = torch.tensor([[[1.0], [1.0]], [[1.3], [-9.0]]])
    assert SubcenterHead(weak)(torch.ones(1)).argmax() == 0


@pytest.mark.parametrize("shape", [(), (7,), (2, 3)])
def test_leading_dimensions(shape: tuple[int, ...]) -> None:
    head, features, labels = SubcenterHead(draw(5, 3, 4).float()), draw(*shape, 4), torch.ones(shape, dtype=torch.uint8)
    assert head(features).shape == (*shape, 5)
    assert subcenter_logits(features, head.prototypes.prototypes).shape == (*shape, 5, 3)
    flat = head.loss(features.reshape(-1, 4), labels.reshape(-1))
    torch.testing.assert_close(head.loss(features, labels), flat)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_features_are_computed_in_float32(dtype: torch.dtype) -> None:
    head, labels = SubcenterHead(draw(5, 3, 4).float(), beta=0.5), torch.arange(5)
    features = (300 * draw(5, 4)).to(dtype)  # 300^2 is beyond float16
    assert head(features).dtype == torch.float32
    loss = head.loss(features.requires_grad_(), labels)
    torch.testing.assert_close(loss, head.loss(features.double(), labels).float(), rtol=1e-6, atol=0)
    loss.backward()
    assert features.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_autocast_lowers_the_product_alone(dtype: torch.dtype) -> None:
    head, labels = SubcenterHead(draw(50, 3, 32).float(), beta=0.5), torch.arange(6)
    features = draw(6, 32).float()
    with torch.autocast("cpu", dtype):
        logits, loss = head(features), head.loss(features, labels)
    assert (logits.dtype, loss.dtype) == (torch.float32, torch.float32)
    assert 0 < (logits - head(features)).abs().max() < 0.3
    torch.testing.assert_close(loss, head.loss(features, labels), rtol=1e-2, atol=0)


def test_the_artifact_of_the_command_is_taken(tmp_path: Path) -> None:
    spec = protogen.resolve("subcenters", d=8, n=5, seed=3, per_class=2)
    made = protogen.ensure(spec, store=tmp_path)
    assert made.tensor.shape == (5, 2, 8)
    for source in (made, made.path, str(made.path), made.tensor):
        assert torch.equal(SubcenterHead(source).prototypes.prototypes, made.tensor)
    with pytest.raises(BadRequest, match=r"must be \(n, d\), got \(5, 2, 8\): give one row a class"):
        CosineHead(FrozenPrototypes(made))


def test_a_head_that_wants_one_vector_a_class_refuses_them() -> None:
    head = SubcenterHead(draw(5, 3, 4).float())
    with pytest.raises(BadRequest, match="each class has 3 sub-centres; allowed is one vector a class"):
        CosineHead(head.prototypes)(torch.ones(2, 4))


def test_it_has_a_buffer_and_no_parameters() -> None:
    head = SubcenterHead(draw(5, 3, 4).float())
    assert list(head.parameters()) == []
    assert head.state_dict().keys() == {"prototypes.sha256", "prototypes.origin"}
    assert "prototypes.prototypes" in SubcenterHead(draw(5, 3, 4).float(), persistent=True).state_dict()
    assert (head.prototypes.n, head.prototypes.s, head.prototypes.d) == (5, 3, 4)
    assert "n=5, s=3, d=4" in repr(head)
    given = draw(5, 3, 4).float().requires_grad_()
    features = draw(2, 4).float().requires_grad_()
    subcenter_loss(features, given, torch.tensor([0, 1])).backward()
    assert given.grad is None
    assert features.grad.abs().max() > 0


@pytest.mark.parametrize("cast", [nn.Module.half, nn.Module.bfloat16, nn.Module.double], ids=lambda f: f.__name__)
def test_it_stays_float32_when_the_model_is_cast(cast) -> None:
    model = nn.Sequential(nn.Linear(4, 4), SubcenterHead(draw(5, 3, 4).float()))
    before = model[1].prototypes.rows(0, 5)
    cast(model)
    assert model[1].prototypes.prototypes.dtype == torch.float32
    assert torch.equal(model[1].prototypes.rows(0, 5), before)


@pytest.mark.parametrize("assign", [False, True])
def test_copies_share_and_loading_reaches_one_alone(assign: bool) -> None:
    given = draw(5, 3, 4).float()
    head = SubcenterHead(given)
    copied = copy.deepcopy(head)
    assert torch._C._data_address(copied.prototypes.prototypes) == torch._C._data_address(given)
    with pytest.raises(BadRequest, match=r"the checkpoint's prototypes\.prototypes are others"):
        copied.load_state_dict({"prototypes.prototypes": draw(5, 3, 4, seed=5).half()}, assign=assign)
    copied.load_state_dict({"prototypes.prototypes": given.half()}, assign=assign)
    copied.prototypes.prototypes.zero_()
    for one in (head, copied):
        assert torch.equal(one.prototypes.rows(0, 5), draw(5, 3, 4).float())
    empty = SubcenterHead(given).to("meta").to_empty(device="cpu")
    empty.load_state_dict(head.state_dict())
    assert torch.equal(pickle.loads(pickle.dumps(empty)).prototypes.prototypes, given)


def test_ddp_leaves_them_out() -> None:
    model = nn.Sequential(nn.BatchNorm1d(4), SubcenterHead(draw(5, 3, 4).float()))
    ddp_ignore(model)
    assert model._ddp_params_and_buffers_to_ignore == [
        f"1.prototypes.{name}" for name in ("sha256", "origin", "prototypes")
    ]


def test_compiles_without_a_graph_break() -> None:
    head, features, labels = SubcenterHead(draw(5, 3, 4).float()), draw(6, 4), torch.arange(6) % 5
    compiled = torch.compile(head, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(features), head(features))
    loss = torch.compile(head.loss, backend="eager", fullgraph=True)
    torch.testing.assert_close(loss(features, labels), head.loss(features, labels))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": torch.tensor([0, 5])}, "labels hold 5; allowed is 0 to 4"),
        ({"labels": torch.tensor([0, -1])}, "labels hold -1; allowed is 0 to 4"),
        ({"labels": torch.ones(2)}, "labels are torch.float32; allowed are integers"),
        ({"features": torch.ones(2, 3)}, r"the prototypes need \(\.\.\., 4\)"),
        ({"features": torch.full((2, 4), math.nan), "debug": True}, "2 of 2 features are not finite"),
        ({"beta": -1.0}, "beta is -1.0; allowed"),
        ({"beta": math.nan}, "beta is nan; allowed"),
        ({"reduction": "none"}, "reduction is 'none'; allowed is 'sum', 'mean'"),
    ],
)
def test_wrong_use_is_one_line(change: dict, message: str) -> None:
    asked = {"features": torch.ones(2, 4), "subcenters": draw(5, 3, 4).float(), "labels": torch.tensor([0, 1])}
    with pytest.raises(BadRequest, match=message) as refused:
        subcenter_loss(**(asked | change))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (torch.eye(3), r"must be \(n, s, d\), got \(3, 3\)"),
        (torch.empty(0, 2, 3), r"must be \(n, s, d\), got \(0, 2, 3\)"),
        (torch.ones(2, 2, 3).double(), "must be float32, got torch.float64"),
        (torch.full((2, 2, 3), math.inf), "must be finite"),
        ([[[1.0]]], "come from a tensor, a Prototypes record or a path, got list"),
    ],
)
def test_head_refuses_what_are_no_subcenters(source, message: str) -> None:
    with pytest.raises(BadRequest, match=message) as refused:
        SubcenterHead(source)
    assert "\n" not in str(refused.value)


def test_head_refuses_settings_at_once_and_debug_reaches_the_forward() -> None:
    with pytest.raises(BadRequest, match="beta is -1"):
        SubcenterHead(draw(5, 3, 4).float(), beta=-1)
    with pytest.raises(BadRequest, match="1 of 1 features are not finite"):
        SubcenterHead(draw(5, 3, 4).float(), debug=True)(torch.full((4,), math.inf))
    assert "beta=0.0001, compactness='sum'" in repr(SubcenterHead(draw(5, 3, 4).float()))
