"""Dynamic assignment, against Eq. 6, 8 and 9 and Algorithm 1 of its paper, line by line in float64."""

import copy
import itertools
import math
from pathlib import Path

import pytest
import torch
from draws import double_rows, draw
from processes import on_ranks
from torch import Tensor, nn
from torch.nn.functional import normalize
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from protogen.errors import BadRequest
from protogen.nn import AssignmentHead, FrozenPrototypes, assign, regression_loss, update_means


def frozen(n: int, d: int) -> FrozenPrototypes:
    return FrozenPrototypes(double_rows(n, d).float())


def unit(v: Tensor) -> Tensor:
    return v / v.square().sum().sqrt()


# regression_loss


def equation_6(features: Tensor, prototypes: Tensor, places: Tensor) -> Tensor:
    """Compute the mean of Eq. 6 a sample at a time."""
    losses = [(unit(z) @ prototypes[a] - 1) ** 2 / 2 for z, a in zip(features, places.tolist(), strict=True)]
    return sum(losses) / len(losses)


@pytest.mark.slow
def test_regression_loss_is_equation_6() -> None:
    prototypes, places = double_rows(5, 3), torch.tensor([0, 4, 4, 2, 3, 1])
    # On its prototype, opposite to it, and elsewhere.
    features = torch.cat([7 * prototypes[:1], -prototypes[4:], draw(4, 3)])
    results = []
    for loss in (regression_loss, equation_6):
        x = features.clone().requires_grad_()
        value = loss(x, prototypes, places)
        value.backward()
        results.append((value.detach(), x.grad))
    for got, expected in zip(*results, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)


def test_gradient_is_along_the_prototype_and_not_as_equation_7_is_printed() -> None:
    w, z = double_rows(1, 4), double_rows(1, 4, seed=5).requires_grad_()
    regression_loss(z, w, torch.tensor([0])).backward()
    # -(1 - z.w) w on the sphere: less its part along z, which the normalisation takes away.
    free = -(1 - z.detach() @ w[0]) * w
    expected = free - (free @ z.detach()[0]) * z.detach()
    torch.testing.assert_close(z.grad, expected, rtol=1e-12, atol=1e-12)


def test_regression_loss_has_torchs_reductions_and_any_leading_shape() -> None:
    features, prototypes, places = draw(2, 4, 3), double_rows(5, 3), torch.arange(8).view(2, 4) % 5
    each = regression_loss(features, prototypes, places, reduction="none")
    assert each.shape == (2, 4)
    torch.testing.assert_close(regression_loss(features, prototypes, places), each.mean())
    torch.testing.assert_close(regression_loss(features, prototypes, places, reduction="sum"), each.sum())
    with pytest.raises(BadRequest, match="reduction is 'avg'; allowed is 'mean', 'sum', 'none'"):
        regression_loss(features, prototypes, places, reduction="avg")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("autocast", [False, True])
def test_regression_loss_of_any_type_is_in_float32_or_float64(dtype: torch.dtype, autocast: bool) -> None:
    head, features = AssignmentHead(frozen(5, 3)), (300 * draw(7, 3)).to(dtype)
    features = torch.cat([features, features.new_zeros(1, 3)]).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        loss = head.loss(features, torch.arange(8) % 5)
    assert loss.dtype == torch.promote_types(dtype, torch.float32)
    loss.backward()
    assert features.grad.isfinite().all()
    assert torch.equal(features.grad[-1], torch.zeros(3, dtype=dtype))
    expected = head.loss(features.detach().double(), torch.arange(8) % 5)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)


# update_means


def means_after(batches, c: int, d: int, momentum: float) -> dict[int, Tensor]:
    """Follow the class means a class at a time."""
    means: dict[int, Tensor] = {}
    for features, labels in batches:
        for y in range(c):
            of_class = [unit(z.double()) for z, label in zip(features, labels.tolist(), strict=True) if label == y]
            if of_class:
                average = sum(of_class) / len(of_class)
                means[y] = unit(momentum * means[y] + (1 - momentum) * average if y in means else average)
    return means


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_means_take_one_step_a_batch_with_all_of_its_samples(momentum: float) -> None:
    generator = torch.Generator().manual_seed(2)
    # Class 6 never occurs; most batches have a class more than once.
    batches = [(draw(9, 4, seed=i), torch.randint(6, (9,), generator=generator)) for i in range(5)]
    head = AssignmentHead(frozen(7, 4), momentum=momentum)
    for features, labels in batches:
        head.update(features, labels)
    expected = means_after(batches, 7, 4, momentum)
    assert head.seen.tolist() == [y in expected for y in range(7)]
    assert not head.seen[6]
    for y, mean in expected.items():
        torch.testing.assert_close(head.means[y].double(), mean, rtol=0, atol=1e-6)


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_means_per_sample_are_as_printed(momentum: float) -> None:
    generator = torch.Generator().manual_seed(2)
    batches = [(draw(9, 4, seed=i), torch.randint(-1, 4, (9,), generator=generator)) for i in range(4)]
    means, seen = torch.zeros(5, 4, dtype=torch.float64), torch.zeros(5)
    expected: dict[int, Tensor] = {}
    for features, labels in batches:
        features[3] = 0  # no direction
        update_means(means, seen, features, labels, momentum, per="sample")
        for z, y in zip(features, labels.tolist(), strict=True):
            if y >= 0 and z.any():
                expected[y] = momentum * expected[y] + (1 - momentum) * unit(z) if y in expected else unit(z)
        expected = {y: unit(mean) for y, mean in expected.items()}
    assert seen.tolist() == [y in expected for y in range(5)]
    for y, mean in expected.items():
        torch.testing.assert_close(means[y], mean, rtol=0, atol=1e-12)
    head = AssignmentHead(frozen(5, 4), momentum=momentum, means_per="sample")
    for features, labels in batches:
        head.update(features, labels, ignore_index=-1)
    torch.testing.assert_close(head.means.double(), means, rtol=0, atol=1e-5)
    assert "means_per='sample'" in repr(head)
    with pytest.raises(BadRequest, match="means_per is 'epoch'; allowed is 'batch', 'sample'"):
        AssignmentHead(frozen(5, 4), means_per="epoch")


def test_a_class_twice_in_a_batch_keeps_both_samples_and_moves_once() -> None:
    means, seen = torch.tensor([[1.0, 0.0], [0.0, -1.0]]), torch.tensor([True, False])
    update_means(
        means, seen, torch.tensor([[0.0, 1.0], [0.0, -1.0], [0.0, 3.0], [4.0, 0.0]]), torch.tensor([0, 0, 1, 1])
    )
    # Class 0: .9 (1, 0) + .1 (0, 0). Class 1, at first sight: the mean of (0, 1) and (1, 0), normalised.
    torch.testing.assert_close(means, torch.tensor([[1.0, 0.0], [0.5**0.5, 0.5**0.5]]))
    assert seen.all()


def test_features_without_a_direction_do_not_count() -> None:
    head = AssignmentHead(frozen(4, 2))
    bad = torch.tensor([[0.0, 0.0], [math.nan, 1.0], [math.inf, 1.0], [0.0, 2.0]])
    head.update(bad, torch.tensor([0, 1, 2, 2]))
    assert head.seen.tolist() == [False, False, True, False]
    torch.testing.assert_close(head.means[2], torch.tensor([0.0, 1.0]))
    assert torch.equal(head.means[[0, 1, 3]], torch.zeros(3, 2))


def test_means_take_any_leading_shape_and_no_samples() -> None:
    flat, shaped = AssignmentHead(frozen(4, 2)), AssignmentHead(frozen(4, 2))
    features, labels = draw(2, 3, 2), torch.arange(6).view(2, 3) % 4
    flat.update(features.view(6, 2), labels.view(6))
    shaped.update(features, labels)
    shaped.update(features[:0], labels[:0])
    assert torch.equal(flat.means, shaped.means)


# assign


def cosines_of(means: Tensor, prototypes: Tensor, places) -> float:
    return sum(float(mean @ prototypes[a]) for mean, a in zip(means, places, strict=True))


def equation_8(means: Tensor, prototypes: Tensor, places) -> float:
    """Compute the sum of Eq. 8, the softmax over all prototypes, also over those of no class."""
    total = 0.0
    for mean, a in zip(means, places, strict=True):
        total -= math.log(math.exp(mean @ prototypes[a]) / sum(math.exp(mean @ w) for w in prototypes))
    return total


@pytest.mark.parametrize(("c", "n"), [(1, 1), (5, 5), (4, 6)])
@pytest.mark.parametrize("seed", range(3))
def test_assign_is_the_minimum_of_equations_8_and_9(c: int, n: int, seed: int) -> None:
    prototypes, means = double_rows(n, 3), double_rows(c, 3, seed=10 + seed)
    every = list(itertools.permutations(range(n), c))
    best = min(every, key=lambda places: equation_8(means, prototypes, places))
    assert best == max(every, key=lambda places: cosines_of(means, prototypes, places))
    found = assign(means.float(), FrozenPrototypes(prototypes.float()), torch.arange(c))
    assert found.dtype == torch.int64
    assert tuple(found.tolist()) == best


@pytest.mark.parametrize("candidates", [None, 1, 2])
def test_classes_not_seen_keep_their_prototype_and_no_other_gets_it(candidates: int | None) -> None:
    prototypes, means = double_rows(7, 3), double_rows(5, 3, seed=4)
    current, seen = torch.tensor([6, 2, 0, 1, 5]), torch.tensor([True, False, True, True, False])
    found = assign(means.float(), FrozenPrototypes(prototypes.float()), current, seen=seen, candidates=candidates)
    allowed = []
    for places in itertools.permutations(range(7), 5):
        near = [set(row.topk(candidates or 7).indices.tolist()) for row in means @ prototypes.T]
        fits = all(a in near[y] or a == current[y] for y, a in enumerate(places))
        if fits and places[1] == 2 and places[4] == 5:
            allowed.append(places)
    assert tuple(found.tolist()) == max(allowed, key=lambda places: cosines_of(means, prototypes, places))


def test_nothing_seen_changes_nothing() -> None:
    head = AssignmentHead(frozen(5, 3))
    assert head.reassign() == 0
    assert head.assignment.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("candidates", [1, 3, 20, 39])
def test_a_partial_assignment_is_one_to_one_and_never_worse(candidates: int) -> None:
    prototypes, means = frozen(40, 6), double_rows(30, 6, seed=4).float()
    current = torch.randperm(40, generator=torch.Generator().manual_seed(0))[:30]
    found = assign(means, prototypes, current, candidates=candidates)
    assert len(found.unique()) == 30

    def value(places: Tensor) -> float:
        return cosines_of(means, prototypes.prototypes, places.tolist())

    best = value(assign(means, prototypes, current))
    assert value(current) <= value(found) <= best + 1e-5
    if candidates >= 20:
        assert value(found) == pytest.approx(best, abs=1e-5)
    # From the best there is nowhere to go.
    settled = assign(means, prototypes, current)
    assert torch.equal(assign(means, prototypes, settled, candidates=candidates), settled)


def test_as_many_candidates_as_prototypes_are_all_pairs() -> None:
    prototypes, means, current = frozen(8, 3), double_rows(8, 3, seed=4).float(), torch.arange(8)
    whole = assign(means, prototypes, current)
    assert torch.equal(assign(means, prototypes, current, candidates=8), whole)
    assert torch.equal(assign(means, prototypes, current, candidates=100), whole)


def test_autocast_does_not_reach_the_solver() -> None:
    prototypes, means, current = frozen(60, 6), double_rows(60, 6, seed=4).float(), torch.arange(60)
    for candidates in (None, 20):
        expected = assign(means, prototypes, current, candidates=candidates)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(assign(means, prototypes, current, candidates=candidates), expected)


# Algorithm 1


def algorithm_1(theta: Tensor, prototypes: Tensor, batches, epochs: int, rate: float) -> tuple[Tensor, list[int]]:
    """Follow Algorithm 1 from line 6, on a linear network and with plain SGD; line 13 tries all assignments."""
    c = len(prototypes)
    assignment, q = list(range(c)), {}  # line 1
    for _ in range(epochs):  # line 6
        for x, y in batches:  # line 7
            theta = theta.detach().requires_grad_()
            z = [unit(theta @ sample) for sample in x]  # line 8
            for j in range(c):  # line 9
                mine = [z[i].detach() for i in range(len(z)) if y[i] == j]
                if mine:
                    average = sum(mine) / len(mine)
                    q[j] = unit(0.9 * q[j] + 0.1 * average if j in q else average)
            losses = [(z[i] @ prototypes[assignment[y[i]]] - 1) ** 2 / 2 for i in range(len(z))]  # line 10
            (gradient,) = torch.autograd.grad(sum(losses) / len(losses), theta)
            theta = theta - rate * gradient  # line 11
        assignment = list(
            max(
                itertools.permutations(range(c)),
                key=lambda places: sum(float(q[j] @ prototypes[places[j]]) for j in range(c)),
            )
        )  # line 13
    return theta.detach(), assignment


@pytest.mark.slow
def test_training_is_algorithm_1() -> None:
    prototypes, theta = double_rows(5, 3), draw(3, 6)
    batches = [(draw(8, 6, seed=20 + i), (torch.arange(8) * 3 + i) % 5) for i in range(4)]
    expected, places = algorithm_1(theta, prototypes.float().double(), batches, epochs=4, rate=0.5)
    model = nn.Linear(6, 3, bias=False).double()
    head = AssignmentHead(FrozenPrototypes(prototypes.float()))
    with torch.no_grad():
        model.weight.copy_(theta)
    optimizer = torch.optim.SGD(model.parameters(), 0.5)
    moved = []
    for _ in range(4):
        for x, y in batches:
            z = model(x)
            loss = head.loss(z, y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            head.update(z, y)
        moved.append(head.reassign())
    assert moved[0] > 0  # there was something to follow
    assert head.assignment.tolist() == places
    torch.testing.assert_close(model.weight.detach(), expected, rtol=1e-6, atol=1e-6)


# AssignmentHead


def trained_head(classes: int = 4, n: int = 6, **settings) -> AssignmentHead:
    """A head that has seen each class near a prototype that is not the one it starts with."""
    head = AssignmentHead(frozen(n, 8), classes, **settings)
    places = torch.arange(n - 1, n - 1 - classes, -1)
    head.update(head.prototypes.prototypes[places] + 0.1 * draw(classes, 8).float(), torch.arange(classes))
    return head


def test_mapping_goes_both_ways_and_prediction_follows_it() -> None:
    head = trained_head()
    assert head.assignment.tolist() == [0, 1, 2, 3]
    assert head.class_of.tolist() == [0, 1, 2, 3, -1, -1]
    # Classes 2 and 3 come to prototypes 3 and 2.
    assert head.reassign() == 4
    assert head.assignment.tolist() == [5, 4, 3, 2]
    assert head.class_of.tolist() == [-1, -1, 3, 2, 1, 0]
    features = 3 * head.prototypes.prototypes[head.assignment]
    cosines = head(features)
    torch.testing.assert_close(
        cosines, head.prototypes.prototypes[[5, 4, 3, 2]] @ head.prototypes.prototypes[[5, 4, 3, 2]].T
    )
    assert cosines.argmax(-1).tolist() == [0, 1, 2, 3]
    torch.testing.assert_close(head.loss(features, torch.arange(4)), torch.zeros(()), rtol=0, atol=1e-12)
    # A prototype of no class wins no feature.
    assert head(head.prototypes.prototypes[:1]).shape == (1, 4)
    assert head.reassign() == 0


def test_every_counts_updates_and_reassigns() -> None:
    head = trained_head(every=3)
    nothing = torch.empty(0, 8), torch.empty(0, dtype=torch.int64)
    head.update(*nothing)
    assert head.assignment.tolist() == [0, 1, 2, 3]
    head.update(*nothing)
    assert head.assignment.tolist() == [5, 4, 3, 2]


def test_the_state_goes_on_where_it_was(tmp_path: Path) -> None:
    head = trained_head(every=3)
    head.reassign()
    head.update(draw(1, 8), torch.tensor([0]))
    torch.save(head.state_dict(), tmp_path / "state.pt")
    fresh = AssignmentHead(frozen(6, 8), 4, every=3)
    fresh.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert fresh.updates == 2
    for name in ("assignment", "means", "seen"):
        assert torch.equal(getattr(fresh, name), getattr(head, name))
    batch = -head.prototypes.prototypes[[5]].repeat(30, 1), torch.zeros(30).long()
    for one in (head, fresh):
        one.momentum = 0.0
        one.update(*batch)
    assert torch.equal(fresh.assignment, head.assignment)
    assert fresh.assignment[0] != 5  # the third update moved it


def test_copies_have_an_assignment_of_their_own() -> None:
    head = trained_head()
    copied = copy.deepcopy(head)
    copied.reassign()
    assert head.assignment.tolist() == [0, 1, 2, 3]
    assert copied.assignment.tolist() == [5, 4, 3, 2]
    assert torch.equal(copied.prototypes.rows(0, copied.prototypes.n), head.prototypes.rows(0, head.prototypes.n))


def test_an_average_of_models_takes_the_assignment_over() -> None:
    model = nn.Sequential(nn.Linear(8, 8), trained_head())
    average = torch.optim.swa_utils.AveragedModel(model)
    model[1].reassign()
    average.update_parameters(model)
    assert average.module[1].assignment.tolist() == [5, 4, 3, 2]


@pytest.mark.parametrize("cast", [nn.Module.half, nn.Module.bfloat16, nn.Module.double], ids=lambda f: f.__name__)
def test_a_model_that_was_cast_goes_on(cast) -> None:
    head = cast(trained_head())
    assert head.assignment.dtype == torch.int64
    assert head.prototypes.prototypes.dtype == torch.float32
    head.update(head.prototypes.prototypes[2:4].to(head.means.dtype), torch.tensor([3, 2]))
    assert head.means.isfinite().all()
    head.reassign()
    assert head.assignment.tolist() == [5, 4, 3, 2]


def test_meta_device_and_loading() -> None:
    head = trained_head()
    head.reassign()
    empty = AssignmentHead(frozen(6, 8), 4).to("meta").to_empty(device="cpu")
    empty.load_state_dict(head.state_dict())
    features = draw(7, 8).float()
    assert torch.equal(empty(features), head(features))


def test_another_assignment_before_the_backward_pass_does_no_harm() -> None:
    head, features, labels = trained_head(), draw(7, 8).float().requires_grad_(), torch.arange(7) % 4
    (expected,) = torch.autograd.grad(head(features)[:, 0].sum() + head.loss(features, labels), features)
    value = head(features)[:, 0].sum() + head.loss(features, labels)
    assert head.reassign() == 4
    (got,) = torch.autograd.grad(value, features)
    assert torch.equal(got, expected)


@pytest.mark.slow
def test_compiled_without_breaks_and_exported() -> None:
    head, features, labels = trained_head(), draw(7, 8).float(), torch.arange(7) % 4
    compiled = torch.compile(head, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(features), head(features))
    loss = torch.compile(head.loss, backend="eager", fullgraph=True)
    torch.testing.assert_close(loss(features, labels), head.loss(features, labels))
    head.reassign()
    torch.testing.assert_close(loss(features, labels), head.loss(features, labels))
    torch.testing.assert_close(torch.export.export(head, (features,)).module()(features), head(features))


@pytest.mark.slow
def test_means_wait_for_no_device() -> None:
    # What needs a number from the device does not trace into one graph.
    eager, compiled = (torch.zeros(4, 8), torch.zeros(4).bool()), (torch.zeros(4, 8), torch.zeros(4).bool())
    features, labels = draw(7, 8).float(), torch.arange(7) % 3
    update_means(*eager, features, labels)
    torch.compile(update_means, backend="eager", fullgraph=True)(*compiled, features, labels)
    for one, other in zip(eager, compiled, strict=True):
        assert torch.equal(one, other)


# Two ranks


def rank_main(rank: int) -> tuple[dict[str, Tensor], Tensor]:
    head = AssignmentHead(frozen(6, 4), every=2)
    for step in range(2):
        features, labels = draw(9, 4, seed=step), (torch.arange(9) * 5 + step) % 6
        part = slice(0, 7) if rank == 0 else slice(7, 9)  # unequal batches
        head.update(features[part], labels[part])
    state = copy.deepcopy(head.state_dict())
    if rank == 1:
        head.means.neg_()
        head.assignment.copy_(torch.arange(6))
    head.reassign()  # is rank 0's
    again = head.assignment.clone()
    head.update(*((draw(3, 4), torch.arange(3)) if rank else (torch.empty(0, 4).double(), torch.empty(0).long())))
    return state, again


@pytest.mark.slow
def test_two_ranks_are_one_with_both_batches(tmp_path: Path) -> None:
    (first, again), (second, again_second) = on_ranks(2, tmp_path / "meeting", rank_main)
    head = AssignmentHead(frozen(6, 4), every=2)
    for step in range(2):
        head.update(draw(9, 4, seed=step), (torch.arange(9) * 5 + step) % 6)
    assert head.assignment.tolist() != list(range(6))
    for name, value in head.state_dict().items():
        assert torch.equal(first[name], second[name])
        torch.testing.assert_close(first[name], value)
    assert torch.equal(again, again_second)
    assert torch.equal(again, head.assignment)


# Wrong use


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"classes": 0}, "classes is 0; allowed is 1 to 5, the number of prototypes"),
        ({"classes": 6}, "classes is 6; allowed is 1 to 5, the number of prototypes"),
        ({"momentum": 1.0}, "momentum is 1.0; allowed is a number from 0 to below 1; 0.9 is usual"),
        ({"momentum": math.nan}, "momentum is nan"),
        ({"every": 0}, "every is 0; allowed is a whole number from 1 on"),
        ({"candidates": -1}, "candidates is -1; allowed is a whole number from 1 on"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        AssignmentHead(frozen(5, 3), **settings)


@pytest.mark.parametrize("call", ["loss", "update"])
@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.tensor([0, 4]), "labels hold 4; allowed is 0 to 3"),  # a prototype, and not a class
        (torch.tensor([-1, 0]), "labels hold -1; allowed is 0 to 3"),
        (torch.tensor([0]), r"labels have shape \(1,\); allowed is one a feature, \(2,\)"),
        (torch.tensor([0.0, 1.0]), "labels are torch.float32; allowed are integers"),
    ],
)
def test_wrong_labels_are_refused_in_one_line(call: str, labels: Tensor, message: str) -> None:
    head = AssignmentHead(frozen(6, 3), 4)
    with pytest.raises(BadRequest, match=message) as refused:
        getattr(head, call)(draw(2, 3), labels)
    assert "\n" not in str(refused.value)
    assert not head.seen.any()


@pytest.mark.parametrize("call", ["loss", "update"])
def test_features_of_another_width_are_refused(call: str) -> None:
    head = AssignmentHead(frozen(6, 3), 4)
    with pytest.raises(BadRequest, match=r"features have shape \(2, 4\), the prototypes need \(\.\.\., 3\)"):
        getattr(head, call)(draw(2, 4), torch.tensor([0, 1]))
    with pytest.raises(BadRequest, match=r"features have shape \(2, 4\)"):
        head(draw(2, 4))


@pytest.mark.parametrize("call", ["loss", "update"])
def test_debug_finds_features_that_are_not_finite(call: str) -> None:
    features = torch.tensor([[1.0, math.nan, 0.0], [1.0, 0.0, 0.0]])
    getattr(AssignmentHead(frozen(6, 3)), call)(features, torch.tensor([0, 1]))
    with pytest.raises(BadRequest, match="1 of 2 features are not finite"):
        getattr(AssignmentHead(frozen(6, 3), debug=True), call)(features, torch.tensor([0, 1]))


def test_repr() -> None:
    head = AssignmentHead(frozen(6, 3), 4, every=10, candidates=2)
    assert repr(head).startswith("AssignmentHead(\n  classes=4, momentum=0.9, every=10, candidates=2")


# What averages, casts and more classes leave of it


def ema(average: Tensor, current: Tensor, count: Tensor) -> Tensor:
    return 0.9 * average + 0.1 * current


AVERAGES = {
    "as it is": {},
    "of buffers": {"use_buffers": True},
    "of buffers, one by one": {"use_buffers": True, "avg_fn": ema},
    "of buffers, many at once": {"use_buffers": True, "multi_avg_fn": get_ema_multi_avg_fn(0.9)},
}


@pytest.mark.parametrize("case", AVERAGES)
def test_averages_of_models_keep_an_assignment(case: str) -> None:
    model = nn.Sequential(nn.Linear(8, 8), trained_head())
    average = AveragedModel(model, **AVERAGES[case])
    average.update_parameters(model)
    assert average.module[1].assignment.tolist() == [0, 1, 2, 3]
    model[1].reassign()
    seen = []
    for _ in range(40):
        average.update_parameters(model)
        seen.append(tuple(average.module[1].assignment.tolist()))
        features = draw(3, 8).float()
        expected = average.module[0](features)
        torch.testing.assert_close(
            average.module[1](expected),
            normalize(expected, dim=1) @ model[1].prototypes.rows(0, 6)[list(seen[-1])].T,
        )
    assert set(seen) <= {(0, 1, 2, 3), (5, 4, 3, 2)}
    assert seen[-1] == (5, 4, 3, 2)
    assert model[1].assignment.tolist() == [5, 4, 3, 2]


def test_averages_written_by_hand_into_a_state_keep_an_assignment() -> None:
    model = trained_head()
    average = copy.deepcopy(model)
    model.reassign()
    for _ in range(60):
        for kept, value in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
            if kept.is_floating_point():  # as yolov5 writes it
                kept.mul_(0.9).add_(0.1 * value)
    assert average.assignment.tolist() == [5, 4, 3, 2]


def test_averages_with_a_stranger_are_refused() -> None:
    model, other = trained_head(), trained_head()
    for _ in range(3):
        other.places.move(other.assignment.flip(0))
    for kept, value in zip(model.buffers(), other.buffers(), strict=True):
        if kept.is_floating_point() and kept.numel():
            kept.mul_(0.1).add_(value, alpha=0.9)
    with pytest.raises(BadRequest, match=r"averaged with those of a head that is no copy.*copy\.deepcopy"):
        model(draw(2, 8))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_checkpoint_that_was_cast_whole_loads(dtype: torch.dtype) -> None:
    head = AssignmentHead(frozen(600, 8))
    places = torch.randperm(600, generator=torch.Generator().manual_seed(0))
    head.places.move(places)
    head.update(draw(3, 8), torch.tensor([0, 1, 2]))
    state = {name: value.to(dtype) for name, value in head.state_dict().items()}
    fresh = AssignmentHead(frozen(600, 8))
    fresh.load_state_dict(state)
    assert torch.equal(fresh.assignment, places)
    assert fresh.means.dtype == torch.float32
    assert fresh.updates == 1
    del state["places._extra_state"]
    if dtype != torch.bfloat16:  # which has no whole numbers between 256 and 258
        fresh.load_state_dict(state)
        assert torch.equal(fresh.assignment, places)
    else:
        with pytest.raises(BadRequest, match="holds no assignment of 600 classes to 600 prototypes"):
            fresh.load_state_dict(state)


def test_the_state_of_an_older_head_loads() -> None:
    head = trained_head()
    state = {
        "assignment": torch.tensor([5, 0, 1, 2]),
        "means": torch.ones(4, 8),
        "seen": torch.tensor([True, False, True, True]),
        "_extra_state": torch.tensor(7),
    }
    state |= {name: value for name, value in head.state_dict().items() if name.startswith("prototypes.")}
    head.load_state_dict(state)
    assert head.assignment.tolist() == [5, 0, 1, 2]
    assert head.seen.tolist() == [1, 0, 1, 1]
    assert head.updates == 7


@pytest.mark.parametrize("cast", [nn.Module.half, nn.Module.bfloat16, nn.Module.double], ids=lambda f: f.__name__)
def test_means_and_places_stay_float32(cast) -> None:
    head = cast(nn.Sequential(trained_head()))[0]
    assert {buffer.dtype for buffer in (head.means, head.seen, head.places.value, head.places.turn)} == {torch.float32}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("candidates", [None, 3])
def test_prototypes_in_half_precision_are_assigned(dtype: torch.dtype, candidates: int | None) -> None:
    head = AssignmentHead(FrozenPrototypes(double_rows(6, 8).float(), dtype=dtype), candidates=candidates)
    head.update(head.prototypes.rows(0, 6).float().flip(0), torch.arange(6))
    assert head.reassign() == 6
    assert head.assignment.tolist() == [5, 4, 3, 2, 1, 0]


def test_extend_grows_a_head() -> None:
    head = trained_head(classes=6, n=6)
    head.reassign()
    before, means = head.assignment.tolist(), head.means.clone()
    more = torch.cat([frozen(6, 8).rows(0, 6), double_rows(3, 8, seed=9).float()])
    head.extend(more)
    assert head.assignment.tolist() == [*before, 6, 7, 8]
    assert torch.equal(head.means, torch.cat([means, torch.zeros(3, 8)]))
    assert head.seen.tolist() == [1] * 6 + [0] * 3
    assert head(draw(2, 8)).shape == (2, 9)
    head.update(draw(1, 8), torch.tensor([8]))
    spare = trained_head(classes=4, n=6)
    spare.reassign()
    spare.extend(more, classes=7)
    assert spare.assignment.tolist() == [5, 4, 3, 2, 0, 1, 6]
    for source, classes, message in (
        (more.flip(0), None, "the first 9 are not those of this head"),
        (more[:6], None, "the first 9 are not those of this head"),
        (more, 6, "classes is 6; allowed is 9 to 9"),
    ):
        with pytest.raises(BadRequest, match=message):
            head.extend(source, classes)


def test_a_checkpoint_of_fewer_classes_loads_into_the_set_that_extends_it() -> None:
    head = trained_head(classes=6, n=6)
    head.reassign()
    more = torch.cat([frozen(6, 8).rows(0, 6), double_rows(3, 8, seed=9).float()])
    grown = AssignmentHead(more)
    grown.load_state_dict(head.state_dict())
    head.extend(more)
    for name in ("assignment", "means", "seen"):
        assert torch.equal(getattr(grown, name), getattr(head, name))
    with pytest.raises(BadRequest, match="the checkpoint has 9 classes, this head 4"):
        AssignmentHead(more, 4).load_state_dict(grown.state_dict())


def failing_rank(rank: int) -> None:
    head = trained_head()
    if rank == 0:
        head.means.fill_(math.nan)
        head.seen.fill_(1)
    head.reassign()


@pytest.mark.slow
def test_where_rank_0_fails_every_rank_does(tmp_path: Path) -> None:
    first, second = on_ranks(2, tmp_path / "meeting", failing_rank)
    assert isinstance(first, ValueError)
    assert isinstance(second, BadRequest)
    assert str(second) == "rank 0 found no assignment; its own error says why"
