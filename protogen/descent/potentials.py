"""The Gaussian potential, by all pairs or by subsets, and the goals of its descents."""

import math
from copy import copy
from typing import TYPE_CHECKING, ClassVar, Self

from protogen.run import Run

from .checkpoint import Changing
from .states import State

if TYPE_CHECKING:
    from torch import Tensor

    from .evaluate import Evaluation


class Potential(Changing):
    """Take log S, S the sum over pairs of exp(-t |u - v|^2) = exp(2 t (cos - 1)).

    Eq. 5 on all n vectors is log((n + 2 S) / n), since its n terms of i = j are 1 each. Eq. 5 falls where log S
    falls; but where S is small the gradient of Eq. 5 is lost in rounding, and that of log S is not.

    Exponents are taken relative to a cosine, the shift. The shift is 1 at first, and the largest cosine as soon
    as float32 would lose the exponents.
    """

    changes: ClassVar[tuple[str, ...]] = ("t", "_shift")
    diagonal = -math.inf
    SPAN = 40.0  # exponents may lie so far from 0 before float32 loses them

    def __init__(self, t: float) -> None:
        self.t = t
        self._shift: Tensor | None = None  # (..., 1, 1), one for each set

    def weigh(self, cosines: "Tensor") -> "tuple[Tensor, Tensor]":
        weights = cosines.sub(self._shift_of(cosines)).mul_(2 * self.t).clamp_(max=2 * self.SPAN).exp_()
        return weights.sum((-2, -1)), weights

    def close(self, total: "Tensor", gradient: "Tensor") -> "Tensor":
        gradient.mul_((2 * self.t / total).to(gradient.dtype)[..., None, None])
        return total.log() + 2 * self.t * (self._shift_of(total[..., None, None])[..., 0, 0].double() - 1)

    def of_sets(self, start: int, stop: int) -> Self:
        part = copy(self)
        if self._shift is not None and self._shift.dim() > 2:
            part._shift = self._shift[start:stop]
        return part

    def adapt(self, at: "Evaluation") -> bool:
        largest = at.max_cos[..., None, None]
        if not 2 * self.t * (largest - self._shift_of(largest)).abs().max() > self.SPAN:
            return False
        self._shift = largest
        return True

    def _shift_of(self, cosines: "Tensor") -> "Tensor":
        """The shift of each set of cosines (..., b, c), (..., 1, 1)."""
        if self._shift is None or self._shift.shape[:-2] != cosines.shape[:-2]:
            return cosines.new_ones(*cosines.shape[:-2], 1, 1)
        return self._shift


class PaperPotential(Potential):
    """Take Eq. 5 as printed, on all vectors: the log of the mean over i of the sum over all j, j = i included."""

    def __init__(self, t: float, n: int) -> None:
        super().__init__(t)
        self._n = n

    def close(self, total: "Tensor", gradient: "Tensor") -> "Tensor":
        log_sum = super().close(total, gradient)
        doubled = 2 * log_sum.exp()
        gradient.mul_((doubled / (self._n + doubled)).to(gradient.dtype)[..., None, None])
        return (doubled / self._n).log1p()


class Subsets:
    """Evaluate Eq. 5 on a random subset of `size` rows (n, d) a step, by tiles; the other rows stay put."""

    def __init__(self, potential: Potential, size: int, seed: int, run: Run) -> None:
        import torch

        from protogen.measuring.tiles import tile_edge

        self._t, self._size = potential.t, size
        self._generator = torch.Generator().manual_seed(seed)
        self._edge = tile_edge(torch.device(run.device), run.tile)

    def __call__(self, rows: "Tensor") -> "Evaluation":
        import torch

        from protogen.measuring.tiles import blocks

        from .evaluate import Evaluation

        n = len(rows)
        chosen = torch.randperm(n, generator=self._generator, device="cpu")[: self._size].to(rows.device)
        # A pair inside the subset stands twice in the sum, once from each end.
        ends = torch.ones_like(rows[:, 0]).index_fill_(0, chosen, 2.0)
        total = rows.new_full((), self._size, dtype=torch.float64)  # i = j counts exp(0)
        low, high = rows.new_full((), math.inf), rows.new_full((), -math.inf)
        gradient = torch.zeros_like(rows)
        for i0, i1 in blocks(self._size, self._edge):
            own = chosen[i0:i1]
            for j0, j1 in blocks(n, self._edge):
                cosines = rows[own] @ rows[j0:j1].T
                itself = own[:, None] == torch.arange(j0, j1, device=rows.device)
                low = torch.minimum(low, cosines.masked_fill(itself, math.inf).amin())
                cosines.masked_fill_(itself, -math.inf)
                high = torch.maximum(high, cosines.amax())
                weights = cosines.sub_(1).mul_(2 * self._t).exp_()
                total += weights.sum()
                gradient.index_add_(0, own, (weights * ends[j0:j1]) @ rows[j0:j1])
        gradient *= (2 * self._t / total).to(rows.dtype)
        loss = (total / self._size).log()
        return Evaluation(float(loss), loss, high, torch.maximum(high, -low), gradient)

    def state(self) -> State:
        return {"generator": self._generator.get_state()}

    def restore(self, state: State) -> None:
        self._generator.set_state(state["generator"].cpu())


class LeastLoss(Changing):
    """Lower the loss, a logarithm, until it falls by less than `gain`; -inf: to the last step.

    `keeps_last`: keep the last set in place of the best, since losses of different subsets do not compare.
    """

    name = "log potential"
    target = None

    def __init__(self, gain: float, keeps_last: bool = False) -> None:
        self._gain, self.keeps_last = gain, keeps_last

    def figure(self, at: "Evaluation") -> "Tensor":
        return at.losses

    def reached(self, best: float) -> bool:
        return False

    def watched(self, at: "Evaluation", best: float) -> float:
        return best

    def stalled(self, before: float, now: float) -> bool:
        return before - now < self._gain

    def advance(self, at: "Evaluation", best: float) -> bool:
        return False


class LeastCosine(Changing):
    """Lower the largest cosine, by a potential whose t grows until the largest cosine alone counts.

    t grows by the factor GROWTH each time the loss has fallen by less than GAIN over PATIENCE steps. The descent
    ends where the bound that loss and t give on the largest cosine falls by less than STALL.
    """

    changes: ClassVar[tuple[str, ...]] = ("_losses",)
    name = "largest cosine"
    target = None
    keeps_last = False
    GROWTH = 1.3
    PATIENCE, GAIN = 8, 1e-3
    STALL = 1e-6

    def __init__(self, potential: Potential) -> None:
        self._potential = potential
        self._losses: list[float] = []  # after each step since t grew

    def figure(self, at: "Evaluation") -> "Tensor":
        return at.max_cos

    def reached(self, best: float) -> bool:
        return False

    def watched(self, at: "Evaluation", best: float) -> float:
        # An upper bound of the largest cosine, which lies at most log(pairs) / (2 t) below it.
        return 1 + float(at.losses.min()) / (2 * self._potential.t)

    def stalled(self, before: float, now: float) -> bool:
        return before - now < self.STALL

    def advance(self, at: "Evaluation", best: float) -> bool:
        self._losses.append(float(at.losses.min()))
        if len(self._losses) <= self.PATIENCE:
            return False
        if self._losses[-1 - self.PATIENCE] - self._losses[-1] > self.GAIN:
            return False
        self._losses.clear()
        self._potential.t *= self.GROWTH
        return True
