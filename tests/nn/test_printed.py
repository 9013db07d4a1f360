"""Equations as the papers print them, beside what the heads take by default, against float64 versions of the text."""

import math
from collections.abc import Callable

import pytest
import torch
from draws import double_rows, draw
from torch import Tensor
from torch.nn.functional import cross_entropy

from protogen.errors import BadRequest
from protogen.nn import (
    CosineHead,
    FrozenPrototypes,
    MarginHead,
    SubcenterHead,
    cosine_loss,
    margin_logits,
    polytope_logits,
    polytope_loss,
    recall_at,
    spherical_logits,
    spherical_loss,
    subcenter_loss,
)

LABELS = torch.tensor([0, 4, 4, 2, 1, 3, 0])


def same(ours: Callable[..., Tensor], theirs: Callable[..., Tensor], *given: Tensor) -> None:
    """Compare values and gradients to 1e-6."""
    found = []
    for loss in (ours, theirs):
        free = [v.clone().requires_grad_() for v in given]
        value = loss(*free)
        value.backward()
        found.append((value.detach(), *(v.grad for v in free)))
    for got, expected in zip(*found, strict=True):
        assert expected.isfinite().all()
        torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-6)


def angle(v: Tensor, w: Tensor) -> Tensor:
    return torch.acos((v @ w) / (v.square().sum().sqrt() * w.square().sum().sqrt()))


# Maximally Compact and Separated Features with Regular Polytope Networks


@pytest.mark.parametrize("m", [0.3, math.pi / 2, 2.5])
def test_the_margin_as_printed_is_equation_9_also_beyond_pi(m: float) -> None:
    rows = double_rows(5, 3)
    x = torch.cat([draw(6, 3), -rows[:1] + 0.1 * draw(1, 3, seed=4)])  # the last lies nearly opposite to its class

    def equation_9(x: Tensor) -> Tensor:
        total = torch.zeros((), dtype=torch.float64)
        for f, y in zip(x, LABELS.tolist(), strict=True):
            own = torch.exp(30 * torch.cos(angle(f, rows[y]) + m))
            others = sum(torch.exp(30 * torch.cos(angle(f, w))) for j, w in enumerate(rows) if j != y)
            total = total - torch.log(own / (own + others))
        return total / len(x)

    same(lambda x: cross_entropy(margin_logits(x, rows, LABELS, m, continuation="printed"), LABELS), equation_9, x)
    head = MarginHead(rows.float(), m, continuation="printed")
    assert head.loss(x, LABELS).item() == pytest.approx(equation_9(x).item(), rel=1e-5)
    assert "continuation='printed'" in repr(head)
    with pytest.raises(BadRequest, match="continuation is 'up'; allowed is 'falling', 'printed'"):
        MarginHead(rows.float(), m, continuation="up")


def test_the_printed_margin_pushes_away_beyond_pi_and_ours_does_not() -> None:
    rows = torch.eye(3, dtype=torch.float64)
    x = torch.tensor([[math.cos(3.0), math.sin(3.0), 0.0]], dtype=torch.float64)  # 3 radians from its class
    pulls = []
    for continuation in ("printed", "falling"):
        free = x.clone().requires_grad_()
        margin_logits(free, rows, torch.tensor([0]), 1.0, continuation=continuation)[0, 0].backward()
        pulls.append(float(free.grad @ torch.tensor([1.0, 0, 0], dtype=torch.float64)))
    assert pulls[0] < 0 < pulls[1]


@pytest.mark.parametrize("kappas", ["1", "one a class"])
def test_features_of_any_length_are_equation_6(kappas: str) -> None:
    rows, x = double_rows(5, 3), draw(7, 3) * torch.tensor([1.0, 3, 0.1, 1, 2, 1, 5])[:, None]
    kappa = torch.tensor([1.0, 2, 0.5, 3, 1], dtype=torch.float64) if kappas != "1" else torch.ones(5).double()

    def equation_6(x: Tensor, kappa: Tensor) -> Tensor:
        total = torch.zeros((), dtype=torch.float64)
        for f, y in zip(x, LABELS.tolist(), strict=True):
            terms = [torch.exp(k * (w @ f)) for k, w in zip(kappa, rows, strict=True)]
            total = total - torch.log(terms[y] / sum(terms))
        return total / len(x)

    same(lambda x, kappa: polytope_loss(x, rows, LABELS, kappa), equation_6, x, kappa)
    frozen = FrozenPrototypes(rows.float())
    torch.testing.assert_close(polytope_logits(x.float(), frozen, kappa.float()), ((x @ rows.T) * kappa).float())
    with pytest.raises(
        BadRequest, match=r"kappa is \(4,\) of torch.float32; allowed is a number, or one a class, \(5,"
    ):
        polytope_logits(x, rows, torch.ones(4))
    with pytest.raises(BadRequest, match="kappa is 0"):
        polytope_logits(x, rows, 0)


# Equiangular Basis Vectors


@pytest.mark.parametrize("tau", [1.0, 0.07])
def test_the_softmax_of_angles_is_equation_2(tau: float) -> None:
    rows, x = double_rows(5, 3), draw(7, 3)

    def equation_2(x: Tensor) -> Tensor:
        total = torch.zeros((), dtype=torch.float64)
        for v, y in zip(x, LABELS.tolist(), strict=True):
            terms = [torch.exp(-angle(v, w) / tau) for w in rows]
            total = total - torch.log(terms[y] / sum(terms))
        return total / len(x)

    same(lambda x: spherical_loss(x, rows, LABELS, tau), equation_2, x)
    soft = torch.eye(5)[LABELS]
    torch.testing.assert_close(spherical_loss(x, rows, soft, tau), spherical_loss(x, rows, LABELS, tau))
    nearest = spherical_logits(x, rows, tau).argmax(1)
    assert torch.equal(nearest, CosineHead(rows.float())(x).argmax(1))


def test_angles_of_0_and_pi_have_a_finite_gradient() -> None:
    rows = torch.eye(3)
    x = torch.stack([2 * rows[0], -rows[1], torch.zeros(3)]).requires_grad_()
    angles = -spherical_logits(x, rows)
    torch.testing.assert_close(angles[0], torch.tensor([0.0, math.pi / 2, math.pi / 2]))
    torch.testing.assert_close(angles[1, 1], torch.tensor(math.pi))
    angles.sum().backward()
    assert x.grad.isfinite().all()


def test_the_direct_objective_is_one_less_the_cosine() -> None:
    rows, x = double_rows(5, 3), draw(7, 3)

    def direct(x: Tensor) -> Tensor:
        return sum(1 - torch.cos(angle(v, rows[y])) for v, y in zip(x, LABELS.tolist(), strict=True)) / len(x)

    same(lambda x: cosine_loss(x, rows, LABELS), direct, x)
    with pytest.raises(BadRequest, match="targets are soft; allowed are labels"):
        cosine_loss(x, rows, torch.eye(5)[LABELS])


def test_dense_prediction_leaves_255_out() -> None:
    """A map of features (images, height, width, d) with a label for each pixel, 255 where there is none."""
    head, x = CosineHead(double_rows(5, 3).float()), draw(2, 4, 4, 3)
    labels = (torch.arange(32) % 5).view(2, 4, 4).to(torch.uint8)
    labels[0, 1:3] = 255
    kept = labels != 255
    for loss in (head.loss, lambda z, y, **s: spherical_loss(z, head.prototypes, y, **s)):
        torch.testing.assert_close(loss(x, labels, ignore_index=255), loss(x[kept], labels[kept]))
    assert head.loss(x[:0], labels[:0], ignore_index=255) == 0
    with pytest.raises(BadRequest, match="labels hold 255; allowed is 0 to 4"):
        head.loss(x, labels)


# The Fixed Sub-Center


@pytest.mark.parametrize("own", ["probable", "nearest"])
@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_both_readings_of_the_corresponding_sub_centre(own: str, reduction: str) -> None:
    rows = draw(5, 3, 4, seed=2) * torch.tensor([0.3, 1.0, 3.0])[:, None]  # of different lengths
    x = draw(7, 4, seed=5)

    def equation_8(x: Tensor) -> Tensor:
        entropy, compact, apart = torch.zeros(()).double(), torch.zeros(()).double(), 0
        for v, y in zip(x, LABELS.tolist(), strict=True):
            terms = torch.exp(rows.flatten(0, 1) @ v)
            entropy = entropy - torch.log(terms[3 * y : 3 * y + 3].sum() / terms.sum()) / len(x)
            probable = int((rows[y] @ v.detach()).argmax())
            nearest = int((v.detach() - rows[y]).square().sum(1).argmin())
            apart += probable != nearest
            compact = compact + (v - rows[y, probable if own == "probable" else nearest]).square().sum() / 2
        assert apart > 0  # the readings differ here
        return entropy + 0.1 * compact / (len(x) if reduction == "mean" else 1)

    same(lambda x: subcenter_loss(x, rows, LABELS, 0.1, reduction=reduction, own=own), equation_8, x)
    head = SubcenterHead(rows.float(), 0.1, compactness=reduction, own=own)
    assert head.loss(x, LABELS).item() == pytest.approx(equation_8(x).item(), rel=1e-5)
    soft = head.loss(x, torch.eye(5)[LABELS])
    assert soft.item() == pytest.approx(equation_8(x).item(), rel=1e-5)
    with pytest.raises(BadRequest, match="own is 'any'; allowed is 'probable', 'nearest'"):
        SubcenterHead(rows.float(), own="any")


@pytest.mark.parametrize("part", [1, 1 << 24])
def test_recall_is_that_of_sorted_neighbours(part: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from protogen.nn import recall

    monkeypatch.setattr(recall, "PART", part)
    x, labels = draw(40, 3), torch.arange(40) % 7
    hits = {1: 0, 2: 0, 5: 0, 39: 0}
    for i in range(40):
        others = sorted((j for j in range(40) if j != i), key=lambda j: float(angle(x[i], x[j])))
        for k in hits:
            hits[k] += any(labels[j] == labels[i] for j in others[:k])
    assert recall_at(x, labels, tuple(hits)) == pytest.approx([hit / 40 for hit in hits.values()])
    assert recall_at(torch.eye(3), torch.arange(3), (1, 2)) == (0, 0)


@pytest.mark.parametrize(
    ("x", "labels", "ks", "message"),
    [
        (torch.ones(3), torch.arange(3), (1,), "allowed is"),
        (torch.ones(1, 3), torch.zeros(1).long(), (1,), "with at least two"),
        (torch.ones(4, 3), torch.arange(4), (4,), "k is 4; allowed is a whole number from 1 to 3"),
        (torch.ones(4, 3), torch.ones(4), (1,), "labels are torch.float32"),
        (torch.ones(4, 3), torch.arange(3), (1,), "labels have shape"),
    ],
)
def test_recall_refuses_in_one_line(x: Tensor, labels: Tensor, ks: tuple[int, ...], message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        recall_at(x, labels, ks)
