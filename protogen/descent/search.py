"""A search for a set whose largest cosine is lowest, piece by piece: starts, hops and a polish, for a stated effort."""

import math
from collections.abc import Generator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import normalize

from protogen.bounds import TOLERANCE, coherence_bound, max_cos_bound
from protogen.files.facts import Jammed
from protogen.solution import Status

from .batch import Batch
from .checkpoint import Changing
from .effort import OVERHEAD, evaluation_cost, program_cost, sets_for, starts
from .hops import NOISE, fitted, hopped
from .loop import SMALL
from .phases import MANY, planned
from .pieces import Making
from .polish import Polishing
from .pool import POOL, SAME, Pool
from .smooth import largest_cosine, of_lines, of_points
from .states import State
from .symmetric import SymmetricSearch

APART = "status", "jammed", "batch", "polishing", "symmetric", "pool"  # in a state, beside the attributes that change
ROOM = 1e-9  # over the lower bound, that a figure which meets it may have
# The share of the sharp sets, of which one smooth maximum is taken for the lowest there is, if so many are sharp: at
# points (13, 58) all of eleven come to .1736, and at (13, 59) half of 51 to .1805, where .1714 is known for both.
OFTEN, LEAST_SHARP = 0.5, 64
FREED_SETS = 32  # symmetric sets that are freed
POLISH_SHARE = 0.06  # of the effort
LEAST_PROGRAMS, PROGRAMS = 6, 25  # linear programs of a polish
OVER = 1.25  # times its share, that a search among symmetric sets may take
LEAST_STEPS = 20  # in a stage, whatever the share
# The share of the sets of a phase that go on to the next, by their smooth maxima at its last sharpness. Of random
# starts the best at last were in the best quarter of sharpness 180 at lines (3, 9), (7, 93), (10, 42) and points
# (10, 91); at 60 they were not at (7, 93). Of 64 that had hopped they were in 16 of 18 rounds, of lines (7, 85),
# (10, 42) and points (16, 76).
PROMISING = {"blunt": 0.25, "hops": 0.25}
FOLLOWING = {"blunt": "sharp", "hops": "landed"}
# Phases whose numbers are of 64 bits: in `given` a set that is the best already stays so, `last` gives the last digits.
# In the others float32 comes as low, in 55 to 75% of the time.
LONG = "given", "last"
GIVEN_EVALUATIONS, MOST_GIVEN = 350, 16  # that a set to start from takes, about; sets
FREED_EVALUATIONS = 350  # that a freed set takes, about
HOP_EVALUATIONS = 450  # that a hop takes at the most, with its part of what the promising ones take
LAST_SETS, LAST_EVALUATIONS = 3, 1000  # that are made sharp at last, and what one takes, about


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

    0. `forms`: the sets to start from are made.
    1. `given`: the first of the sets to start from, where there are some; they stay about what they are.
    2. `symmetric`: sets that a finite group maps to itself, some of them with a few vectors more or less.
    3. `freed`: the best of these, brought to n vectors, descend as any set.
    4. `soft`: random sets, which a blunter maximum than that of the next phase leads to better places.
    5. `blunt`, then the promising ones `sharp`: these and all sets to start from.
    6. `hops`, then the promising ones `landed`, as often as the effort allows.
    7. `last`: the best descend to the largest sharpness. `polish`: linear programs, one at each `advance`.

    A phase takes no more than its share of the effort: its stages are as short. Where the lower bound is met, or where
    one smooth maximum is what many random starts come to, the last two follow at once.

    `pool` holds the best sets so far that differ.
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
        "_given",
        "_pieces",
        "_lowest",
        "_freed_groups",
        "_last_groups",
        "stage_steps",
        "polished",
    )

    def __init__(self, asked: Request, given: Tensor, device: str, making: Making | None = None) -> None:
        """`given` (g, n, d) are sets to start from beside the random ones; g may be 0. `making` makes more of them."""
        d, n = asked.d, asked.n
        self.asked, self._objective = asked, of_lines if asked.lines else of_points
        self._plan, self._unit = planned(d, n, asked.effort), evaluation_cost(d, n)
        self.budget = self._plan.budget
        dtype = torch.float64 if n * d <= SMALL and n <= MANY else torch.float32
        self._given = given.to(device, dtype)
        self._making, self._pieces = making, list[list[Tensor]]()
        self._makes = self._make()
        self.phase, self.round, self.spent = "forms", 0, 0.0
        self.step, self.seconds = 0, 0.0
        self.best, self.group = math.inf, ""
        self.pool = Pool(self._given)
        self.jammed: Jammed | None = None
        self.status: Status | None = None
        self._freed_groups, self._last_groups = list[str](), list[str]()
        self.stage_steps, self.polished = 0, 0  # the most in a stage of this batch, and sets
        self.polishing: Polishing | None = None
        self.batch: Batch | None = None
        self.best_rows = self._given.new_zeros(n, d)
        self.symmetric: SymmetricSearch | None = None
        self._lowest = math.inf  # figure of symmetric sets of n vectors in float32; `best` is it in float64

    @property
    def reached(self) -> bool:
        """Whether the best is what was asked for."""
        return self.asked.alpha is not None and self.best <= self.asked.alpha + TOLERANCE / 2

    def advance(self) -> float:
        """Do the next piece of the work; return the figure that it came to."""
        if self.phase == "forms" and not self._made():
            return self.best
        self.step += 1
        if self.symmetric is not None:
            return self._advance_symmetric(self.symmetric)
        if self.batch is None:
            self._advance_polish()
            return self.best
        self.spent += self.batch.going * self._unit + OVERHEAD
        self.batch.advance()
        figure, place = (value.item() for value in self.batch.largest.min(0))
        if figure < self.best:
            self._note_best(self.batch.rows[int(place)], self._groups(len(self.batch.rows))[int(place)])
        if self.reached:
            self.status = Status.REACHED
        elif not self.batch.going:
            self._proceed(self.batch)
        return figure

    def _make(self) -> Generator[None, None, None]:
        """Make sets to start from, piece by piece, and begin with these."""
        if self._making is not None:
            made = yield from self._making(self._pieces)
            self._given = torch.cat((self._given, made.to(self._given)))
        self._pieces = []
        if len(self._given):
            self.phase = "given"
            self.batch = self._batch(self._given[: self._first()])
        else:
            self._begin_symmetric()

    def _made(self) -> bool:
        """Do a piece of what makes sets to start from; return whether all are made."""
        for _ in self._makes:
            return False
        return True

    def _note_best(self, rows: Tensor, group: str) -> None:
        """Take a set for the best, if it is that in numbers of full length too."""
        rows = normalize(rows.to(self._given), dim=-1)
        figure = largest_cosine(rows, self.asked.lines)
        if figure < self.best:
            self.best, self.best_rows, self.group = figure, rows, group

    def _advance_symmetric(self, symmetric: SymmetricSearch) -> float:
        spent, batches = symmetric.spent, symmetric.batches
        figure = symmetric.advance() if not symmetric.ended else self.best
        self.spent += symmetric.spent - spent
        # The figure of the best may lie a little over what it was in float32.
        if figure < min(self.best, self._lowest) or symmetric.ended or self._took_long(symmetric):
            self._lowest = min(figure, self._lowest)
            for found in symmetric.best():
                if found.largest < self.best:
                    self.best, self.best_rows, self.group = found.largest, found.rows.to(self._given), found.group
        if self.reached:
            self.status = Status.REACHED
        elif symmetric.ended or self._meets_bound() or self._took_long(symmetric):
            self.symmetric = None
            self._free(symmetric)
        elif symmetric.batches > batches:
            self._note_batch()
        return min(figure, self.best) if figure == math.inf else figure

    def _took_long(self, symmetric: SymmetricSearch) -> bool:
        """Whether the search among symmetric sets has taken its share of the effort and more."""
        return symmetric.spent > OVER * self._plan.symmetric * self.budget

    def state(self) -> State:
        """Return all of it; of a search that has ended, the best is enough.

        Among symmetric sets it is where the batch began.
        """
        if self.symmetric is not None:
            return {**self._before, "symmetric": self.symmetric.state()}
        jammed = None if self.jammed is None else vars(self.jammed)
        stand = {**super().state(), "status": self.status, "jammed": jammed, "pool": self.pool.state()}
        going = {"batch": self.batch, "polishing": self.polishing}
        under_way = {name: None if one is None or self.status else one.state() for name, one in going.items()}
        return {**stand, **under_way, "symmetric": None}

    def restore(self, state: State) -> None:
        own = {name: state[name] for name in state if name not in APART}
        super().restore(own)
        self.status = None if state["status"] is None else Status(state["status"])
        self.jammed = None if state["jammed"] is None else Jammed(**state["jammed"])
        self.pool.restore(state["pool"])
        self.batch, self.symmetric = None, None
        if state["symmetric"] is not None:
            self._begin_symmetric(state["symmetric"])
        if state["batch"] is not None:
            self.batch = self._batch_again(state["batch"]["rows"])
            self.batch.restore(state["batch"])
        self.polishing = None
        if state["polishing"] is not None:
            # Programs are solved on the CPU, whatever device a state is read to.
            polishing = {**state["polishing"], "rows": state["polishing"]["rows"].cpu()}
            self.polishing = Polishing(polishing["rows"], self.asked.lines, 0)
            self.polishing.restore(polishing)
        self._makes = self._make()

    def have_some(self) -> None:
        """Take a random start for the best, where the search was ended before it had any set of n vectors."""
        if self.best == math.inf:
            self.best_rows = self._drawn(1)[0]
            self.best = largest_cosine(self.best_rows, self.asked.lines)

    def _last_sets(self) -> int:
        """How many sets are made sharp at last: one, or a few where these take a tenth of the effort."""
        afforded = int(0.1 * self.budget / (LAST_EVALUATIONS * self._unit))
        return max(1, min(LAST_SETS, afforded))

    def _for_last(self) -> float:
        """How much of the effort is kept for what comes at last: the largest sharpness, and linear programs."""
        wanted = LAST_EVALUATIONS * (self._last_sets() * self._unit + OVERHEAD)
        return min(wanted, self._plan.phases["last"].share * self.budget) + self._for_programs()

    def _for_programs(self) -> float:
        return POLISH_SHARE * self.budget if self._programs() else 0.0

    def _first(self) -> int:
        """How many of the sets to start from descend at once."""
        allowed = self._plan.phases["given"].share * self.budget / GIVEN_EVALUATIONS
        return sets_for(allowed, self.asked.d, self.asked.n, MOST_GIVEN)

    def _drawn(self, count: int) -> Tensor:
        """Draw sets of random rows."""
        rows = torch.randn(
            count, self.asked.n, self.asked.d, generator=self._generator(), dtype=torch.float64, device="cpu"
        )
        return normalize(rows, dim=-1).to(self._given)

    def _generator(self) -> torch.Generator:
        """Draw for this round; each round of each seed has numbers of its own."""
        return torch.Generator().manual_seed((self.asked.seed * 1_000_003 + self.round) % 2**63)

    def _batch(self, rows: Tensor) -> Batch:
        """Let sets descend as this phase wants it, in stages as short as its share of the effort."""
        phase = self._plan.phases[self.phase]
        kept = self._for_programs() if self.phase == "last" else self._for_last()
        allowed = min(phase.share * self.budget, self.budget - self.spent - kept)
        steps = int(allowed / (len(phase.stages) * (len(rows) * self._unit + OVERHEAD)))
        self.stage_steps = min(phase.steps, max(LEAST_STEPS, steps))
        return self._batch_again(rows)

    def _batch_again(self, rows: Tensor) -> Batch:
        dtype = self._given.dtype if self.phase in LONG else torch.float32
        stages = self._plan.phases[self.phase].stages
        return Batch(rows.to(dtype), self._objective, stages, self.stage_steps, self._plan.gain)

    def _promising(self, batch: Batch) -> Tensor:
        """Return the sets of a batch that has ended whose smooth maximum is lowest, at its last sharpness."""
        return batch.ends[batch.values.argsort()[: max(POOL, int(PROMISING[self.phase] * len(batch.ends)))]]

    def _smooth(self, rows: Tensor, sharpness: float) -> Tensor:
        """Return the smooth maxima (k,) of sets (k, n, d)."""
        everyone = torch.arange(len(rows), device=rows.device)
        return self._objective(rows, rows.new_full((len(rows),), sharpness), everyone).values

    def _proceed(self, batch: Batch) -> None:
        """Go from a batch that has ended to what comes next."""
        if self.phase == "soft":
            self.phase = "blunt"
            self.batch = self._batch(torch.cat((self._given, batch.ends.to(self._given))))
            return
        if self.phase in PROMISING:
            promising = self._promising(batch)
            self.phase = FOLLOWING[self.phase]
            self.batch = self._batch(promising)
            return
        often = self.phase == "sharp" and self._come_often(batch)
        self.pool.take_in(batch.rows, batch.largest, self._groups(len(batch.rows)))
        if self.phase == "given":
            self._begin_symmetric()
        elif self.phase == "last":
            self.phase, self.batch = "polish", None
        elif often or self._meets_bound():
            self._make_sharp()
        elif self.phase == "freed":
            self._begin_soft()
        else:
            self._hop_or_end()

    def _groups(self, count: int) -> list[str]:
        """Return the groups that the sets of the batch were found by."""
        return {"freed": self._freed_groups, "last": self._last_groups}.get(self.phase, [""] * count)[:count]

    def _begin_symmetric(self, state: State | None = None) -> None:
        """Begin a search among symmetric sets, or go on with it from its state."""
        self.phase, self.batch = "symmetric", None
        asked, share = self.asked, self._plan.symmetric * self.budget
        self.symmetric = SymmetricSearch(
            asked.d, asked.n, lines=asked.lines, seed=asked.seed, multiplications=share, state=state
        )
        self._note_batch()

    def _note_batch(self) -> None:
        """Note where a batch of symmetric sets began."""
        self._before = {**super().state(), **dict.fromkeys(APART), "pool": self.pool.state()}

    def _free(self, symmetric: SymmetricSearch) -> None:
        """Take in the symmetric sets of n vectors, and let these and the others descend as any."""
        n, generator = self.asked.n, self._generator()
        whole = symmetric.best(POOL)
        if whole:
            rows, figures = torch.stack([w.rows for w in whole]), [w.largest for w in whole]
            self.pool.take_in(rows.to(self._given), self._given.new_tensor(figures), [w.group for w in whole])
        if self._meets_bound():
            self._make_sharp()
            return
        count = sets_for(
            self._plan.phases["freed"].share * self.budget / FREED_EVALUATIONS, self.asked.d, n, FREED_SETS
        )
        chosen = symmetric.others(count)
        if not chosen:
            self._begin_soft()
            return
        self.phase = "freed"
        self._freed_groups = [one.group for one in chosen]
        fits = [fitted(one.rows, n, self.asked.lines, generator) for one in chosen]
        self.batch = self._batch(torch.stack(fits).to(self._given))

    def _begin_soft(self) -> None:
        """Let random starts descend, as many as the effort allows."""
        self.phase = "soft"
        self.batch = self._batch(self._drawn(starts(self.asked.d, self.asked.n, self.asked.effort)))

    def _meets_bound(self) -> bool:
        """Whether no set can be better than the best by more than ROOM."""
        bound = (coherence_bound if self.asked.lines else max_cos_bound)(self.asked.d, self.asked.n)
        return self.best <= bound.value + ROOM

    def _come_often(self, batch: Batch) -> bool:
        """Whether many of the sharp sets came to one smooth maximum, and nothing better is known.

        At their sharpness the figure of a set is larger than it will be at last, by less than its inverse.
        """
        values, lowest = batch.values, batch.largest.min().item()
        often = len(values) >= LEAST_SHARP and float((values <= values.min() + SAME).double().mean()) >= OFTEN
        return often and self.best > lowest - 1 / self._plan.phases["sharp"].stages[-1]

    def _hop_or_end(self) -> None:
        """Let the pool hop as long as the effort allows; else make the best sharp."""
        left = self.budget - self._for_last() - self.spent
        if left >= HOP_EVALUATIONS * (self._unit + OVERHEAD):
            self.phase, self.round = "hops", self.round + 1
            self.batch = self._batch(self._hopped(left))
        else:
            self._make_sharp()

    def _make_sharp(self) -> None:
        """Let the best descend to the largest sharpness.

        They are the best by their smooth maxima: what was found by a group is as sharp as it gets, other sets are not.
        """
        self.phase = "last"
        chosen = self._smooth(self.pool.rows, self._plan.phases["sharp"].stages[-1]).argsort()[: self._last_sets()]
        self._last_groups = [self.pool.groups[place] for place in chosen.tolist()]
        self.batch = self._batch(self.pool.rows[chosen])

    def _hopped(self, allowed: float) -> Tensor:
        """Return sets that have hopped from those of the pool, with noise every other round."""
        count = sets_for(allowed / HOP_EVALUATIONS, self.asked.d, self.asked.n, 8 * POOL)
        parents = self.pool.rows[torch.arange(count, device=self.pool.rows.device) % len(self.pool.rows)]
        return hopped(parents, self.asked.lines, NOISE if self.round % 2 == 0 else 0.0, self._generator())

    def _programs(self) -> int:
        """How many linear programs of a polish the effort allows; 0 where they are too few."""
        afforded = int(POLISH_SHARE * self.budget / program_cost(self.asked.d, self.asked.n))
        return min(PROGRAMS, afforded) if afforded >= LEAST_PROGRAMS else 0

    def _advance_polish(self) -> None:
        """Solve one linear program of the polish of a set, or end where all have had theirs."""
        programs, cost = self._programs(), program_cost(self.asked.d, self.asked.n)
        sets = int(POLISH_SHARE * self.budget / cost) // programs if programs else 0
        if self.polished >= min(sets, len(self.pool.rows)):
            self.status = Status.REACHED if self.reached else Status.CONVERGED
            return
        if self.polishing is None:
            self.polishing = Polishing(self.pool.rows[self.polished].double().cpu(), self.asked.lines, programs)
        polishing, group = self.polishing, self.pool.groups[self.polished]
        polishing.advance()
        self.spent += cost
        if polishing.largest < self.best:
            self.best, self.best_rows, self.group, self.jammed = polishing.largest, polishing.rows, group, None
        if polishing.jammed is not None:
            if self.jammed is None and polishing.largest <= self.best:
                self.best_rows, self.group, self.jammed = polishing.rows, group, polishing.jammed
            self.polishing, self.polished = None, self.polished + 1
