"""Fixed rows that fit the data, and how the demo trains on them: each part of the recipe can be left out."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from protogen.files.reading import read
from protogen.fitting.apart import push_apart
from protogen.fitting.codes import class_codes
from protogen.nn import CosineHead, FrozenPrototypes, place, random_signs

from .contestant import Contestant
from .data import Task

APART = 0.65  # what codes are pushed apart to


@dataclass(frozen=True)
class Tuned:
    """Fixed rows, as they are or placed, of a method or codes of the data, and how they are trained on.

    - `method`: what makes the rows; None: they are codes of the data.
    - `placed`: whether each class takes the row that suits its code.
    - `alpha`: the coherence that codes are pushed apart to; None: not at all.
    - `temperature`: where training begins, or stays where it is not `learned`; "auto": what fits.
    - `normalised`: whether features go through a batch normalisation first.
    """

    method: str | None = None
    placed: bool = False
    alpha: float | None = None
    temperature: float | Literal["auto"] = "auto"
    learned: bool = True
    normalised: bool = True

    def build(self, d: int, task: Task, file: Path | None) -> Contestant:
        """Build the contestant on the prototypes of a file, or on codes of the task."""
        head = CosineHead(FrozenPrototypes(self._rows(d, task, file)), self.temperature, learn_scale=self.learned)
        normalise = nn.BatchNorm1d(d, affine=False) if self.normalised else nn.Identity()
        return Contestant(
            nn.ModuleList([normalise, head]),
            head.loss,
            head,
            lambda z, y: head.vectors(y),
            features=normalise,
            temperature=lambda: float(torch.as_tensor(head.temperature).detach()),
        )

    def _rows(self, d: int, task: Task, file: Path | None) -> Tensor:
        """The row of each class, (classes, d)."""
        if file is None:
            codes = class_codes(task.statistics, d).rows
            return codes if self.alpha is None else push_apart(codes, self.alpha).rows
        rows = read(file).tensor
        rows = random_signs(rows) if self.method == "ebv" else rows
        return rows[place(FrozenPrototypes(rows), class_codes(task.statistics, d).rows)] if self.placed else rows


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
