"""Structured prototypes against their own rows, by the matrix; and the choice of them by certificate."""

import copy
import pickle
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from draws import draw
from torch import Tensor, nn
from torch._C import _data_address as address
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import protogen
from protogen import catalog
from protogen.errors import BadRequest
from protogen.nn import CosineHead, FrozenPrototypes, StructuredPrototypes, as_prototypes, cosine_logits, transforms
from protogen.nn.transforms import LabelledBases, PackedPoints, PhasedBases, SignedBases

# Every family that has a fast product; two sizes where parity or a prime power makes a difference.
FORMS = {
    "kerdock(k=1)": SignedBases,
    "kerdock(k=2)": SignedBases,
    "z4-kerdock(m=4)": SignedBases,
    "delsarte-goethals(m=3,t=0)": SignedBases,
    "delsarte-goethals(m=4,t=1)": SignedBases,
    "punctured(form=kerdock(k=3),drop=3)": SignedBases,
    "kerdock-off-flat(k=3,r=3)": SignedBases,
    "mub(p=5)": PhasedBases,
    "mub(p=9)": PhasedBases,
    "mub(p=27)": PhasedBases,
    "ternary-mub(m=1)": PhasedBases,
    "ternary-mub(m=3)": PhasedBases,
    "phases(p=7,degree=3)": PhasedBases,
    "net(levels=[3.3.3;1.1.3],order=4)": PackedPoints,
    "net(levels=[4.3.4;1.1.4],order=4)": PackedPoints,
    "labels(form=mub(p=9),count=10,cut=0)": LabelledBases,
    "labels(form=kerdock(k=2),count=9,cut=0)": LabelledBases,
    "labels(form=kerdock(k=2),count=5,cut=1)": LabelledBases,
}


def tables(prototypes: StructuredPrototypes) -> int:
    """The numbers of the tables that have a row for each block, and of the signs."""
    held = prototypes.transform.get_buffer(prototypes.transform.by_block).numel()
    return held + (prototypes.get_buffer("signs").numel() if "signs" in prototypes._constants else 0)


@pytest.mark.parametrize("label", FORMS)
@pytest.mark.parametrize("signed", [False, True])
def test_a_part_has_the_products_of_its_rows_by_a_part_of_the_tables(label: str, signed: bool) -> None:
    whole = StructuredPrototypes(label, signed=signed)
    features, cuts = draw(3, whole.d), [0, whole.n // 3, whole.n - whole.n // 4, whole.n]
    sizes = []
    for start, stop in pairwise(cuts):
        part = whole.part(start, stop)
        weights = draw(2, stop - start)
        torch.testing.assert_close(part.product(features, start, stop), whole.product(features, start, stop))
        torch.testing.assert_close(part.combine(weights, start, stop), whole.combine(weights, start, stop))
        sizes.append(tables(part))
    a_block = whole.transform.get_buffer(whole.transform.by_block)[0].numel()
    assert sum(sizes) <= tables(whole) + 2 * a_block  # a block that is cut is in both parts


@pytest.mark.slow
@pytest.mark.parametrize("label", FORMS)
@pytest.mark.parametrize("chunk", [1, 1 << 18], ids=["block by block", "at once"])
def test_product_and_its_gradient_are_those_of_the_rows(
    label: str, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transforms, "CPU_CHUNK", chunk)
    form = catalog.from_label(label)
    for n, extra in ((form.own_n, 0), (form.own_n // 2 + 1, 3), (form.own_n - 1, 0), (1, 1)):
        prototypes = StructuredPrototypes(label, n, form.own_d + extra)
        assert type(prototypes.transform) is FORMS[label]
        rows = form.rows(0, n).double()
        features = draw(3, form.own_d + extra).requires_grad_()
        for start, stop in pairwise(sorted({0, n // 3, n // 2, n - 1, n})):
            found, weights = prototypes.product(features, start, stop), draw(3, stop - start, seed=1)
            torch.testing.assert_close(found, features[:, : form.own_d] @ rows[start:stop].T, rtol=0, atol=1e-6)
            (gradient,) = torch.autograd.grad(found, features, weights)
            torch.testing.assert_close(gradient[:, : form.own_d], weights @ rows[start:stop], rtol=0, atol=1e-5)
            assert not gradient[:, form.own_d :].any()


@pytest.mark.slow
@pytest.mark.parametrize("label", ["kerdock(k=2)", "mub(p=9)", "ternary-mub(m=1)", "net(levels=[3.3.3;1.1.3],order=4)"])
def test_gradients_against_finite_differences(label: str) -> None:
    prototypes = StructuredPrototypes(label, d=catalog.from_label(label).own_d + 1)
    features = draw(2, prototypes.d).requires_grad_()
    assert torch.autograd.gradcheck(prototypes.product, features)
    assert torch.autograd.gradgradcheck(prototypes.product, features)


@pytest.mark.parametrize("label", ["kerdock(k=4)", "mub(p=61)", "net(levels=[11.8.9;1.1.11],order=8)"])
def test_float32_cosines_are_good_to_1e_6(label: str) -> None:
    prototypes = StructuredPrototypes(label)
    stored = FrozenPrototypes(prototypes.rows(0, prototypes.n))
    features = draw(16, prototypes.d)
    found = cosine_logits(features.float(), prototypes, 1.0)
    assert found.dtype == torch.float32
    assert found.is_contiguous()
    torch.testing.assert_close(found.double(), cosine_logits(features, stored, 1.0), rtol=0, atol=1e-6)


@pytest.mark.parametrize("label", ["kerdock(k=2)", "mub(p=5)", "net(levels=[3.3.3;1.1.3],order=4)"])
def test_one_head_serves_both(label: str) -> None:
    prototypes = StructuredPrototypes(label)
    stored = FrozenPrototypes(prototypes.rows(0, prototypes.n))
    for shape in ((), (4,), (2, 3), (0,)):
        features = 5 * draw(*shape, prototypes.d)
        found, expected = CosineHead(prototypes)(features), CosineHead(stored)(features)
        assert found.shape == (*shape, prototypes.n)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
        k = prototypes.n // 2
        for best in (CosineHead(prototypes).topk(features, k), CosineHead(stored).topk(features, k)):
            torch.testing.assert_close(best[0], expected.topk(k).values, rtol=0, atol=1e-5)
            assert torch.equal(best[1], expected.topk(k).indices)
    assert not CosineHead(prototypes)(torch.zeros(2, prototypes.d)).any()


@pytest.mark.parametrize("part", [1, 50, 1 << 22])
@pytest.mark.parametrize("stored", [False, True])
def test_topk_by_parts_is_topk(stored: bool, part: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("protogen.nn.fixed.PART", part)
    prototypes = StructuredPrototypes("kerdock(k=2)", 140)
    module, least = (FrozenPrototypes(prototypes.rows(0, 140)), 1) if stored else (prototypes, 16)
    features, product, widths = draw(5, 16), module.product, []

    def watched(features: Tensor, start: int, stop: int) -> Tensor:
        widths.append(stop - start)
        return product(features, start, stop)

    monkeypatch.setattr(module, "product", watched)
    for k in (1, 20, 140):
        values, classes = module.topk(features, k)
        expected = product(features).topk(k)
        torch.testing.assert_close(values, expected.values)
        assert torch.equal(classes, expected.indices)
    assert max(widths) == min(140, max(part // 5 // least, 1) * least)


def test_vectors_of_classes_are_the_rows() -> None:
    prototypes = StructuredPrototypes("mub(p=5)", 57, 12)
    rows = catalog.build("mub(p=5)", 57, 12).source.rows(0, 57)
    classes = torch.tensor([[3, 56, 3], [0, 10, 11]])
    for module in (prototypes, FrozenPrototypes(rows)):
        assert torch.equal(module.rows(2, 57), rows[2:])
        assert torch.equal(module.vectors(classes), rows[classes])
        assert module.vectors(torch.empty(0, dtype=torch.int64)).shape == (0, 12)


# As a module


def test_tables_are_small_and_in_no_state_dict() -> None:
    for label, n in (("kerdock(k=4)", 33_000), ("mub(p=61)", 7000), ("net(levels=[11.8.9;1.1.11],order=8)", 700)):
        prototypes = StructuredPrototypes(label, n)
        assert prototypes.state_dict().keys() == {"sha256", "origin"}
        assert list(prototypes.parameters()) == []
        assert sum(buffer.nbytes for buffer in prototypes.buffers()) < 16 * (n + prototypes.d)
    assert repr(StructuredPrototypes("mub(p=5)", 57, 12)).startswith("StructuredPrototypes(\n  mub(p=5), n=57, d=12")


@pytest.mark.parametrize("label", ["kerdock(k=2)", "mub(p=5)", "net(levels=[3.3.3;1.1.3],order=4)"])
@pytest.mark.parametrize("cast", [nn.Module.half, nn.Module.bfloat16, nn.Module.double], ids=lambda f: f.__name__)
def test_casting_a_model_leaves_the_tables(label: str, cast) -> None:
    head = CosineHead(StructuredPrototypes(label))
    before = {name: buffer.clone() for name, buffer in head.named_buffers()}
    features = draw(3, head.prototypes.d)
    expected = head(features)
    cast(head)
    assert all(torch.equal(buffer, before[name]) for name, buffer in head.named_buffers())
    assert head(features.half()).dtype == torch.float32
    torch.testing.assert_close(head(features.half()).double(), expected, rtol=0, atol=0.05)


@pytest.mark.parametrize("label", ["kerdock(k=2)", "mub(p=5)", "net(levels=[3.3.3;1.1.3],order=4)"])
def test_autocast_changes_nothing(label: str) -> None:
    head, features = CosineHead(StructuredPrototypes(label)), draw(3, catalog.from_label(label).own_d).float()
    features.requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        found = head(features)
        (gradient,) = torch.autograd.grad(found.square().sum(), features)
    assert torch.equal(found, head(features))
    assert torch.equal(gradient, torch.autograd.grad(head(features).square().sum(), features)[0])


def test_copies_share_the_tables_and_pickles_do_not_need_them() -> None:
    head = CosineHead(StructuredPrototypes("mub(p=5)", 57, 12))
    copied, features = copy.deepcopy(head), draw(3, 12)
    ours = [address(buffer) for buffer in head.buffers()]
    assert ours == [address(buffer) for buffer in copied.buffers()]
    copied.to("meta")
    assert not next(head.buffers()).is_meta
    assert torch.equal(pickle.loads(pickle.dumps(head))(features), head(features))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch's own tracing does
def test_compiles_in_one_graph() -> None:
    head = CosineHead(StructuredPrototypes("mub(p=5)"))
    features = draw(3, 10).requires_grad_()
    found = torch.compile(head, fullgraph=True, backend="aot_eager")(features)
    torch.testing.assert_close(found, head(features))
    found.square().sum().backward()
    torch.testing.assert_close(features.grad, torch.autograd.grad(head(features).square().sum(), features)[0])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("label", ["kerdock(k=2)", "mub(p=5)"])
def test_export_round_trip(label: str, strict: bool) -> None:
    head = CosineHead(StructuredPrototypes(label))
    features = draw(3, head.prototypes.d).float()
    exported = torch.export.export(head, (features,), strict=strict)
    assert torch.equal(exported.module()(features), head(features))


@pytest.mark.parametrize("label", ["kerdock(k=2)", "mub(p=9)", "net(levels=[3.3.3;1.1.3],order=4)"])
@pytest.mark.parametrize("average", [None, get_ema_multi_avg_fn(0.9), get_ema_multi_avg_fn(0.9999)])
def test_averages_leave_the_tables(label: str, average) -> None:
    head = CosineHead(StructuredPrototypes(label))
    before = [buffer.clone() for buffer in head.buffers()]
    averaged = AveragedModel(head, multi_avg_fn=average, use_buffers=True)
    for _ in range(3):
        averaged.update_parameters(head)
    for buffer, expected in zip(head.buffers(), before, strict=True):
        assert torch.equal(buffer, expected)
    features = draw(3, head.prototypes.d)
    assert torch.equal(averaged(features), head(features))


def test_tables_are_computed_under_meta_too() -> None:
    head = CosineHead(StructuredPrototypes("mub(p=5)"))
    with torch.device("meta"):
        model = CosineHead(StructuredPrototypes("mub(p=5)"))
    model.load_state_dict(head.state_dict(), assign=True)
    features = draw(3, 10)
    assert torch.equal(model(features), head(features))


def test_adapters_hold_the_rows() -> None:
    prototypes, features = StructuredPrototypes("mub(p=5)", 57, 12), draw(3, 12).float()
    torch.testing.assert_close(prototypes.as_linear()(features), prototypes.product(features))
    torch.testing.assert_close(features @ prototypes.as_columns(), prototypes.product(features))


# The fingerprint


def test_a_label_is_held_to_its_checkpoint() -> None:
    head = CosineHead(StructuredPrototypes("mub(p=5)", 57, 12))
    CosineHead(StructuredPrototypes("mub(p=5)", 57, 12)).load_state_dict(head.state_dict())
    with pytest.warns(UserWarning, match="holds nothing of prototypes"):  # of a time before fingerprints
        CosineHead(StructuredPrototypes("mub(p=5)")).load_state_dict({})
    for label, n, d in (("mub(p=5)", 56, 12), ("mub(p=5)", 57, 13), ("phases(p=7,degree=3)", 57, 14)):
        with pytest.raises(BadRequest) as refused:
            CosineHead(StructuredPrototypes(label, n, d)).load_state_dict(head.state_dict())
        assert "the checkpoint was trained with mub(p=5) as (57, 12) (sha256 " in str(refused.value)
        assert f"this model has {label} as ({n}, {d}) (sha256 " in str(refused.value)


def test_a_file_gives_its_fingerprint_to_both_kinds(tmp_path: Path) -> None:
    made = protogen.ensure(protogen.resolve("ebv", d=17, n=100, start="closed-form"), store=tmp_path)
    stored = FrozenPrototypes(made, persistent=False)
    for source in (made, made.path):
        fast = as_prototypes(source)
        assert isinstance(fast, StructuredPrototypes)
        assert fast.fingerprint == stored.fingerprint
        fast.load_state_dict(stored.state_dict())


# The choice


def test_the_certificate_of_a_file_chooses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fast = protogen.ensure(protogen.resolve("ebv", d=17, n=100, start="closed-form"), store=tmp_path)
    slow = protogen.ensure(protogen.resolve("ebv", d=5, n=6, start="closed-form"), store=tmp_path)
    descent = protogen.ensure(protogen.resolve("ebv", d=5, n=9, start="random", steps=5), store=tmp_path)
    polytope = protogen.ensure(protogen.resolve("simplex", d=5, n=4), store=tmp_path)
    for record in (slow, descent, polytope):
        for source in (record, record.path, str(record.path)):
            chosen = as_prototypes(source)
            assert isinstance(chosen, FrozenPrototypes)
            assert torch.equal(chosen.prototypes, record.tensor)
    monkeypatch.setattr("protogen.store.loading.load", None)
    for source in (fast, fast.path, str(fast.path)):
        chosen = as_prototypes(source)
        assert isinstance(chosen, StructuredPrototypes)
        assert (chosen.n, chosen.d) == (100, 17)
        assert catalog.label(chosen.laid.form) == fast.facts.closed_form == "kerdock(k=2)"
        assert torch.equal(chosen.rows(0, 100), fast.tensor)


def test_a_label_needs_no_file() -> None:
    assert isinstance(as_prototypes("mub(p=5)", 57, 12), StructuredPrototypes)
    stored = as_prototypes("orthonormal(k=5)", 4, 7)
    assert isinstance(stored, FrozenPrototypes)
    assert torch.equal(stored.prototypes, torch.eye(4, 7))
    assert as_prototypes("orthonormal(k=5)").n == 5


def test_a_tensor_stays_one() -> None:
    rows = torch.eye(3)
    assert address(as_prototypes(rows).prototypes) == address(rows)


# Wrong input


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda: StructuredPrototypes("kerdock(k=0)"), "k is 0; allowed is 1 to 19"),
        (lambda: StructuredPrototypes("nothing(k=1)"), r"unknown closed form 'nothing\(k=1\)'"),
        (lambda: StructuredPrototypes("orthonormal(k=3)"), r"form is orthonormal\(k=3\); allowed is one with a fast"),
        (lambda: StructuredPrototypes("mub(p=5)", 61), "n, d is 61, 10; allowed is n from 1 to 60 and d from 10"),
        (lambda: StructuredPrototypes("mub(p=5)", 0), "n, d is 0, 10; allowed is n from 1 to 60"),
        (lambda: as_prototypes("orthonormal(k=5)", 4, 3), "n, d is 4, 3; allowed is n from 1 to 5 and d from 5"),
        (lambda: StructuredPrototypes("mub(p=5)").product(torch.ones(2, 9)), r"the prototypes need \(\.\.\., 10\)"),
        (lambda: StructuredPrototypes("mub(p=5)").product(torch.ones(2, 10).int()), "features must be floating"),
        (lambda: StructuredPrototypes("mub(p=5)").product(torch.ones(10), 3, 61), "classes are 3 to 61; allowed"),
        (lambda: FrozenPrototypes(torch.eye(3)).product(torch.ones(3), 2, 1), "classes are 2 to 1; allowed"),
        (lambda: StructuredPrototypes("mub(p=5)").topk(torch.ones(10), 61), "k is 61; allowed is 1 to n; n is 60"),
        (lambda: FrozenPrototypes(torch.eye(3)).topk(torch.ones(3), 0), "k is 0; allowed is 1 to n; n is 3"),
    ],
)
def test_wrong_input_is_refused_in_one_line(ask, message: str) -> None:
    with pytest.raises(BadRequest, match=message) as refused:
        ask()
    assert "\n" not in str(refused.value)


# From sizes alone


def test_sizes_alone_are_taken_from_the_store_or_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = as_prototypes(n=144, d=16, store=tmp_path)
    assert isinstance(made, StructuredPrototypes)
    assert (made.n, made.d) == (144, 16)
    monkeypatch.setattr("protogen.generating.make", None)
    again = as_prototypes(n=144, d=16, store=tmp_path)
    assert again.fingerprint == made.fingerprint
    assert as_prototypes(made, n=144) is made
    half = as_prototypes(n=144, d=16, store=tmp_path, dtype=torch.bfloat16)
    assert isinstance(half, FrozenPrototypes)
    assert half.prototypes.dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda: as_prototypes(n=5), "n, d is 5, None without a source; allowed are both"),
        (lambda: as_prototypes(), "n, d is None, None without a source"),
        (lambda: as_prototypes(torch.eye(3), d=4), r"the prototypes are \(3, 3\), asked for are n=None, d=4"),
    ],
)
def test_sizes_that_do_not_say_which_are_refused(ask, message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        ask()


# Derivatives


@pytest.mark.parametrize("label", ["kerdock(k=2)", "mub(p=5)"])
def test_combine_is_the_transpose_of_the_product(label: str) -> None:
    prototypes = StructuredPrototypes(label, d=40)
    features = torch.randn(3, 40, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rows = prototypes.rows(2, prototypes.n - 1).double()
    weights = features @ rows.T
    torch.testing.assert_close(prototypes.product(features, 2, prototypes.n - 1), weights, rtol=1e-5, atol=1e-5)
    combined = prototypes.combine(weights, 2, prototypes.n - 1)
    torch.testing.assert_close(combined, weights @ rows, rtol=1e-5, atol=1e-5)
    with pytest.raises(BadRequest, match="allowed is a range within 0 to n"):
        prototypes.combine(weights, 2, prototypes.n + 1)


# torch compiles its own forward derivatives, and warns of its compiler.
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("label", ["kerdock(k=2)", "mub(p=5)"])
def test_torch_func_goes_through_the_transform(label: str) -> None:
    prototypes = StructuredPrototypes(label)
    rows = prototypes.rows(0, prototypes.n).double()
    features = torch.randn(3, prototypes.d, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def ours(z: Tensor) -> Tensor:
        return prototypes.product(z).pow(3).sum()

    def theirs(z: Tensor) -> Tensor:
        return (z @ rows.T).pow(3).sum()

    for transform in (torch.func.grad, torch.func.hessian, lambda f: torch.func.vmap(torch.func.grad(f))):
        torch.testing.assert_close(transform(ours)(features), transform(theirs)(features), rtol=1e-5, atol=1e-5)
    tangents = [torch.func.jvp(f, (features,), (features.flip(0),))[1] for f in (ours, theirs)]
    torch.testing.assert_close(*tangents, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("label", ["kerdock(k=2)", "mub(p=5)"])
def test_exported_for_batches_of_any_size(label: str) -> None:
    prototypes = StructuredPrototypes(label)
    head, features = CosineHead(prototypes), torch.randn(11, prototypes.d)
    batches = ({0: torch.export.Dim("batch")},)
    exported = torch.export.export(head, (features[:3],), dynamic_shapes=batches).module()
    torch.testing.assert_close(exported(features), head(features))
