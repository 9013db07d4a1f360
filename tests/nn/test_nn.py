"""Frozen prototypes and the cosine head, against Eq. 6 in float64 and against nn's own habits."""

import copy
import io
import math
import pickle
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from artifacts import published
from draws import draw, unit_rows
from torch import Tensor, nn
from torch._C import _data_address as address  # where a tensor lies; its data_ptr() would part what is shared
from torch.nn.functional import cross_entropy
from torch.optim.swa_utils import AveragedModel, get_ema_avg_fn, get_ema_multi_avg_fn
from torch.utils._python_dispatch import TorchDispatchMode

from protogen.errors import BadRequest
from protogen.files.header import read_header
from protogen.files.reading import read
from protogen.nn import CosineHead, Fingerprint, FrozenPrototypes, cosine_logits


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
    assert dict(frozen.named_buffers()).keys() == {"prototypes", "sha256", "origin"}
    assert (frozen.n, frozen.d) == (5, 3)
    assert frozen.prototypes.shape == (5, 3)
    assert repr(frozen) == "FrozenPrototypes(n=5, d=3)"


def test_frozen_shares_the_tensor_given_and_drops_its_gradient() -> None:
    rows = unit_rows(5, 3).requires_grad_()
    frozen = FrozenPrototypes(rows)
    assert address(frozen.prototypes) == address(rows)
    assert not frozen.prototypes.requires_grad


def test_frozen_makes_rows_contiguous() -> None:
    columns = unit_rows(5, 3).T.contiguous()
    frozen = FrozenPrototypes(columns.T)
    assert frozen.prototypes.is_contiguous()
    assert torch.equal(frozen.prototypes, columns.T)


def test_frozen_takes_a_record_and_a_path(tmp_path: Path) -> None:
    path = published(tmp_path)
    record = read(path)
    assert address(FrozenPrototypes(record).prototypes) == address(record.tensor)
    for source in (path, str(path)):
        assert torch.equal(FrozenPrototypes(source).prototypes, unit_rows(5, 3))


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
    assert address(model[1].prototypes.prototypes) == address(rows)
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
    assert address(copied[1].prototypes.prototypes) == address(model[1].prototypes.prototypes)
    assert copied[0].weight.data_ptr() != model[0].weight.data_ptr()
    copied.to("meta")
    assert not model[1].prototypes.prototypes.is_meta


@pytest.mark.parametrize("assign", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("n", [5, 6])
def test_other_rows_are_refused_and_change_nothing(assign: bool, dtype: torch.dtype, n: int) -> None:
    rows, others = unit_rows(5, 3), unit_rows(n, 3, seed=2).to(dtype)
    frozen = FrozenPrototypes(rows.clone(), persistent=True)
    with pytest.raises(BadRequest, match=r"the checkpoint's prototypes are others than a tensor \(5, 3\)"):
        frozen.load_state_dict({"prototypes": others}, assign=assign)
    assert torch.equal(frozen.rows(0, 5), rows)
    assert torch.equal(frozen.prototypes, rows)
    frozen.load_state_dict({"prototypes": rows.to(dtype)}, assign=assign)
    assert torch.equal(frozen.rows(0, 5), rows)


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


# The type that is asked for


@pytest.mark.parametrize(("dtype", "error"), [(torch.bfloat16, 2e-2), (torch.float16, 2e-3), (torch.float64, 1e-7)])
@pytest.mark.parametrize("given", [torch.float32, torch.bfloat16, torch.float64])
def test_a_type_that_is_asked_for_is_held_and_computed_in(dtype: torch.dtype, error: float, given: torch.dtype) -> None:
    rows, features = unit_rows(50, 32), draw(8, 32).to(given)
    head = CosineHead(FrozenPrototypes(rows, dtype=dtype), temperature=1.0)
    head.double().half()
    assert head.prototypes.prototypes.dtype == dtype
    assert head(features).dtype == dtype
    expected = cosine_logits(features.double(), rows, 1.0)
    torch.testing.assert_close(head(features).double(), expected, rtol=0, atol=error)
    head.load_state_dict(CosineHead(FrozenPrototypes(rows)).state_dict(), assign=True)
    assert torch.equal(head.prototypes.prototypes, rows.to(dtype))
    assert head.prototypes.fingerprint == Fingerprint.of_tensor(rows)


@pytest.mark.parametrize("held", [torch.float32, torch.bfloat16])
def test_half_precision_is_not_converted_under_autocast(held: torch.dtype) -> None:
    class Conversions(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            if func is torch.ops.aten._to_copy.default:
                converted.append(tuple(args[0].shape))
            return func(*args, **(kwargs or {}))

    head, features, converted = CosineHead(FrozenPrototypes(unit_rows(50, 32), dtype=held)), draw(8, 32).float(), []
    with torch.autocast("cpu", torch.bfloat16), Conversions():
        assert head(features).dtype == torch.bfloat16
    assert sorted(converted) == [(8, 32), *([(50, 32)] if held == torch.float32 else [])]


@pytest.mark.parametrize("dtype", [torch.int64, torch.complex64, None])
def test_other_types_are_refused(dtype: torch.dtype) -> None:
    with pytest.raises(BadRequest, match=f"dtype is {dtype}; allowed are torch.float32, torch.float64"):
        FrozenPrototypes(unit_rows(5, 3), dtype=dtype)


# The fingerprint


def head_on(source: Tensor | Path, **options: bool) -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 3), CosineHead(FrozenPrototypes(source, **options)))


DIGEST, ORIGIN, OLD = (f"1.prototypes.{name}" for name in ("sha256", "origin", "_extra_state"))


def older(state: dict[str, Any], digest: str, name: str) -> dict[str, Any]:
    """Write the fingerprint of a state as checkpoints had it before: 32 bytes of digest and 96 of the name."""
    raw = bytes.fromhex(digest) + name.encode().ljust(96, b"\0")
    kept = {key: value for key, value in state.items() if key not in (DIGEST, ORIGIN)}
    return {**kept, OLD: torch.tensor(list(raw), dtype=torch.uint8)}


def test_a_tensor_has_the_fingerprint_of_its_file(tmp_path: Path) -> None:
    path = published(tmp_path)
    digest = read_header(path).digest
    found = [FrozenPrototypes(source).fingerprint for source in (unit_rows(5, 3), path, str(path), read(path))]
    assert [one.digest for one in found] == 4 * [digest]
    assert [one.name for one in found] == ["a tensor (5, 3)", *3 * [f"ebv/d3-n5/{path.name}"]]
    assert [one.n for one in found] == 4 * [5]
    assert found[0] == found[1] != FrozenPrototypes(unit_rows(5, 3, seed=1)).fingerprint
    assert str(found[1]) == f"ebv/d3-n5/{path.name} (sha256 {digest[:12]})"


def test_a_fingerprint_covers_every_block() -> None:
    rows = unit_rows(3000, 400)  # 4.8 MB: two whole blocks and a part
    whole = Fingerprint.of_tensor(rows)
    assert whole == Fingerprint.of_tensor(rows.T.contiguous().T)
    rows[-1] = -rows[-1]
    assert Fingerprint.of_tensor(rows) != whole


@pytest.mark.parametrize("persistent", [True, False])
@pytest.mark.parametrize("form", ["torch", "safetensors", "safetensors model", "older"])
def test_a_checkpoint_carries_the_fingerprint(tmp_path: Path, persistent: bool, form: str) -> None:
    ours, others = published(tmp_path), published(tmp_path, seed=1)
    model, saved = head_on(ours, persistent=persistent), tmp_path / "saved"
    digest = read_header(ours).digest
    assert model.state_dict()[DIGEST].shape == (0, *(int(digest[i : i + 4], 16) for i in (0, 4, 8)))
    assert bytes(model.state_dict()[ORIGIN][:32].int().tolist()).hex() == digest

    def load_into(model: nn.Module) -> None:
        if form == "safetensors model":
            assert safetensors.torch.load_model(model, saved) == (set(), [])
        else:
            state = torch.load(saved) if form == "torch" else safetensors.torch.load_file(saved)
            model.load_state_dict(state, strict=True)

    match form:
        case "torch":
            torch.save(model.state_dict(), saved)
        case "safetensors":
            safetensors.torch.save_file(model.state_dict(), saved)
        case "safetensors model":
            safetensors.torch.save_model(model, str(saved))
        case "older":
            safetensors.torch.save_file(older(model.state_dict(), digest, f"ebv/d3-n5/{ours.name}"), saved)
    same, other = head_on(ours, persistent=persistent), head_on(others, persistent=persistent)
    load_into(same)
    assert torch.equal(same(torch.ones(1, 4)), model(torch.ones(1, 4)))
    before = copy.deepcopy(other)
    with pytest.raises(BadRequest) as refused:
        load_into(other)
    names = [f"ebv/d3-n5/{path.name} (sha256 {read_header(path).digest[:12]})" for path in (ours, others)]
    assert str(refused.value) == (
        f"the checkpoint was trained with {names[0]}, this model has {names[1]}: build the model with the "
        "checkpoint's prototypes, or, to keep those that it has, drop the keys that begin with '1.prototypes.'"
    )
    assert torch.equal(other[0].weight, before[0].weight)
    assert torch.equal(other(torch.ones(1, 4)), before(torch.ones(1, 4)))


def test_checkpoints_with_and_without_rows_load_into_either() -> None:
    models = [head_on(unit_rows(5, 3), persistent=persistent) for persistent in (False, True)]
    assert [("1.prototypes.prototypes" in model.state_dict()) for model in models] == [False, True]
    for saved in models:
        for loaded in models:
            loaded.load_state_dict(saved.state_dict(), strict=True)
            assert torch.equal(loaded(torch.ones(1, 4)), saved(torch.ones(1, 4)))


@pytest.mark.parametrize("persistent", [True, False])
def test_a_checkpoint_of_nothing_leaves_the_prototypes_and_says_so(persistent: bool) -> None:
    model, rows = head_on(unit_rows(5, 3), persistent=persistent), unit_rows(5, 3)
    state = {key: value for key, value in model.state_dict().items() if "prototypes" not in key}
    with pytest.warns(UserWarning, match=r"holds nothing of 1.prototypes: these stay a tensor \(5, 3\)"):
        model.load_state_dict(state, strict=True)
    assert torch.equal(model[1].prototypes.rows(0, 5), rows)


def test_missing_and_unknown_keys_are_still_told() -> None:
    model = head_on(unit_rows(5, 3))
    state = model.state_dict()
    del state["0.weight"]
    with pytest.raises(RuntimeError, match=r"Missing key\(s\) in state_dict: \"0.weight\"\. ?$"):
        model.load_state_dict(state)
    with pytest.raises(RuntimeError, match=r"Unexpected key\(s\) in state_dict: \"1.prototypes.more\""):
        model.load_state_dict({**model.state_dict(), "1.prototypes.more": torch.ones(1)})


@pytest.mark.parametrize("assign", [True, False])
def test_a_copy_and_a_pickle_keep_the_fingerprint(assign: bool) -> None:
    model = head_on(unit_rows(5, 3))
    for again in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert again[1].prototypes.fingerprint == model[1].prototypes.fingerprint
        again.load_state_dict(model.state_dict(), assign=assign)
        assert torch.equal(again[1].prototypes.prototypes, model[1].prototypes.prototypes)


# On the meta device


@pytest.mark.parametrize("persistent", [True, False])
def test_a_file_is_read_for_its_header_on_meta(
    persistent: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, others = published(tmp_path), published(tmp_path, seed=1)
    trained = head_on(ours, persistent=persistent)
    with monkeypatch.context() as patch, torch.device("meta"):
        patch.setattr("protogen.store.loading.load", None)
        model, other = head_on(ours, persistent=persistent), head_on(others, persistent=persistent)
    assert all(tensor.is_meta for tensor in (*model.parameters(), *model.buffers()))
    model.load_state_dict(trained.state_dict(), assign=True)
    assert torch.equal(model(torch.ones(1, 4)), trained(torch.ones(1, 4)))
    with pytest.raises(BadRequest, match="the checkpoint was trained with ebv/d3-n5/v1"):
        other.load_state_dict(trained.state_dict(), assign=True)


def test_a_tensor_without_values_takes_the_checkpoints_rows_and_fingerprint() -> None:
    trained = head_on(unit_rows(5, 3), persistent=True)
    with torch.device("meta"):
        model, older, cast = (head_on(torch.empty(5, 3)) for _ in range(3))
        assert model.state_dict()[DIGEST].shape == (0,)
    with pytest.raises(BadRequest, match="were made on 'meta' from a tensor without values"):
        model[1].prototypes.product(torch.ones(1, 3))
    model.load_state_dict(trained.state_dict(), assign=True)
    state = trained.state_dict()
    with pytest.raises(BadRequest, match="rows are not those of its fingerprint"):
        cast.load_state_dict({key: value.bfloat16() for key, value in state.items()}, assign=True)
    del state[DIGEST], state[ORIGIN]
    older.load_state_dict(state, assign=True)
    for loaded in (model, older):
        assert torch.equal(loaded(torch.ones(1, 4)), trained(torch.ones(1, 4)))
        assert loaded[1].prototypes.fingerprint == trained[1].prototypes.fingerprint


# Averages, compilation, export


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"use_buffers": True},
        {"avg_fn": get_ema_avg_fn(0.9)},
        {"multi_avg_fn": get_ema_multi_avg_fn(0.9), "use_buffers": True},
    ],
    ids=["mean", "mean of buffers", "moving", "moving, of buffers"],
)
def test_averages_share_the_prototypes_and_leave_them(options) -> None:
    rows = unit_rows(5, 3)
    given, model = rows.clone(), head_on(rows)
    averaged = AveragedModel(model, **options)
    for _ in range(3):
        with torch.no_grad():
            model[0].weight += 1
        averaged.update_parameters(model)
    assert not torch.equal(averaged.module[0].weight, model[0].weight)
    assert torch.equal(averaged.module[1].prototypes.rows(0, 5), given)
    assert torch.equal(rows, given)
    assert averaged.module[1].prototypes.fingerprint == Fingerprint.of_tensor(rows)
    AveragedModel(head_on(rows)).load_state_dict(averaged.state_dict())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch's own tracing does
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("autocast", [False, True])
def test_compiles_in_one_graph(dtype: torch.dtype, autocast: bool) -> None:
    head, features = CosineHead(FrozenPrototypes(unit_rows(5, 3), dtype=dtype)), draw(4, 3).float().requires_grad_()
    compiled = torch.compile(head, fullgraph=True, backend="aot_eager")
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        found, expected = compiled(features), head(features)
    assert torch.equal(found, expected)
    (gradient,) = torch.autograd.grad(expected.square().sum(), features)
    assert torch.equal(torch.autograd.grad(found.square().sum(), features)[0], gradient)


@pytest.mark.slow
@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("persistent", [True, False])
def test_export_round_trip(strict: bool, persistent: bool) -> None:
    model, features = head_on(unit_rows(5, 3), persistent=persistent), draw(7, 4).float()
    batch = torch.export.Dim("batch")
    exported = torch.export.export(model, (features,), dynamic_shapes=({0: batch},), strict=strict)
    file = io.BytesIO()
    torch.export.save(exported, file)
    file.seek(0)
    again = torch.export.load(file).module()
    for batch_size in (7, 3):
        torch.testing.assert_close(again(features[:batch_size]), model(features[:batch_size]), rtol=0, atol=1e-6)


# Adapters


def test_as_linear_is_the_product() -> None:
    frozen, features = FrozenPrototypes(unit_rows(5, 3)), draw(7, 3).float()
    linear = frozen.as_linear()
    assert type(linear) is nn.Linear
    assert (linear.in_features, linear.out_features, linear.bias) == (3, 5, None)
    assert not linear.weight.requires_grad
    assert torch.equal(linear(features), frozen.product(features))
    linear.load_state_dict({"weight": torch.zeros(5, 3)})
    assert torch.equal(frozen.prototypes, unit_rows(5, 3))


def test_as_columns_takes_the_place_of_a_learned_w() -> None:
    class Loss(nn.Module):  # as pytorch-metric-learning's classifier losses hold and cast their weights
        def __init__(self) -> None:
            super().__init__()
            self.W = nn.Parameter(torch.Tensor(3, 5))

        def forward(self, features: Tensor) -> Tensor:
            self.W.data = self.W.data.to(features.dtype)
            return features @ nn.functional.normalize(self.W, dim=0)

    frozen, loss, features = FrozenPrototypes(unit_rows(5, 3)), Loss(), draw(7, 3)
    loss.W = frozen.as_columns()
    assert loss.W.is_contiguous()
    assert [parameter.requires_grad for parameter in loss.parameters()] == [False]
    torch.testing.assert_close(loss(features), frozen.product(features), rtol=0, atol=1e-6)
    assert frozen.prototypes.dtype == torch.float32
    assert address(frozen.prototypes) != address(loss.W)


@pytest.mark.parametrize("world", [1, 2, 3, 4, 5])
def test_slices_are_the_whole(world: int) -> None:
    rows, features = unit_rows(5, 3), draw(7, 3).float()
    frozen = FrozenPrototypes(rows)
    parts = [frozen.slice(rank, world) for rank in range(world)]
    assert torch.equal(torch.cat([part.prototypes for part, _ in parts]), rows)
    assert [first for _, first in parts] == [sum(part.n for part, _ in parts[:rank]) for rank in range(world)]
    chunks = rows.chunk(world)
    assert [part.n for part, _ in parts] == [len(chunk) for chunk in chunks] + [0] * (world - len(chunks))
    logits = torch.cat([CosineHead(part)(features) for part, _ in parts], -1)
    torch.testing.assert_close(logits, CosineHead(frozen)(features))
    assert len({address(part.prototypes) for part, _ in parts if part.n} - {address(rows)}) == len(chunks)


def test_a_slices_checkpoint_loads_into_any_other() -> None:
    part, _ = FrozenPrototypes(unit_rows(5, 3), dtype=torch.bfloat16).slice(0, 2)
    assert part.prototypes.dtype == torch.bfloat16
    assert part.state_dict().keys() == {"sha256", "origin"}
    other, _ = FrozenPrototypes(unit_rows(5, 3)).slice(1, 3)
    before = other.prototypes.clone()
    other.load_state_dict(part.state_dict())
    assert torch.equal(other.prototypes, before)
    with pytest.raises(BadRequest, match=r"the checkpoint was trained with a tensor \(5, 3\)"):
        FrozenPrototypes(unit_rows(5, 3, seed=1)).slice(0, 2)[0].load_state_dict(part.state_dict())


@pytest.mark.parametrize(
    ("rank", "world"), [(2, 2), (-1, 2), (0, 0), (0, 6), ("a", 2), ("0", 2), (0, "2"), (0, 2.0), (False, 2), (None, 2)]
)
def test_slices_that_are_not_are_refused(rank: Any, world: Any) -> None:
    says = f"rank, world is {rank!r}, {world!r}; allowed is world from 1 to n and .* n is 5"
    with pytest.raises(BadRequest, match=says):
        FrozenPrototypes(unit_rows(5, 3)).slice(rank, world)


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
    with pytest.raises(BadRequest, match=f"temperature is {temperature}; allowed is a positive and finite"):
        CosineHead(FrozenPrototypes(unit_rows(5, 3)), temperature)
    with pytest.raises(BadRequest, match=f"temperature is {temperature}; allowed is a positive and finite"):
        cosine_logits(torch.ones(4, 3), unit_rows(5, 3), temperature)


def test_the_papers_temperature_is_the_default() -> None:
    prototypes, features = unit_rows(5, 3), draw(4, 3).float()
    head = CosineHead(FrozenPrototypes(prototypes))
    assert head.temperature == 0.07
    assert torch.equal(head(features), cosine_logits(features, prototypes, 0.07))
    assert torch.equal(head(features), cosine_logits(features, prototypes))
