"""Large symmetric sets: orbits of a cyclic group that turns planes, of which one vector each moves."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from .batched import Stages, descend_batch
from .orbits import OrbitLoss, Turns

LARGE_STAGES = Stages.growing(20, 2000, 10, steps=300, gain=0.003)


@dataclass(frozen=True)
class Orbits:
    """The first n vectors of orbits, a source of rows: row i is element i % m of the orbit of vector i // m.

    Element g of the cyclic group of order m turns plane p, of coordinates p and p + d // 2, by the angle
    2 pi g f_p / m. Where d is odd the last coordinate stays.

    - `vectors` (k, d), float32, with k m >= n;
    - `frequencies` (d // 2,), whole numbers.
    """

    vectors: Tensor
    frequencies: Tensor
    order: int
    n: int

    @property
    def shape(self) -> tuple[int, ...]:
        return self.n, self.vectors.shape[1]

    def rows(self, start: int, stop: int) -> Tensor:
        index = torch.arange(start, min(stop, self.n), device="cpu")
        elements, own = index % self.order, self.vectors[index // self.order].double()
        planes = len(self.frequencies)
        angles = (elements[:, None] * self.frequencies % self.order) * (2 * math.pi / self.order)
        cosines, sines = angles.double().cos(), angles.double().sin()
        left, right, last = own[:, :planes], own[:, planes : 2 * planes], own[:, 2 * planes :]
        return torch.cat((cosines * left - sines * right, cosines * right + sines * left, last), 1).float()

    @property
    def text(self) -> str:
        """The group in words."""
        return f"cyclic({self.order}); frequencies {'.'.join(map(str, self.frequencies.tolist()))}"


@dataclass(frozen=True)
class Turned:
    """A set of orbits, its largest cosine or |cosine| over the whole orbits, float32, and the evaluations made.

    `interrupted`: whether a KeyboardInterrupt ended the descent.
    """

    orbits: Orbits
    largest: float
    evaluations: int
    interrupted: bool


def turned_descent(
    d: int,
    n: int,
    *,
    order: int,
    lines: bool,
    seed: int,
    stages: Stages = LARGE_STAGES,
    device: str = "cpu",
    go_on: Callable[[float, int], bool] | None = None,
) -> Turned:
    """Lower the largest |cos| of n lines, or cos of n points, in R^d among orbits of a cyclic group of this order.

    Frequencies and the first vectors are drawn by the seed; ceil(n / order) vectors move, in float32. A step takes
    1 / order of the multiplications of a free one. `go_on` is told the lowest largest cosine so far and the
    evaluations made; where it says False the descent ends with its best.
    """
    generator = torch.Generator().manual_seed(seed)
    frequencies = torch.randint(order, (1, d // 2), generator=generator, device="cpu")
    count = -(-n // order)
    drawn = torch.randn(1, count, d, generator=generator, dtype=torch.float32, device="cpu")
    itself = torch.zeros(order, count, dtype=torch.bool, device=device)
    itself[0] = True
    loss = OrbitLoss(Turns.of(frequencies.to(device), order, torch.float32), itself, lines)
    found = descend_batch(normalize(drawn.to(device), dim=2), loss, stages, go_on)
    orbits = Orbits(found.rows[0].cpu(), frequencies[0], order, n)
    return Turned(orbits, float(found.largest), found.evaluations, found.interrupted)
