"""The search for a set whose largest cosine is lowest: starts, hops and a polish, for a stated effort."""

import contextlib
import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import normalize

from protogen.bounds import TOLERANCE, coherence_bound, max_cos_bound
from protogen.files.facts import Jammed
from protogen.run import Progress, Run
from protogen.solution import Status

from .batch import Batch
from .checkpoint import Changing, Checkpoint
from .effort import BUDGETS, OVERHEAD, evaluation_cost, program_cost, sets_for, starts
from .hops import NOISE, fitted, hopped
from .loop import SMALL
from .polish import polish
from .smooth import of_lines, of_points
from .states import State
from .symmetric import SymmetricSearch
from .threads import threads_for

# The sharpness of each stage. Random starts go through BLUNT, the best quarter of them through SHARP, what hops and
# what was given through HOP, symmetric sets with other vectors through FREED, and the last few through LAST.
BLUNT, SHARP, HOP, FREED = (20.0, 60.0, 180.0, 540.0), (1620.0,), (180.0, 540.0, 1620.0), (60.0, 180.0, 540.0, 1620.0)
LAST = (4860.0, 14580.0, 43740.0, 131220.0)
STEPS, HOP_STEPS = 600, 300  # in a stage at the most
# Sets of so many vectors come to rest so late that a phase ends before: one of them takes at most this share of the
# effort for it, but at least so many steps a stage.
MANY, MANY_SHARE, LEAST_STEPS = 600, 0.75, 20
HOP_EVALUATIONS = 350  # that a hop takes, about
SYMMETRIC_SHARE, FREED_SHARE, POLISH_SHARE = 0.4, 0.1, 0.1  # of the effort
ROOM = 1e-9  # over the lower bound, that a figure which meets it may have
OFTEN = 0.2  # the share of the sharp sets, of which one figure is taken for the lowest there is
POOL, FREED_SETS = 8, 32  # sets that hop, and symmetric ones that are freed
LAST_SETS, LAST_EVALUATIONS = 3, 400  # that are made sharp at last, and what one takes, about
SAME = 1e-5  # figures by so little apart are those of one set
LEAST_PROGRAMS, PROGRAMS = 6, 25  # linear programs of a polish


@dataclass(frozen=True)
class Packed:
    """How a search ended: unit rows (n, d), their figure, evaluations, why, what the polish found.

    `group` is the finite group that the set was found by, in words, or "".
    """

    rows: Tensor
    largest: float
    steps: int
    status: Status
    jammed: Jammed | None
    group: str


@dataclass(frozen=True)
class Request:
    """Ask for n lines or points in R^d.

    - `effort`: low, default or high, which stands for multiplications.
    - `alpha`: the search ends where the figure, the largest |cos| of lines or cos of points, is as low; or None.
    """

    lines: bool
    d: int
    n: int
    seed: int
    effort: str
    alpha: float | None = None


class Search(Changing):
    """Where a search stands. One `advance` is an evaluation of a batch, or what leads from one batch to the next.

    Phases follow each other:

    1. `given`, where there are sets to start from.
    2. `symmetric`: sets that a finite group maps to itself, some of them with a few vectors more or less.
    3. `freed`: the best of these, brought to n vectors, descend as any set.
    4. `blunt`, then the best `sharp`: random starts.
    5. `hops`, as often as the effort allows.
    6. `last`: the best descend to the largest sharpness. `polish`: linear programs.

    Where the lower bound is met, or where one figure is what many random starts come to, the last two follow at once.

    `pool_rows` (p, n, d) are the best sets so far that differ, the best first, with their figures `pool` (p,) and the
    groups that they were found by.
    """

    changes: ClassVar[tuple[str, ...]] = (
        "phase",
        "round",
        "spent",
        "step",
        "seconds",
        "best",
        "best_rows",
        "group",
        "pool_rows",
        "pool",
        "pool_groups",
    )

    def __init__(self, asked: Request, given: Tensor, device: str) -> None:
        """`given` (g, n, d) are sets to start from beside the random ones; g may be 0."""
        d, n = asked.d, asked.n
        self.asked, self._objective = asked, of_lines if asked.lines else of_points
        self.budget, self._unit = BUDGETS[asked.effort], evaluation_cost(d, n)
        dtype = torch.float64 if n * d <= SMALL else torch.float32
        self._given = given.to(device, dtype)
        self.phase, self.round, self.spent = "given" if len(given) else "symmetric", 0, 0.0
        self.step, self.seconds = 0, 0.0
        self.best, self.group, self.pool_groups = math.inf, "", list[str]()
        self.pool_rows, self.pool = self._given.new_zeros(0, n, d), self._given.new_zeros(0)
        self.jammed: Jammed | None = None
        self.status: Status | None = None
        self.batch: Batch | None = self._batch(self._given) if len(given) else None
        self.best_rows = self._given.new_zeros(n, d)
        self.symmetric: SymmetricSearch | None = None if len(given) else self._symmetric()
        self._freed_groups: list[str] = []

    @property
    def reached(self) -> bool:
        """Whether the best is what was asked for."""
        return self.asked.alpha is not None and self.best <= self.asked.alpha + TOLERANCE / 2

    def advance(self) -> float:
        """Do the next piece of the work; return the figure that it came to."""
        self.step += 1
        if self.symmetric is not None:
            return self._advance_symmetric(self.symmetric)
        if self.batch is None:
            self._polish()
            return self.best
        self.spent += self.batch.going * self._unit + OVERHEAD
        self.batch.advance()
        figure, place = (value.item() for value in self.batch.largest.min(0))
        if figure < self.best:
            self.best, self.best_rows = figure, self.batch.rows[int(place)]
            self.group = self._groups(len(self.batch.rows))[int(place)]
        if self.reached:
            self.status = Status.REACHED
        elif not self.batch.going:
            self._proceed(self.batch)
        return figure

    def _advance_symmetric(self, symmetric: SymmetricSearch) -> float:
        before = symmetric.spent
        figure = symmetric.advance() if not symmetric.ended else self.best
        self.spent += symmetric.spent - before
        if figure < self.best or symmetric.ended:
            for found in symmetric.best():
                if found.largest < self.best:
                    self.best, self.best_rows, self.group = found.largest, found.rows.to(self._given), found.group
        if self.reached:
            self.status = Status.REACHED
        elif symmetric.ended or self._meets_bound():
            self.symmetric = None
            self._free(symmetric)
        return min(figure, self.best) if figure == math.inf else figure

    def state(self) -> State:
        """Return all of it; of a search that has ended, the best is enough.

        Symmetric sets are not kept: a search among them begins again.
        """
        if self.symmetric is not None:
            return self._before
        jammed = None if self.jammed is None else vars(self.jammed)
        stand = {**super().state(), "status": self.status, "jammed": jammed, "freed": list(self._freed_groups)}
        return {**stand, "batch": None if self.batch is None or self.status else self.batch.state()}

    def restore(self, state: State) -> None:
        own = {name: state[name] for name in state if name not in ("status", "jammed", "batch", "freed")}
        super().restore(own)
        self.status = None if state["status"] is None else Status(state["status"])
        self.jammed = None if state["jammed"] is None else Jammed(**state["jammed"])
        self.batch, self._freed_groups = None, list(state["freed"])
        self.symmetric = self._symmetric() if self.phase == "symmetric" else None
        if state["batch"] is not None:
            self.batch = self._batch(state["batch"]["rows"])
            self.batch.restore(state["batch"])

    def _last_sets(self) -> int:
        """How many sets are made sharp at last: one, or a few where these take a tenth of the effort."""
        afforded = int(0.1 * self.budget / (LAST_EVALUATIONS * self._unit))
        return max(1, min(LAST_SETS, afforded))

    def _drawn(self) -> Tensor:
        """Draw random starts, as many as the effort allows."""
        d, n, generator = self.asked.d, self.asked.n, self._generator()
        count = starts(d, n, self.asked.effort)
        rows = torch.randn(count, n, d, generator=generator, dtype=torch.float64, device="cpu")
        return normalize(rows, dim=-1).to(self._given)

    def _generator(self) -> torch.Generator:
        """Draw for this round; each round of each seed has numbers of its own."""
        return torch.Generator().manual_seed((self.asked.seed * 1_000_003 + self.round) % 2**63)

    def _batch(self, rows: Tensor) -> Batch:
        """Let sets descend as this phase wants it."""
        stages, steps = {
            "given": (HOP, HOP_STEPS),
            "freed": (FREED, HOP_STEPS),
            "blunt": (BLUNT, STEPS),
            "sharp": (SHARP, STEPS),
            "hops": (HOP, HOP_STEPS),
            "last": (LAST, STEPS),
        }[self.phase]
        if self.asked.n > MANY:
            steps = min(steps, max(LEAST_STEPS, int(MANY_SHARE * self.budget / (len(stages) * self._unit))))
        return Batch(rows, self._objective, stages, steps)

    def _proceed(self, batch: Batch) -> None:
        """Go from a batch that has ended to what comes next."""
        if self.phase == "blunt":
            self.phase = "sharp"
            self.batch = self._batch(batch.rows[batch.largest.argsort()[: max(POOL, len(batch.rows) // 4)]])
            return
        often = self.phase == "sharp" and self._come_often(batch.largest)
        self._take_in(batch.rows, batch.largest, self._groups(len(batch.rows)))
        if self.phase == "given":
            self.phase, self.batch, self.symmetric = "symmetric", None, self._symmetric()
        elif self.phase == "last":
            self.phase, self.batch = "polish", None
        elif often or self._meets_bound():
            self._make_sharp()
        elif self.phase == "freed":
            self.phase = "blunt"
            self.batch = self._batch(self._drawn())
        else:
            self._hop_or_end()

    def _groups(self, count: int) -> list[str]:
        """Return the groups that the sets of the batch were found by."""
        return {"freed": self._freed_groups, "last": self.pool_groups}.get(self.phase, [""] * count)[:count]

    def _symmetric(self) -> SymmetricSearch:
        """Begin a search among symmetric sets."""
        self._before = {**super().state(), "status": None, "jammed": None, "batch": None, "freed": []}
        asked, share = self.asked, SYMMETRIC_SHARE * self.budget
        return SymmetricSearch(asked.d, asked.n, lines=asked.lines, seed=asked.seed, multiplications=share)

    def _free(self, symmetric: SymmetricSearch) -> None:
        """Take in the symmetric sets of n vectors, and let these and the others descend as any."""
        n, generator = self.asked.n, self._generator()
        whole = [found for found in symmetric.best(POOL) if len(found.rows) == n]
        if whole:
            rows, figures = torch.stack([w.rows for w in whole]), [w.largest for w in whole]
            self._take_in(rows.to(self.pool_rows), self.pool.new_tensor(figures), [w.group for w in whole])
        if self._meets_bound():
            self._make_sharp()
            return
        count = sets_for(FREED_SHARE * self.budget / HOP_EVALUATIONS, self.asked.d, n, FREED_SETS)
        chosen = symmetric.others(count)
        self.phase = "freed" if chosen else "blunt"
        self._freed_groups = [one.group for one in chosen]
        fits = [fitted(one.rows, n, self.asked.lines, generator) for one in chosen]
        self.batch = self._batch(torch.stack(fits).to(self._given) if fits else self._drawn())

    def _meets_bound(self) -> bool:
        """Whether no set can be better than the best by more than ROOM."""
        bound = (coherence_bound if self.asked.lines else max_cos_bound)(self.asked.d, self.asked.n)
        return self.best <= bound.value + ROOM

    def _come_often(self, figures: Tensor) -> bool:
        """Whether many of the sharp sets came to one figure, and nothing better is known.

        At their sharpness the figure of a set is larger than it will be at last, by less than its inverse.
        """
        lowest = figures.min().item()
        often = len(figures) >= POOL and float((figures <= lowest + SAME).double().mean()) >= OFTEN
        return often and self.best > lowest - 1 / SHARP[-1]

    def _hop_or_end(self) -> None:
        """Let the pool hop as long as the effort allows; else make the best sharp."""
        kept = POLISH_SHARE if self._programs() else 0.0
        last = LAST_EVALUATIONS * (self._last_sets() * self._unit + OVERHEAD)
        if self.spent + last < (1 - kept) * self.budget:
            self.phase, self.round = "hops", self.round + 1
            self.batch = self._batch(self._hopped())
        else:
            self._make_sharp()

    def _make_sharp(self) -> None:
        """Let the best descend to the largest sharpness."""
        self.phase = "last"
        self.batch = self._batch(self.pool_rows[: self._last_sets()])

    def _take_in(self, rows: Tensor, figures: Tensor, groups: list[str]) -> None:
        """Keep the best sets of the pool and of these, as far as their figures differ."""
        rows, figures = torch.cat((self.pool_rows, rows)), torch.cat((self.pool, figures))
        groups = [*self.pool_groups, *groups]
        kept: list[int] = []
        numbers = figures.tolist()
        for place in sorted(range(len(numbers)), key=numbers.__getitem__):
            if not kept or numbers[place] > numbers[kept[-1]] + SAME:
                kept.append(place)
        places = torch.tensor(kept[:POOL], device=rows.device)
        self.pool_rows, self.pool = rows[places], figures[places]
        self.pool_groups = [groups[place] for place in kept[:POOL]]

    def _hopped(self) -> Tensor:
        """Return sets that have hopped from those of the pool, with noise every other round."""
        count = sets_for((self.budget - self.spent) / HOP_EVALUATIONS, self.asked.d, self.asked.n, 8 * POOL)
        parents = self.pool_rows[torch.arange(count, device=self.pool_rows.device) % len(self.pool_rows)]
        return hopped(parents, self.asked.lines, NOISE if self.round % 2 == 0 else 0.0, self._generator())

    def _programs(self) -> int:
        """How many linear programs of a polish the effort allows; 0 where they are too few."""
        afforded = int(POLISH_SHARE * self.budget / program_cost(self.asked.d, self.asked.n))
        return min(PROGRAMS, afforded) if afforded >= LEAST_PROGRAMS else 0

    def _polish(self) -> None:
        """Polish the best sets by linear programs, as many as the effort allows, and end."""
        programs, left = self._programs(), int(POLISH_SHARE * self.budget / program_cost(self.asked.d, self.asked.n))
        for rows, group in zip(self.pool_rows, self.pool_groups, strict=True) if programs else ():
            found = polish(rows.double().cpu(), self.asked.lines, programs)
            if found.largest < self.best or self.jammed is None:
                better = found.largest <= self.best
                if better:
                    self.best, self.best_rows, self.group = found.largest, found.rows, group
                self.jammed = found.jammed if better else None
            left -= programs
            if left < programs:
                break
        self.status = Status.REACHED if self.reached else Status.CONVERGED


def pack(asked: Request, given: Tensor, run: Run, checkpoint: Checkpoint | None = None) -> Packed:
    """Search for the n lines or points in R^d whose figure is lowest, for the effort that is asked for.

    `given` (g, n, d) are sets to start from, beside random ones. The best comes back on the CPU, float64 where
    n d is small.

    A KeyboardInterrupt, memory that runs out, or the run's time limit ends the search with the best so far. With a
    checkpoint the search goes on from the state there, and whatever ends it early leaves its state there.
    """
    search = Search(asked, given, run.device)
    if checkpoint:
        checkpoint.begin(search)
    early: Status | None = None
    try:
        with threads_for(int(evaluation_cost(asked.d, asked.n))):
            early = _walk(search, run, checkpoint)
    except KeyboardInterrupt:
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
    return Packed(search.best_rows.cpu(), search.best, search.step, status, search.jammed, search.group)


def _walk(search: Search, run: Run, checkpoint: Checkpoint | None) -> Status | None:
    """Advance until the search has a status or the time is up; return TIME_LIMIT for the latter."""
    began, before = run.clock(), search.seconds
    name, early = "coherence" if search.asked.lines else "largest cosine", None
    while search.status is None and early is None:
        if checkpoint:
            checkpoint.note(search.state())
        figure = search.advance()
        elapsed = run.clock() - began
        search.seconds = before + elapsed
        if run.report:
            done, whole = (max(1, round(share / 1e6)) for share in (min(search.spent, search.budget), search.budget))
            at = Progress(done, whole, name, figure, search.best, search.asked.alpha, search.seconds, search.phase)
            run.report(at)
        if search.status is None and run.time_limit is not None and elapsed >= run.time_limit:
            early = Status.TIME_LIMIT
    if checkpoint:
        checkpoint.note(search.state())
    return early
