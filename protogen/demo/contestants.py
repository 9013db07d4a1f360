"""The heads that the demo compares, each with what it trains on and how it predicts."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from protogen.errors import BadRequest
from protogen.files.header import read_header
from protogen.files.reading import read
from protogen.methods import resolve
from protogen.fitting.apart import push_apart
from protogen.fitting.codes import class_codes
from protogen.nn import (
    AssignmentHead,
    EBVLoss,
    FrozenPrototypes,
    MarginHead,
    MultiCenterClassifier,
    SubcenterHead,
    random_signs,
)
from protogen.nn.frozen import FixedPrototypes
from protogen.nn.placement import place
from protogen.nn.temperature import fitting_temperature
from protogen.spec import Spec
from protogen.store.access import ensure_path

from .data import Task

LEARNED = "learned"
POLYTOPES = ("simplex", "orthoplex", "cube")
APART = 0.65  # what codes are pushed apart to
COUNTED = 4096  # rows that the coherence for a temperature is taken of
LARGE, NEAREST = 5_000, 64  # classes from which an assignment is searched among so many prototypes of each


@dataclass(frozen=True)
class Contestant:
    """A head in training: `module` holds its parameters and buffers.

    `loss(features, labels)` is a scalar, `logits(features)` are (..., n) for a prediction, `vectors(features,
    labels)` the vector (..., d) of each label's class, the nearest one where it has several. `after_epoch` is
    called when an epoch has ended. `features` is what becomes of a network's output before all these, and
    `temperature()` that of the head now, None where it has none.
    """

    module: nn.Module
    loss: Callable[[Tensor, Tensor], Tensor]
    logits: Callable[[Tensor], Tensor]
    vectors: Callable[[Tensor, Tensor], Tensor]
    after_epoch: Callable[[], object] = lambda: None
    features: Callable[[Tensor], Tensor] = lambda z: z
    temperature: Callable[[], float | None] = lambda: None


@cache
def spec_of(head: str, d: int, n: int) -> Spec | None:
    """The prototypes that a head stands on, None where it learns its own.

    Raises BadRequest where there is no such head, or its prototypes do not exist for d and n.
    """
    if head not in HEADS:
        raise BadRequest(f"head is {head!r}; allowed is {', '.join(HEADS)}")
    if head in TUNED and TUNED[head].method is not None:
        return resolve(str(TUNED[head].method), d=d, n=n)
    return resolve(FIXED[head][0], d=d, n=n) if head in FIXED else None


def build(head: str, d: int, task: Task, store: Path | None = None) -> Contestant:
    """Build a head for a task's classes and features of width d; its prototypes come from the store, or go into it.

    Raises BadRequest as `spec_of` does, and MemoryError where memory has ended the descent of the prototypes.
    """
    spec = spec_of(head, d, task.classes)
    file = None if spec is None else ensure_path(spec, store=store)
    if file is not None and read_header(file).spec != spec:
        raise MemoryError  # the best so far, which is not what a row says it was trained with
    if head in TUNED:
        return TUNED[head].build(d, task, file)
    return LEARNING[head](d, task.classes) if file is None else FIXED[head][1](file)


def _learned(d: int, n: int) -> Contestant:
    head = nn.Linear(d, n)
    return Contestant(head, lambda z, y: F.cross_entropy(head(z), y), head, lambda z, y: head.weight[y])


def _multicenter(d: int, n: int) -> Contestant:
    head = MultiCenterClassifier(d, n)
    return Contestant(head, head.loss, head, lambda z, y: head.weight[y])


def _ebv(file: Path, signs: Callable[[Tensor], Tensor] = random_signs) -> Contestant:
    loss = EBVLoss(FrozenPrototypes(signs(read(file).tensor)))
    return Contestant(loss, loss, loss.head, lambda z, y: loss.head.prototypes.vectors(y))


def _regression(file: Path, dynamic: bool) -> Contestant:
    prototypes = FrozenPrototypes(file)
    head = AssignmentHead(prototypes, candidates=NEAREST if prototypes.n >= LARGE else None)

    def loss(z: Tensor, y: Tensor) -> Tensor:
        if dynamic:
            head.update(z.detach(), y)
        return head.loss(z, y)

    after = head.reassign if dynamic else lambda: None
    return Contestant(head, loss, head, lambda z, y: prototypes.vectors(head.assignment[y]), after)


def _polytope(file: Path, margin: float | Literal["max"]) -> Contestant:
    head = MarginHead(file, margin)
    return Contestant(head, lambda z, y: F.cross_entropy(head(z, y), y), head, lambda z, y: head.prototypes.vectors(y))


class TrainedMargin(nn.Module):
    """Cosine softmax on trained rows with the margin of MarginHead, the simplex's angle.

    The baseline of Regular Polytope Networks, Section 4: a learnable classifier with the loss of Eq. 9.
    """

    kappa = 30.0

    def __init__(self, d: int, n: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n, d))
        nn.init.kaiming_uniform_(self.weight, math.sqrt(5))  # as nn.Linear's
        self.margin = math.acos(-1 / (n - 1)) if n > 2 else math.pi

    def forward(self, features: Tensor) -> Tensor:
        """Return logits (..., n) for features (..., d)."""
        return self.kappa * F.linear(F.normalize(features, dim=-1), F.normalize(self.weight))

    def loss(self, features: Tensor, labels: Tensor) -> Tensor:
        """Return the cross entropy with the margin, continued beyond pi as `margin_logits` is."""
        ahead, own = F.normalize(features), F.normalize(self.weight)[labels]
        cosine = (ahead * own).sum(1, keepdim=True)
        sine = torch.linalg.vector_norm(ahead - cosine * own, dim=1, keepdim=True)
        near = cosine * math.cos(self.margin) - sine * math.sin(self.margin)
        psi = near.where(cosine >= -math.cos(self.margin), cosine - (1 - math.cos(self.margin)))
        return F.cross_entropy(self(features).scatter(1, labels[:, None], self.kappa * psi), labels)


def _margin(d: int, n: int) -> Contestant:
    head = TrainedMargin(d, n)
    return Contestant(head, head.loss, head, lambda z, y: head.weight[y])


class TrainedSubcenters(nn.Module):
    """Sub-centres as SubcenterHead has them, but trained: the ablation of The Fixed Sub-Center, Section 4.5."""

    def __init__(self, subcenters: Tensor, beta: float = 1e-4) -> None:
        super().__init__()
        self.subcenters = nn.Parameter(subcenters.clone())
        self.beta = beta

    def forward(self, features: Tensor) -> Tensor:
        """Return logits (..., n) for features (..., d)."""
        return torch.einsum("...d,nsd->...ns", features, self.subcenters).logsumexp(-1)

    def loss(self, features: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of `SubcenterHead.loss`, with a gradient that reaches the sub-centres too."""
        apart = features - likeliest(self.subcenters, features, labels)
        return F.cross_entropy(self(features), labels) + self.beta * apart.square().sum() / 2


def likeliest(subcenters: Tensor, features: Tensor, labels: Tensor) -> Tensor:
    """Return the most probable sub-centre of each label's class, (b, d), for features (b, d)."""
    own = subcenters[labels]
    place = torch.einsum("bd,bsd->bs", features.detach(), own.detach()).argmax(1)
    return own[torch.arange(len(own), device=own.device), place]


def _subcenters(file: Path, trained: bool = False, beta: float = 1e-4) -> Contestant:
    fixed = SubcenterHead(file, beta)
    rows = fixed.prototypes.prototypes
    if not trained:
        return Contestant(fixed, fixed.loss, fixed, lambda z, y: likeliest(rows, z, y))
    head = TrainedSubcenters(rows, beta)
    return Contestant(head, head.loss, head, lambda z, y: likeliest(head.subcenters, z, y))


class TunedRows(nn.Module):
    """Cosine softmax on fixed rows of features that are normalised or not, at a temperature that learns or not."""

    def __init__(self, prototypes: FixedPrototypes, temperature: float, learned: bool, normalised: bool) -> None:
        super().__init__()
        self.prototypes = prototypes
        self.normalise = nn.BatchNorm1d(prototypes.d, affine=False) if normalised else nn.Identity()
        self.log_scale = nn.Parameter(torch.tensor(-math.log(temperature)), requires_grad=learned)

    def forward(self, features: Tensor) -> Tensor:
        """Return logits (..., n) for features (..., d)."""
        return self.log_scale.exp() * self.prototypes.product(F.normalize(features, dim=-1))

    def loss(self, features: Tensor, labels: Tensor) -> Tensor:
        """Return the cross entropy."""
        return F.cross_entropy(self(features), labels)


@dataclass(frozen=True)
class Tuned:
    """Fixed rows, as they are or placed, of a method or codes of the data, and how they are trained on.

    `temperature` None is `fitting_temperature`, where training begins or stays. `alpha` is what codes are pushed
    apart to.
    """

    method: str | None = None
    placed: bool = False
    alpha: float | None = None
    temperature: float | None = None
    learned: bool = True
    normalised: bool = True

    def build(self, d: int, task: Task, file: Path | None) -> Contestant:
        """The contestant on the prototypes of a file, or on codes of the task."""
        head = TunedRows(*self._rows(d, task, file), self.learned, self.normalised)
        return Contestant(
            head,
            head.loss,
            head,
            lambda z, y: head.prototypes.vectors(y),
            features=head.normalise,
            temperature=lambda: float((-head.log_scale).exp()),
        )

    def _rows(self, d: int, task: Task, file: Path | None) -> tuple[FixedPrototypes, float]:
        codes = class_codes(task.statistics, d).rows if file is None or self.placed else None
        if file is None:
            assert codes is not None
            rows = codes if self.alpha is None else push_apart(codes, self.alpha).rows
        else:
            rows = read(file).tensor
            rows = random_signs(rows) if self.method == "ebv" else rows
        found: FixedPrototypes = FrozenPrototypes(rows)
        if file is not None and codes is not None:
            found = FrozenPrototypes(rows[place(found, codes)])
        apart = rows[:COUNTED] @ rows[:COUNTED].T
        coherence = float(apart.fill_diagonal_(0).abs().max())
        return found, self.temperature or fitting_temperature(task.classes, d, min(1.0, coherence))


LEARNING: dict[str, Callable[[int, int], Contestant]] = {
    LEARNED: _learned,
    "learned-margin": _margin,
    "multicenter": _multicenter,
}
FIXED: dict[str, tuple[str, Callable[[Path], Contestant]]] = {
    "ebv": ("ebv", _ebv),
    "ebv-as-made": ("ebv", partial(_ebv, signs=lambda rows: rows)),
    "uniform": ("uniform", partial(_regression, dynamic=False)),
    "assignment": ("uniform", partial(_regression, dynamic=True)),
    **{kind: (kind, partial(_polytope, margin=0)) for kind in POLYTOPES},
    **{f"{kind}-margin": (kind, partial(_polytope, margin="max")) for kind in POLYTOPES},
    "subcenters": ("subcenters", _subcenters),
    "subcenters-loose": ("subcenters", partial(_subcenters, beta=0.0)),
    "subcenters-trained": ("subcenters", partial(_subcenters, trained=True)),
    "subcenters-trained-loose": ("subcenters", partial(_subcenters, trained=True, beta=0.0)),
}
ROWS = {
    "ebv": {"method": "ebv"},
    "ebv-placed": {"method": "ebv", "placed": True},
    "simplex": {"method": "simplex"},
    "codes": {},
    "codes-apart": {"alpha": APART},
}
SETTINGS = {
    "": {},
    "-held": {"learned": False},  # the fitting temperature, not learned
    "-bare": {"normalised": False},
    "-plain": {"learned": False, "normalised": False, "temperature": 0.07},  # as the paper trains
}
TUNED = {f"{rows}{setting}": Tuned(**ROWS[rows], **SETTINGS[setting]) for rows in ROWS for setting in SETTINGS}
TUNED |= {f"{rows}-tuned": TUNED.pop(rows) for rows in ("ebv", "simplex")}  # their names are taken
for alpha in (0.35, 0.5, 0.8):
    TUNED[f"codes-apart-{alpha}"] = Tuned(alpha=alpha)
HEADS = (*LEARNING, *FIXED, *TUNED)
MAIN = ("ebv-tuned", "ebv-placed", "codes", "codes-apart")
ABLATIONS = (*(head for head in TUNED if head not in MAIN),"learned-margin", "ebv-as-made", "subcenters-loose", "subcenters-trained", "subcenters-trained-loose")
