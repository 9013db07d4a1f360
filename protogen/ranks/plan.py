"""What several ranks cost, by formulas: a training step, memory and traffic, beside a learned layer and PartialFC."""

from dataclasses import asdict, dataclass
from typing import Any

from protogen.checks import check_between, check_whole

FLOAT = 4  # bytes
LABEL = 8
PARTIAL = 0.1  # of the classes, that PartialFC samples
CHUNK_LOGITS = 2**20  # logits in memory at a time on a CPU: those of `chunked_cross_entropy`
ADAM = 4  # numbers for each weight: itself, its gradient and two moments


@dataclass(frozen=True)
class Cost:
    """What one rank has to do for a training step of a classifier's last layer, and to hold.

    - `multiplications`: of the products with rows, forward and backward.
    - `held_bytes`: rows, and what an optimiser keeps of them; `step_bytes`: what a step has in memory beside.
    - `sent_bytes`: what the rank sends to others in a step, by ring algorithms.
    """

    name: str
    multiplications: int
    held_bytes: int
    step_bytes: int
    sent_bytes: int

    @property
    def memory_bytes(self) -> int:
        """All that the rank has in memory."""
        return self.held_bytes + self.step_bytes

    def to_dict(self) -> dict[str, Any]:
        """The cost as plain JSON values."""
        return {**asdict(self), "memory_bytes": self.memory_bytes}


@dataclass(frozen=True)
class Plan:
    """The costs of a last layer of n classes in d dimensions on some ranks, with `batch` features each."""

    d: int
    n: int
    ranks: int
    batch: int
    costs: tuple[Cost, ...]
    descent: Cost

    def to_dict(self) -> dict[str, Any]:
        """The plan as plain JSON values."""
        sizes = {"d": self.d, "n": self.n, "ranks": self.ranks, "batch": self.batch}
        return {**sizes, "costs": [cost.to_dict() for cost in self.costs], "descent": self.descent.to_dict()}


def plan(d: int, n: int, ranks: int, batch: int = 128, sampled: float = PARTIAL) -> Plan:
    """Return what ranks cost that share the classes, for fixed rows and for learned ones.

    - `batch`: the features of each rank in a step; `sampled`: the share of the classes that PartialFC takes in.
    - `descent` is an evaluation and a step of `protogen ebv`, not of training.

    Source of PartialFC: An et al. 2022, Killing Two Birds with One Stone, Section 3. Raises BadRequest.
    """
    for name, value, least in (("d", d, 2), ("n", n, 2), ("ranks", ranks, 1), ("batch", batch, 1)):
        check_whole(name, value, least)
    check_between("sampled", sampled, 0, 1.0 + 1e-9)
    rows = -(-n // ranks)
    gathered = ranks * batch
    taken = max(1, round(sampled * rows))
    costs = (
        _fixed("fixed rows, held", d, rows, gathered, ranks, FLOAT * rows * d),
        _fixed("fixed rows, by formula", d, rows, gathered, ranks, FLOAT * rows, fast=True),
        _learned("learned layer with Adam", d, rows, rows, gathered, ranks),
        _learned(f"PartialFC, {sampled:.0%} sampled, with Adam", d, rows, taken, gathered, ranks),
    )
    return Plan(d, n, ranks, batch, costs, _descent(d, n, ranks))


def all_gather_bytes(size: int, ranks: int) -> int:
    """What a rank sends where each gives a part of `size` bytes, and all get them all."""
    return size * (ranks - 1) // ranks


def all_reduce_bytes(size: int, ranks: int) -> int:
    """What a rank sends where `size` bytes are summed, and all get the sum."""
    return 2 * size * (ranks - 1) // ranks


def _traffic(d: int, gathered: int, ranks: int, scalars: int) -> int:
    """Features and labels gathered, some numbers a feature summed, the gradient of the features summed."""
    features = FLOAT * gathered * d
    return (
        all_gather_bytes(features + LABEL * gathered, ranks)
        + all_reduce_bytes(FLOAT * gathered * scalars, ranks)
        + all_reduce_bytes(features, ranks)
    )


def _fixed(name: str, d: int, rows: int, gathered: int, ranks: int, held: int, fast: bool = False) -> Cost:
    """Two products with the rows: logits, and their weights' sums of rows. A formula takes log d in place of d."""
    width = max(1, (d - 1).bit_length()) if fast else d
    chunk = min(rows, max(d, CHUNK_LOGITS // gathered))
    # A chunk of logits, twice where they are masked; features, their gradient by chunks and summed, and own rows.
    step = FLOAT * (2 * gathered * chunk + 5 * gathered * d)
    # The gradient of log-sum-exp and own logit comes back for each feature, gathered.
    upstream = all_gather_bytes(2 * FLOAT * gathered, ranks)
    return Cost(name, 2 * gathered * rows * width, held, step, _traffic(d, gathered, ranks, 3) + upstream)


def _learned(name: str, d: int, rows: int, taken: int, gathered: int, ranks: int) -> Cost:
    """Three products: logits, and the gradients of features and rows; logits and their gradient are held."""
    held = FLOAT * rows * d * (ADAM - 1) + FLOAT * taken * d  # the gradient is that of the rows taken
    step = FLOAT * (2 * gathered * taken + 2 * gathered * d)
    return Cost(name, 3 * gathered * taken * d, held, step, _traffic(d, gathered, ranks, 3))


def _descent(d: int, n: int, ranks: int, remembered: int = 3) -> Cost:
    """One evaluation of all pairs and one step of L-BFGS: a triangle of cosines, and at the most as much of gradient.

    Rows and gradient whole on each rank, the optimiser's vectors by rows. The gradient is summed, rows are gathered.
    """
    size = FLOAT * n * d
    pairs = n * n // (2 * ranks)
    held = 2 * size + (2 * remembered + 6) * size // ranks
    return Cost(
        "descent, a step", 3 * pairs * d, held, size, all_reduce_bytes(size, ranks) + all_gather_bytes(size, ranks)
    )
