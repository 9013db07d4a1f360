"""The search for more lines of a given coherence.

A probe tries one n: it descends from the best set so far with new vectors, then drops vectors until no pair
violates alpha.
"""

import math
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

from protogen.bounds import TOLERANCE
from protogen.descent.thresholds import FixedAlpha, SquaredThreshold
from protogen.errors import IntegrityError
from protogen.methods.method import descent_bytes, history
from protogen.methods.start import descent_promise
from protogen.rows import InMemory, Rows
from protogen.run import Run
from protogen.solution import Solution, Status
from protogen.spec import Spec
from protogen.store.repair import repair
from protogen.store.store import Store

from .journal import Journal, Outcome, Probe

if TYPE_CHECKING:
    from torch import Tensor

    from protogen.descent.loop import Descent

GROWTH = 0.06  # by which a probe goes beyond the most lines known, as long as none has missed
CLOSE = 50  # the search is done where known and missed differ by one part in so many
MARGIN = 0.005  # of alpha, by which the threshold of a descent lies under it
LEAST_FALL = 0.08  # a loss that falls by a smaller share, where a standstill is looked for, comes to nothing
WORTH_TRYING = 1.1  # random rows are tried too up to so many times the lines that they promise
RESTARTS = 8  # sets of random rows that descend at once at the most
NUMBERS = 2**16  # that these sets have together at the most, unless one has more
EDGES = 16  # violating pairs for each vector, above which pruning leaves too little
PRUNED = TOLERANCE * 3 / 4  # over alpha, at which a pair is pruned: a quarter is left for rounding to float32


class _TimeUp(Exception):
    """Tell that the run's time limit has come before the end of the search."""


class Search:
    """Bisect n between the most lines known and the fewest missed.

    - `spec`: that of the set that is found, but for its n, which counts the lines known from the start.
    - `known`: the lines known from the start.
    - `reach`: the largest n that is tried.
    - `place`: the store that keeps the journal and gets the set.
    - `say`: called with a line where the search goes on or starts anew.
    """

    def __init__(
        self,
        spec: Spec,
        known: Rows,
        reach: int,
        run: Run,
        place: Store,
        say: Callable[[str], None],
    ) -> None:
        self._spec, self._best, self._reach, self._run, self._place, self._say = spec, known, reach, run, place, say
        self._alpha, self._steps = float(str(spec.options["alpha"])), int(str(spec.options["steps"]))
        self._until = math.inf if run.time_limit is None else run.clock() + run.time_limit
        self._journal = Journal(place.root / ".runs" / spec.key, spec)
        self._taken = 0  # steps, of the probe that is under way
        self.probes: tuple[Probe, ...] = ()

    @property
    def n(self) -> int:
        """The most lines known."""
        return max(self._spec.n, *(probe.kept for probe in self.probes), 0)

    @property
    def missed(self) -> int | None:
        """The fewest lines that were tried and not reached."""
        return min((probe.n for probe in self.probes if probe.kept < probe.n), default=None)

    def following(self) -> int | None:
        """The n of the next probe, or None where the search is done.

        - Where a probe has missed: halfway between the most lines known and the fewest missed, as long as
          these are not close.
        - As long as none has missed: what random rows promise, or more than are known by the share GROWTH, up
          to the reach.
        """
        known, missed = self.n, self.missed
        if missed is not None:
            return (known + missed) // 2 if missed - known > max(1, known // CLOSE) else None
        if known >= self._reach:
            return None
        return min(max(self._promised, known + max(1, int(GROWTH * known))), self._reach)

    def go(self) -> None:
        """Take over the probes of a search that was cut off, then probe until the search is done or the time is up."""
        if self.following() is None:
            return
        self._place.prepare(4 * self.n * self._spec.d)
        self._resume()
        try:
            while (n := self.following()) is not None:
                self._probe(n)
                self._journal.save(self.probes, self._best if self.n > self._spec.n else None)
        except _TimeUp:
            pass

    def publish(self) -> Path:
        """Measure the best set and publish it, unless the store has it; return its file.

        Raises KeyboardInterrupt or MemoryError where that ended the statistics: the set stays in the journal.
        """
        from protogen.generating import record

        path = self._find()
        if path is None:
            steps, seconds = sum(p.steps for p in self.probes), sum(p.seconds for p in self.probes)
            solution = Solution(self._best, Status.REACHED, "statistical", steps)
            made = record(self._found, solution, self._run, seconds)
            if made.spec != self._found:
                raise KeyboardInterrupt if made.provenance.status == Status.INTERRUPTED else MemoryError
            path = self._place.publish(made)
        return path

    def close(self) -> None:
        """Keep the record of a search that is done, without its set."""
        if self.probes and self.following() is None:
            self._journal.save(self.probes, None, done=True)

    @property
    def _found(self) -> Spec:
        return replace(self._spec, n=self.n)

    def _find(self) -> Path | None:
        """Set a damaged file of the best set aside; return a sound one, if the store has one."""
        repair(self._place, self._found, self._say)
        return self._place.find(self._found)

    @cached_property
    def _promised(self) -> int:
        """The most lines that a descent from random rows is expected to bring within alpha."""
        d = self._spec.d
        return d + bisect_right(range(d + 1, self._reach + 1), self._alpha, key=lambda n: descent_promise(d, n))

    def _resume(self) -> None:
        """Take over the probes and the best set of the journal.

        The search begins anew where the journal is damaged, or its best set gone.
        """
        try:
            probes, rows, done = self._journal.load()
        except IntegrityError as error:
            self._say(f"{error}; the search starts anew")
            return
        self.probes = probes
        if rows is not None:
            self._best = InMemory(rows)
        elif self.n > self._spec.n and not (done and self._find()):
            self._say(f"{self._journal.path}: its set of {self.n} lines is gone; the search starts anew")
            self.probes = ()
        if self.probes and self.following() is not None:
            self._say(f"the search goes on after probe {len(self.probes)}")

    def _probe(self, n: int) -> None:
        """Try n lines and note how that ended; a set with more lines than before becomes the best."""
        from protogen.measuring.geometry import pick_device
        from protogen.measuring.memory import check_memory, tile_bytes

        began, d, least = self._run.clock(), self._spec.d, self.n + 1
        device = pick_device(self._run.device)
        check_memory(f"d={d}, n={n}", descent_bytes(n * d) + tile_bytes(n, device, self._run.tile), device)
        coherence, kept, self._taken = math.inf, 0, 0
        for found in self._descents(n):
            left = prune(found.rows, self._alpha, least, self._run)
            coherence = min(coherence, found.best)
            if len(left):
                coherence, kept, self._best = found.best, len(left), InMemory(left)
                break
        outcome = Outcome.REACHED if kept == n else Outcome.PRUNED if kept else Outcome.MISSED
        self.probes += (Probe(n, outcome, coherence, kept, self._taken, self._run.clock() - began),)

    def _descents(self, n: int) -> "Iterator[Descent]":
        """Yield descents to n lines, one after the other.

        1. From the best set and new vectors, all of which move; the new ones have moved alone before.
        2. From random rows, where n is near what these promise; several sets at once where they are small.
        """
        import torch

        from protogen.measuring.geometry import random_rows

        d, seed = self._spec.d, self._spec.seed + n
        known = InMemory.of(self._best).tensor
        new = self._descend(random_rows(1, n - len(known), d, seed), n, known.to(self._run.device))
        yield self._descend(torch.cat((known, new.rows)), n)
        if n <= WORTH_TRYING * self._promised:
            sets = max(1, min(RESTARTS, NUMBERS // (n * d)))
            yield self._descend(random_rows(sets, n, d, seed), n)

    def _descend(self, rows: "Tensor", n: int, fixed: "Tensor | None" = None) -> "Descent":
        """Descend from rows, beside fixed ones, within the time that is left, and count the steps.

        Raises _TimeUp, KeyboardInterrupt or MemoryError where that ended the descent.
        """
        from protogen.descent.evaluate import Sliced
        from protogen.descent.loop import descend
        from protogen.descent.steppers import LBFGS

        left = self._until - self._run.clock()
        run = replace(self._run, time_limit=None if left == math.inf else max(0.0, left))
        threshold = SquaredThreshold()
        goal = _Within(threshold, self._alpha, n)
        stepper = partial(LBFGS, history(rows.numel()), first=0.5)
        found = descend(rows, Sliced(threshold, run, fixed), goal, stepper, self._steps, run)
        ended = {
            Status.TIME_LIMIT: _TimeUp,
            Status.INTERRUPTED: KeyboardInterrupt,
            Status.OUT_OF_MEMORY: MemoryError,
        }
        if found.status in ended:
            raise ended[found.status]
        self._taken += found.steps
        return found


class _Within(FixedAlpha):
    """Bring n lines within alpha, or give up early: a probe that misses is worth little time."""

    def __init__(self, objective: SquaredThreshold, alpha: float, n: int) -> None:
        super().__init__(objective, alpha, MARGIN)
        self.name = f"{n} lines, {FixedAlpha.name}"

    def stalled(self, before: float, now: float) -> bool:
        return now > (1 - LEAST_FALL) * before


def prune(rows: "Tensor", alpha: float, least: int, run: Run) -> "Tensor":
    """Drop the vector in the most pairs of |cos| above alpha, again and again, until there is no such pair.

    Returns what is left of rows (n, d), in order, on the CPU; or no row where fewer than `least` would be left.
    Memory: one tile beside a list of pairs.
    """
    import torch

    pairs = _violations(rows, alpha + PRUNED, run)
    keep = torch.ones(len(rows), dtype=torch.bool, device="cpu")
    while pairs is not None and len(pairs) and keep.sum() > least:
        worst = pairs.flatten().bincount().argmax()
        keep[worst] = False
        pairs = pairs[(pairs != worst).all(1)]
    return rows[keep] if pairs is not None and not len(pairs) and keep.sum() >= least else rows[:0]


def _violations(rows: "Tensor", most: float, run: Run) -> "Tensor | None":
    """List the pairs (k, 2) of |cos| above `most`; None where there are more than EDGES for each vector."""
    import torch

    from protogen.measuring.precision import full_precision
    from protogen.measuring.tiles import gram_tile, tile_edge, upper_tiles

    device = torch.device(run.device)
    edge = min(tile_edge(device, run.tile), len(rows))
    rows, buffer = rows.to(device), torch.empty(edge * edge, device=device, dtype=torch.float32)
    found, count = [], 0
    for i0, i1, j0, j1 in upper_tiles(len(rows), edge):
        with full_precision():
            tile = gram_tile(rows[i0:i1], rows[j0:j1], buffer).abs_()
        pairs = ((tile.triu_(1) if i0 == j0 else tile) > most).nonzero()
        count += len(pairs)
        if count > EDGES * len(rows):
            return None
        found.append(pairs.cpu() + torch.tensor((i0, j0), device="cpu"))
    return torch.cat(found)
