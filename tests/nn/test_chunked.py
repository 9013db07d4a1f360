"""Cross entropy by chunks of classes, against the line that it stands for, in float64."""

import copy
import math

import pytest
import torch
from draws import draw, unit_rows
from torch import Tensor
from torch.nn.functional import cross_entropy

from protogen.errors import BadRequest
from protogen.nn import (
    ChunkedCosineLoss,
    CosineHead,
    FrozenPrototypes,
    StructuredPrototypes,
    chunked,
    chunked_cross_entropy,
)


def plain(features: Tensor, prototypes: Tensor, labels: Tensor, temperature: float = 1.0, **settings) -> Tensor:
    """The line that the docstring gives."""
    return cross_entropy(features @ prototypes.to(features.dtype).T / temperature, labels, **settings)


def both(features: Tensor, ours, theirs) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Two losses and their gradients in the features."""
    results = []
    for loss in (ours, theirs):
        leaf = features.detach().clone().requires_grad_()
        value = loss(leaf)
        # Weights that differ, so that no sample's gradient can stand for another's.
        (value * torch.arange(1, value.numel() + 1).view(value.shape)).sum().backward()
        results.append((value.detach(), leaf.grad))
    return results[0][0], results[1][0], results[0][1], results[1][1]


@pytest.mark.slow
@pytest.mark.parametrize("chunk", [1, 4, 7, 13, 14, 100, None])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_value_and_gradient_are_those_of_the_plain_line(chunk: int | None, smoothing: float, reduction: str) -> None:
    features, prototypes, labels = 5 * draw(6, 3), unit_rows(13, 3), torch.tensor([0, 12, 6, -100, 7, 3])
    settings = {"label_smoothing": smoothing, "reduction": reduction}
    got, expected, gradient, true = both(
        features,
        lambda z: chunked_cross_entropy(z, prototypes, labels, 0.3, chunk=chunk, **settings),
        lambda z: plain(z, prototypes, labels, 0.3, **settings),
    )
    torch.testing.assert_close(got, expected, rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(gradient, true, rtol=1e-12, atol=1e-13)
    assert torch.equal(gradient[3], torch.zeros(3, dtype=torch.float64))


def test_against_the_sums_written_out() -> None:
    features, prototypes, labels = draw(4, 3), unit_rows(5, 3).double(), [3, 0, 4, 4]
    expected, true = 0.0, torch.zeros(4, 3, dtype=torch.float64)
    for i, y in enumerate(labels):
        terms = [math.exp(float(features[i] @ w) / 0.5) for w in prototypes]
        expected -= math.log(terms[y] / sum(terms)) / 4
        for j, w in enumerate(prototypes):
            true[i] += (terms[j] / sum(terms) - (j == y)) * w / 0.5 / 4
    leaf = features.requires_grad_()
    loss = chunked_cross_entropy(leaf, unit_rows(5, 3), torch.tensor(labels), 0.5, chunk=2)
    loss.backward()
    assert loss.item() == pytest.approx(expected, rel=1e-13)
    torch.testing.assert_close(leaf.grad, true, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("scale", [0.0, 1e-30, 1.0, 1e4])
@pytest.mark.parametrize("rising", [False, True])
def test_float32_at_the_edges(scale: float, rising: bool) -> None:
    # Rows in the order of their logits, rising or falling: the largest comes last or first.
    features, prototypes = scale * draw(5, 4).float(), unit_rows(50, 4)
    prototypes = prototypes[(prototypes @ draw(5, 4).float()[0]).argsort(descending=not rising)]
    labels = torch.arange(5)
    got, expected, gradient, true = both(
        features,
        lambda z: chunked_cross_entropy(z, prototypes, labels, chunk=8, reduction="none"),
        lambda z: plain(z.double(), prototypes, labels, reduction="none"),
    )
    assert got.dtype == torch.float32
    # Features of 1e4 make logits good to 1e-3 in float32.
    torch.testing.assert_close(got, expected.float(), rtol=1e-6, atol=1e-6 * max(1, scale))
    torch.testing.assert_close(gradient, true, rtol=0, atol=1e-5 if scale < 1e4 else 1e-2)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_features_are_computed_in_float32(dtype: torch.dtype) -> None:
    features, prototypes, labels = draw(5, 4).to(dtype), unit_rows(50, 4), torch.arange(5)
    got, expected, gradient, true = both(
        features,
        lambda z: chunked_cross_entropy(z, prototypes, labels, 0.07, chunk=8),
        lambda z: plain(z.double(), prototypes, labels, 0.07),
    )
    assert (got.dtype, gradient.dtype) == (torch.float32, dtype)
    torch.testing.assert_close(got, expected.float(), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(gradient, true, rtol=1e-2, atol=1e-6)


@pytest.mark.parametrize(("dtype", "error"), [(torch.bfloat16, 1e-2), (torch.float16, 1e-3)])
def test_autocast_lowers_the_products_alone(dtype: torch.dtype, error: float) -> None:
    prototypes = unit_rows(500, 32)
    # Half of the features are so near to their own prototypes that the loss, all but 0, must not come out below it.
    labels = torch.arange(64)
    features = torch.where(labels < 32, 30.0, 5.0)[:, None] * prototypes[:64] + draw(64, 32).float()
    got, expected, gradient, true = both(
        features,
        lambda z: chunked_cross_entropy(z, prototypes, labels, chunk=50, reduction="none"),
        lambda z: plain(z, prototypes, labels, reduction="none"),
    )
    leaf = features.clone().requires_grad_()
    with torch.autocast("cpu", dtype):
        cast = chunked_cross_entropy(leaf, prototypes, labels, chunk=50, reduction="none")
    (cast * torch.arange(1, 65)).sum().backward()
    assert cast.dtype == torch.float32
    assert cast.min() >= 0
    assert 0 < (cast - got).abs().max() < 32 * error
    torch.testing.assert_close(leaf.grad, true, rtol=0, atol=64 * 32 * error)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(gradient, true, rtol=1e-4, atol=1e-4)


def test_ignored_labels_alone_have_loss_and_gradient_zero() -> None:
    features = draw(3, 4).requires_grad_()
    loss = chunked_cross_entropy(features, unit_rows(5, 4), torch.full((3,), 2), ignore_index=2)
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(features.grad, torch.zeros(3, 4, dtype=torch.float64))


def test_an_ignored_label_may_be_a_class() -> None:
    features, prototypes, labels = draw(4, 3), unit_rows(5, 3), torch.tensor([0, 2, 1, 2])
    got = chunked_cross_entropy(features, prototypes, labels, ignore_index=2)
    torch.testing.assert_close(got, plain(features, prototypes, labels, ignore_index=2))


@pytest.mark.parametrize("shape", [(), (7,), (2, 3), (0,)])
def test_leading_dimensions_are_kept(shape: tuple[int, ...]) -> None:
    features, prototypes = draw(*shape, 3), unit_rows(5, 3)
    labels = torch.ones(shape, dtype=torch.int32)
    got = chunked_cross_entropy(features, prototypes, labels, reduction="none", chunk=2)
    assert got.shape == shape
    expected = plain(features.reshape(-1, 3), prototypes, labels.reshape(-1).long(), reduction="none")
    torch.testing.assert_close(got.reshape(-1), expected)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("held", [FrozenPrototypes, "kerdock(k=2)"], ids=["frozen", "structured"])
def test_module_is_the_cross_entropy_of_the_cosine_head(held, smoothing: float) -> None:
    structured = StructuredPrototypes("kerdock(k=2)", 100)
    prototypes = structured if isinstance(held, str) else held(structured.rows(0, 100))
    features, labels = draw(6, structured.d), torch.tensor([0, 99, 50, 1, -100, 7])
    loss = ChunkedCosineLoss(prototypes, 0.1, label_smoothing=smoothing)
    got, expected, gradient, true = both(
        features,
        lambda z: loss(z, labels),
        lambda z: cross_entropy(CosineHead(prototypes, 0.1)(z), labels, label_smoothing=smoothing),
    )
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(gradient, true, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("chunk", [7, 64, 100])
def test_structured_prototypes_by_chunks(chunk: int) -> None:
    prototypes = StructuredPrototypes("kerdock(k=2)", 100)
    features, labels = draw(6, prototypes.d), torch.tensor([0, 99, 50, 1, 6, 7])
    got, expected, gradient, true = both(
        features,
        lambda z: chunked_cross_entropy(z, prototypes, labels, 0.2, chunk=chunk),
        lambda z: plain(z, prototypes.rows(0, 100), labels, 0.2),
    )
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(gradient, true, rtol=1e-11, atol=1e-12)


def test_a_zero_feature_has_zero_gradient_under_the_module() -> None:
    features = torch.tensor([[0.0, 0.0, 0.0], [1.0, 2.0, 2.0]], requires_grad=True)
    ChunkedCosineLoss(FrozenPrototypes(unit_rows(5, 3)))(features, torch.tensor([0, 1])).backward()
    assert torch.equal(features.grad[0], torch.zeros(3))
    assert features.grad[1].abs().max() > 0


def test_the_gradient_reaches_the_features_alone() -> None:
    prototypes, features = unit_rows(5, 3).requires_grad_(), draw(2, 3).requires_grad_()
    loss = chunked_cross_entropy(features, prototypes, torch.tensor([0, 1]))
    loss.backward(retain_graph=True)
    first = features.grad.clone()
    loss.backward()
    assert prototypes.grad is None
    torch.testing.assert_close(features.grad, 2 * first)


def test_no_chunk_is_larger_than_asked_and_no_gradient_is_made_for_none(monkeypatch) -> None:
    seen, combined = [], []
    product, combine = chunked._product, chunked._combine
    monkeypatch.setattr(chunked, "_product", lambda *asked: seen.append(asked[2:]) or product(*asked))
    monkeypatch.setattr(chunked, "_combine", lambda *asked: combined.append(asked[2]) or combine(*asked))
    features, labels = draw(2, 3).requires_grad_(), torch.tensor([0, 1])
    with torch.no_grad():
        chunked_cross_entropy(features, unit_rows(10, 3), labels, chunk=4)
    assert seen == [(0, 4), (4, 8), (8, 10)]
    assert combined == []
    # By themselves from four chunks on: 20 logits are more than 4 times these.
    for logits, chunks in ((5, []), (4, [(0, 3), (3, 6), (6, 9), (9, 10)]), (4.9, [(0, 3), (3, 6), (6, 9), (9, 10)])):
        monkeypatch.setattr(chunked, "CPU_LOGITS", logits)
        seen.clear()
        combined.clear()
        chunked_cross_entropy(features, unit_rows(10, 3), labels)
        assert seen == chunks  # of d = 3 classes at least
        assert combined == [start for start, _ in chunks]


# torch's tracer makes an object of an autograd function, and warns of itself.
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
def test_compiles_without_a_graph_break() -> None:
    loss = ChunkedCosineLoss(FrozenPrototypes(unit_rows(5, 3)), label_smoothing=0.1)
    compiled = torch.compile(loss, backend="eager", fullgraph=True)
    labels = torch.tensor([0, 4, -100, 1])
    got, expected, gradient, true = both(draw(4, 3), lambda z: compiled(z, labels), lambda z: loss(z, labels))
    torch.testing.assert_close(got, expected)
    torch.testing.assert_close(gradient, true)


def test_state_dict_and_deepcopy() -> None:
    loss = ChunkedCosineLoss(FrozenPrototypes(unit_rows(5, 3)))
    assert loss.state_dict().keys() == {"head.prototypes.sha256", "head.prototypes.origin"}
    assert list(loss.parameters()) == []
    copied = copy.deepcopy(loss)
    assert torch.equal(copied.head.prototypes.rows(0, 5), loss.head.prototypes.rows(0, 5))
    other = ChunkedCosineLoss(FrozenPrototypes(unit_rows(5, 3)))
    other.load_state_dict(loss.state_dict())
    features, labels = draw(4, 3), torch.arange(4)
    assert torch.equal(other.half()(features, labels), loss(features, labels))
    with pytest.raises(BadRequest, match="the checkpoint was trained with"):
        ChunkedCosineLoss(FrozenPrototypes(unit_rows(5, 3).roll(1, 0))).load_state_dict(loss.state_dict())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": torch.tensor([0, 5])}, "labels hold 5; allowed is 0 to 4"),
        ({"labels": torch.tensor([0, -1])}, "labels hold -1; allowed is 0 to 4"),
        ({"labels": torch.tensor([0.0, 1.0])}, "labels are torch.float32; allowed are integers"),
        ({"labels": torch.tensor([0])}, r"labels have shape \(1,\); allowed is one a feature, \(2,\)"),
        ({"features": torch.ones(2, 4)}, r"the prototypes need \(\.\.\., 3\)"),
        ({"features": torch.ones(2, 3, dtype=torch.int64)}, "features must be floating"),
        ({"features": torch.tensor([[1.0, 2, 3], [1, math.inf, 3]]), "debug": True}, "1 of 2 features are not finite"),
        ({"temperature": 0}, "temperature is 0; allowed"),
        ({"temperature": math.nan}, "temperature is nan; allowed"),
        ({"label_smoothing": 1.5}, "label_smoothing is 1.5; allowed is a number from 0 to 1"),
        ({"reduction": "max"}, "reduction is 'max'; allowed"),
        ({"chunk": 0}, "chunk is 0; allowed"),
    ],
)
def test_wrong_use_is_one_line(change: dict, message: str) -> None:
    asked = {"features": torch.ones(2, 3), "prototypes": unit_rows(5, 3), "labels": torch.tensor([0, 1])}
    with pytest.raises(BadRequest, match=message) as refused:
        chunked_cross_entropy(**(asked | change))
    assert "\n" not in str(refused.value)


def test_module_refuses_at_once() -> None:
    with pytest.raises(BadRequest, match="temperature is -1"):
        ChunkedCosineLoss(FrozenPrototypes(torch.eye(3)), -1)
    with pytest.raises(BadRequest, match="label_smoothing is 2"):
        ChunkedCosineLoss(FrozenPrototypes(torch.eye(3)), label_smoothing=2)
