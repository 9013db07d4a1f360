"""Softmaxes with a margin on centres, against their equations in float64, and the multi-centre classifier with them."""

import math

import pytest
import torch
from draws import draw
from torch import Tensor
from torch.nn.functional import cross_entropy

from protogen.errors import BadRequest
from protogen.nn import (
    MultiCenterClassifier,
    arcface_logits,
    l_softmax_logits,
    multicenter_cross_entropy,
    variance_loss,
)

N, K, D = 4, 3, 3
CLASSES = torch.tensor([0, 1, 2, 3, 3, 0, 1])


def features(centers: Tensor) -> Tensor:
    """Features anywhere, one near its own centre and one opposite to it."""
    return torch.cat([draw(5, D, seed=7), 2 * centers[0, :1] + 1e-3 * draw(1, D), -centers[1, :1] + 1e-3 * draw(1, D)])


def written_out(x: Tensor, centers: Tensor, psi) -> Tensor:
    """The logits |w| |x| times psi or the cosine, a centre at a time."""
    found = []
    for sample, own in zip(x, CLASSES.tolist(), strict=True):
        for c in range(N):
            for w in centers[c]:
                lengths = sample.square().sum().sqrt() * w.square().sum().sqrt()
                theta = torch.acos(sample @ w / lengths)
                found.append(psi(theta, lengths, c == own))
    return torch.stack(found).view(len(x), N, K)


def same(ours, theirs, x: Tensor, centers: Tensor) -> None:
    """Compare values, and gradients of a weighted sum of them."""
    found = []
    for function in (ours, theirs):
        free = [v.clone().requires_grad_() for v in (x, centers)]
        value = function(*free)
        (value * draw(*value.shape, seed=9)).sum().backward()
        found.append((value.detach(), *(v.grad for v in free)))
    for got, expected in zip(*found, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("margin", [1, 2, 3, 4])
def test_l_softmax_is_its_equation(margin: int) -> None:
    def psi(theta: Tensor, lengths: Tensor, own: bool) -> Tensor:
        r = min(int(theta.item() * margin / math.pi), margin - 1)
        return lengths * ((-1) ** r * torch.cos(margin * theta) - 2 * r if own else torch.cos(theta))

    centers = draw(N, K, D, seed=2)
    same(
        lambda x, w: l_softmax_logits(x, w, CLASSES, margin),
        lambda x, w: written_out(x, w, psi),
        features(centers),
        centers,
    )


@pytest.mark.parametrize("margin", [0.0, 0.5, 2.0])
def test_arcface_is_its_equation_and_falls_beyond_pi(margin: float) -> None:
    def psi(theta: Tensor, lengths: Tensor, own: bool) -> Tensor:
        if not own:
            return 30 * torch.cos(theta)
        beyond = theta.item() + margin > math.pi
        return 30 * (torch.cos(theta) - 1 + math.cos(margin) if beyond else torch.cos(theta + margin))

    centers = draw(N, K, D, seed=2)
    same(
        lambda x, w: arcface_logits(x, w, CLASSES, margin),
        lambda x, w: written_out(x, w, psi),
        features(centers),
        centers,
    )


@pytest.mark.parametrize("softmax", ["l-softmax", "arcface"])
def test_several_centres_train_with_a_margin(softmax: str) -> None:
    torch.manual_seed(0)
    head = MultiCenterClassifier(d=6, n=3, softmax=softmax)
    labels = torch.arange(60) % 3
    x = (3 * torch.eye(6)[labels] + 0.3 * torch.randn(60, 6)).requires_grad_()
    optimizer = torch.optim.Adam(head.parameters(), lr=0.05)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        losses.append(head.loss(x, labels))
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < losses[0]
    assert x.grad.isfinite().all()
    head.eval()
    assert (head(x).argmax(1) == labels).all()
    torch.testing.assert_close(head.as_linear()(x), head(x))
    torch.testing.assert_close(head.loss(x, labels), cross_entropy(head(x), labels))
    with torch.autocast("cpu", torch.bfloat16):
        assert head.train().loss(x, labels).isfinite()
    with pytest.raises(BadRequest, match=f"softmax is '{softmax}', whose margin is that of one class"):
        head.loss(x, torch.eye(3)[labels])
    with pytest.raises(BadRequest, match="allowed are labels without smoothing"):
        head.loss(x, labels, label_smoothing=0.1)


def test_an_l_softmax_of_margin_1_is_the_plain_one() -> None:
    torch.manual_seed(0)
    head, plain = MultiCenterClassifier(d=4, n=3, softmax="l-softmax", margin=1), MultiCenterClassifier(d=4, n=3)
    plain.load_state_dict(head.state_dict())
    losses = []
    for one in (head, plain):
        torch.manual_seed(1)
        losses.append(one.loss(draw(5, 4).float(), torch.tensor([0, 1, 2, 0, 1])))
    torch.testing.assert_close(*losses)


def equation_9_soft(logits: Tensor, targets: Tensor, k: int) -> Tensor:
    """Eq. 9 with each class's target divided over its centres as Eq. 8 divides 1."""
    loss = torch.zeros((), dtype=torch.float64)
    for f, target in zip(logits, targets, strict=True):
        log_p = f - torch.logsumexp(f, 0)
        for t in range(targets.shape[1]):
            for i in range(k + 1):
                loss = loss - target[t] * (0.5 if i == 0 else 0.5 / k) * log_p[t * (k + 1) + i] / len(logits)
    return loss


@pytest.mark.parametrize("k", [1, 2, 4])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_smoothing_and_mixup_divide_each_class_over_its_centres(k: int, smoothing: float) -> None:
    logits, labels = draw(4, 5 * (k + 1)), torch.tensor([0, 4, 2, 2])
    one_hot = torch.eye(5, dtype=torch.float64)[labels]
    mixed = 0.3 * one_hot + 0.7 * one_hot.flip(0)
    for targets, soft in ((labels, one_hot), (mixed, mixed)):
        ours, theirs = (logits.clone().requires_grad_() for _ in range(2))
        got = multicenter_cross_entropy(ours, targets, k, label_smoothing=smoothing)
        expected = equation_9_soft(theirs, (1 - smoothing) * soft + smoothing / 5, k)
        got.backward()
        expected.backward()
        torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("over", ["mean", "sum"])
def test_the_variance_term_has_a_weight_and_two_readings(weight: float, over: str) -> None:
    ours, theirs = (draw(5, 3).requires_grad_() for _ in range(2))
    each = [-0.5 * sum(1 + torch.log(v) - v for v in row) for row in theirs.exp()]
    expected = weight * (sum(each) / 5 if over == "mean" else sum(each))
    got = variance_loss(ours, weight=weight, over=over)
    got.backward()
    expected.backward()
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-12, atol=1e-12)
    torch.manual_seed(0)
    head = MultiCenterClassifier(d=3, n=5, variance_weight=weight, over=over)
    plain = MultiCenterClassifier(d=3, n=5, variance_weight=0)
    plain.load_state_dict(head.state_dict())
    losses = []
    for one in (head, plain):
        torch.manual_seed(1)
        losses.append(one.loss(draw(4, 3), torch.tensor([0, 1, 2, 4])))
    difference = variance_loss(head.log_variance, weight=weight, over=over).double()
    torch.testing.assert_close(losses[0] - losses[1], difference, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"softmax": "cosface"}, "softmax is 'cosface'; allowed is 'plain', 'l-softmax', 'arcface'"),
        ({"over": "max"}, "over is 'max'; allowed is 'mean', 'sum'"),
        ({"variance_weight": -1}, "variance_weight is -1; allowed is 0 or"),
        ({"margin": 0.5}, "margin is 0.5 with softmax 'plain'; it belongs"),
        ({"softmax": "l-softmax", "margin": 1.5}, "margin is 1.5; allowed is a whole number from 1 on"),
        ({"softmax": "arcface", "margin": 4}, "margin is 4; allowed is a number from 0 to"),
    ],
)
def test_wrong_settings_are_one_line(settings: dict, message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        MultiCenterClassifier(d=3, n=5, **settings)
