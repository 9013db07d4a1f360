"""The losses on cosines, against Eq. 5 to 7 of the EBV paper and Eq. 8 and 9 of the polytope paper in float64."""

import copy
import math
from pathlib import Path

import pytest
import torch
from draws import double_rows, draw
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

import protogen
from protogen.errors import BadRequest
from protogen.nn import CosineHead, EBVLoss, FrozenPrototypes, MarginHead, ebv_loss, margin_logits, max_margin

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


def frozen(n: int, d: int) -> FrozenPrototypes:
    return FrozenPrototypes(double_rows(n, d).float())


def artifact(method: str, d: int, n: int, **run) -> protogen.Prototypes:
    return protogen.generate(protogen.resolve(method, d=d, n=n), protogen.Run(**run))


def angle(v: Tensor, w: Tensor) -> Tensor:
    return torch.acos((v @ w) / v.square().sum().sqrt())


def equation_7(features: Tensor, prototypes: Tensor, targets: Tensor, tau: float, smoothing: float) -> Tensor:
    """Compute EBV Eq. 5 to 7 a sample and a class at a time, with soft targets (m, n) that are smoothed first."""
    total, n = torch.zeros((), dtype=torch.float64), len(prototypes)
    for v, target in zip(features, targets, strict=True):
        v_hat = v / v.square().sum().sqrt()
        terms = [torch.exp(w @ v_hat / tau) for w in prototypes]
        for k in range(n):
            wanted = (1 - smoothing) * target[k] + smoothing / n
            total = total - wanted * torch.log(terms[k] / sum(terms))
    return total


def equation_9(features: Tensor, prototypes: Tensor, labels: Tensor, m: float, kappa: float) -> Tensor:
    """Compute the polytopes' Eq. 9 a sample and a class at a time, with cos(theta) - 1 + cos(m) beyond pi."""
    total = torch.zeros((), dtype=torch.float64)
    for f, y in zip(features, labels.tolist(), strict=True):
        thetas = [angle(f, w) for w in prototypes]
        beyond = thetas[y] + m > math.pi
        own = kappa * (torch.cos(thetas[y]) - 1 + math.cos(m) if beyond else torch.cos(thetas[y] + m))
        others = sum(torch.exp(kappa * torch.cos(theta)) for j, theta in enumerate(thetas) if j != y)
        total = total - torch.log(torch.exp(own) / (torch.exp(own) + others))
    return total / len(features)


def assert_same(ours, reference, features: Tensor, tolerance: float = 1e-6) -> None:
    """Compare value and gradient in the features."""
    results = []
    for loss in (ours, reference):
        x = features.clone().requires_grad_()
        value = loss(x)
        value.backward()
        results.append((value.detach(), x.grad))
    for got, expected in zip(*results, strict=True):
        assert expected.isfinite().all()
        torch.testing.assert_close(got, expected, rtol=tolerance, atol=tolerance)


# ebv_loss and EBVLoss


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("tau", [0.07, 0.5])
def test_ebv_loss_is_equation_7(smoothing: float, soft: bool, tau: float) -> None:
    prototypes, labels = double_rows(5, 3), torch.tensor([0, 4, 4, 2, 1, 3, 0])
    # As mixup makes them: two classes a sample.
    targets = 0.3 * torch.eye(5)[labels] + 0.7 * torch.eye(5)[labels.flip(0)] if soft else torch.eye(5)[labels]
    # Features that are long, short, on a prototype and opposite to one.
    features = torch.cat([draw(3, 3), 1e6 * draw(1, 3), 1e-3 * draw(1, 3), prototypes[3:4], -prototypes[:1]])

    def ours(x: Tensor) -> Tensor:
        wanted = targets if soft else labels
        return ebv_loss(x, prototypes, wanted, tau, label_smoothing=smoothing, reduction="sum")

    assert_same(ours, lambda x: equation_7(x, prototypes, targets.double(), tau, smoothing), features)


def test_ebv_loss_has_torchs_reductions_and_any_leading_shape() -> None:
    features, prototypes, labels = draw(2, 4, 3), double_rows(5, 3), torch.arange(8).view(2, 4) % 5
    each = ebv_loss(features, prototypes, labels, reduction="none")
    assert each.shape == (2, 4)
    torch.testing.assert_close(ebv_loss(features, prototypes, labels), each.mean())
    torch.testing.assert_close(ebv_loss(features, prototypes, labels, reduction="sum"), each.sum())
    soft = torch.eye(5, dtype=torch.float16)[labels]
    torch.testing.assert_close(ebv_loss(features, prototypes, soft, reduction="none"), each)
    torch.testing.assert_close(ebv_loss(features[0, 0], prototypes, labels[0, 0]), each[0, 0])


@pytest.mark.parametrize("dtype", DTYPES)
def test_ebv_loss_of_any_type_is_in_float32_or_float64(dtype: torch.dtype) -> None:
    features, module = (300 * draw(7, 3)).to(dtype).requires_grad_(), EBVLoss(frozen(5, 3), label_smoothing=0.1)
    loss = module(features, torch.arange(7).to(torch.uint8) % 5)
    assert loss.dtype == torch.promote_types(dtype, torch.float32)
    loss.backward()
    assert features.grad.isfinite().all()
    expected = ebv_loss(features.detach().double(), module.head.prototypes, torch.arange(7) % 5, label_smoothing=0.1)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_ebv_loss_under_autocast_ends_in_float32(dtype: torch.dtype) -> None:
    features, module, labels = draw(64, 32).float(), EBVLoss(frozen(50, 32)), torch.arange(64) % 50
    with torch.autocast("cpu", dtype):
        loss = module(features, labels)
        logits = module.head(features)
        soft = 0.3 * torch.eye(50)[labels] + 0.7 * torch.eye(50)[labels.flip(0)]
        of_soft = module(features, soft)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(module(features, labels).item(), rel=1e-2)
    assert logits.dtype == dtype
    torch.testing.assert_close(of_soft, cross_entropy(logits.float(), soft), rtol=1e-6, atol=0)


def test_ebv_module_is_the_function_and_its_head_predicts() -> None:
    module = EBVLoss(frozen(5, 3), 0.2, label_smoothing=0.1, reduction="sum")
    features, labels = draw(7, 3).float(), torch.arange(7) % 5
    expected = ebv_loss(features, module.head.prototypes, labels, 0.2, label_smoothing=0.1, reduction="sum")
    assert torch.equal(module(features, labels), expected)
    assert isinstance(module.head, CosineHead)
    assert module.head.temperature == 0.2
    assert EBVLoss(frozen(5, 3)).head.temperature == 0.07


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"label_smoothing": 1.5}, "label_smoothing is 1.5; allowed is a number from 0 to 1"),
        ({"label_smoothing": math.nan}, "label_smoothing is nan"),
        ({"reduction": "avg"}, "reduction is 'avg'; allowed is 'mean', 'sum', 'none'"),
        (
            {"temperature": 0},
            "temperature is 0; allowed is a positive and finite number or 'auto'; the paper's is 0.07",
        ),
    ],
)
def test_ebv_settings_out_of_range_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        EBVLoss(frozen(5, 3), **settings)
    with pytest.raises(BadRequest, match=message):
        ebv_loss(draw(2, 3), double_rows(5, 3), torch.zeros(2).long(), **settings)


def test_ebv_soft_targets_have_the_shape_of_the_logits_and_are_probabilities() -> None:
    features, prototypes = draw(2, 3), double_rows(5, 3)
    with pytest.raises(BadRequest, match=r"soft targets have shape \(2, 4\); allowed is that of the logits, \(2, 5\)"):
        ebv_loss(features, prototypes, torch.ones(2, 4) / 4)
    for wrong in (torch.ones(2, 5), torch.tensor([[1.5, -0.5, 0, 0, 0]] * 2), torch.full((2, 5), math.nan)):
        with pytest.raises(BadRequest, match="soft targets are no probabilities"):
            ebv_loss(features, prototypes, wrong, debug=True)
    ebv_loss(features, prototypes, torch.full((2, 5), 0.2, dtype=torch.bfloat16), debug=True)


# margin_logits and MarginHead


@pytest.mark.parametrize("margin", [0.0, 0.5, math.pi / 2, 1.7, 2.5, math.pi])
@pytest.mark.parametrize("kappa", [30.0, 2.0])
def test_margin_loss_is_equation_9(margin: float, kappa: float) -> None:
    prototypes, features, labels = double_rows(5, 3), 4 * draw(12, 3), torch.arange(12) % 5
    assert_same(
        lambda x: cross_entropy(margin_logits(x, prototypes, labels, margin, kappa), labels),
        lambda x: equation_9(x, prototypes, labels, margin, kappa),
        features,
    )


@pytest.mark.parametrize("margin", [0.5, math.pi / 2, 2.5])
@pytest.mark.parametrize("at", ["zero", "pi", "pi - margin"])
@pytest.mark.parametrize("step", [1e-3, 1e-5, -1e-3, -1e-5])
def test_margin_loss_is_equation_9_beside_its_edges(margin: float, at: str, step: float) -> None:
    theta = {"zero": 0.0, "pi": math.pi, "pi - margin": math.pi - margin}[at] + step
    prototypes = torch.eye(4, dtype=torch.float64)
    across = [0.6 * math.sin(theta), 0.8 * math.sin(theta), 0.0]
    features = torch.tensor([[math.cos(theta), *across]], dtype=torch.float64)
    labels = torch.tensor([0])
    assert_same(
        lambda x: cross_entropy(margin_logits(x, prototypes, labels, margin, 5.0), labels),
        lambda x: equation_9(x, prototypes, labels, margin, 5.0),
        features,
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("margin", [0.0, 0.5, math.pi / 2, 2.5, math.pi])
@pytest.mark.parametrize("length", [1.0, 0.37, 300.0])
def test_gradients_on_and_opposite_to_the_prototype_are_finite(
    dtype: torch.dtype, margin: float, length: float
) -> None:
    prototypes = FrozenPrototypes(torch.cat([torch.eye(3), double_rows(1, 3).float()]))
    labels = torch.tensor([0, 1, 3, 0, 1, 3])
    own = prototypes.prototypes[labels] * torch.tensor([1, 1, 1, -1, -1, -1])[:, None]
    features = (length * own).to(dtype).requires_grad_()
    logits = margin_logits(features, prototypes, labels, margin)
    values = logits.gather(1, labels[:, None])[:, 0]
    # theta is 0 and then pi: cos(margin), and -1 without a margin, else -2 + cos(margin) beyond pi.
    expected = torch.tensor([math.cos(margin)] * 3 + [math.cos(margin) - 2] * 3)
    torch.testing.assert_close(values.float() / 30, expected, rtol=0, atol=1e-2)
    cross_entropy(logits, labels).backward()
    assert features.grad.isfinite().all()
    # The derivative of psi is sin(theta + margin) / |z| or less, and the softmax's is at most 2 kappa.
    assert features.grad.double().norm(dim=1).max() <= 2 * 30 / length * 1.01


@pytest.mark.parametrize("margin", [0.0, 0.3, 1.0, math.pi / 2, math.acos(-1 / 9), 3.0, math.pi])
def test_psi_is_continuous_and_falls_from_zero_to_pi(margin: float) -> None:
    theta = torch.linspace(0, math.pi, 10_001, dtype=torch.float64)
    features = torch.stack([theta.cos(), theta.sin()], 1)
    psi = margin_logits(features, torch.eye(2, dtype=torch.float64), torch.zeros(10_001).long(), margin, 1.0)[:, 0]
    within = theta + margin <= math.pi
    torch.testing.assert_close(psi[within], (theta + margin).cos()[within], rtol=0, atol=1e-12)
    steps = psi.diff()
    assert steps.max() <= 1e-12
    assert steps.min() >= -math.pi / 10_000  # no slope is above 1, hence no jump
    assert psi[-1].item() == pytest.approx(-1 if margin == 0 else math.cos(margin) - 2)


def test_gradient_of_a_zero_feature_is_zero() -> None:
    features = torch.zeros(2, 3, requires_grad=True)
    labels = torch.tensor([0, 1])
    cross_entropy(margin_logits(features, double_rows(5, 3).float(), labels, 2.0), labels).backward()
    assert torch.equal(features.grad, torch.zeros(2, 3))


def test_without_labels_the_head_is_the_cosine_head_at_one_over_kappa() -> None:
    head, features, labels = MarginHead(frozen(5, 3), 0.5), draw(7, 3).float(), torch.arange(7) % 5
    assert head.kappa == 30.0
    assert torch.equal(head(features), CosineHead(head.prototypes, 1 / 30)(features))
    torch.testing.assert_close(head(features), 30 * normalize(features, dim=1) @ head.prototypes.prototypes.T)
    with_margin = margin_logits(features, head.prototypes, labels, 0.5)
    torch.testing.assert_close(head.loss(features, labels), cross_entropy(with_margin, labels))
    others = torch.ones(7, 5).scatter(1, labels[:, None], 0).bool()
    assert torch.equal(with_margin[others], head(features)[others])
    plain = MarginHead(head.prototypes, 0.0)
    torch.testing.assert_close(plain.loss(features, labels), cross_entropy(plain(features), labels))


@pytest.mark.parametrize("shape", [(3,), (2, 7, 3), (0, 3)])
def test_margin_keeps_leading_dimensions(shape: tuple[int, ...]) -> None:
    features, labels = draw(*shape).float(), torch.ones(shape[:-1], dtype=torch.int32)
    assert margin_logits(features, frozen(5, 3), labels, 0.5).shape == (*shape[:-1], 5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_leaves_the_labels_logits_in_float32(dtype: torch.dtype) -> None:
    head, features, labels = MarginHead(frozen(50, 32), 1.0), draw(64, 32).float(), torch.arange(64) % 50
    with torch.autocast("cpu", dtype):
        logits = margin_logits(features, head.prototypes, labels, 1.0)
    assert logits.dtype == torch.float32
    expected = margin_logits(features, head.prototypes, labels, 1.0)
    own = labels[:, None]
    torch.testing.assert_close(logits.gather(1, own), expected.gather(1, own), rtol=0, atol=1e-5)
    torch.testing.assert_close(logits, expected, rtol=0, atol=30 * 1e-2)
    assert (logits - expected).abs().max() > 1e-5  # the product did run in half


def test_margin_gradient_reaches_the_features_alone() -> None:
    prototypes, features = double_rows(5, 3).requires_grad_(), draw(4, 3).requires_grad_()
    margin_logits(features, prototypes, torch.arange(4), 0.5).logsumexp(-1).sum().backward()
    assert prototypes.grad is None
    assert features.grad.abs().max() > 0


def test_margin_gradient_against_finite_differences() -> None:
    prototypes, labels, features = double_rows(5, 3), torch.arange(4), draw(4, 3).requires_grad_()
    for margin in (0.5, 2.5):
        assert torch.autograd.gradcheck(lambda z, m=margin: margin_logits(z, prototypes, labels, m, 2.0), features)


# The artifact's margin


def smallest_angle(rows: Tensor) -> float:
    cosines = rows.double() @ rows.double().T
    return math.acos(max(cosines[i, j].item() for i in range(len(rows)) for j in range(i)))


@pytest.mark.parametrize(
    ("method", "d", "n", "phi"),
    [
        ("simplex", 9, 10, math.acos(-1 / 9)),  # Eq. 10
        ("simplex", 20, 10, math.acos(-1 / 9)),  # its own d is 9
        ("orthoplex", 5, 10, math.pi / 2),  # Eq. 11
        ("orthoplex", 5, 9, math.pi / 2),
        ("cube", 4, 16, math.acos(2 / 4)),  # Eq. 12
        ("cube", 4, 10, math.acos(2 / 4)),
    ],
)
def test_max_margin_is_the_papers_phi(method: str, d: int, n: int, phi: float) -> None:
    made = artifact(method, d, n)
    assert max_margin(made) == pytest.approx(phi, abs=1e-9)
    assert smallest_angle(made.tensor) == pytest.approx(phi, abs=1e-6)
    head = MarginHead(made)
    assert head.margin == max_margin(made)
    assert torch.equal(head.prototypes.prototypes, made.tensor)


@pytest.mark.parametrize("stats", ["exact", "certificate"])
def test_max_margin_of_a_cubes_subset_is_its_smallest_angle(stats: str) -> None:
    made = artifact("cube", 16, 10, stats=stats)
    assert (made.stats is None) is (stats == "certificate")
    assert max_margin(made) == pytest.approx(smallest_angle(made.tensor), abs=1e-6)
    assert max_margin(made) > made.facts.phi + 0.5  # arccos(14/16) is 0.505; two of ten words differ in 8 or more


def test_max_margin_comes_from_a_file_too(tmp_path: Path) -> None:
    path = protogen.ensure(protogen.resolve("cube", d=8, n=10), store=tmp_path).path
    head = MarginHead(path, "max")
    assert head.margin == MarginHead(str(path)).margin == max_margin(protogen.load(path))
    assert repr(head).startswith("MarginHead(\n  margin=1.5707963267948966, kappa=30.0")


def test_max_margin_of_other_prototypes_is_their_smallest_angle(tmp_path: Path) -> None:
    made = protogen.ensure(protogen.resolve("ebv", d=4, n=6, steps=20), store=tmp_path)
    for source in (made, made.path, made.tensor, FrozenPrototypes(made)):
        assert MarginHead(source).margin == pytest.approx(smallest_angle(made.tensor), abs=1e-6)
    assert MarginHead(made, 0.5).margin == 0.5
    with torch.device("meta"):
        assert MarginHead(made.path).margin == MarginHead(made).margin
        with pytest.raises(BadRequest, match="margin is 'max', and no angle of these 3 prototypes is known"):
            MarginHead(torch.eye(3))


@pytest.mark.parametrize(
    ("d", "n", "method"), [(9, 10, "simplex"), (9, 11, "orthoplex"), (9, 18, "orthoplex"), (9, 19, "cube")]
)
def test_sizes_alone_are_the_polytope_of_the_largest_angle(
    d: int, n: int, method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROTOGEN_STORE", str(tmp_path))
    head = MarginHead(d=d, n=n)
    assert head.margin == max_margin(artifact(method, d, n))
    assert torch.equal(head.prototypes.rows(0, n), artifact(method, d, n).tensor)


def test_a_head_with_one_vector_a_class_refuses_sub_centres(tmp_path: Path) -> None:
    made = protogen.generate(protogen.resolve("subcenters", d=8, n=4))
    for head in (MarginHead, lambda source, margin: EBVLoss(FrozenPrototypes(source))):
        with pytest.raises(BadRequest, match=r"must be \(n, d\), got \(4, \d+, 8\): give one row a class"):
            head(made, 0.5)


@pytest.mark.parametrize("margin", [-0.1, 3.2, math.nan, math.inf])
def test_margin_out_of_range_is_refused(margin: float) -> None:
    with pytest.raises(BadRequest, match=f"margin is {margin}; allowed is a number from 0 to 3.14159, or 'max'"):
        MarginHead(frozen(5, 3), margin)


@pytest.mark.parametrize("kappa", [0, -30, math.nan, math.inf])
def test_kappa_must_be_positive_and_finite(kappa: float) -> None:
    with pytest.raises(BadRequest, match=f"kappa is {kappa}; allowed is a positive and finite number"):
        MarginHead(frozen(5, 3), 0.5, kappa)


# Their state


@pytest.mark.parametrize("make", [lambda: MarginHead(frozen(5, 3), 0.5), lambda: EBVLoss(frozen(5, 3)).head])
def test_state_copies_and_types(make) -> None:
    head, features, labels = make(), draw(7, 3).float(), torch.arange(7) % 5
    expected = head.loss(features, labels)
    assert list(head.parameters()) == []
    other = type(head)(FrozenPrototypes(frozen(5, 3).prototypes.flip(0)), 0.5)
    with pytest.raises(BadRequest, match="the checkpoint was trained with"):
        other.load_state_dict(head.state_dict())
    for copied in (copy.deepcopy(head), nn.Sequential(head).half()[0], nn.Sequential(head).bfloat16()[0]):
        assert torch.equal(copied.loss(features, labels), expected)
    empty = make().to("meta").to_empty(device="cpu")
    empty.load_state_dict(head.state_dict())
    assert torch.equal(empty.loss(features, labels), expected)
