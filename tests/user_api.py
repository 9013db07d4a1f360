"""The public names as a user writes them: mypy checks this file strictly, and tests/test_public.py runs it."""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import protogen
from protogen.errors import NotFound
from protogen.nn import CosineHead, FrozenPrototypes, MarginHead


def make(folder: Path) -> protogen.Prototypes:
    """Ask for a set, make it in memory, keep it, and read it again."""
    spec: protogen.Spec = protogen.resolve("ebv", d=6, n=8, effort="low")
    made: protogen.Prototypes = protogen.generate(spec, protogen.Run(device="cpu"))
    kept: protogen.Prototypes = protogen.ensure(spec, store=folder)
    path: Path | None = kept.path
    assert path is not None
    part: protogen.Prototypes = protogen.load(path, rows=slice(0, 3))
    rows: Tensor = part.tensor
    assert rows.shape == (3, made.d)
    return protogen.load(path)


def absent(folder: Path) -> str:
    """Ask an empty store, and return what the error says."""
    try:
        protogen.load("ebv", d=6, n=8, store=folder)
    except NotFound as error:
        return str(error)
    except protogen.ProtogenError as error:
        raise AssertionError("another error than the documented one") from error
    raise AssertionError("a set was found in an empty store")


def train(prototypes: protogen.Prototypes, steps: int = 20) -> tuple[float, float]:
    """Train a layer towards a set with two heads, and return the losses of the last step."""
    features, labels = torch.eye(prototypes.n), torch.arange(prototypes.n)
    frozen = FrozenPrototypes(prototypes)
    body = nn.Linear(prototypes.n, frozen.d)
    cosine, margin = CosineHead(frozen), MarginHead(frozen, 0.1)
    optimizer = torch.optim.Adam(body.parameters(), lr=0.05)
    losses = (0.0, 0.0)
    for _ in range(steps):
        optimizer.zero_grad()
        first: Tensor = cross_entropy(cosine(body(features)), labels)
        second: Tensor = margin.loss(body(features), labels)
        (first + second).backward()
        optimizer.step()
        losses = (first.item(), second.item())
    return losses
