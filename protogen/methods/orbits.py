"""Lines among the orbits of a cyclic group, for sizes at which a free descent takes hours."""

from dataclasses import replace

from protogen import catalog
from protogen.files.facts import Facts
from protogen.run import Progress
from protogen.solution import Solution, Status

from .task import Task


def orbits_solution(task: Task, order: int, most: int, figure: str) -> Solution:
    """Descend among the orbits of a cyclic group of this order; a closed form that is as good is the solution.

    - `most`: the steps that the descent may take.
    - `figure`: what the progress calls the largest |cos|.

    The time limit and Ctrl-C end the descent with its best.
    """
    from protogen.descent.threads import threads_for
    from protogen.descent.turned import turned_descent

    run, steps, began, ended = task.run, 0, task.run.clock(), Status.CONVERGED

    def go_on(best: float, done: int) -> bool:
        nonlocal steps, ended
        steps, elapsed = done, run.clock() - began
        if run.report:
            run.report(Progress(done, most, figure, best, best, None, elapsed))
        if done >= most:
            ended = Status.STEP_LIMIT
        elif run.time_limit is not None and elapsed >= run.time_limit:
            ended = Status.TIME_LIMIT
        return ended == Status.CONVERGED

    with threads_for(task.n * task.n // order * task.d):
        found = turned_descent(task.d, task.n, order=order, lines=True, seed=task.seed, device=run.device, go_on=go_on)
    status = Status.INTERRUPTED if found.interrupted else ended
    # The request was resolved to orbits by what they promise; what came of them is compared here.
    form = catalog.choose(catalog.LINES, task.d, task.n)
    if form is not None and form.cosine <= found.largest:
        built = catalog.build(catalog.label(form), task.n, task.d, signed=True)
        return replace(built, status=status, reproducible="statistical", steps=steps)
    facts = Facts().with_more({"group": found.orbits.text})
    return Solution(found.orbits, status, "statistical", steps=steps, facts=facts)
