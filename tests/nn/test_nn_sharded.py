"""Heads whose ranks have each a share of the classes, held to one process in float64."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from artifacts import published
from draws import draw, unit_rows
from processes import on_ranks
from torch import Tensor, distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Replicate
from torch.distributed.tensor.parallel import loss_parallel
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from protogen.errors import BadRequest
from protogen.nn import AssignmentHead, CosineHead, FrozenPrototypes, MarginHead, StructuredPrototypes, ddp_ignore

N, D, BATCH = 13, 4, 6
ROWS = unit_rows(N, D)
LABELS = torch.tensor([0, 12, 6, -100, 7, 3])
WEIGHT = torch.linspace(0.2, 1.7, N)
OPTIONS: list[dict[str, Any]] = [
    {},
    {"label_smoothing": 0.1},
    {"ignore_index": 6},
    {"weight": WEIGHT},
    {"reduction": "sum"},
    {"reduction": "none"},
    {"weight": WEIGHT, "label_smoothing": 0.3, "ignore_index": 7},
    {"label_smoothing": 1.0, "reduction": "none"},
]
HEADS = {
    "cosine": lambda source, **more: CosineHead(source, 0.2, learn_scale=True, **more),
    "margin": lambda source, **more: MarginHead(source, 0.4, 5.0, learn_scale=True, **more),
    "formula": lambda source, **more: CosineHead(StructuredPrototypes("mub(p=5)", N), 0.2, learn_scale=True, **more),
}


def features_of(rank: int, d: int) -> Tensor:
    """Each rank has other features, and another number of them."""
    return 3 * draw(BATCH + rank, d, seed=rank)


def labels_of(rank: int) -> Tensor:
    labels = LABELS.repeat(2)[: BATCH + rank].roll(rank)
    return labels.where((labels != -100) | torch.tensor(rank == 0), 5)


def answers(head: Any, features: Tensor, labels: Tensor) -> list[Tensor]:
    """Losses under all options, and their gradients in the features and the scale."""
    found: list[Tensor] = []
    for options in OPTIONS:
        given = labels if "ignore_index" not in options else labels.where(labels >= 0, options["ignore_index"])
        leaf = features.clone().requires_grad_()
        head.zero_grad()
        loss = head.loss(leaf, given, **options)
        (loss * torch.arange(1, loss.numel() + 1).view(loss.shape)).sum().backward()
        found += [loss.detach(), leaf.grad, head.log_scale.grad.clone()]
    return found


@pytest.mark.slow
@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize("world", [2, 4])
def test_losses_and_gradients_are_those_of_one_process(tmp_path: Path, kind: str, world: int) -> None:
    alone = HEADS[kind](ROWS)

    def work(rank: int) -> Any:
        head = HEADS[kind](ROWS, group=distributed.group.WORLD)
        features, labels = features_of(rank, head.d), labels_of(rank)
        k = min(5, head.n)
        return answers(head, features, labels), head.topk(features, k), head.vectors(labels.clamp(min=0)), head.n

    for rank, (found, (values, classes), vectors, n) in enumerate(on_ranks(world, tmp_path / "meeting", work)):
        features, labels = features_of(rank, alone.d), labels_of(rank)
        for ours, theirs in zip(found, answers(alone, features, labels), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)
        top = alone.topk(features, 5)
        torch.testing.assert_close(values, top[0], rtol=1e-6, atol=1e-6)
        assert torch.equal(classes, top[1])
        assert torch.equal(vectors, alone.vectors(labels.clamp(min=0)))
        assert n == alone.n


@pytest.mark.slow
def test_megatrons_label_smoothing_over_one_ranks_classes_is_not_ours(tmp_path: Path) -> None:
    """Megatron-LM's issues 737 and 7452: the mean of the log probabilities was that over a rank's own classes."""
    features, labels = draw(BATCH, D), LABELS.clamp(min=0)
    true = F.cross_entropy(F.normalize(features) @ ROWS.double().T / 0.2, labels, label_smoothing=0.3)

    def work(rank: int) -> float:
        head = CosineHead(ROWS, 0.2, group=distributed.group.WORLD, replicated=True)
        return head.loss(features, labels, label_smoothing=0.3).item()

    def mistaken(start: int, stop: int) -> float:
        logs = (F.normalize(features) @ ROWS.double().T / 0.2).log_softmax(1)
        own = -logs.gather(1, labels[:, None]).squeeze(1)
        return (0.7 * own - 0.3 * logs[:, start:stop].mean(1)).mean().item()

    for loss in on_ranks(2, tmp_path / "meeting", work):
        assert loss == pytest.approx(true.item(), rel=1e-6)
        assert abs(loss - mistaken(0, 7)) > 1e-3
        assert abs(loss - mistaken(7, 13)) > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("world", [2, 4])
def test_soft_targets_are_those_of_all_classes(tmp_path: Path, world: int) -> None:
    """By index as by a matrix of all classes, of features that all ranks have and of those of each rank."""
    settings: list[dict[str, Any]] = [{}, {"weight": WEIGHT, "label_smoothing": 0.2}, {"reduction": "none"}]

    def targets(rank: int) -> tuple[Tensor, Tensor, Tensor]:
        classes = (torch.tensor([[0, 12], [3, 3], [6, 7], [1, 0], [12, 11], [5, 9]]) + rank).repeat(2, 1) % N
        shares = torch.tensor([0.3, 0.5, 0.9, 0.1, 1.0, 0.25], dtype=torch.float64).repeat(2)
        shares = torch.stack((shares, 1 - shares), 1)[: BATCH + rank]
        dense = torch.zeros(BATCH + rank, N, dtype=torch.float64).scatter_add_(1, classes[: BATCH + rank], shares)
        return classes[: BATCH + rank], shares, dense

    def losses(head: CosineHead, by_index: bool, rank: int) -> list[Tensor]:
        found = []
        classes, shares, dense = targets(rank)
        for each in settings:
            leaf = features_of(rank, D).requires_grad_()
            loss = head.loss_by_index(leaf, classes, shares, **each) if by_index else head.loss(leaf, dense, **each)
            loss.sum().backward()
            found += [loss.detach(), leaf.grad]
        return found

    def work(rank: int) -> list[list[Tensor]]:
        same = CosineHead(ROWS, 0.2, group=distributed.group.WORLD, replicated=True)
        apart = CosineHead(ROWS, 0.2, group=distributed.group.WORLD)
        return [losses(head, by, own) for by in (True, False) for head, own in ((same, 0), (apart, rank))]

    alone = CosineHead(ROWS, 0.2)
    expected = [losses(alone, False, rank) for rank in range(world)]
    for rank, found in enumerate([[losses(alone, True, 0)], *on_ranks(world, tmp_path / "meeting", work)], -1):
        for place, ours in enumerate(found):
            for mine, theirs in zip(ours, expected[rank if place % 2 else 0], strict=True):
                torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize(("world", "classes"), [(2, N), (4, N - 3)])
def test_an_assignment_over_ranks_is_that_of_one_process(tmp_path: Path, world: int, classes: int) -> None:
    settings: list[dict[str, Any]] = [{}, {"label_smoothing": 0.2}, {"weight": WEIGHT[:classes], "ignore_index": 3}]

    def labels(rank: int) -> Tensor:
        return labels_of(rank).clamp(min=0) % classes

    def answers(head: AssignmentHead, rank: int) -> list[Tensor]:
        found: list[Tensor] = []
        dense = torch.nn.functional.one_hot(labels(rank), classes).double() * 0.75 + 0.25 / classes
        for given, options in [(labels(rank), each) for each in settings] + [(dense, {})]:
            leaf = features_of(rank, D).requires_grad_()
            loss = head.loss(leaf, given, **options)
            loss.backward()
            found += [loss.detach(), leaf.grad]
        return [*found, *head.topk(features_of(rank, D), 5), head.vectors(labels(rank))]

    def work(rank: int) -> Any:
        head = AssignmentHead(ROWS, classes, candidates=4, group=distributed.group.WORLD)
        for step in range(2):
            head.update(features_of(rank, D) + step, labels(rank))
        moved = head.reassign()
        with pytest.raises(BadRequest, match="cosines to all classes are asked for"):
            head(features_of(rank, D))
        with pytest.raises(BadRequest, match="candidates is None with a group"):
            AssignmentHead(ROWS, classes, group=distributed.group.WORLD)
        again = AssignmentHead(ROWS, classes, candidates=4, group=distributed.group.WORLD)
        again.load_state_dict(alone.state_dict())
        assert torch.equal(again.means, head.means)
        return moved, head.assignment, head.means, answers(head, rank)

    alone = AssignmentHead(ROWS, classes, candidates=4)
    for step in range(2):
        every = [features_of(rank, D) + step for rank in range(world)]
        alone.update(torch.cat(every), torch.cat([labels(rank) for rank in range(world)]))
    moved = alone.reassign()
    found = on_ranks(world, tmp_path / "meeting", work)
    assert moved > 3
    torch.testing.assert_close(torch.cat([means for _, _, means, _ in found]), alone.means, rtol=1e-6, atol=1e-6)
    for rank, (theirs, assignment, _, ours) in enumerate(found):
        assert theirs == moved
        assert torch.equal(assignment, alone.assignment)
        for mine, its in zip(ours, answers(alone, rank), strict=True):
            torch.testing.assert_close(mine, its, rtol=1e-6, atol=1e-6)


@pytest.mark.slow
def test_a_file_is_read_by_shares_and_checkpoints_fit_every_rank(tmp_path: Path) -> None:
    path = published(tmp_path)
    whole = CosineHead(path)

    def work(rank: int) -> Any:
        head = CosineHead(path, group=distributed.group.WORLD)
        assert isinstance(head.prototypes, FrozenPrototypes)
        head.load_state_dict(whole.state_dict())
        assert head.state_dict().keys() == whole.state_dict().keys()
        assert copy.deepcopy(head).n == whole.n
        for refused in (lambda: head(torch.zeros(1, head.d)), head.as_linear):
            with pytest.raises(BadRequest, match=r"this rank has \d+ to \d+ of"):
                refused()
        with pytest.raises(BadRequest, match="temperature is 'auto' with a group"):
            CosineHead(path, "auto", group=distributed.group.WORLD)
        return head.prototypes.rows(0, head.prototypes.n)

    shares = on_ranks(2, tmp_path / "meeting", work)
    assert torch.equal(torch.cat(shares), whole.prototypes.rows(0, whole.n))
    with pytest.raises(BadRequest, match="group is 3; allowed is a process group"):
        CosineHead(path, group=3)  # type: ignore[arg-type]


@pytest.mark.slow
def test_data_and_classes_over_a_mesh_train_as_one_process(tmp_path: Path) -> None:
    features, labels = draw(8, 5).float(), torch.arange(8)

    def network(**more: Any) -> nn.Sequential:
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(5, D), CosineHead(FrozenPrototypes(ROWS), 0.5, learn_scale=True, **more))

    def work(rank: int) -> list[Tensor]:
        mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("data", "model"))
        model = ddp_ignore(_Loss(network(group=mesh["model"])))
        mine = slice(2 * rank, 2 * rank + 2)
        wrapped = DistributedDataParallel(model)  # which must outlive the backward pass
        wrapped(features[mine], labels[mine]).backward()
        return [parameter.grad for parameter in model.parameters()]

    alone = network()
    _Loss(alone)(features, labels).backward()
    for found in on_ranks(4, tmp_path / "meeting", work):
        for ours, theirs in zip(found, alone.parameters(), strict=True):
            torch.testing.assert_close(ours, theirs.grad, rtol=1e-5, atol=1e-6)


class _Loss(nn.Module):
    """The loss of a network as one forward, which DistributedDataParallel wraps."""

    def __init__(self, model: nn.Sequential) -> None:
        super().__init__()
        self.model = model

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        return self.model[1].loss(self.model[0](features), labels)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # torch's own, of its loss_parallel
def test_torchs_loss_parallel_takes_the_same_rows_on_a_mesh(tmp_path: Path) -> None:
    """Data by model, 2 by 2: the classes lie on the ranks of a row of the mesh, which have the same features."""

    def work(rank: int) -> list[tuple[Tensor, Tensor]]:
        import warnings

        warnings.simplefilter("ignore")
        mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("data", "model"))
        part = rank // 2
        head = CosineHead(ROWS, 0.2, group=mesh["model"], replicated=True)
        assert head.share is not None
        rows = head.share.as_dtensor(mesh["model"])
        labels, found = labels_of(part).clamp(min=0), []
        for by_torch in (False, True):
            leaf = features_of(part, D).float().requires_grad_()
            if by_torch:
                given = DTensor.from_local(F.normalize(leaf) / 0.2, mesh["model"], [Replicate()])
                with loss_parallel():
                    loss = F.cross_entropy(F.linear(given, rows), labels)
                    loss.backward()
                found.append((loss.full_tensor().detach(), leaf.grad))
            else:
                loss = head.loss(leaf, labels)
                loss.backward()
                found.append((loss.detach(), leaf.grad))
        return found

    alone = CosineHead(ROWS, 0.2)
    for rank, found in enumerate(on_ranks(4, tmp_path / "meeting", work)):
        leaf = features_of(rank // 2, D).float().requires_grad_()
        loss = alone.loss(leaf, labels_of(rank // 2).clamp(min=0))
        loss.backward()
        for value, gradient in found:
            torch.testing.assert_close(value, loss.detach(), rtol=1e-5, atol=1e-6)
            torch.testing.assert_close(gradient, leaf.grad, rtol=1e-5, atol=1e-6)
