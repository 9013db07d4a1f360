"""Lines among the orbits of a cyclic group, for sizes at which a free descent takes hours."""

import math
from dataclasses import replace

from protogen import catalog
from protogen.files.facts import Facts
from protogen.solution import Solution

from .task import Task

MOVED = 24  # numbers for each that moves: rows, gradients, and what L-BFGS remembers
SPECTRA = 6  # for each frequency of what moves: three complex numbers


def orbits_solution(task: Task, order: int, form: str | None, steps: int, restarts: int, figure: str) -> Solution:
    """Descend among the orbits of cyclic groups of this order; a closed form that is as good is the solution.

    - `form`: the label of the closed form, if there is one.
    - `steps`: evaluations of a set at the most; `restarts`: so many sets descend at once.
    - `figure`: what the progress calls the largest |cos|.

    The time limit and Ctrl-C end the descent with its best.
    """
    from protogen.descent.turned import TurnedRequest, turned_descent

    asked = TurnedRequest(True, task.d, task.n, task.seed, order, steps, restarts)
    found = turned_descent(asked, task.run, figure, task.checkpoint)
    facts = Facts(orbits=found.orbits.turns)
    if form is not None:
        # The request was resolved to orbits by what they promise; what came of them is compared here.
        built = catalog.build(form, task.n, task.d, signed=True)
        lowest = built.facts.guaranteed_coherence
        if lowest is not None and lowest <= found.largest:
            return replace(built, status=found.status, reproducible="statistical", steps=found.steps)
        facts = replace(facts, outdone=built.facts.closed_form, guaranteed_coherence=lowest)
    return Solution(found.orbits, found.status, "statistical", steps=found.steps, facts=facts)


def turned_bytes(d: int, n: int, order: int, restarts: int) -> int:
    """The memory of a descent among orbits: what moves and is remembered, spectra, all rows at last, and a tile."""
    bins = order // 2 + 1
    spectra = SPECTRA * (math.ceil(d / 2 / bins) + 1) * bins
    return 4 * (restarts * (n // order + 1) * (MOVED * d + spectra) + 2 * n * d) + 2**28
