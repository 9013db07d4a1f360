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
from protogen.nn import CosineHead, FrozenPrototypes, MarginHead, StructuredPrototypes, ddp_ignore

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
@pytest.mark.parametrize("world", [2, 3])
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
def test_soft_targets_by_index_are_those_of_all_classes(tmp_path: Path) -> None:
    classes = torch.tensor([[0, 12], [3, 3], [6, 7], [1, 0], [12, 11], [5, 9]])
    shares = torch.tensor([0.3, 0.5, 0.9, 0.1, 1.0, 0.25], dtype=torch.float64)
    shares = torch.stack((shares, 1 - shares), 1)
    dense = torch.zeros(BATCH, N, dtype=torch.float64).scatter_add_(1, classes, shares)
    settings: list[dict[str, Any]] = [{}, {"weight": WEIGHT, "label_smoothing": 0.2}, {"reduction": "none"}]

    def losses(head: CosineHead, by_index: bool) -> list[Tensor]:
        found = []
        for each in settings:
            leaf = draw(BATCH, D).requires_grad_()
            loss = head.loss_by_index(leaf, classes, shares, **each) if by_index else head.loss(leaf, dense, **each)
            loss.sum().backward()
            found += [loss.detach(), leaf.grad]
        return found

    def work(rank: int) -> list[Tensor]:
        head = CosineHead(ROWS, 0.2, group=distributed.group.WORLD, replicated=rank >= 0)
        with pytest.raises(BadRequest, match="loss_by_index"):
            head.loss(draw(BATCH, D), dense)
        return losses(head, True)

    alone = CosineHead(ROWS, 0.2)
    expected = losses(alone, False)
    for found in (losses(alone, True), *on_ranks(2, tmp_path / "meeting", work)):
        for ours, theirs in zip(found, expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-7)


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
def test_torchs_loss_parallel_takes_the_same_rows(tmp_path: Path) -> None:
    features, labels = draw(BATCH, D).float(), LABELS.clamp(min=0)

    def work(rank: int) -> tuple[float, float]:
        import warnings

        warnings.simplefilter("ignore")
        mesh = init_device_mesh("cpu", (2,))
        head = CosineHead(ROWS, 0.2, group=mesh, replicated=True)
        assert head.share is not None
        rows = head.share.as_dtensor(mesh)
        given = DTensor.from_local(F.normalize(features) / 0.2, mesh, [Replicate()])
        with loss_parallel():
            theirs = F.cross_entropy(F.linear(given, rows), labels).full_tensor()
        return head.loss(features, labels).item(), theirs.item()

    for ours, theirs in on_ranks(2, tmp_path / "meeting", work):
        assert ours == pytest.approx(theirs, rel=1e-5)
