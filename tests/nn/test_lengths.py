"""Features of any length have a direction, and a derivative; what is no tensor is one line."""

from typing import Any

import pytest
import torch
from draws import draw, unit_rows

from protogen.errors import BadRequest
from protogen.nn import AssignmentHead, CosineHead, EBVLoss, FrozenPrototypes, MarginHead
from protogen.nn.checks import directions

PROTOTYPES = FrozenPrototypes(unit_rows(5, 4))


@pytest.mark.parametrize("length", [1e-38, 1e-30, 1e-20, 1e-9, 1.0, 1e9, 1e19, 1e30, 1e37])
def test_directions_in_float32(length: float) -> None:
    wanted = draw(6, 4)
    features = (wanted * length).float()
    found = directions(features, 4).double()
    exact = features.double() / features.double().norm(dim=1, keepdim=True)
    assert torch.allclose(found, exact, atol=2e-7)
    assert (directions(torch.zeros(2, 4), 4) == 0).all()


@pytest.mark.parametrize("length", [1e-200, 1e-150, 1.0, 1e200])
def test_derivatives_in_float64(length: float) -> None:
    features = (draw(3, 4) * length).requires_grad_()
    towards = draw(3, 4, seed=2)
    (found,) = torch.autograd.grad((directions(features, 4) * towards).sum(), features)
    z = draw(3, 4)
    norms = z.norm(dim=1, keepdim=True)
    z = z / norms
    wanted = (towards - z * (z * towards).sum(1, keepdim=True)) / norms
    assert torch.allclose(found * length, wanted, rtol=1e-12, atol=1e-12)


def test_usual_features_keep_their_bits() -> None:
    features = draw(64, 16).float()
    assert torch.equal(directions(features, 16), features / torch.linalg.vector_norm(features, dim=1, keepdim=True))


HEADS: dict[str, Any] = {
    "cosine": lambda: CosineHead(PROTOTYPES),
    "margin": lambda: MarginHead(PROTOTYPES, margin=0.1),
    "assignment": lambda: AssignmentHead(PROTOTYPES),
}


@pytest.mark.parametrize("name", HEADS)
def test_what_is_no_feature_is_one_line(name: str) -> None:
    head = HEADS[name]().eval()
    for wrong in ("x", 5, None, [1.0, 2.0], torch.tensor(1.0)):
        with pytest.raises(BadRequest, match="features"):
            head(wrong)
    assert torch.allclose(head(torch.full((1, 4), 1e30)), head(torch.ones(1, 4)), atol=1e-6)


def test_settings_that_are_no_numbers() -> None:
    for given in ({"every": 1.5}, {"every": "2"}, {"momentum": "x"}):
        with pytest.raises(BadRequest, match=next(iter(given))):
            AssignmentHead(PROTOTYPES, **given)  # type: ignore[arg-type]
    with pytest.raises(BadRequest, match="temperature is 'x'"):
        CosineHead(PROTOTYPES, temperature="x")  # type: ignore[arg-type]
    with pytest.raises(BadRequest, match="features"):
        EBVLoss(PROTOTYPES)(torch.tensor(1.0), torch.tensor(0))
