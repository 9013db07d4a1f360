"""Packings: sets whose largest cosine is as low as a search for a stated effort finds it."""

import contextlib
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from protogen.files.facts import Jammed
from protogen.measuring.precision import full_precision
from protogen.run import Progress, Run
from protogen.solution import Status

from .checkpoint import Checkpoint
from .effort import evaluation_cost
from .pieces import Making
from .search import Request, Search
from .threads import threads_for


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


@full_precision()
def pack(
    asked: Request, given: Tensor, run: Run, checkpoint: Checkpoint | None = None, making: Making | None = None
) -> Packed:
    """Search for the n lines or points in R^d whose figure is lowest, for the effort that is asked for.

    `given` (g, n, d) are sets to start from, beside random ones; `making` makes more of them, as the first piece of the
    search. The best comes back on the CPU, float64 where n d is small.

    A KeyboardInterrupt, memory that runs out, or the run's time limit ends the search with the best so far. With a
    checkpoint the search goes on from the state there, and whatever ends it early leaves its state there.
    """
    search = Search(asked, given, run.device, making)
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
    search.have_some()
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
