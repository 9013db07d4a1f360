"""Fixed rows that fit the data, and how the demo trains on them: each part of the recipe can be left out."""

import math
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from protogen.files.reading import read
from protogen.fitting.apart import push_apart
from protogen.fitting.codes import class_codes
from protogen.nn import FixedPrototypes, FrozenPrototypes, random_signs
from protogen.nn.placement import place
from protogen.nn.temperature import fitting_temperature

from .contestant import Contestant
from .data import Task

APART = 0.65  # what codes are pushed apart to
COUNTED = 4096  # rows that the coherence for a temperature is taken of


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


ROWS = {
    "ebv": Tuned(method="ebv"),
    "ebv-placed": Tuned(method="ebv", placed=True),
    "simplex": Tuned(method="simplex"),
    "codes": Tuned(),
    "codes-apart": Tuned(alpha=APART),
}
TUNED = {"ebv-tuned": ROWS["ebv"], "simplex-tuned": ROWS["simplex"]}  # the names alone stand for the papers' heads
TUNED |= {name: rows for name, rows in ROWS.items() if f"{name}-tuned" not in TUNED}
TUNED |= {f"codes-apart-{alpha}": Tuned(alpha=alpha) for alpha in (0.35, 0.5, 0.8)}
# Without one part: the temperature stays what fits; features are not normalised; neither, at the papers' temperature.
TUNED |= {f"{name}-held": replace(rows, learned=False) for name, rows in ROWS.items()}
TUNED |= {f"{name}-bare": replace(rows, normalised=False) for name, rows in ROWS.items()}
TUNED |= {
    f"{name}-plain": replace(rows, learned=False, normalised=False, temperature=0.07) for name, rows in ROWS.items()
}
