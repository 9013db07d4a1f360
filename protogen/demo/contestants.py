"""The heads that the demo compares, each with what it trains on and how it predicts."""

import math
from collections.abc import Callable
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
from protogen.nn import (
    AssignmentHead,
    CosineHead,
    FrozenPrototypes,
    MarginHead,
    MultiCenterClassifier,
    SubcenterHead,
    random_signs,
)
from protogen.spec import Spec
from protogen.store.access import ensure_path

from .contestant import Contestant
from .data import Task
from .tuned import TUNED

LEARNED = "learned"
POLYTOPES = ("simplex", "orthoplex", "cube")
LARGE, NEAREST = 5_000, 64  # classes from which an assignment is searched among so many prototypes of each


@cache
def spec_of(head: str, d: int, n: int) -> Spec | None:
    """The prototypes that a head stands on, None where it learns its own.

    Raises BadRequest where there is no such head, or its prototypes do not exist for d and n.
    """
    if head not in HEADS:
        raise BadRequest(f"head is {head!r}; allowed is {', '.join(HEADS)}")
    method = TUNED[head].method if head in TUNED else FIXED[head][0] if head in FIXED else None
    return None if method is None else resolve(method, d=d, n=n)


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
    head = MultiCenterClassifier(d=d, n=n)
    return Contestant(head, head.loss, head, lambda z, y: head.vectors(y))


def _ebv(file: Path, signs: Callable[[Tensor], Tensor] = random_signs) -> Contestant:
    head = CosineHead(FrozenPrototypes(signs(read(file).tensor)))
    return Contestant(head, head.loss, head, lambda z, y: head.vectors(y))


def _regression(file: Path, dynamic: bool) -> Contestant:
    prototypes = FrozenPrototypes(file)
    head = AssignmentHead(prototypes, candidates=NEAREST if prototypes.n >= LARGE else None)

    def loss(z: Tensor, y: Tensor) -> Tensor:
        if dynamic:
            head.update(z.detach(), y)
        return head.loss(z, y)

    after = head.reassign if dynamic else lambda: None
    return Contestant(head, loss, head, lambda z, y: head.vectors(y), after)


def _polytope(file: Path, margin: float | Literal["max"]) -> Contestant:
    head = MarginHead(file, margin)
    return Contestant(head, head.loss, head, lambda z, y: head.vectors(y))


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
    rows = fixed.prototypes.rows(0, fixed.n)
    if not trained:
        return Contestant(fixed, fixed.loss, fixed, lambda z, y: likeliest(rows, z, y))
    head = TrainedSubcenters(rows, beta)
    return Contestant(head, head.loss, head, lambda z, y: likeliest(head.subcenters, z, y))


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
HEADS = (*LEARNING, *FIXED, *TUNED)
MAIN = ("ebv-tuned", "ebv-placed", "codes", "codes-apart")
ABLATIONS = (
    "learned-margin",
    "ebv-as-made",
    "subcenters-loose",
    "subcenters-trained",
    "subcenters-trained-loose",
    *(head for head in TUNED if head not in MAIN),
)
