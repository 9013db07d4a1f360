"""Train one network with one head, and measure it on the test set."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, get_origin, get_type_hints

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from protogen.measuring.geometry import angles_deg
from protogen.measuring.measure import measure
from protogen.rows import InMemory
from protogen.spec import is_number

from .contestants import Contestant, build
from .data import Task

BATCH, RATE = 256, 3e-3  # of Adam, falling to zero along half a cosine
EDGE = 4  # the network halves its images until they are at most so large
HIDDEN = 512  # units before the features: without a layer that bends, fixed places are out of the network's reach
VERSION = 1  # goes up when the same trial comes to train another network
TURN_DEG, STRETCH, MOVE = 5.0, 0.1, 0.06  # of shaken images: at most, the last in parts of the edge


@dataclass(frozen=True)
class Trial:
    """What one row of the results was asked for: nothing else enters its training but the machine.

    `data` is the task's digest, `prototypes` the key of those that the head stands on.
    """

    task: str
    classes: int
    data: str
    imbalance: float
    head: str
    prototypes: str | None
    d: int
    seed: int
    epochs: int
    batch: int = BATCH
    rate: float = RATE
    hidden: int = HIDDEN
    version: int = VERSION


@dataclass(frozen=True)
class Row:
    """One trained network: `accuracy` in percent of the test set, angles in degrees, parameters in numbers.

    `own_angle_deg` is the mean angle of a test feature to the vector of its own class, `means_angle_deg` the
    smallest between the mean directions of two classes. `head_bytes` is what the head holds in training:
    parameters with gradients and Adam's two moments, and buffers. `losses` are the means of the epochs.
    """

    trial: Trial
    accuracy: float
    own_angle_deg: float
    means_angle_deg: float
    trained: int
    head_trained: int
    head_bytes: int
    seconds_per_epoch: float
    threads: int
    losses: tuple[float, ...]

    def to_dict(self) -> dict[str, Any]:
        """The row as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Row":
        """Read what `to_dict` wrote. Raises TypeError, KeyError or ValueError where it is something else."""
        trial = Trial(**{field.name: values["trial"][field.name] for field in fields(Trial)})
        row = cls(**{**values, "trial": trial, "losses": tuple(values["losses"])})
        for part in (row.trial, row):
            for name, kind in get_type_hints(type(part)).items():
                if not _fits(getattr(part, name), kind):
                    raise ValueError(f"{name} is no {kind}")
        return row


def _fits(value: Any, kind: Any) -> bool:
    if get_origin(kind) is tuple:
        return all(map(is_number, value))
    return is_number(value) if kind is float else isinstance(value, kind) and not isinstance(value, bool)


def network(size: int, width: int, hidden: int, d: int) -> nn.Sequential:
    """Build a convolutional network from images (b, 1, size, size) to features (b, d)."""
    layers: list[nn.Module] = []
    channels = 1
    while size > EDGE:
        layers += [nn.Conv2d(channels, width, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        channels, width, size = width, 2 * width, (size + 1) // 2
    layers += [nn.Flatten(), nn.Linear(channels * size * size, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(hidden, d))


def train(trial: Trial, task: Task, store: Path | None, report: Callable[[int, int, float], None]) -> Row:
    """Train a network of this task with a head, and measure it.

    `report` is called after every step with the step, the number of steps and the loss. Torch's global
    generator is left as it was. Raises BadRequest where the head does not exist for d and the classes.
    """
    task = task.long_tailed(trial.imbalance)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(trial.seed)
        body = network(task.images.shape[-1], task.width, trial.hidden, trial.d)
        head = build(trial.head, trial.d, task.classes, store)
        losses, seconds = _optimise(trial, task, body, head, report)
    trained = [sum(p.numel() for p in module.parameters()) for module in (body, head.module)]
    accuracy, own, means = _test(task, body, head)
    moments = 4 * sum(p.nbytes for p in head.module.parameters())
    return Row(
        trial,
        accuracy=accuracy,
        own_angle_deg=own,
        means_angle_deg=means,
        trained=sum(trained),
        head_trained=trained[1],
        head_bytes=moments + sum(b.nbytes for b in head.module.buffers()),
        seconds_per_epoch=seconds / trial.epochs,
        threads=torch.get_num_threads(),
        losses=tuple(losses),
    )


def _optimise(
    trial: Trial, task: Task, body: nn.Module, head: Contestant, report: Callable[[int, int, float], None]
) -> tuple[list[float], float]:
    parameters = [*body.parameters(), *head.module.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=trial.rate)
    steps = trial.epochs * math.ceil(len(task.labels) / trial.batch)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    generator = torch.Generator().manual_seed(trial.seed)
    step, losses, began = 0, [], time.perf_counter()
    for _ in range(trial.epochs):
        total = 0.0
        for index in torch.randperm(len(task.labels), generator=generator).split(trial.batch):
            images = task.images[index].unsqueeze(1).float() / 255
            if task.shake:
                images = _shaken(images, generator)
            optimizer.zero_grad()
            loss = head.loss(body(images), task.labels[index])
            loss.backward()
            optimizer.step()
            schedule.step()
            step, total = step + 1, total + loss.item() * len(index)
            report(step, steps, loss.item())
        head.after_epoch()
        losses.append(total / len(task.labels))
    return losses, time.perf_counter() - began


def _shaken(images: Tensor, generator: torch.Generator) -> Tensor:
    """Turn, scale and move each image (b, 1, size, size) a little."""
    turn, scale, right, down = (2 * torch.rand(4, len(images), generator=generator) - 1).unbind()
    turn, scale = turn * math.radians(TURN_DEG), 1 + STRETCH * scale
    cosine, sine = scale * turn.cos(), scale * turn.sin()
    rows = [torch.stack([cosine, -sine, 2 * MOVE * right], 1), torch.stack([sine, cosine, 2 * MOVE * down], 1)]
    grid = F.affine_grid(torch.stack(rows, 1), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)


def _test(task: Task, body: nn.Module, head: Contestant) -> tuple[float, float, float]:
    """The accuracy, the mean angle to the own class's vector, and the smallest between class means."""
    body.eval()
    head.module.eval()
    right, angles, sums = 0, 0.0, None
    with torch.no_grad():
        for images, labels in _batches(task):
            features = body(images)
            right += int((head.logits(features).argmax(1) == labels).sum())
            ahead = F.normalize(features)
            angles += float(angles_deg(features, head.vectors(features, labels)).sum())
            sums = ahead.new_zeros(task.classes, ahead.shape[1]) if sums is None else sums
            sums.index_add_(0, labels, ahead)
        assert sums is not None
        means = measure(InMemory(F.normalize(sums)))
    count = len(task.test_labels)
    return 100 * right / count, angles / count, means.min_angle_points_deg


def _batches(task: Task) -> Iterator[tuple[Tensor, Tensor]]:
    for images, labels in zip(task.test_images.split(BATCH), task.test_labels.split(BATCH), strict=True):
        yield images.unsqueeze(1).float() / 255, labels
