"""Train one network with one head, and measure it on the test set."""

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, get_origin, get_type_hints

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from protogen.measuring.geometry import angles_deg
from protogen.measuring.measure import measure
from protogen.nn import recall_at
from protogen.rows import InMemory
from protogen.spec import is_number

from .contestant import Contestant
from .contestants import build
from .data import TEST, VALIDATION, Task, inputs

BATCH, RATE = 256, 3e-3  # of Adam, falling to zero along half a cosine
EDGE = 4  # the network halves its images until they are at most so large
HIDDEN = 512  # units before the features: without a layer that bends, fixed places are out of the network's reach
RECALLS = (1, 2, 4, 8)  # how many of the nearest features are looked at
VERSION = 2  # goes up when the same trial comes to train another network
TURN_DEG, STRETCH, MOVE = 5.0, 0.1, 0.06  # of shaken images: at most, the last in parts of the edge


@dataclass(frozen=True)
class Trial:
    """What one row of the results was asked for: nothing else enters its training but the machine.

    - `data`: the task's digest.
    - `prototypes`: the key of those that the head stands on, None where it learns its own.
    - `part`: the set that is measured. For choices it is the validation set alone, at the end the test set too.
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
    part: str = TEST
    version: int = VERSION


@dataclass(frozen=True)
class Row:
    """One trained network: accuracies in percent, angles in degrees, parameters in numbers.

    - `accuracy`, and the angles: of the part of the data that the trial names.
    - `validation`: the accuracy on the validation set.
    - `own_angle_deg`: the mean angle of a feature to the vector of its own class.
    - `means_angle_deg`: the smallest angle between the mean directions of two classes.
    - `head_bytes`: what the head holds in training, its parameters with gradients and Adam's two moments, and its
      buffers.
    - `losses`: the mean of each epoch.
    - `moved`: how many classes got another prototype at the end of each epoch, None where none can.
    - `temperature`: that of the head at the end, None where it has none.
    - `recall`: Recall@k in percent of the features of that part, for each k of RECALLS; None where they are few.
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
    validation: float | None = None
    temperature: float | None = None
    recall: tuple[float, ...] | None = None
    moved: tuple[float, ...] | None = None

    def to_dict(self) -> dict[str, Any]:
        """The row as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Row":
        """Read what `to_dict` wrote. Raises TypeError, KeyError or ValueError where it is something else."""
        # A row of before there was a validation set was measured on the test set, and stays one of its own version.
        asked = {"part": TEST, **values["trial"]}
        trial = Trial(**{field.name: asked[field.name] for field in fields(Trial)})
        lists = {name: values.get(name) for name in ("losses", "recall", "moved")}
        lists = {name: each if each is None else tuple(each) for name, each in lists.items()}
        row = cls(**{**values, "trial": trial, **lists})
        for part in (row.trial, row):
            for name, kind in get_type_hints(type(part)).items():
                if not _fits(getattr(part, name), kind):
                    raise ValueError(f"{name} is no {kind}")
        return row


def _fits(value: Any, kind: Any) -> bool:
    if get_origin(kind) is tuple:
        return all(map(is_number, value))
    if kind == tuple[float, ...] | None:
        return value is None or all(map(is_number, value))
    if kind == float | None:
        return value is None or is_number(value)
    return is_number(value) if kind is float else isinstance(value, kind) and not isinstance(value, bool)


def network(task: Task, hidden: int, d: int) -> nn.Sequential:
    """Build a network from what `inputs` gives of a task to features (b, d).

    Images go through convolutions first, vectors do not. Then comes a hidden layer.
    """
    layers: list[nn.Module] = []
    *_, height, width = (1, *task.images.shape[1:])
    if task.images.dim() == 3:
        channels, wider = 1, task.width
        while max(height, width) > EDGE:
            layers += [nn.Conv2d(channels, wider, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(wider), nn.ReLU()]
            channels, wider, height, width = wider, 2 * wider, (height + 1) // 2, (width + 1) // 2
        layers += [nn.Flatten()]
        width *= channels * height
    layers += [nn.Linear(width, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(hidden, d))


def train(trial: Trial, task: Task, store: Path | None, report: Callable[[int, int, float], None]) -> Row:
    """Train a network of this task with a head, and measure it.

    `report` is called after every step with the step, the number of steps and the loss. Torch's global
    generator is left as it was. Raises BadRequest where the head does not exist for d and the classes.
    """
    task, body, head, course = _trained(trial, task, store, report)
    trained = [sum(p.numel() for p in module.parameters()) for module in (body, head.module)]
    accuracy, own, means = _measure(task, trial.part, body, head)
    validation = accuracy if trial.part == VALIDATION else _measure(task, VALIDATION, body, head)[0]
    moments = 4 * sum(p.nbytes for p in head.module.parameters())
    return Row(
        trial,
        accuracy=accuracy,
        own_angle_deg=own,
        means_angle_deg=means,
        trained=sum(trained),
        head_trained=trained[1],
        head_bytes=moments + sum(b.nbytes for b in head.module.buffers()),
        seconds_per_epoch=course.seconds / trial.epochs,
        threads=torch.get_num_threads(),
        losses=course.losses,
        validation=validation,
        temperature=head.temperature(),
        recall=_recall(*_features(task, trial.part, body, head)),
        moved=course.moved,
    )


def features_of(
    trial: Trial, task: Task, store: Path | None, report: Callable[[int, int, float], None]
) -> tuple[Tensor, Tensor]:
    """Train a network of this task with a head, and return the features (m, d) and labels (m,) of the trial's part.

    The features are what the head is given. Raises BadRequest as `train` does.
    """
    task, body, head, _ = _trained(trial, task, store, report)
    return _features(task, trial.part, body, head)


@dataclass(frozen=True)
class _Course:
    """How a training went: the mean loss of each epoch, the classes that moved at its end, the seconds of all."""

    losses: tuple[float, ...]
    moved: tuple[int, ...] | None
    seconds: float


def _trained(
    trial: Trial, task: Task, store: Path | None, report: Callable[[int, int, float], None]
) -> tuple[Task, nn.Module, Contestant, _Course]:
    """Train, and return what was trained on, the network, the head, and how it went."""
    task = task.long_tailed(trial.imbalance)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(trial.seed)
        body = network(task, trial.hidden, trial.d)
        head = build(trial.head, trial.d, task, store)
        course = _optimise(trial, task, body, head, report)
    return task, body, head, course


def _optimise(
    trial: Trial, task: Task, body: nn.Module, head: Contestant, report: Callable[[int, int, float], None]
) -> _Course:
    parameters = [*body.parameters(), *head.module.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=trial.rate)
    steps = trial.epochs * math.ceil(len(task.labels) / trial.batch)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    generator = torch.Generator().manual_seed(trial.seed)
    step, losses, moved, began = 0, [], [], time.perf_counter()
    for _ in range(trial.epochs):
        total = 0.0
        for index in torch.randperm(len(task.labels), generator=generator).split(trial.batch):
            images = inputs(task.images[index])
            if task.shake:
                images = _shaken(images, generator)
            optimizer.zero_grad()
            loss = head.loss(head.features(body(images)), task.labels[index])
            loss.backward()
            optimizer.step()
            schedule.step()
            step, total = step + 1, total + loss.item() * len(index)
            report(step, steps, loss.item())
        moved.append(head.after_epoch())
        losses.append(total / len(task.labels))
    known = [count for count in moved if count is not None]
    return _Course(tuple(losses), tuple(known) if known else None, time.perf_counter() - began)


def _shaken(images: Tensor, generator: torch.Generator) -> Tensor:
    """Turn, scale and move each image (b, 1, size, size) a little."""
    turn, scale, right, down = (2 * torch.rand(4, len(images), generator=generator) - 1).unbind()
    turn, scale = turn * math.radians(TURN_DEG), 1 + STRETCH * scale
    cosine, sine = scale * turn.cos(), scale * turn.sin()
    rows = [torch.stack([cosine, -sine, 2 * MOVE * right], 1), torch.stack([sine, cosine, 2 * MOVE * down], 1)]
    grid = F.affine_grid(torch.stack(rows, 1), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)


def _measure(task: Task, part: str, body: nn.Module, head: Contestant) -> tuple[float, float, float]:
    """The accuracy on a part, the mean angle to the own class's vector, and the smallest between class means."""
    body.eval()
    head.module.eval()
    right, angles = 0, 0.0
    samples, numbers = task.part(part)
    sums = None
    with torch.no_grad():
        for some, labels in zip(samples.split(BATCH), numbers.split(BATCH), strict=True):
            features = head.features(body(inputs(some)))
            right += int((head.logits(features).argmax(1) == labels).sum())
            ahead = F.normalize(features)
            angles += float(angles_deg(features, head.vectors(features, labels)).sum())
            sums = ahead.new_zeros(task.classes, ahead.shape[1]) if sums is None else sums
            sums.index_add_(0, labels, ahead)
        assert sums is not None
        there = torch.linalg.vector_norm(sums, dim=1) > 0
        means = measure(InMemory(F.normalize(sums[there])))
    return 100 * right / len(numbers), angles / len(numbers), means.min_angle_points_deg


def _features(task: Task, part: str, body: nn.Module, head: Contestant) -> tuple[Tensor, Tensor]:
    """The features (m, d) and labels (m,) of a part."""
    body.eval()
    head.module.eval()
    samples, labels = task.part(part)
    with torch.no_grad():
        return torch.cat([head.features(body(inputs(some))) for some in samples.split(BATCH)]), labels


def _recall(features: Tensor, labels: Tensor) -> tuple[float, ...] | None:
    """Recall@k in percent for each k of RECALLS, None where no more features than these are there."""
    if len(features) <= max(RECALLS):
        return None
    return tuple(100 * share for share in recall_at(features, labels, RECALLS))
