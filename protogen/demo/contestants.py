"""The heads that the demo compares, each with what it trains on and how it predicts."""

from collections.abc import Callable
from dataclasses import fields, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from protogen.errors import BadRequest
from protogen.files.header import read_header
from protogen.files.reading import read
from protogen.methods import METHODS, resolve
from protogen.nn import (
    AssignmentHead,
    CosineHead,
    FrozenPrototypes,
    MarginHead,
    MultiCenterClassifier,
    SubcenterHead,
    cosine_loss,
    random_signs,
)
from protogen.spec import Spec
from protogen.store.access import ensure_path

from .contestant import Contestant
from .data import Task
from .trained import POLYTOPES, TrainedMargin, TrainedSubcenters, TrainedUniform, likeliest
from .tuned import TUNED, Tuned
from .variants import Value, Variant, usual

LEARNED = "learned"
LARGE, NEAREST = 5_000, 64  # classes from which an assignment is searched among so many prototypes of each


def method_named(head: str) -> str | None:
    """The method whose sets a head stands on, None where it learns its own rows, or makes them of the data.

    Raises BadRequest where there is no such head.
    """
    if head not in HEADS:
        raise BadRequest(f"head is {head!r}; allowed is {', '.join(HEADS)}")
    return TUNED[head].method if head in TUNED else FIXED[head][0] if head in FIXED else None


@cache
def settings_of(head: str) -> tuple[dict[str, Value], dict[str, Value]]:
    """The hyper-parameters of a head, and those of its prototypes, each with what is usual. Raises BadRequest."""
    method = method_named(head)
    if head in TUNED:
        own = {field.name: getattr(TUNED[head], field.name) for field in fields(Tuned) if field.name != "method"}
    else:
        own = usual(*(FIXED[head][2:] if head in FIXED else LEARNING[head][1:]))
        own |= PRESET.get(head, {})
    left_out = {*own, *(METHODS[method].uses if method else ())}
    parameters: tuple[Any, ...] = () if method is None else fields(METHODS[method])
    return own, {one.name: one.default for one in parameters if one.name not in left_out}


@cache
def canonical(head: str) -> Variant:
    """Read a head with its settings, and leave out those that are usual. Raises BadRequest on one it does not have."""
    variant = Variant.parse(head)
    own, made = settings_of(variant.head)
    known = own | made
    for name, _ in variant.settings:
        if name not in known:
            has = ", ".join(known) or "none"
            raise BadRequest(f"{variant.head} has no setting {name!r}; its settings are {has}")
    return Variant(variant.head, tuple(pair for pair in variant.settings if pair[1] != known[pair[0]]))


@cache
def spec_of(head: str, d: int, n: int) -> Spec | None:
    """The prototypes that a head stands on, None where it learns its own.

    Raises BadRequest where there is no such head or setting, or its prototypes do not exist for d and n.
    """
    variant = canonical(head)
    method, made = method_named(variant.head), settings_of(variant.head)[1]
    if method is None:
        return None
    params: dict[str, Any] = {name: value for name, value in variant.settings if name in made}
    return resolve(method, d=d, n=n, **params)


def build(head: str, d: int, task: Task, store: Path | None = None) -> Contestant:
    """Build a head for a task's classes and features of width d; its prototypes come from the store, or go into it.

    Raises BadRequest as `spec_of` does, and MemoryError where memory has ended the descent of the prototypes.
    """
    spec, variant = spec_of(head, d, task.classes), canonical(head)
    own = settings_of(variant.head)[0]
    settings: dict[str, Any] = {name: value for name, value in variant.settings if name in own}
    file = None if spec is None else ensure_path(spec, store=store)
    if file is not None and read_header(file).spec != spec:
        raise MemoryError  # the best so far, which is not what a row says it was trained with
    if variant.head in TUNED:
        return replace(TUNED[variant.head], **settings).build(d, task, file)
    settings = PRESET.get(variant.head, {}) | settings
    built: Contestant
    if file is None:
        built = LEARNING[variant.head][0](d, task.classes, **settings)
    else:
        built = FIXED[variant.head][1](file, **settings)
    return built


def _learned(d: int, n: int) -> Contestant:
    head = nn.Linear(d, n)
    return Contestant(head, lambda z, y: F.cross_entropy(head(z), y), head, lambda z, y: head.weight[y])


def _uniformity(d: int, n: int, **settings: Any) -> Contestant:
    head = TrainedUniform(d, n, **settings)
    return Contestant(head, head.loss, head, lambda z, y: head.weight[y])


def _multicenter(d: int, n: int, **settings: Any) -> Contestant:
    head = MultiCenterClassifier(d=d, n=n, **settings)
    return Contestant(head, head.loss, head, lambda z, y: head.vectors(y))


def _ebv(file: Path, signs: Callable[[Tensor], Tensor] = random_signs, **settings: Any) -> Contestant:
    head = CosineHead(FrozenPrototypes(signs(read(file).tensor)), **settings)
    return Contestant(head, head.loss, head, lambda z, y: head.vectors(y))


def _direct(file: Path) -> Contestant:
    head = CosineHead(FrozenPrototypes(random_signs(read(file).tensor)))
    return Contestant(head, lambda z, y: cosine_loss(z, head.prototypes, y), head, lambda z, y: head.vectors(y))


def _regression(file: Path, dynamic: bool, **settings: Any) -> Contestant:
    prototypes = FrozenPrototypes(file)
    settings = {"candidates": NEAREST if prototypes.n >= LARGE else None} | settings
    head = AssignmentHead(prototypes, **settings)

    def loss(z: Tensor, y: Tensor) -> Tensor:
        if dynamic:
            head.update(z.detach(), y)
        return head.loss(z, y)

    after: Callable[[], int | None] = head.reassign if dynamic else lambda: None
    return Contestant(head, loss, head, lambda z, y: head.vectors(y), after)


def _polytope(file: Path, **settings: Any) -> Contestant:
    head = MarginHead(file, **settings)
    return Contestant(head, head.loss, head, lambda z, y: head.vectors(y))


def _margin(d: int, n: int, **settings: Any) -> Contestant:
    head = TrainedMargin(d, n, **settings)
    return Contestant(head, head.loss, head, lambda z, y: head.weight[y])


def _subcenters(file: Path, **settings: Any) -> Contestant:
    fixed = SubcenterHead(file, **settings)
    rows = fixed.prototypes.rows(0, fixed.n)
    return Contestant(fixed, fixed.loss, fixed, lambda z, y: likeliest(rows, z, y))


def _trained_subcenters(file: Path, **settings: Any) -> Contestant:
    fixed = SubcenterHead(file)
    head = TrainedSubcenters(fixed.prototypes.rows(0, fixed.n), **settings)
    return Contestant(head, head.loss, head, lambda z, y: likeliest(head.subcenters, z, y))


# What builds each head, and what its hyper-parameters are read off.
LEARNING: dict[str, tuple[Any, ...]] = {
    LEARNED: (_learned,),
    "learned-margin": (_margin, TrainedMargin),
    "learned-uniform": (_uniformity, TrainedUniform),
    "multicenter": (_multicenter, MultiCenterClassifier),
}
# The same after the method of its prototypes.
FIXED: dict[str, tuple[Any, ...]] = {
    "ebv": ("ebv", _ebv, CosineHead),
    "ebv-as-made": ("ebv", partial(_ebv, signs=lambda rows: rows), CosineHead),
    "ebv-direct": ("ebv", _direct),
    "uniform": ("uniform", partial(_regression, dynamic=False), AssignmentHead),
    "assignment": ("uniform", partial(_regression, dynamic=True), AssignmentHead),
    **{kind: (kind, _polytope, MarginHead) for kind in POLYTOPES},
    **{f"{kind}-margin": (kind, _polytope, MarginHead) for kind in POLYTOPES},
    "subcenters": ("subcenters", _subcenters, SubcenterHead),
    "subcenters-loose": ("subcenters", _subcenters, SubcenterHead),
    "subcenters-trained": ("subcenters", _trained_subcenters, TrainedSubcenters),
    "subcenters-trained-loose": ("subcenters", _trained_subcenters, TrainedSubcenters),
}
# Settings in which a head differs from its class.
PRESET: dict[str, dict[str, Any]] = {
    **{kind: {"margin": 0} for kind in POLYTOPES},
    "subcenters-loose": {"beta": 0.0},
    "subcenters-trained-loose": {"beta": 0.0},
}
HEADS = (*LEARNING, *FIXED, *TUNED)
MAIN = ("ebv-tuned", "ebv-placed", "codes", "codes-apart")
ABLATIONS = (
    "learned-margin",
    "learned-uniform",
    "ebv-as-made",
    "ebv-direct",
    "subcenters-loose",
    "subcenters-trained",
    "subcenters-trained-loose",
    *(head for head in TUNED if head not in MAIN),
)
