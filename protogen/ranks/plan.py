"""What several ranks cost, by formulas: a training step, memory and traffic, beside a learned layer and PartialFC."""

from dataclasses import asdict, dataclass
from typing import Any

from protogen.checks import check_between, check_whole, check_word

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}  # of a number of a layer, by torch's name
FLOAT = BYTES["float32"]  # of a descent, and of sums over ranks
LABEL = 8
PARTIAL = 0.1  # of the classes, that PartialFC samples
CHUNK_LOGITS = 2**20  # logits in memory at a time on a CPU: those of `chunked_cross_entropy`
ADAM = 4  # numbers for each weight: itself, its gradient and two moments


@dataclass(frozen=True)
class Cost:
    """What one rank has to do for a training step of a classifier's last layer, and to hold.

    - `kind`: held, formula, learned, sampled, descent or ring.
    - `multiplications`: of the products with rows, forward and backward.
    - `held_bytes`: rows, and what an optimiser keeps of them; `step_bytes`: what a step has in memory beside.
    - `sent_bytes`: what the rank sends to others in a step, by ring algorithms.
    """

    kind: str
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
    ring: Cost

    def to_dict(self) -> dict[str, Any]:
        """The plan as plain JSON values."""
        sizes = {"d": self.d, "n": self.n, "ranks": self.ranks, "batch": self.batch}
        descents = {"descent": self.descent.to_dict(), "ring": self.ring.to_dict()}
        return {**sizes, "costs": [cost.to_dict() for cost in self.costs], **descents}


def plan(d: int, n: int, ranks: int, batch: int = 128, sampled: float = PARTIAL, dtype: str = "float32") -> Plan:
    """Return what ranks cost that share the classes, for fixed rows and for learned ones.

    - `batch`: the features of each rank in a step; `sampled`: the share of the classes that PartialFC takes in.
    - `dtype`: that of rows, features, logits and of the optimiser's moments, one of BYTES.
    - `descent` is an evaluation and a step of `protogen ebv`, not of training, and `ring` one of rows that fit no rank.

    Source of PartialFC: An et al. 2022, Killing Two Birds with One Stone, Section 3. Raises BadRequest.

    >>> import protogen
    >>> found = protogen.plan(512, 50_000, ranks=8)
    >>> found.ranks, [each.kind for each in found.costs][:2]
    (8, ['held', 'formula'])
    """
    for name, value, least in (("d", d, 2), ("n", n, 2), ("ranks", ranks, 1), ("batch", batch, 1)):
        check_whole(name, value, least)
    check_between("sampled", sampled, 0, 1.0 + 1e-9)
    check_word("dtype", dtype, tuple(BYTES))
    rows, size = -(-n // ranks), BYTES[dtype]
    step = _Step(d, rows, ranks * batch, ranks, size)
    taken = max(1, round(sampled * rows))
    costs = (
        step.fixed("held", "fixed rows, held", size * rows * d),
        step.fixed("formula", "fixed rows, by formula", FLOAT * rows, fast=True),
        step.learned("learned", "learned layer with Adam", rows),
        step.learned("sampled", f"PartialFC, {sampled:.0%} sampled, with Adam", taken),
    )
    return Plan(d, n, ranks, batch, costs, _descent(d, n, ranks), _ring(d, n, ranks))


def all_gather_bytes(size: int, ranks: int) -> int:
    """What a rank sends where each gives a part of `size` bytes, and all get them all."""
    return size * (ranks - 1) // ranks


def all_reduce_bytes(size: int, ranks: int) -> int:
    """What a rank sends where `size` bytes are summed, and all get the sum."""
    return 2 * size * (ranks - 1) // ranks


@dataclass(frozen=True)
class _Step:
    """A training step of one rank: its rows of d numbers, the features of all ranks, and the bytes of a number."""

    d: int
    rows: int
    gathered: int
    ranks: int
    size: int

    def fixed(self, kind: str, name: str, held: int, fast: bool = False) -> Cost:
        """Two products with the rows: logits, and their weights' sums of rows. A formula takes log d in place of d."""
        width = max(1, (self.d - 1).bit_length()) if fast else self.d
        chunk = min(self.rows, max(self.d, CHUNK_LOGITS // self.gathered))
        # A chunk of logits, twice where they are masked, and once more in a transform; features, their gradient by
        # chunks and summed, and own rows.
        step = self.size * ((3 if fast else 2) * self.gathered * chunk + 5 * self.gathered * self.d)
        # The gradient of log-sum-exp and own logit comes back for each feature, gathered.
        upstream = all_gather_bytes(2 * FLOAT * self.gathered, self.ranks)
        return Cost(kind, name, 2 * self.gathered * self.rows * width, held, step, self._traffic(3) + upstream)

    def learned(self, kind: str, name: str, taken: int) -> Cost:
        """Three products: logits, and the gradients of features and rows; logits and their gradient are held."""
        # The gradient is that of the rows taken.
        held = self.size * self.d * (self.rows * (ADAM - 1) + taken)
        step = self.size * (2 * self.gathered * taken + 2 * self.gathered * self.d)
        return Cost(kind, name, 3 * self.gathered * taken * self.d, held, step, self._traffic(3))

    def _traffic(self, scalars: int) -> int:
        """Features and labels gathered, some numbers a feature summed, the gradient of the features summed."""
        features = self.size * self.gathered * self.d
        return (
            all_gather_bytes(features + LABEL * self.gathered, self.ranks)
            + all_reduce_bytes(FLOAT * self.gathered * scalars, self.ranks)
            + all_reduce_bytes(features, self.ranks)
        )


def _descent(d: int, n: int, ranks: int, remembered: int = 3) -> Cost:
    """One evaluation of all pairs and one step of L-BFGS: a triangle of cosines, and at the most as much of gradient.

    Rows and gradient whole on each rank, the optimiser's vectors by rows. The gradient is summed, rows are gathered.
    """
    size = FLOAT * n * d
    held = 2 * size + (2 * remembered + 6) * size // ranks
    sent = all_reduce_bytes(size, ranks) + all_gather_bytes(size, ranks)
    return Cost("descent", "descent, a step", 3 * _pairs(n, ranks) * d, held, size, sent)


def _ring(d: int, n: int, ranks: int, remembered: int = 3) -> Cost:
    """The same where rows and gradients lie on the ranks by rows, and go round half of a ring.

    A guest's rows and gradient are there beside, and one of them under way. Each of floor(ranks / 2) hops takes rows
    on, and a gradient on or home.
    """
    size = FLOAT * n * d
    held, step, sent = (2 + 2 * remembered + 6) * size // ranks, 3 * size // ranks, 2 * (ranks // 2) * size // ranks
    return Cost("ring", "descent by a ring, a step", 3 * _pairs(n, ranks) * d, held, step, sent)


def _pairs(n: int, ranks: int) -> int:
    """How many pairs of n rows are a rank's."""
    return n * n // (2 * ranks)
