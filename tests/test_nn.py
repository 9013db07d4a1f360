"""Frozen prototypes and the cosine head, against Eq. 6 in float64 and against nn's own habits."""

import copy
import math
import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

from protogen.errors import BadRequest
from protogen.nn import CosineHead, FrozenPrototypes, cosine_logits, exclude_from_ddp
from protogen.prototypes import Prototypes, Provenance
from protogen.solution import InMemory
from protogen.spec import Spec
from protogen.store import Store


def unit_rows(n: int, d: int, seed: int = 0) -> Tensor:
    """Draw unit rows (n, d) float32."""
    rows = torch.randn(n, d, generator=torch.Generator().manual_seed(seed))
    return nn.functional.normalize(rows, dim=1)


def draw(*shape: int) -> Tensor:
    """Draw features in float64."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def probabilities(features: Tensor, prototypes: Tensor, tau: float) -> Tensor:
    """Compute Eq. 6 as it is written, one sample and one class at a time."""
    rows = []
    for v in features:
        v_hat = v / math.sqrt(sum(x * x for x in v.tolist()))
        terms = [math.exp(float(w @ v_hat) / tau) for w in prototypes]
        rows.append([term / sum(terms) for term in terms])
    return torch.tensor(rows, dtype=torch.float64)


# FrozenPrototypes


def test_frozen_is_a_buffer_and_not_a_parameter() -> None:
    frozen = FrozenPrototypes(unit_rows(5, 3))
    assert list(frozen.parameters()) == []
    assert dict(frozen.named_buffers()).keys() == {"prototypes"}
    assert (frozen.n, frozen.d) == (5, 3)
    assert frozen.prototypes.shape == (5, 3)
    assert repr(frozen) == "FrozenPrototypes(n=5, d=3)"


def test_frozen_shares_the_tensor_given_and_drops_its_gradient() -> None:
    rows = unit_rows(5, 3).requires_grad_()
    frozen = FrozenPrototypes(rows)
    assert frozen.prototypes.data_ptr() == rows.data_ptr()
    assert not frozen.prototypes.requires_grad


def test_frozen_makes_rows_contiguous() -> None:
    columns = unit_rows(5, 3).T.contiguous()
    frozen = FrozenPrototypes(columns.T)
    assert frozen.prototypes.is_contiguous()
    assert torch.equal(frozen.prototypes, columns.T)


def test_frozen_takes_a_record_and_a_path(tmp_path: Path) -> None:
    rows = unit_rows(5, 3)
    made = Provenance("0", "0", "0", "cpu", 1, 0, 0.0, "2000-01-01T00:00:00Z", "built by formula", "exact")
    spec = Spec.of("ebv", 1, d=3, n=5, seed=0, params={})
    record = Prototypes(spec, InMemory(rows), stats=None, provenance=made)
    path = Store(tmp_path).publish(record)
    assert FrozenPrototypes(record).prototypes.data_ptr() == rows.data_ptr()
    assert torch.equal(FrozenPrototypes(path).prototypes, rows)
    assert torch.equal(FrozenPrototypes(str(path)).prototypes, rows)


def test_frozen_refuses_what_is_no_source() -> None:
    with pytest.raises(BadRequest, match="a tensor, a Prototypes record or a path, got list"):
        FrozenPrototypes([[1.0, 0.0]])


@pytest.mark.parametrize("persistent", [True, False])
def test_frozen_is_in_the_state_dict_by_choice(persistent: bool) -> None:
    head = CosineHead(FrozenPrototypes(unit_rows(5, 3), persistent=persistent))
    assert ("prototypes.prototypes" in head.state_dict()) is persistent
    copied = copy.deepcopy(head)
    assert ("prototypes.prototypes" in copied.state_dict()) is persistent


@pytest.mark.parametrize("cast", [nn.Module.half, nn.Module.bfloat16, nn.Module.double], ids=lambda f: f.__name__)
def test_frozen_stays_float32_when_the_model_is_cast(cast) -> None:
    rows = unit_rows(5, 3)
    model = nn.Sequential(nn.Linear(4, 3), CosineHead(FrozenPrototypes(rows)))
    cast(model)
    assert model[0].weight.dtype != torch.float32
    assert model[1].prototypes.prototypes.dtype == torch.float32
    assert model[1].prototypes.prototypes.data_ptr() == rows.data_ptr()
    logits = model(torch.ones(2, 4, dtype=model[0].weight.dtype))
    assert logits.isfinite().all()


def test_frozen_follows_a_device_and_not_the_type_named_with_it() -> None:
    model = nn.Sequential(nn.Linear(4, 3), CosineHead(FrozenPrototypes(unit_rows(5, 3))))
    model.to("meta", torch.float16)
    assert model[0].weight.dtype == torch.float16
    assert model[1].prototypes.prototypes.dtype == torch.float32
    assert model[1].prototypes.prototypes.is_meta


def test_frozen_comes_back_from_meta_by_to_empty_and_load() -> None:
    rows = unit_rows(5, 3)
    saved = FrozenPrototypes(rows).state_dict()
    frozen = FrozenPrototypes(rows).to("meta").to_empty(device="cpu")
    frozen.load_state_dict(saved)
    assert torch.equal(frozen.prototypes, rows)


def test_deepcopy_shares_the_tensor_and_nothing_else() -> None:
    model = nn.Sequential(nn.Linear(4, 3), CosineHead(FrozenPrototypes(unit_rows(5, 3))))
    copied = copy.deepcopy(model)
    assert copied[1].prototypes is not model[1].prototypes
    assert copied[1].prototypes.prototypes.data_ptr() == model[1].prototypes.prototypes.data_ptr()
    assert copied[0].weight.data_ptr() != model[0].weight.data_ptr()
    copied.to("meta")
    assert not model[1].prototypes.prototypes.is_meta


@pytest.mark.parametrize("assign", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_loading_other_values_reaches_this_module_alone(assign: bool, dtype: torch.dtype) -> None:
    rows, others = unit_rows(5, 3), unit_rows(5, 3, seed=2).to(dtype)
    given = rows.clone()
    frozen = FrozenPrototypes(given)
    copied = copy.deepcopy(frozen)
    copied.load_state_dict({"prototypes": others}, assign=assign)
    assert copied.prototypes.dtype == torch.float32
    assert torch.equal(copied.prototypes, others.float())
    assert torch.equal(frozen.prototypes, rows)
    assert torch.equal(given, rows)


def test_loading_another_shape_is_refused_and_changes_nothing() -> None:
    rows = unit_rows(5, 3)
    frozen = FrozenPrototypes(rows)
    with pytest.raises(RuntimeError, match="size mismatch"):
        frozen.load_state_dict({"prototypes": unit_rows(6, 3)})
    assert torch.equal(frozen.prototypes, rows)


def test_pickle_round_trip() -> None:
    head = CosineHead(FrozenPrototypes(unit_rows(5, 3)), temperature=0.1)
    again = pickle.loads(pickle.dumps(head))
    assert torch.equal(again.prototypes.prototypes, head.prototypes.prototypes)
    assert again.temperature == 0.1


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (torch.ones(3), r"must be \(n, d\), got \(3,\)"),
        (torch.ones(2, 2, 3), r"must be \(n, d\), got \(2, 2, 3\)"),
        (torch.empty(0, 3), r"must be \(n, d\), got \(0, 3\)"),
        (torch.eye(3, dtype=torch.float64), "must be float32, got torch.float64"),
        (torch.eye(3).half(), "must be float32, got torch.float16"),
        (2 * torch.eye(3), "norm 1 within 1e-05, got a row that is off by 1:"),
        (torch.full((2, 3), math.nan), "norm 1 within 1e-05, got a row that is off by nan"),
    ],
)
def test_frozen_refuses_what_are_not_prototypes(rows: Tensor, message: str) -> None:
    with pytest.raises(BadRequest, match=message) as refused:
        FrozenPrototypes(rows)
    assert "\n" not in str(refused.value)


@pytest.fixture
def gloo() -> Iterator[None]:
    """A process group of this process alone."""
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("gloo")
def test_exclude_from_ddp_leaves_the_other_buffers_to_it() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), CosineHead(FrozenPrototypes(unit_rows(5, 3))))
    assert "2.prototypes.prototypes" in DistributedDataParallel(model).named_module_buffers
    exclude_from_ddp(model)
    wrapped = DistributedDataParallel(model)
    assert wrapped.named_module_buffers.keys() == {f"1.{name}" for name, _ in model[1].named_buffers()}
    wrapped(torch.ones(2, 4)).sum().backward()


# cosine_logits and CosineHead


@pytest.mark.parametrize("tau", [0.07, 1.0])
def test_softmax_of_the_logits_is_equation_6(tau: float) -> None:
    features, prototypes = draw(7, 3), unit_rows(5, 3).double()
    got = cosine_logits(features, prototypes, tau).softmax(-1)
    # A cosine good to 1e-15 makes an exponent good to 1.5e-14 at tau = 0.07.
    torch.testing.assert_close(got, probabilities(features, prototypes, tau), rtol=1e-13, atol=0)


def test_cross_entropy_of_the_logits_is_equation_7() -> None:
    features, prototypes, labels = draw(7, 3), unit_rows(5, 3).double(), torch.arange(7) % 5
    expected = -sum(math.log(row[y]) for row, y in zip(probabilities(features, prototypes, 0.07), labels, strict=True))
    got = cross_entropy(cosine_logits(features, prototypes), labels, reduction="sum")
    assert got.item() == pytest.approx(expected, rel=1e-13)


@pytest.mark.parametrize("shape", [(3,), (7, 3), (2, 7, 3), (0, 3)])
def test_leading_dimensions_are_kept(shape: tuple[int, ...]) -> None:
    head = CosineHead(FrozenPrototypes(unit_rows(5, 3)))
    logits = head(draw(*shape).float())
    assert logits.shape == (*shape[:-1], 5)
    assert logits.dtype == torch.float32


def test_logits_do_not_depend_on_the_length_of_a_feature() -> None:
    prototypes, features = unit_rows(5, 3), draw(7, 3).float()
    # Powers of two are exact in floating point, so that only an epsilon in the norm could change a digit.
    assert torch.equal(cosine_logits(features * 2.0**-40, prototypes), cosine_logits(features, prototypes))
    assert torch.equal(cosine_logits(features * 2.0**40, prototypes), cosine_logits(features, prototypes))


def test_a_prototype_is_its_own_class_at_one_over_the_temperature() -> None:
    head = CosineHead(FrozenPrototypes(torch.eye(4)), temperature=0.5)
    torch.testing.assert_close(head(3 * torch.eye(4)), 2 * torch.eye(4))


def test_gradient_against_finite_differences() -> None:
    prototypes = unit_rows(5, 3).double()
    features = draw(4, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda z: cosine_logits(z, prototypes, 0.5), features)
    assert torch.autograd.gradgradcheck(lambda z: cosine_logits(z, prototypes, 0.5), features)


def test_gradient_against_the_formula() -> None:
    # With u = z/|z|, the derivative of w.u/tau in z is (w - (w.u) u) / (tau |z|).
    w, z = unit_rows(1, 3).double(), draw(3).requires_grad_()
    cosine_logits(z, w, 0.07).sum().backward()
    u = z.detach() / z.detach().norm()
    expected = (w[0] - (w[0] @ u) * u) / (0.07 * z.detach().norm())
    torch.testing.assert_close(z.grad, expected, rtol=1e-13, atol=1e-13)


def test_gradient_reaches_the_features_alone() -> None:
    prototypes, features = unit_rows(5, 3).requires_grad_(), draw(4, 3).float().requires_grad_()
    cosine_logits(features, prototypes).logsumexp(-1).sum().backward()
    assert prototypes.grad is None
    assert features.grad is not None
    assert features.grad.abs().max() > 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_zero_feature_has_zero_logits_and_zero_gradient(dtype: torch.dtype) -> None:
    features = torch.tensor([[0.0, 0.0, 0.0], [1.0, 2.0, 2.0]], dtype=dtype, requires_grad=True)
    logits = cosine_logits(features, unit_rows(5, 3))
    cross_entropy(logits, torch.tensor([0, 1])).backward()
    assert torch.equal(logits[0], torch.zeros_like(logits[0]))
    assert features.grad is not None
    assert torch.equal(features.grad[0], torch.zeros(3, dtype=dtype))
    assert features.grad[1].isfinite().all()
    assert features.grad[1].abs().max() > 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_features_are_computed_in_float32(dtype: torch.dtype) -> None:
    # 300^2 is beyond float16: a norm taken in it would be infinite.
    features, prototypes = (300 * draw(7, 3)).to(dtype), unit_rows(5, 3)
    logits = cosine_logits(features, prototypes)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, cosine_logits(features.double(), prototypes).float(), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("dtype", "cosine_error"), [(torch.bfloat16, 1e-2), (torch.float16, 1e-3)])
def test_autocast_lowers_the_product_alone(dtype: torch.dtype, cosine_error: float) -> None:
    features, head = draw(64, 32).float().requires_grad_(), CosineHead(FrozenPrototypes(unit_rows(50, 32)))
    with torch.autocast("cpu", dtype):
        logits = head(1e-12 * features)
    assert logits.dtype == dtype
    cosines = 0.07 * (logits.float() - head(features))
    assert cosines.abs().max() < cosine_error
    assert head.prototypes.prototypes.dtype == torch.float32


@pytest.mark.parametrize("shape", [(4, 2), (4, 4), ()])
def test_wrong_width_is_refused(shape: tuple[int, ...]) -> None:
    head = CosineHead(FrozenPrototypes(unit_rows(5, 3)))
    with pytest.raises(BadRequest, match=r"the prototypes need \(\.\.\., 3\): end the network") as refused:
        head(torch.ones(shape))
    assert str(shape) in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("dtype", [torch.int64, torch.complex64])
def test_features_that_are_not_floating_are_refused(dtype: torch.dtype) -> None:
    with pytest.raises(BadRequest, match=f"features must be floating, got {dtype}"):
        cosine_logits(torch.ones(4, 3, dtype=dtype), unit_rows(5, 3))


@pytest.mark.parametrize("temperature", [0, -0.07, math.nan, math.inf])
def test_temperature_must_be_positive_and_finite(temperature: float) -> None:
    with pytest.raises(BadRequest, match=f"temperature must be positive and finite, got {temperature}"):
        CosineHead(FrozenPrototypes(unit_rows(5, 3)), temperature)
    with pytest.raises(BadRequest, match=f"temperature must be positive and finite, got {temperature}"):
        cosine_logits(torch.ones(4, 3), unit_rows(5, 3), temperature)


def test_the_papers_temperature_is_the_default() -> None:
    prototypes, features = unit_rows(5, 3), draw(4, 3).float()
    head = CosineHead(FrozenPrototypes(prototypes))
    assert head.temperature == 0.07
    assert torch.equal(head(features), cosine_logits(features, prototypes, 0.07))
    assert torch.equal(head(features), cosine_logits(features, prototypes))


def test_head_refuses_a_bare_tensor() -> None:
    with pytest.raises(BadRequest, match="CosineHead takes FrozenPrototypes, got Tensor"):
        CosineHead(torch.eye(3))
