"""What every head does alike: how it is made, called, trained with, differentiated and exported."""

import copy
import math
from pathlib import Path

import numpy
import pytest
import torch
from draws import draw
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize, one_hot

import protogen
from protogen.errors import BadRequest
from protogen.nn import (
    HEADS,
    AssignmentHead,
    CosineHead,
    FrozenPrototypes,
    Head,
    MarginHead,
    MultiCenterClassifier,
    StructuredPrototypes,
    SubcenterHead,
    chunked,
)

N, D = 5, 4
METHODS = {MarginHead: "simplex", AssignmentHead: "uniform", SubcenterHead: "subcenters"}
# The heads that take soft targets, as they are made here; a margin is that of one class.
SOFT = [head for head in HEADS if head is not MarginHead]
SCALED = (CosineHead, MarginHead)

every_head = pytest.mark.parametrize("kind", HEADS)


def rows(kind: type[Head], n: int = N, d: int = D) -> Tensor:
    return draw(n, 2, d, seed=3).float() if kind is SubcenterHead else normalize(draw(n, d, seed=3).float(), dim=1)


def made(kind: type[Head], **settings) -> Head:
    """A head whose losses use no chance: MultiCenterClassifier in evaluation."""
    torch.manual_seed(0)
    return kind(rows(kind), **settings).eval()


def expected(head: Head, z: Tensor, classes: Tensor) -> Tensor:
    """The loss of each of a batch at each class, (b, n), from what the equations' own tests hold true."""
    each = [head.loss(z, torch.full((len(z),), c), reduction="none") for c in range(head.n)]
    return torch.stack(each, 1)


# How it is made


@every_head
def test_made_from_every_source(kind: type[Head], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROTOGEN_STORE", str(tmp_path))
    by_sizes = kind(d=D, n=N)
    assert (by_sizes.n, by_sizes.d, by_sizes.in_features, by_sizes.out_features) == (N, D, D, N)
    record = protogen.ensure(protogen.resolve(METHODS.get(kind, "ebv"), d=D, n=N))
    tensor = record.tensor
    held = by_sizes.prototypes if kind is SubcenterHead else FrozenPrototypes(tensor)
    for source in (record, record.path, str(record.path), tensor, held):
        head = kind(source)
        assert torch.equal(head.vectors(torch.arange(N)), tensor)
        kind(source, d=numpy.int64(D), n=numpy.int32(N))
        with pytest.raises(BadRequest, match="asked for are"):
            kind(source, n=N + 1)
    if kind is not MultiCenterClassifier:
        assert torch.equal(by_sizes.vectors(torch.arange(N)), tensor)


@every_head
@pytest.mark.parametrize(
    ("arguments", "settings", "message"),
    [
        ((), {}, "n is None|None, None without a source"),
        ((), {"d": 4}, "n is None|4, None without a source"),
        ((), {"d": 4, "n": 0}, "n is 0; allowed is a whole number from 1 on"),
        ((), {"d": 4.0, "n": 5}, r"d is 4\.0; allowed is a whole number from 1 on"),
        ((512,), {}, "the source is 512; allowed are prototypes: name sizes, as in d=128, n=1000"),
        ((torch.eye(4),), {"debug": 1}, "debug is 1; allowed are True and False"),
        (([[1.0]],), {}, "got list"),
    ],
)
def test_wrong_making_is_one_line(kind: type[Head], arguments: tuple, settings: dict, message: str) -> None:
    if arguments and isinstance(arguments[0], Tensor):
        arguments = (rows(kind),)
    with pytest.raises(BadRequest, match=message) as refused:
        kind(*arguments, **settings)
    assert "\n" not in str(refused.value)


WRONG_SETTINGS = [
    *((CosineHead, {"temperature": value}) for value in (0, -1.0, math.inf, "cold", None, True, torch.ones(1))),
    *((MarginHead, {"margin": value}) for value in (-0.1, 3.2, math.nan, "phi", None, torch.ones(1))),
    *((MarginHead, {"kappa": value}) for value in (0, math.nan, "warm")),
    *((kind, {"learn_scale": 1}) for kind in SCALED),
    *((AssignmentHead, {"classes": value}) for value in (0, 6, 2.0, "all")),
    *((AssignmentHead, {"momentum": value}) for value in (1.0, -0.1, "much")),
    *((AssignmentHead, {name: value}) for name in ("every", "candidates") for value in (0, 1.5, True)),
    *((SubcenterHead, {"beta": value}) for value in (-1, math.inf, "little")),
    (SubcenterHead, {"compactness": "none"}),
    (SubcenterHead, {"persistent": 1}),
    *((MultiCenterClassifier, {"per_class": value}) for value in (0, 1.5, "two")),
    *((MultiCenterClassifier, {"sigma": value}) for value in (0, math.nan, "wide")),
]


@pytest.mark.parametrize(("kind", "settings"), WRONG_SETTINGS)
def test_wrong_settings_are_refused_when_made(kind: type[Head], settings: dict) -> None:
    (name,) = settings
    with pytest.raises(BadRequest, match=f"{name} is .*; allowed (is|are)") as refused:
        kind(rows(kind), **settings)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("kind", SCALED)
def test_numpy_numbers_are_numbers(kind: type[Head]) -> None:
    name, value = ("temperature", numpy.float32(0.5)) if kind is CosineHead else ("kappa", numpy.int64(2))
    head = kind(rows(kind), **{name: value})
    assert head.scale == 2
    assert type(head.scale) is float


# What it gives


@every_head
@pytest.mark.parametrize("shape", [(), (7,), (2, 3), (0,)])
@pytest.mark.parametrize("training", [True, False])
def test_logits_in_training_and_evaluation(kind: type[Head], shape: tuple[int, ...], training: bool) -> None:
    head, z = made(kind), draw(*shape, D).float()
    logits = head(z)
    assert logits.shape == (*shape, N)
    assert torch.equal(head.train(training)(z), logits)
    torch.testing.assert_close(head.as_linear()(z), logits)
    values, classes = head.topk(z, 3)
    assert torch.equal(values, logits.topk(3).values)
    assert torch.equal(logits.gather(-1, classes), values)
    for wrong in (0, N + 1, 2.0):
        with pytest.raises(BadRequest, match="k is"):
            head.topk(z, wrong)


@every_head
def test_any_loop_with_a_cross_entropy_learns(kind: type[Head]) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(N, D), kind(rows(kind)))
    x, y = torch.eye(N).repeat(4, 1), torch.arange(N).repeat(4)
    optimizer = torch.optim.Adam(model.parameters(), 0.1)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert model(x).argmax(1).equal(y)


@every_head
def test_plain_layers_are_copies_and_none_is_missing(kind: type[Head]) -> None:
    head, z = made(kind), draw(3, D).float()
    before, layers = head(z), head.as_linear()
    assert isinstance(layers, nn.Sequential)
    with torch.no_grad():
        next(layer for layer in layers if isinstance(layer, nn.Linear)).weight.zero_()
    assert torch.equal(head(z), before)


# The loss


@every_head
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("weighted", [False, True])
def test_labels_are_weighted_as_torch_does(kind: type[Head], reduction: str, smoothing: float, weighted: bool) -> None:
    head, z, y = made(kind), draw(7, D), torch.tensor([0, 1, -100, 3, 4, 4, 2])
    weight = torch.tensor([1.0, 0.5, 2.0, 0.0, 3.0]) if weighted else None
    if kind is SubcenterHead:
        head.compactness = "mean"  # the sum over a batch is no loss of each of its features
    if kind is MarginHead:
        # The smoothed cross entropy of the logits that have the margin at the label.
        logits = protogen.nn.margin_logits(z, head.prototypes, y.clamp(0), head.margin, head.kappa)
        true = cross_entropy(
            logits,
            y,
            weight=None if weight is None else weight.double(),
            reduction=reduction,
            label_smoothing=smoothing,
        )
    else:
        # -log p = the loss at each class makes torch average that loss.
        true = weighted_average(expected(head, z, y), y, weight, smoothing, reduction)
    got = head.loss(z, y, weight=weight, label_smoothing=smoothing, reduction=reduction)
    torch.testing.assert_close(got, true, rtol=1e-10, atol=1e-12)


def weighted_average(losses: Tensor, y: Tensor, weight: Tensor | None, smoothing: float, reduction: str) -> Tensor:
    """Average losses (b, n) over targets as torch.nn.CrossEntropyLoss does, one at a time."""
    weight = torch.ones(N, dtype=torch.float64) if weight is None else weight.double()
    found, counts = torch.zeros(len(y), dtype=torch.float64), 0.0
    for i, label in enumerate(y.tolist()):
        if label != -100:
            found[i] = (1 - smoothing) * weight[label] * losses[i, label] + smoothing / N * (weight * losses[i]).sum()
            counts += weight[label]
    return found if reduction == "none" else found.sum() / (counts if reduction == "mean" else 1)


@pytest.mark.parametrize("kind", SOFT)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("weighted", [False, True])
def test_soft_targets_average_the_classes(kind: type[Head], reduction: str, weighted: bool) -> None:
    head, z, soft = made(kind), draw(6, D), draw(6, N, seed=2).softmax(1)
    weight = torch.tensor([1.0, 0.5, 2.0, 0.0, 3.0]) if weighted else None
    if kind is SubcenterHead:
        head.compactness = "mean"
    shares = (0.9 * soft + 0.1 / N) * (1 if weight is None else weight)
    each = (expected(head, z, soft) * shares).sum(1)
    true = {"mean": each.mean(), "sum": each.sum(), "none": each}[reduction]
    got = head.loss(z, soft, weight=weight, label_smoothing=0.1, reduction=reduction)
    torch.testing.assert_close(got, true, rtol=1e-10, atol=1e-12)
    labels = torch.arange(6) % N
    hard = head.loss(z, one_hot(labels, N).double())
    torch.testing.assert_close(hard, head.loss(z, labels), rtol=1e-10, atol=1e-12)


def test_soft_targets_have_no_margin() -> None:
    soft = draw(6, N).softmax(1)
    with pytest.raises(BadRequest, match="with soft targets train CosineHead, or a margin of 0"):
        made(MarginHead).loss(draw(6, D), soft)
    plain = CosineHead(rows(MarginHead), 1 / 30).loss(draw(6, D), soft)
    torch.testing.assert_close(made(MarginHead, margin=0).loss(draw(6, D), soft), plain)


MULTI_HOT = torch.tensor([[1, 1, 0, 0, 0], [0, 0, 1, 0, 0]])


@every_head
@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (torch.tensor([0, 5]), "labels hold 5; allowed is 0 to 4"),
        (torch.tensor([-1, 0]), "labels hold -1; allowed is 0 to 4"),
        (torch.tensor([0, 200], dtype=torch.uint8), "labels hold 200; allowed is 0 to 4"),
        (torch.tensor([0, 156], dtype=torch.uint8), "labels hold 156; allowed is 0 to 4"),
        (torch.tensor([[0], [1]]), r"labels have shape \(2, 1\).*with \.squeeze\(-1\)"),
        (torch.tensor([0]), r"labels have shape \(1,\); allowed is one a feature, \(2,\)"),
        (torch.tensor([True, False]), "labels are torch.bool; allowed are integers"),
        (torch.tensor([0.0, 1.0]), r"labels are torch.float32; .*with \.long\(\)"),
        (MULTI_HOT, r"targets are \(2, 5\) of torch.int64.*argmax\(-1\).*binary_cross_entropy_with_logits"),
        (MULTI_HOT.bool(), r"targets are \(2, 5\) of torch.bool.*binary_cross_entropy_with_logits"),
        (MULTI_HOT.float(), "soft targets are no probabilities: a row has sum 2.*binary_cross_entropy_with_logits"),
        (MULTI_HOT.float() - 0.2, "soft targets are no probabilities"),
        (torch.full((2, 5), math.nan), "soft targets are no probabilities"),
        (torch.ones(2, 4) / 4, r"soft targets have shape \(2, 4\); allowed is that of the logits, \(2, 5\)"),
    ],
)
def test_wrong_targets_are_one_line(kind: type[Head], targets: Tensor, message: str) -> None:
    for training in (True, False):
        with pytest.raises(BadRequest, match=message) as refused:
            made(kind).train(training).loss(draw(2, D), targets)
        assert "\n" not in str(refused.value)


@every_head
@pytest.mark.parametrize(
    "dtype",
    [
        *(torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
        *(torch.uint16, torch.uint32, torch.uint64),
    ],
)
def test_any_integer_type_is_a_label(kind: type[Head], dtype: torch.dtype) -> None:
    head, z, y = made(kind), draw(5, D), torch.arange(5)
    assert torch.equal(head.loss(z, y.to(dtype)), head.loss(z, y))
    assert torch.equal(head.vectors(y.to(dtype)), head.vectors(y))
    if dtype.is_signed:
        y = y.to(dtype)
        y[0] = -100
        torch.testing.assert_close(head.loss(z, y, reduction="none")[1:], head.loss(z[1:], y[1:], reduction="none"))


@pytest.mark.slow
@every_head
def test_where_labels_cannot_be_read_none_stands_for_another(kind: type[Head]) -> None:
    head, z = made(kind), draw(3, D)
    loss = torch.compile(lambda z, y: head.loss(z, y, reduction="none"), backend="eager", fullgraph=True)
    got = loss(z, torch.tensor([-1, 5, 4]))
    assert got.isnan().tolist() == [True, True, False]
    assert loss(z, torch.tensor([-100, 0, 4]))[0] == 0
    if kind in SOFT:
        got = loss(z, torch.tensor([[1.0, 1, 0, 0, 0], [0, 0, 1, 0, 0], [-1, 1, 1, 0, 0]]))
        assert got.isnan().tolist() == [True, False, True]


@every_head
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"reduction": "avg"}, "reduction is 'avg'; allowed is 'mean', 'sum', 'none'"),
        ({"label_smoothing": 1.5}, r"label_smoothing is 1\.5; allowed is a number from 0 to 1"),
        ({"label_smoothing": math.nan}, "label_smoothing is nan"),
        ({"weight": torch.ones(4)}, r"weight is \(4,\) of torch.float32; .*one number a class, \(5,\)"),
        ({"weight": [1.0] * 5}, r"weight is \[1.0"),
        ({"weight": torch.ones(5).long()}, "weight is .* of torch.int64"),
        ({"ignore_index": 1.5}, "ignore_index is 1.5"),
    ],
)
def test_wrong_arguments_of_a_loss_are_one_line(kind: type[Head], settings: dict, message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        made(kind).loss(draw(2, D), torch.tensor([0, 1]), **settings)


@every_head
def test_wrong_features_are_one_line(kind: type[Head]) -> None:
    head, y = made(kind), torch.zeros(2, 3, 4).long()
    for call in (head, lambda z: head.loss(z, y), lambda z: head.topk(z, 1)):
        for shape in ((2, D, 3, 6), (2, D, 3, D)):
            with pytest.raises(BadRequest, match=r"movedim\(1, -1\)"):
                call(draw(*shape))
        with pytest.raises(BadRequest, match=r"features have shape \(2, 7\), the prototypes need \(\.\.\., 4\)"):
            call(draw(2, 7))
        with pytest.raises(BadRequest, match="features must be floating"):
            call(torch.ones(2, D).long())
    with pytest.raises(BadRequest, match="1 of 2 features are not finite"):
        made(kind, debug=True).loss(torch.tensor([[math.nan] * D, [1.0] * D]), torch.tensor([0, 1]))


@every_head
def test_ignored_labels_alone_have_loss_and_gradient_zero(kind: type[Head]) -> None:
    z = draw(3, D).requires_grad_()
    loss = made(kind).loss(z, torch.full((3,), 2), ignore_index=2)
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(z.grad, torch.zeros(3, D, dtype=torch.float64))


@pytest.mark.parametrize("kind", [CosineHead, MarginHead, SubcenterHead])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_large_losses_go_by_chunks(kind: type[Head], smoothing: float, monkeypatch: pytest.MonkeyPatch) -> None:
    head, weight = kind(rows(kind, 50)), torch.rand(50)
    y = torch.arange(0, 50, 7)
    y[2] = -100

    def both() -> tuple[Tensor, Tensor]:
        z = draw(8, D).requires_grad_()
        loss = head.loss(z, y, weight=weight, label_smoothing=smoothing)
        loss.backward()
        return loss.detach(), z.grad

    whole = both()
    seen = []
    original = chunked._product
    monkeypatch.setattr(chunked, "CPU_LOGITS", 40)
    monkeypatch.setattr(chunked, "_product", lambda *asked: seen.append(asked[2:]) or original(*asked))
    for got, true in zip(both(), whole, strict=True):
        torch.testing.assert_close(got, true, rtol=1e-10, atol=1e-12)
    assert (len(seen) > 5) == (kind is not SubcenterHead or not smoothing)


# Scales


@pytest.mark.parametrize("kind", SCALED)
def test_a_learned_scale_begins_where_it_was_and_learns(kind: type[Head]) -> None:
    plain, head = made(kind), made(kind, learn_scale=True)
    z, y = draw(6, D), torch.arange(6) % N
    torch.testing.assert_close(head(z), plain(z), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(head.loss(z, y), plain.loss(z, y), rtol=1e-6, atol=1e-6)
    assert list(plain.parameters()) == []
    assert dict(head.named_parameters()).keys() == {"log_scale"}
    # The derivative in the logarithm of the scale is that of the loss along its logits.
    head.loss(z, y).backward()
    step = 1e-3
    losses = []
    for sign in (1, -1):
        moved = copy.deepcopy(head).double()
        with torch.no_grad():
            moved.log_scale.add_(sign * step)
        losses.append(moved.loss(z, y).item())
    assert head.log_scale.grad.item() == pytest.approx((losses[0] - losses[1]) / (2 * step), rel=1e-3)
    compiled = torch.compile(head, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(z), head(z))


# Derivatives


@pytest.mark.slow
@every_head
@pytest.mark.parametrize("by_chunks", [False, True])
def test_second_derivatives_are_those_of_finite_differences(
    kind: type[Head], by_chunks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if by_chunks:
        monkeypatch.setattr(chunked, "CPU_LOGITS", 2)
    head, z, y = made(kind).double(), draw(3, D).requires_grad_(), torch.tensor([0, 4, 2])
    assert torch.autograd.gradcheck(lambda z: head.loss(z, y, label_smoothing=0.1 * (not by_chunks)), z)
    assert torch.autograd.gradgradcheck(lambda z: head.loss(z, y, label_smoothing=0.1 * (not by_chunks)), z)


# torch compiles its own forward derivatives, and warns of its compiler.
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@every_head
@pytest.mark.parametrize("by_chunks", [False, True])
def test_torch_func(kind: type[Head], by_chunks: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if by_chunks:
        monkeypatch.setattr(chunked, "CPU_LOGITS", 2)
    head, z, y = made(kind), draw(3, D), torch.tensor([0, 4, 2])
    leaf = z.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(head.loss(leaf, y), leaf, create_graph=True)
    (along,) = torch.autograd.grad((gradient * z.flip(0)).sum(), leaf)

    def loss(z: Tensor) -> Tensor:
        return head.loss(z, y)

    close = {"rtol": 1e-10, "atol": 1e-12}
    torch.testing.assert_close(torch.func.grad(loss)(z), gradient.detach(), **close)
    tangent = torch.func.jvp(loss, (z,), (z.flip(0),))[1]
    torch.testing.assert_close(tangent, (gradient * z.flip(0)).sum().detach(), **close)
    # Forward over reverse, reverse over forward.
    torch.testing.assert_close(torch.func.jvp(torch.func.grad(loss), (z,), (z.flip(0),))[1], along, **close)
    crossed = torch.func.grad(lambda z: torch.func.jvp(loss, (z,), (draw(3, D).flip(0),))[1])(z)
    torch.testing.assert_close(crossed, along, **close)
    one_by_one = torch.func.vmap(torch.func.grad(lambda z, y: head.loss(z[None], y[None])))(z, y)
    each = [torch.func.grad(lambda z, i=i: head.loss(z[None], y[i : i + 1]))(z[i]) for i in range(3)]
    torch.testing.assert_close(one_by_one, torch.stack(each), **close)
    torch.testing.assert_close(torch.func.vmap(head)(z), head(z))


@pytest.mark.slow
@every_head
def test_compiled_in_one_graph(kind: type[Head]) -> None:
    head, z, y = made(kind), draw(6, D).float(), torch.arange(6) % N
    for backend in ("eager", "aot_eager"):
        torch.testing.assert_close(torch.compile(head, backend=backend, fullgraph=True)(z), head(z))
        loss = torch.compile(head.loss, backend=backend, fullgraph=True)
        ours, theirs = z.clone().requires_grad_(), z.clone().requires_grad_()
        loss(ours, y).backward()
        head.loss(theirs, y).backward()
        torch.testing.assert_close(ours.grad, theirs.grad)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("kind", [CosineHead, MarginHead, SubcenterHead])
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_a_loss_by_chunks_compiles(kind: type[Head], backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunked, "CPU_LOGITS", 2)
    head, z, y = made(kind), draw(6, D).float(), torch.arange(6) % N
    loss = torch.compile(head.loss, backend=backend, fullgraph=True)
    ours, theirs = z.clone().requires_grad_(), z.clone().requires_grad_()
    loss(ours, y).backward()
    head.loss(theirs, y).backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


@pytest.mark.slow
@every_head
@pytest.mark.parametrize("learned", [False, True])
def test_exported_for_batches_of_any_size(kind: type[Head], learned: bool) -> None:
    head = made(kind, learn_scale=True) if learned and kind in SCALED else made(kind)
    for training in (True, False):
        head.train(training)
        batches = ({0: torch.export.Dim("batch")},)
        exported = torch.export.export(head, (draw(3, D).float(),), dynamic_shapes=batches).module()
        torch.testing.assert_close(exported(draw(11, D).float()), head(draw(11, D).float()))


@every_head
def test_traced_by_fx(kind: type[Head]) -> None:
    head, z = made(kind), draw(3, D).half()
    traced = torch.fx.symbolic_trace(nn.Sequential(nn.Identity(), head))
    assert torch.equal(traced(z), head(z))
    with pytest.raises(BadRequest, match=r"the prototypes need \(\.\.\., 4\)"):
        traced(draw(3, 7))


def test_structured_prototypes_keep_the_contract() -> None:
    prototypes = StructuredPrototypes("kerdock(k=1)")
    z, y = draw(3, prototypes.d), torch.tensor([0, 4, 2])
    for kind in (CosineHead, MarginHead, AssignmentHead):
        head, plain = kind(prototypes), kind(FrozenPrototypes(prototypes.rows(0, prototypes.n)))
        torch.testing.assert_close(head(z), plain(z))
        torch.testing.assert_close(head.loss(z, y), plain.loss(z, y))
        torch.testing.assert_close(head.as_linear()(z.float()), plain(z.float()))
