"""Search for small symmetric sets: many groups at once, of whose orbits one vector each moves."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize, pad

from .batch import Batch
from .effort import OVERHEAD
from .layouts import Design, Draws, least_cost
from .smooth import LEAST_EXPONENT, Smooth, largest_cosine, tangent
from .states import State


@dataclass(frozen=True)
class Heat:
    """Say how sharp the stages of a heat are, how many steps a stage has at most, which share of its sets goes on.

    The share is 0 where no other heat follows. `dtype` is that of its numbers: float32 ranks sets as well, and faster.
    """

    stages: tuple[float, ...]
    steps: int
    promising: float
    dtype: torch.dtype = torch.float32


# The heats of a round. Of 400 sets the sixteen best at last were among the 63 of lowest smooth maximum after twenty
# steps at sharpness 10, and among the 32 at the end of sharpness 20, of lines (7, 81), (8, 44), (12, 48) and points
# (17, 96); by their largest cosines they were not.
HEATS = (Heat((10.0,), 20, 0.25), Heat((20.0,), 100, 0.3), Heat((60.0, 180.0, 540.0), 100, 0.0))
LAST = Heat((540.0, 1620.0, 4860.0, 2e4, 1e5, 1e6), 100, 0.0, torch.float64)  # of the best of all
ALL_HEATS = (*HEATS, LAST)
EVALUATIONS = 42  # that a set takes in the heats of a round, about, since few go on
ALIKE = 4  # starts of each layout that is drawn, with a representation each
MOST_STARTS, MOST_HELD = 512, 2**23  # sets of a batch, and numbers of their matrices
# Multiplications of an evaluation that a batch may take beyond what its sets take alone, since a batch more costs more.
PADDED = 4e6  # lines (11, 43) take 22.5 s so, and 26.6 with a quarter of it
ROUNDS, MOST_DRAWN = 4, 4096  # draws go into batches, so many times, or more often where many would be drawn at once
MOST_DRAWS = 2000  # of layouts, at once; many do not fit
# Multiplications that a core does in the time that it takes to try to draw a layout, and to set up a start.
DRAW, SET_UP = 1e6, 5e5
FRESH = 0.3  # of the work, from which on some layouts are drawn from that did well
SCREENED = 0.75  # of the work, for rounds
ADVANCED, PARENTS, MANY = 0.7, 10, 12  # the share of layouts that are, so many, and with so many starts each time
FALLING = 0.75  # how often one is drawn from, over how often a better one is
KEPT, BEST = 32, 48  # sets that descend again, and that are remembered
FEW_OTHERS = 8  # sets of each number other than n
LAST_EVALUATIONS = 300  # that a set takes which descends again, about
LEAST_LEFT, LOST = 0.1, 4.0  # of a row's length, that its stabiliser leaves it; what is added to the figure for less
SAME = 1e-6  # figures by so little apart are those of one set


@dataclass(frozen=True)
class Symmetric:
    """A symmetric set: rows (N, d), float64, its largest cosine or |cosine|, its group in words."""

    rows: Tensor
    largest: float
    group: str


@dataclass(frozen=True)
class Tried:
    """A set that was tried, by what moves of it: its design, a row of each orbit, its largest cosine or |cosine|."""

    largest: float
    design: Design
    rows: Tensor  # (k, d), one of each orbit
    value: float = 0.0  # the smooth maximum at the end of a heat


_Start = tuple[Design, Tensor | None]  # what descends, and from which rows; random ones where there are none


class OrbitSets:
    """The sets of several designs, evaluated at once as `Batch` asks for it.

    A set has up to k vectors that move, on each of which up to e elements act, and up to N vectors in all. The sum
    over all pairs of vectors is the sum over those of a vector that moves and any, as often as its orbit is long.
    """

    def __init__(self, designs: Sequence[Design], lines: bool, dtype: torch.dtype = torch.float64) -> None:
        tables = [design.tables() for design in designs]
        elements, orbits = max(len(table[0]) for table in tables), max(len(design.layout) for design in designs)
        d = tables[0][0].shape[1]
        self.lines, self.shape = lines, (len(designs), orbits, d)
        # Side by side, so that one product is that of all elements and all rows of a set: (s, d, e d).
        beside = [table[0].to(dtype).mT.transpose(0, 1).flatten(1) for table in tables]
        self._matrices = torch.stack([pad(own, (0, elements * d - own.shape[1])) for own in beside])
        making = [pad(table[1], (0, elements - table[1].shape[1], 0, orbits - len(table[1]))) for table in tables]
        made = torch.stack(making)
        spaces = [pad(table[2].to(dtype), (0, 0, 0, 0, 0, orbits - len(table[2]))) for table in tables]
        self.spaces = torch.stack(spaces)
        sizes = made.sum(2)
        self._sizes = sizes.to(dtype)
        counts = sizes.sum(1)[:, None]
        # The places (s, N) of the vectors among all that elements make of rows; those that are none are last.
        ranked = made.flatten(1).to(torch.int8).argsort(dim=1, descending=True, stable=True)
        self._places = ranked[:, : int(counts.max())]
        beyond = torch.arange(self._places.shape[1], device="cpu") >= counts
        firsts = torch.arange(orbits, device="cpu")[:, None] * elements
        self._out = beyond[:, None] | (self._places[:, None] == firsts) | (sizes == 0)[..., None]
        self._taken = 0
        self._held = self._of(torch.arange(len(designs), device="cpu"))

    @property
    def cost(self) -> float:
        """The multiplications of one evaluation of one set."""
        return least_cost(self.shape[2], self._out.shape[2], self.shape[1])

    def brought(self, rows: Tensor, index: Tensor) -> Tensor:
        """Return the nearest unit rows that their stabilisers leave as they are, or turn round."""
        return normalize(_products(self._of(index)[2], rows), dim=2)

    def __call__(self, rows: Tensor, sharpness: Tensor, index: Tensor) -> Smooth:
        """Evaluate sets of rows (s, k, d), each at its own sharpness; `index` (s,) are their designs.

        The rows are brought to what their stabilisers leave as it is: where these leave no freedom, all that a step
        is made of is rounding. A step that has left a row next to nothing there counts as worse than any.
        """
        matrices, places, spaces, sizes, out = self._of(index)
        left = _products(spaces, rows)
        lost = ((left.norm(dim=2) < LEAST_LEFT) & (sizes > 0)).any(1).to(rows.dtype) * LOST
        rows = normalize(left, dim=2)
        vectors = (rows @ matrices).view(-1, rows.shape[2]).index_select(0, places).view(len(rows), -1, rows.shape[2])
        cosines = rows @ vectors.mT
        weights = cosines.abs() if self.lines else cosines.clone()
        weights.masked_fill_(out, -1.0)
        largest = weights.amax((1, 2))
        weights.sub_(largest[:, None, None]).mul_(sharpness[:, None, None]).clamp_(min=LEAST_EXPONENT).exp_()
        weights.mul_(sizes[..., None]).masked_fill_(out, 0.0)
        total = weights.sum((1, 2))
        if self.lines:
            weights.copysign_(cosines)
        gradients = tangent(rows, _products(spaces, weights @ vectors) * (2 / total)[:, None, None])
        return Smooth(largest + (total / 2).log() / sharpness + lost, gradients, largest + lost)

    def _of(self, index: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Return the tables of some designs. Sets go on in one order, so that as many are the same ones.

        The places are those among what elements make of the rows of all sets.
        """
        if len(index) != self._taken:
            whole = self._matrices, self._places, self.spaces, self._sizes, self._out
            matrices, places, spaces, sizes, out = whole if len(index) == self.shape[0] else [t[index] for t in whole]
            each = self.shape[1] * (matrices.shape[2] // self.shape[2])
            firsts = torch.arange(len(index), device="cpu")[:, None] * each
            self._taken, self._held = len(index), (matrices, (places + firsts).flatten(), spaces, sizes, out)
        return self._held


def _products(spaces: Tensor, rows: Tensor) -> Tensor:
    """Multiply each row (s, k, d) by its matrix (s, k, d, d)."""
    return (spaces @ rows[..., None])[..., 0]


class SymmetricSearch:
    """Search for n lines or points in R^d among sets that a finite group maps to itself, by a seed.

    1. Layouts are drawn in rounds, each with ALIKE representations, and descend from random rows in the HEATS of the
       round, of each of which only the promising go on. After the share FRESH of the work most starts are of layouts
       that did well, the better the more.
    2. LAST: the best descend again, to the largest sharpness.

    One `advance` is an evaluation of a batch. `spent` is what was done in multiplications, `batches` how many batches
    have begun.
    """

    def __init__(
        self, d: int, n: int, *, lines: bool, seed: int, multiplications: float, state: State | None = None
    ) -> None:
        """Begin, or go on from what `state` returned."""
        self._d, self._n, self._lines, self._budget = d, n, lines, multiplications
        self._draws, self._random = Draws(d, n, lines, seed), random.Random(seed + 1)
        self._generator = torch.Generator().manual_seed(seed % 2**63)
        self._tried: list[Tried] = []
        self._screened: list[Tried] = []  # what the sets of this heat came to, of which some go on to the next
        self._designs: list[Design] = []
        self._heat, self.spent, self.batches = HEATS[0], 0.0, 0
        self._state: State | None = None
        if state is None:
            self._waiting = self._drawn()
        else:
            self._restore(state)
        self._begin_or_end()

    def advance(self) -> float:
        """Evaluate all sets of the batch once; return the lowest figure of those of n vectors, or infinity."""
        self.spent += self._batch.going * self._sets.cost + OVERHEAD
        self._batch.advance()
        figure = float(self._batch.largest.masked_fill(self._other, math.inf).min())
        if not self._batch.going:
            self._proceed()
        return figure

    def state(self) -> State:
        """Return where the batch that is under way began: a search that goes on from there does it anew."""
        if self._state is None:
            waiting, generator, spent = self._begun
            self._state = {
                "heat": ALL_HEATS.index(self._heat),
                "spent": spent,
                "random": [list(own.getstate()[1]) for own in (self._random, self._draws.random)],
                "generator": generator,
                "waiting": _written(waiting),
                "screened": _written_tried(self._screened),
                "tried": _written_tried(self._tried),
            }
        return self._state

    def _restore(self, state: State) -> None:
        self._heat, self.spent = ALL_HEATS[state["heat"]], state["spent"]
        for own, numbers in zip((self._random, self._draws.random), state["random"], strict=True):
            own.setstate((own.VERSION, tuple(numbers), None))
        self._generator.set_state(state["generator"].cpu())
        self._waiting = _read(state["waiting"])
        self._screened, self._tried = _read_tried(state["screened"]), _read_tried(state["tried"])

    def best(self, most: int = 1) -> list[Symmetric]:
        """List the best sets of n vectors so far, no two of a figure; the best first."""
        listed = [*self._tried, *self._under_way()]
        of_n = [tried for tried in listed if sum(tried.design.sizes) == self._n]
        return [self._whole(tried) for tried in _distinct(of_n)[:most]]

    def others(self, most: int) -> list[Symmetric]:
        """List sets of about n vectors, which take turns by their numbers; the best of each number first."""
        listed = sorted(self._tried, key=lambda tried: tried.largest)
        turns: dict[int, int] = {}
        ranked = []
        for place, tried in enumerate(listed):
            count = sum(tried.design.sizes)
            turns[count] = turns.get(count, -1) + 1
            ranked.append((turns[count], place, tried))
        return [self._whole(tried) for _, _, tried in sorted(ranked, key=lambda one: one[:2])[:most]]

    def _under_way(self) -> list[Tried]:
        """List what the sets of the batch came to; none where the batch has not begun."""
        if not self._designs:
            return []
        figures = self._batch.largest.tolist()
        everyone = torch.arange(len(figures), device="cpu")
        listed = zip(figures, self._designs, self._sets.brought(self._batch.rows, everyone).double(), strict=True)
        return [Tried(figure, own, rows[: len(own.layout)]) for figure, own, rows in listed if figure < math.inf]

    def _ended(self) -> list[Tried]:
        """List the places where the sets of the batch ended, with their smooth maxima there; the batch is over."""
        everyone = torch.arange(len(self._designs), device="cpu")
        ends, values = self._sets.brought(self._batch.ends, everyone).double(), self._batch.values.tolist()
        listed = zip(self._batch.largest.tolist(), values, self._designs, ends, strict=True)
        return [Tried(figure, own, rows[: len(own.layout)], value) for figure, value, own, rows in listed]

    def _whole(self, tried: Tried) -> Symmetric:
        rows = normalize(tried.design.vectors(tried.rows), dim=1)
        text = tried.design.text + (f"; {len(rows)} vectors" if len(rows) != self._n else "")
        return Symmetric(rows, largest_cosine(rows, self._lines), text)

    def _proceed(self) -> None:
        """Note what the batch came to, and begin the next, if there is work left."""
        if self._heat.promising:
            self._screened += self._ended()
            if self._heat is HEATS[0] and self.spent >= SCREENED * self._budget:
                self._waiting = []
        else:
            self._tried = self._kept([*self._tried, *self._under_way()])
        if not self._waiting:
            self._change_heats()
        self._begin_or_end()

    def _change_heats(self) -> None:
        """Go from a heat to the next one, from the last of a round to another round, and at last to LAST."""
        if self._screened:
            following = HEATS[HEATS.index(self._heat) + 1]
            self._waiting, self._heat, self._screened = self._promising(), following, []
        elif self._heat is not LAST and self.spent < SCREENED * self._budget:
            self._waiting, self._heat = self._drawn(), HEATS[0]
        elif self._heat is not LAST:
            self._waiting, self._heat = self._finalists(), LAST

    def _promising(self) -> list[_Start]:
        """List the best of the sets of this heat, of n vectors and of other numbers, sorted by their orbits."""
        chosen = []
        for of_n in (True, False):
            own = [tried for tried in self._screened if (sum(tried.design.sizes) == self._n) == of_n]
            own.sort(key=lambda tried: tried.value)
            chosen += own[: math.ceil(self._heat.promising * len(own))]
        return sorted(((tried.design, tried.rows) for tried in chosen), key=_orbits)

    def _finalists(self) -> list[_Start]:
        """List the best of all of n vectors, as many as the work that is left allows."""
        mine = [tried for tried in self._tried if sum(tried.design.sizes) == self._n][:KEPT]
        if not mine:
            return []
        each = LAST_EVALUATIONS * least_cost(self._d, self._n, max(len(tried.rows) for tried in mine))
        count = max(1, int((1 - SCREENED) * self._budget / each))
        return [(tried.design, tried.rows) for tried in mine[:count]]

    def _parents(self) -> list[Tried]:
        """List the best of each group and lengths of orbits, the best first."""
        listed: dict[object, Tried] = {}
        for tried in self._tried:
            if sum(tried.design.sizes) == self._n:
                listed.setdefault((tried.design.group, *sorted(tried.design.sizes)), tried)
        return list(listed.values())[:PARENTS]

    def _kept(self, tried: list[Tried]) -> list[Tried]:
        """Return the best of those of n vectors, and a few of each other number; those first, then these."""
        kept, counts = list[Tried](), dict[int, int]()
        for one in _distinct(tried):
            count = sum(one.design.sizes)
            counts[count] = counts.get(count, 0) + 1
            if counts[count] <= (BEST if count == self._n else FEW_OTHERS):
                kept.append(one)
        return sorted(kept, key=lambda one: sum(one.design.sizes) != self._n)

    def _begin_or_end(self) -> None:
        """Begin a batch, where some wait for one."""
        self._begun = self._waiting, self._generator.get_state(), self.spent
        self._state = None
        self.ended = not self._waiting
        if self._waiting:
            self.batches += 1
            self._begin()

    def _begin(self) -> None:
        """Let some of those that wait descend, with about as many orbits each, from their rows or from random ones."""
        taken = self._next()
        self._designs = [design for design, _ in taken]
        self._sets = OrbitSets(self._designs, self._lines, self._heat.dtype)
        self._other = torch.tensor([sum(design.sizes) != self._n for design in self._designs], device="cpu")
        drawn = torch.randn(self._sets.shape, generator=self._generator, dtype=torch.float64, device="cpu")
        drawn = drawn.to(self._heat.dtype)
        for place, (_, rows) in enumerate(taken):
            if rows is not None:
                drawn[place] = pad(rows, (0, 0, 0, len(drawn[place]) - len(rows)))
        starts = self._sets.brought(drawn, torch.arange(len(taken), device="cpu"))
        self._batch = Batch(starts, self._sets, self._heat.stages, self._heat.steps)

    def _next(self) -> list[_Start]:
        """Take from those that wait, sorted by their orbits, the next for a batch.

        All cost as much as that with the most orbits. So many are taken that this adds no more than PADDED.
        """
        held = max(sum(design.sizes) for design, _ in self._waiting) * self._d**2
        taken, before, added = 0, 0.0, 0.0
        for design, _ in self._waiting[: max(1, min(MOST_STARTS, MOST_HELD // held))]:
            cost = least_cost(self._d, self._n, len(design.layout))
            added += taken * (cost - before)
            if taken and added > PADDED:
                break
            taken, before = taken + 1, cost
        starts, self._waiting = self._waiting[:taken], self._waiting[taken:]
        return starts

    def _drawn(self) -> list[_Start]:
        """Draw designs for a round; sort them by their orbits."""
        allowed, designs, cost = (SCREENED * self._budget - self.spent) / ROUNDS, list[Design](), 0.0
        parents = self._parents() if self.spent > FRESH * self._budget else []
        for _ in range(MOST_DRAWS):
            if designs and (cost >= allowed or len(designs) >= MOST_DRAWN):
                break
            if parents and self._random.random() < ADVANCED:
                (first,) = self._random.choices(parents, [FALLING**rank for rank in range(len(parents))])
                drawn = [first.design] * (MANY // 2) + [self._draws.again(first.design) for _ in range(MANY // 2)]
            else:
                new = self._draws.design()
                drawn = [] if new is None else [new, *(self._draws.again(new) for _ in range(ALIKE - 1))]
            some = [design for design in drawn if design is not None]
            designs += some
            each = [least_cost(self._d, sum(design.sizes), len(design.layout)) for design in some]
            drawing = DRAW + SET_UP * len(some)
            self.spent += drawing
            cost += drawing + EVALUATIONS * sum(each)
        return sorted(((design, None) for design in designs), key=_orbits)


def _orbits(start: _Start) -> int:
    return len(start[0].layout)


def _written(starts: Sequence[_Start]) -> State:
    """Return what `_read` makes starts of again; either all have rows, or none."""
    rows = [rows for _, rows in starts if rows is not None]
    return {"designs": [design.written for design, _ in starts], "rows": torch.cat(rows) if rows else None}


def _read(state: State) -> list[_Start]:
    designs = [Design.read(written) for written in state["designs"]]
    if state["rows"] is None:
        return [(design, None) for design in designs]
    each = state["rows"].cpu().split([len(design.layout) for design in designs])
    return list(zip(designs, each, strict=True))


def _written_tried(tried: Sequence[Tried]) -> State:
    starts = _written([(one.design, one.rows) for one in tried])
    return {**starts, "figures": [(one.largest, one.value) for one in tried]}


def _read_tried(state: State) -> list[Tried]:
    starts = _read(state)
    return [
        Tried(largest, design, rows, value)
        for (largest, value), (design, rows) in zip(state["figures"], starts, strict=True)
        if rows is not None
    ]


def _distinct(tried: list[Tried]) -> list[Tried]:
    """Sort by the figures, and keep one of those of the same."""
    kept: list[Tried] = []
    for one in sorted(tried, key=lambda one: one.largest):
        if not kept or one.largest > kept[-1].largest + SAME:
            kept.append(one)
    return kept
