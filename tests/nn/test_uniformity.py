"""The uniformity loss, against Eq. 3 to 5 of the assignment paper in float64."""

import math

import pytest
import torch
from draws import draw
from torch import Tensor
from torch.nn.functional import cross_entropy

from protogen.errors import BadRequest
from protogen.nn import uniformity_loss


def equation_5(vectors: Tensor, t: float, subset: list[int]) -> Tensor:
    """Compute Eq. 5 a pair at a time, of the vectors' directions."""
    w = [v / v.square().sum().sqrt() for v in vectors]
    total = sum(torch.exp(-t * (w[i] - w[j]).square().sum()) for i in subset for j in range(len(w)))
    return torch.log(total / len(subset))


@pytest.mark.parametrize("t", [0.5, 2.0, 20.0])
@pytest.mark.parametrize("weight", [0.0, 0.01, 1.0])
@pytest.mark.parametrize("subset", [None, [4, 1, 2]])
def test_it_is_equation_5(t: float, weight: float, subset: list[int] | None) -> None:
    vectors = draw(6, 3) * torch.tensor([1.0, 1e-3, 1e3, 1.0, 2.0, 3.0])[:, None]
    ours, theirs = (vectors.clone().requires_grad_() for _ in range(2))
    got = uniformity_loss(ours, t, weight=weight, subset=None if subset is None else torch.tensor(subset))
    expected = weight * equation_5(theirs, t, subset or list(range(6)))
    got.backward()
    expected.backward()
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-9, atol=1e-9)


def test_a_learned_classifier_comes_to_the_simplex() -> None:
    """PSC* on features without a class: the cross entropy pulls nowhere, and four rows in R^3 become a simplex."""
    torch.manual_seed(0)
    linear = torch.nn.Linear(3, 4)
    features, labels = torch.zeros(4, 3), torch.arange(4)
    optimizer = torch.optim.SGD(linear.parameters(), lr=0.5)
    for _ in range(300):
        optimizer.zero_grad()
        loss = cross_entropy(linear(features), labels) + uniformity_loss(linear.weight)
        loss.backward()
        optimizer.step()
    rows = torch.nn.functional.normalize(linear.weight.detach())
    cosines = (rows @ rows.T)[~torch.eye(4, dtype=torch.bool)]
    torch.testing.assert_close(cosines, torch.full((12,), -1 / 3), rtol=0, atol=1e-3)


def test_half_precision_and_autocast_are_computed_in_float32() -> None:
    vectors = draw(8, 4)
    full = uniformity_loss(vectors)
    for dtype in (torch.float16, torch.bfloat16):
        half = uniformity_loss(vectors.to(dtype))
        assert half.dtype == torch.float32
        assert half.item() == pytest.approx(full.item(), abs=1e-2)
    with torch.autocast("cpu", torch.bfloat16):
        assert uniformity_loss(vectors.float()).item() == pytest.approx(full.item(), abs=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vectors": torch.ones(3)}, r"vectors are \(3,\) of torch.float32; allowed"),
        ({"vectors": torch.ones(3, 2, dtype=torch.int64)}, r"vectors are \(3, 2\) of torch.int64; allowed"),
        ({"t": 0.0}, "t is 0.0; allowed is a positive"),
        ({"weight": -1.0}, "weight is -1.0; allowed is 0 or a positive and finite number; the paper's is 0.01"),
        ({"weight": math.nan}, "weight is nan"),
        ({"subset": torch.tensor([])}, "subset is"),
        ({"subset": torch.ones(2)}, "subset is"),
    ],
)
def test_what_is_not_allowed_is_one_line(change: dict, message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        uniformity_loss(**({"vectors": torch.ones(3, 2)} | change))
