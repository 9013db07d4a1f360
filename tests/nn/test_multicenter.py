"""The multi-centre classifier, against Eq. 5 to 11 in float64 and against nn's own habits."""

import copy
import math

import pytest
import torch
from draws import draw
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from protogen.errors import BadRequest
from protogen.nn import MultiCenterClassifier, multicenter, multicenter_cross_entropy, multicenter_logits, variance_loss


def written_out(x: Tensor, w: Tensor, log_variance: Tensor, noise: Tensor, labels: list[int]) -> Tensor:
    """Eq. 11, one sample and one centre at a time."""
    (n, d), k = w.shape, noise.shape[1]
    sigma = torch.exp(log_variance) ** 0.5
    centers = []  # Eq. 7
    for c in range(n):
        centers.append(w[c])
        for i in range(k):
            centers.append(w[c] + sigma[c] * noise[c, i])  # Eq. 6
    loss = torch.zeros((), dtype=torch.float64)
    for sample, t in zip(x, labels, strict=True):
        f = torch.stack([sample @ center for center in centers])
        log_p = f - torch.logsumexp(f, 0)  # Eq. 1
        for c in range(n * (k + 1)):  # Eq. 8 and 9
            tau = 0.5 if c == t * (k + 1) else 0.5 / k if t * (k + 1) < c <= t * (k + 1) + k else 0.0
            loss = loss - tau * log_p[c] / len(labels)
    for c in range(n):  # Eq. 10, summed over d
        for j in range(d):
            variance = sigma[c, j] ** 2
            loss = loss - 0.5 * (1 + torch.log(variance) - variance) / n
    return loss


@pytest.mark.parametrize("k", [1, 2, 5])
@pytest.mark.parametrize("case", ["random", "tiny deviations", "deviations of 1", "zero features", "far features"])
def test_loss_is_equation_11(k: int, case: str) -> None:
    x, w, noise, labels = draw(4, 3), draw(5, 3, seed=1), draw(5, k, 3, seed=2), [0, 4, 2, 2]
    x = x * {"zero features": 0.0, "far features": 1e3}.get(case, 1.0)
    log_variance = {"tiny deviations": -60.0, "deviations of 1": 0.0}.get(case, draw(5, 3, seed=3))
    log_variance = torch.as_tensor(log_variance).double().expand(5, 3)
    ours, theirs = ([v.clone().requires_grad_() for v in (x, w, log_variance)] for _ in range(2))
    logits = multicenter_logits(*ours, noise)
    got = multicenter_cross_entropy(logits, torch.tensor(labels), k) + variance_loss(ours[2])
    expected = written_out(*theirs, noise, labels)
    got.backward()
    expected.backward()
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)
    for mine, true in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine.grad, true.grad, rtol=1e-11, atol=1e-11)


def test_class_t_owns_the_rows_from_t_times_k_plus_1() -> None:
    w, noise = draw(5, 3), draw(5, 2, 3, seed=1)
    # Features that read the centres off.
    centers = multicenter_logits(torch.eye(3, dtype=torch.float64), w, torch.zeros(5, 3), noise).T
    assert centers.shape == (15, 3)
    torch.testing.assert_close(centers[::3], w)
    torch.testing.assert_close(centers[1::3], w + noise[:, 0])
    torch.testing.assert_close(centers[2::3], w + noise[:, 1])


def test_cross_entropy_is_torchs_with_the_soft_labels() -> None:
    logits, labels = draw(4, 15), torch.tensor([0, 4, 2, 2])
    soft = torch.zeros(4, 15, dtype=torch.float64)
    for i, t in enumerate(labels.tolist()):
        soft[i, 3 * t : 3 * t + 3] = torch.tensor([0.5, 0.25, 0.25])
    torch.testing.assert_close(multicenter_cross_entropy(logits, labels), cross_entropy(logits, soft))


def test_variance_loss_is_least_at_deviation_1_and_summed_over_d() -> None:
    assert variance_loss(torch.zeros(7, 4)) == 0
    # sigma = 0.1: -(1 + log 0.01 - 0.01)/2 = 1.80759 in each of 4 coordinates.
    per_coordinate = -(1 + math.log(0.01) - 0.01) / 2
    assert variance_loss(torch.full((7, 4), math.log(0.01))).item() == pytest.approx(4 * per_coordinate)
    half = variance_loss(torch.full((7, 4), -4.6, dtype=torch.float16))
    assert half.dtype == torch.float32


def test_it_begins_as_linear_does_and_at_sigma() -> None:
    torch.manual_seed(0)
    classifier = MultiCenterClassifier(d=4, n=5)
    torch.manual_seed(0)
    assert torch.equal(classifier.weight, nn.Linear(4, 5, bias=False).weight)
    torch.testing.assert_close((classifier.log_variance / 2).exp(), torch.full((5, 4), 0.1))
    assert dict(classifier.named_parameters()).keys() == {"weight", "log_variance"}
    assert (classifier.n, classifier.d) == (5, 4)
    assert repr(classifier) == "MultiCenterClassifier(d=4, n=5, per_class=2, sigma=0.1)"


def sampled(classifier: MultiCenterClassifier, monkeypatch: pytest.MonkeyPatch) -> Tensor:
    """The centres (n, K + 1, d) that a training step draws, read off by features."""
    seen = []

    def spy(*asked: Tensor) -> Tensor:
        seen.append(multicenter_logits(*asked))
        return seen[-1]

    with monkeypatch.context() as patched:
        patched.setattr(multicenter, "multicenter_logits", spy)
        classifier.train().loss(torch.eye(classifier.d), torch.zeros(classifier.d).long())
    return seen[0].detach().T.view(classifier.n, -1, classifier.d)


def test_subcenters_are_drawn_anew_with_the_deviations_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    classifier = MultiCenterClassifier(d=3, n=4, per_class=5000)
    with torch.no_grad():
        classifier.log_variance.copy_(2 * torch.linspace(-2, 1, 12).view(4, 3))
    first, second = sampled(classifier, monkeypatch), sampled(classifier, monkeypatch)
    torch.testing.assert_close(first[:, 0], classifier.weight.detach())
    assert torch.equal(first[:, 0], second[:, 0])
    assert not torch.isclose(first[:, 1:], second[:, 1:]).any(dim=(1, 2)).all()
    # The deviation of 5000 draws is good to 1 %, their mean to 1.4 % of it: five times that.
    sigma = (classifier.log_variance / 2).exp().detach()
    torch.testing.assert_close(first[:, 1:].std(1), sigma, rtol=0.05, atol=0)
    assert ((first[:, 1:].mean(1) - classifier.weight.detach()) / sigma).abs().max() < 0.07


def test_evaluation_is_the_linear_layer() -> None:
    classifier, features, labels = MultiCenterClassifier(d=4, n=5), draw(6, 4).float(), torch.arange(6) % 5
    (linear,) = classifier.as_linear()
    for training in (True, False):
        assert torch.equal(classifier.train(training)(features), linear(features))
    torch.testing.assert_close(classifier.loss(features, labels), cross_entropy(linear(features), labels))
    assert type(linear) is nn.Linear
    assert linear.bias is None
    assert linear.weight.requires_grad
    with torch.no_grad():
        linear.weight.zero_()
    assert classifier.weight.abs().max() > 0
    exported = torch.export.export(classifier, (features,)).module()
    assert torch.equal(exported(features), classifier(features))


def test_training_learns_means_and_deviations() -> None:
    torch.manual_seed(0)
    classifier = MultiCenterClassifier(d=8, n=4)
    labels = torch.arange(64) % 4
    features = 3 * torch.eye(8)[labels] + 0.3 * torch.randn(64, 8)
    optimizer = torch.optim.Adam(classifier.parameters(), lr=0.05)
    start = classifier.log_variance.detach().clone()
    for _ in range(50):
        optimizer.zero_grad()
        classifier.loss(features, labels).backward()
        optimizer.step()
    assert (classifier.log_variance > start).all()  # Eq. 10 pulls towards 1
    classifier.eval()
    assert (classifier(features).argmax(1) == labels).all()


@pytest.mark.parametrize("shape", [(), (7,), (2, 3)])
@pytest.mark.parametrize("training", [True, False])
def test_leading_dimensions(shape: tuple[int, ...], training: bool) -> None:
    classifier = MultiCenterClassifier(d=4, n=5).train(training)
    features, labels = draw(*shape, 4), torch.ones(shape, dtype=torch.int32)
    assert classifier(features).shape == (*shape, 5)
    torch.manual_seed(0)
    loss = classifier.loss(features, labels)
    torch.manual_seed(0)
    torch.testing.assert_close(loss, classifier.loss(features.reshape(-1, 4), labels.reshape(-1)))
    assert loss.dtype == torch.float64


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype: torch.dtype, training: bool) -> None:
    classifier = MultiCenterClassifier(d=4, n=5).train(training)
    features, labels = draw(6, 4).to(dtype), torch.arange(6) % 5
    assert classifier(features).dtype == torch.float32  # the parameters'
    torch.manual_seed(0)
    full = classifier.loss(features, labels)
    with torch.autocast("cpu", dtype):
        assert classifier(features).dtype == dtype
        torch.manual_seed(0)
        loss = classifier.loss(features.float(), labels)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, full, rtol=1e-2, atol=0)
    loss.backward()
    assert all(parameter.grad.isfinite().all() for parameter in classifier.parameters() if parameter.grad is not None)
    classifier.to(dtype)
    assert classifier(features).dtype == dtype
    torch.manual_seed(0)
    torch.testing.assert_close(classifier.loss(features, labels), full, rtol=2e-2, atol=0)


def test_state_dict_deepcopy_and_meta() -> None:
    classifier = MultiCenterClassifier(d=4, n=5, per_class=3)
    with torch.device("meta"):
        empty = MultiCenterClassifier(d=4, n=5, per_class=3)
    empty.load_state_dict(classifier.state_dict(), assign=True)
    copied = copy.deepcopy(classifier)
    features = draw(6, 4).float()
    for other in (empty, copied):
        torch.manual_seed(0)
        expected = classifier(features)
        torch.manual_seed(0)
        assert torch.equal(other(features), expected)
    assert copied.weight.data_ptr() != classifier.weight.data_ptr()


@pytest.mark.slow
@pytest.mark.parametrize("training", [True, False])
def test_compiles_without_a_graph_break(training: bool) -> None:
    classifier = MultiCenterClassifier(d=4, n=5).train(training)
    features, labels = draw(6, 4).float(), torch.arange(6) % 5
    for function in (classifier, lambda z: classifier.loss(z, labels)):
        compiled = torch.compile(function, backend="eager", fullgraph=True)
        torch.manual_seed(0)
        expected = function(features)
        torch.manual_seed(0)
        torch.testing.assert_close(compiled(features), expected)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    ("features", "labels", "message"),
    [
        (torch.ones(2, 4), torch.tensor([0, 5]), "labels hold 5; allowed is 0 to 4"),
        (torch.ones(2, 4), torch.tensor([-1, 0]), "labels hold -1; allowed is 0 to 4"),
        (torch.ones(2, 4), torch.tensor([0]), r"labels have shape \(1,\)"),
        (torch.ones(2, 4), torch.ones(2), "labels are torch.float32"),
        (torch.ones(2, 3), torch.tensor([0, 1]), r"the prototypes need \(\.\.\., 4\)"),
        (torch.ones(2, 4, dtype=torch.int64), torch.tensor([0, 1]), "features must be floating"),
        (torch.full((2, 4), math.inf), torch.tensor([0, 1]), "2 of 2 features are not finite"),
    ],
)
def test_wrong_use_is_one_line(features: Tensor, labels: Tensor, message: str, training: bool) -> None:
    classifier = MultiCenterClassifier(d=4, n=5, debug=True).train(training)
    with pytest.raises(BadRequest, match=message) as refused:
        classifier.loss(features, labels)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"d": 0}, "d is 0; allowed"),
        ({"n": 0}, "n is 0; allowed"),
        ({"per_class": 0}, "per_class is 0; allowed"),
        ({"sigma": 0.0}, "sigma is 0.0; allowed"),
        ({"sigma": math.nan}, "sigma is nan; allowed"),
    ],
)
def test_wrong_settings_are_one_line(settings: dict, message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        MultiCenterClassifier(**({"d": 4, "n": 5} | settings))
