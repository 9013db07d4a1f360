"""Large symmetric sets: orbits of a cyclic group that turns planes, of which one vector each moves."""

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import normalize

from protogen.errors import BadRequest
from protogen.files.facts import Turns
from protogen.measuring.precision import full_precision
from protogen.rows import FILL
from protogen.run import Progress, Run
from protogen.solution import Status

from .batch import Batch
from .checkpoint import Changing, Checkpoint
from .correlations import TurnLoss
from .states import State
from .threads import threads_for

# The sharpness of the first stage and of the last, over sqrt(d): cosines of random rows are as wide as 1/sqrt(d).
BLUNT, SHARP, STAGES = 3.5, 1400.0, 13
STEPS = 300  # in a stage at the most
GAIN = 1e-3  # over the sharpness: a stage whose steps gain less ends
# An orbit without the frequencies 0 and half the order lies in one dimension or two less than it has vectors, which
# leaves the largest cosine at 1.4 / order at least: below ALL_FREQUENCIES sqrt(d) such an order takes these as well.
ALL_FREQUENCIES = 2
SAME = 1e-6  # a coordinate by so little apart is that of one row, rounded by one machine and by another
DRAWS = 100  # of frequencies, before it is said that there are none


@dataclass(frozen=True)
class Orbits:
    """The first n vectors of orbits, a source of rows: row i is element i % m of the orbit of vector i // m.

    - `vectors` (k, d), float32, with k m >= n, for the order m of the group;
    - `turns`: the group, which has a frequency for each of the d // 2 planes.
    """

    vectors: Tensor
    turns: Turns
    n: int

    @property
    def shape(self) -> tuple[int, ...]:
        return self.n, self.vectors.shape[1]

    def rows(self, start: int, stop: int) -> Tensor:
        return self.at(torch.arange(start, min(stop, self.n), device="cpu"))

    def at(self, index: Tensor) -> Tensor:
        """Return the rows of these numbers (...), (..., d) float32."""
        order = self.turns.order
        frequencies = torch.tensor(self.turns.frequencies, dtype=torch.int64, device="cpu")
        elements, own = index % order, self.vectors[index // order].double()
        planes = len(frequencies)
        angles = (elements[..., None] * frequencies % order) * (2 * math.pi / order)
        cosines, sines = angles.double().cos(), angles.double().sin()
        left, right, last = own[..., :planes], own[..., planes : 2 * planes], own[..., 2 * planes :]
        return torch.cat((cosines * left - sines * right, cosines * right + sines * left, last), -1).float()


def orbits_in(rows: Callable[[int, int], Tensor], shape: tuple[int, int], turns: Turns) -> Orbits | None:
    """Take a vector of each orbit from rows (n, d), which are read piece by piece; None where they are no orbits.

    `rows` returns rows start to stop - 1. Not all of them are in memory at once.
    """
    vectors: list[Tensor] = []
    n, d = shape
    count = max(1, FILL // (turns.order * d))  # orbits at a time
    for start in range(0, n, count * turns.order):
        piece = rows(start, min(start + count * turns.order, n))
        own = piece[:: turns.order].clone()
        if not torch.allclose(Orbits(own, turns, len(piece)).rows(0, len(piece)), piece, rtol=0, atol=SAME):
            return None
        vectors.append(own)
    return Orbits(torch.cat(vectors), turns, n)


@dataclass(frozen=True)
class Turned:
    """A set of orbits, its largest cosine or |cosine| over whole orbits, float32, evaluations of a set made, why."""

    orbits: Orbits
    largest: float
    steps: int
    status: Status


@dataclass(frozen=True)
class TurnedRequest:
    """Ask for n lines or points in R^d among the orbits of a cyclic group.

    - `order`: of the group; ceil(n / order) vectors move.
    - `steps`: evaluations of a set at the most.
    - `restarts`: so many sets, of groups of their own, descend at once.
    """

    lines: bool
    d: int
    n: int
    seed: int
    order: int
    steps: int
    restarts: int = 1


class TurnedSearch(Changing):
    """Where a descent among orbits stands: k sets with their frequencies (k, d // 2), drawn by the seed, and a batch.

    The batch works in float32. A step takes about log(order) operations for each vector and each row that moves.
    """

    changes: ClassVar[tuple[str, ...]] = ("step", "seconds")

    def __init__(self, asked: TurnedRequest, device: str) -> None:
        """Raises BadRequest where the group of this order has no orbits of its size in R^d."""
        self.asked, self.step, self.seconds = asked, 0, 0.0
        self.status: Status | None = None
        generator = torch.Generator().manual_seed(asked.seed)
        self.frequencies: list[list[int]] = []
        rows = torch.empty(asked.restarts, -(-asked.n // asked.order), asked.d, dtype=torch.float32, device="cpu")
        for own in rows:
            self.frequencies.append(drawn_frequencies(asked, generator))
            own.normal_(generator=generator)
        table = torch.tensor(self.frequencies, dtype=torch.int64, device=device)
        growth = (SHARP / BLUNT) ** (1 / (STAGES - 1))
        sharpnesses = [BLUNT * math.sqrt(asked.d) * growth**stage for stage in range(STAGES)]
        loss = TurnLoss(table, asked.order, asked.d, asked.lines)
        self.batch = Batch(normalize(rows, dim=2).to(device), loss, sharpnesses, STEPS, GAIN)

    @property
    def best(self) -> float:
        """The lowest figure so far, of the best set."""
        return float(self.batch.largest.min())

    def advance(self) -> None:
        """Evaluate a trial of each set, and see whether there is more to do."""
        self.batch.advance()
        self.step += 1
        if not self.batch.going:
            self.status = Status.CONVERGED
        elif self.step >= self.asked.steps:
            self.status = Status.STEP_LIMIT

    def found(self) -> Orbits:
        """Return the best set so far."""
        place = int(self.batch.largest.argmin())
        turns = Turns(self.asked.order, tuple(self.frequencies[place]))
        return Orbits(self.batch.rows[place].cpu(), turns, self.asked.n)

    def state(self) -> State:
        return {**super().state(), "status": self.status, "batch": self.batch.state()}

    def restore(self, state: State) -> None:
        super().restore({name: state[name] for name in state if name not in ("status", "batch")})
        self.status = None if state["status"] is None else Status(state["status"])
        self.batch.restore(state["batch"])


def drawn_frequencies(asked: TurnedRequest, generator: torch.Generator) -> list[int]:
    """Draw a frequency for each plane, each as often as any other but for one.

    Frequencies 0 and half the order, of planes with few places, belong to small groups alone. Raises BadRequest
    where no draw keeps all vectors of an orbit apart.
    """
    planes, order = asked.d // 2, asked.order
    every = order < ALL_FREQUENCIES * math.sqrt(asked.d)
    allowed = range(order // 2 + 1) if every else range(1, (order + 1) // 2)
    for _ in range(DRAWS):
        drawn: list[int] = []
        while len(drawn) < planes:
            drawn += [allowed[place] for place in torch.randperm(len(allowed), generator=generator, device="cpu")]
        if _keeps_apart(drawn[:planes], asked):
            return drawn[:planes]
    raise BadRequest(f"cyclic({order}) has no orbits of so many vectors in R^{asked.d}; take another order")


def _keeps_apart(frequencies: list[int], asked: TurnedRequest) -> bool:
    """Whether no element but the first maps each vector to itself, or for lines to its negative."""
    order = asked.order
    if math.gcd(order, *frequencies) > 1:
        return False
    if not asked.lines or asked.d % 2 or order % 2:
        return True
    return not any(all(2 * f * g % (2 * order) == order for f in frequencies) for g in range(1, order))


@full_precision()
def turned_descent(asked: TurnedRequest, run: Run, figure: str, checkpoint: Checkpoint | None = None) -> Turned:
    """Lower the largest |cos| of lines, or cos of points, among orbits of a cyclic group of the order asked for.

    `figure` is what the progress calls it. A KeyboardInterrupt, memory that runs out, or the run's time limit ends
    the descent with the best so far. With a checkpoint it goes on from the state there, and whatever ends it early
    leaves its state there. Raises BadRequest where the group has no orbits of its size in R^d.
    """
    search = TurnedSearch(asked, run.device)
    if checkpoint:
        checkpoint.begin(search)
    early: Status | None = None
    try:
        with threads_for(asked.n * asked.n // asked.order * asked.restarts):
            early = _walk(search, run, figure, checkpoint)
    except KeyboardInterrupt:
        if search.best == math.inf:
            raise
        early = Status.INTERRUPTED
    except (MemoryError, torch.OutOfMemoryError):
        if search.best == math.inf:
            raise
        early = Status.OUT_OF_MEMORY
    if checkpoint and early:
        with contextlib.suppress(KeyboardInterrupt):  # a second interruption loses the state, not the best
            checkpoint.write()
    status = early or search.status
    assert status is not None, "the walk is over"
    return Turned(search.found(), search.best, search.step, status)


def _walk(search: TurnedSearch, run: Run, figure: str, checkpoint: Checkpoint | None) -> Status | None:
    """Advance until the search has a status or the time is up; return TIME_LIMIT for the latter."""
    began, before = run.clock(), search.seconds
    early: Status | None = None
    while search.status is None and early is None:
        if checkpoint:
            checkpoint.note(search.state())
        search.advance()
        elapsed = run.clock() - began
        search.seconds = before + elapsed
        if run.report:
            most = min(search.asked.steps, search.step + search.batch.most_left)
            phase = f"stage {min(search.batch.stage + 1, STAGES)} of {STAGES}"
            run.report(Progress(search.step, most, figure, search.best, search.best, None, search.seconds, phase))
        if search.status is None and run.time_limit is not None and elapsed >= run.time_limit:
            early = Status.TIME_LIMIT
    if checkpoint:
        checkpoint.note(search.state())
    return early
