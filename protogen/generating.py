"""From a Spec to Prototypes: the only orchestration of solving, measuring and recording."""

import dataclasses
import math
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING

from .descent.checkpoint import Checkpoint
from .errors import BadRequest
from .files.header import read_header
from .files.prototypes import Prototypes
from .files.provenance import Provenance
from .files.reading import read
from .measuring.memory import check_memory, tile_bytes
from .methods import Task, asked_for, method_of
from .ranks.lead import led, ranks_here
from .rows import HELD, InMemory, has_classes
from .run import EXACT_PAIRS, Run
from .solution import ENDED_EARLY, Solution, Status
from .spec import Spec, Value

if TYPE_CHECKING:
    import torch


def generate(
    spec: Spec | str,
    run: Run | None = None,
    *,
    d: int | None = None,
    n: int | None = None,
    seed: int = 0,
    **params: Value,
) -> Prototypes:
    """Make and measure the set that a Spec asks for, in memory.

    - Beside a method's name stands what `resolve` takes: `generate("ebv", d=100, n=1000, alpha=0.14)`.
    - Rows that a formula gives stay a formula where they would fill more than HELD bytes. They are not
      measured where the run asks for the certificate alone.
    - A run that was ended by time or by hand comes back under a Spec that says so. Where the run names a
      folder, the same call goes on there, as after a kill, with the time limit anew.
    - An interruption of the statistics keeps a set that no formula gives, unmeasured.
    - Where a class has several rows, the statistics are of pairs of different classes. Those of pairs
      within a class are a fact.

    - Under a process group, the run's or torch's default one, all ranks make the call, share the work and get the set.

    Raises BadRequest as `resolve`, on a Spec that no request gives, and where the device is unknown, the memory too
    small, or an artifact that the Spec names is not among the run's files.

    >>> import protogen
    >>> protogen.generate("simplex", n=4)
    Prototypes(simplex, n=4, d=3, coherence=0.333333)
    """
    from torch import distributed

    spec = asked_for("generate", spec, d, n, seed, params)
    run = Run.given(run)
    if run.group is None and distributed.is_available() and distributed.is_initialized():
        run = dataclasses.replace(run, group=distributed.group.WORLD)
    return make(spec, run)


def make(spec: Spec, run: Run) -> Prototypes:
    """Make and measure a set as `generate` does, by the processes of the run's group, or by this one alone."""
    return led(run.group, lambda: _made(spec, run))


def _made(spec: Spec, run: Run) -> Prototypes:
    from .measuring.geometry import pick_device

    method = method_of(spec)
    device = pick_device(run.device)
    # Ranks share what a descent holds, by a ring where the memory of one is short.
    needed = method.peak_bytes(spec.d, spec.n) + ranks_here(run.group) * tile_bytes(spec.n, device, run.tile)
    check_memory(f"d={spec.d}, n={spec.n}", needed, device)
    began = run.clock()
    checkpoint = None
    inputs = inputs_of(spec, run)
    if run.folder is not None:
        checkpoint = Checkpoint(run.folder, spec, device, run.say or (lambda line: None), run.clock)
    solution = method.solve(Task.of(spec, run, inputs, checkpoint))
    before = checkpoint.seconds if checkpoint else 0.0
    return record(spec, solution, run, before + run.clock() - began)


def inputs_of(spec: Spec, run: Run) -> "dict[str, torch.Tensor]":
    """Find the tensors that a Spec names by digest, among the run's files and what the run holds.

    The tensor that a parameter is for stands under the parameter's name, and each tensor that was found with it
    under `<parameter>.<tensor>`. Raises BadRequest where a digest is not found, and what reading a file raises.
    """
    found: dict[str, torch.Tensor] = {}
    paths = {read_header(path).digest: path for path in run.files}
    for name, serving in method_of(spec).uses.items():
        digest = spec.inputs.get(name)
        if digest is None:
            continue
        if digest in run.held:
            tensors = run.held[digest]
        elif not serving:
            raise BadRequest(
                f"{name} has digest {digest}, and nothing that was given has",
                method_of(spec).again,
            )
        elif digest not in paths:
            raise BadRequest(
                f"{name} is the artifact with digest {digest}, which was not given",
                f"name its file with --{name}, or in Python with Run(files=(path,))",
            )
        else:
            artifact = read(paths[digest])
            tensors = {**artifact.tensors, "prototypes": artifact.tensor}
        found |= {f"{name}.{tensor}": value for tensor, value in tensors.items()}
        if own := [tensors[tensor] for tensor in serving if tensor in tensors]:
            found[name] = own[0]
    return found


def record(spec: Spec, solution: Solution, run: Run, worked: float) -> Prototypes:
    """Measure the solution of a Spec, as `generate` says; `worked` is how many seconds the solution took."""
    import torch

    from .measuring.measure import measure

    began, source, status, facts = run.clock(), solution.source, solution.status, solution.facts
    if 4 * math.prod(source.shape) <= HELD:
        source = InMemory.of(source)
    few = spec.n * (spec.n - 1) // 2 <= EXACT_PAIRS
    stats = None
    try:
        if run.stats == "exact" or (run.stats == "auto" and few) or not solution.guaranteed:
            stats = measure(source, run.device, run.tile, run.measuring, group=run.group)
        if has_classes(source):
            within_class = measure(source, run.device, run.tile, within=True, group=run.group)
            facts = dataclasses.replace(facts, within_class=within_class)
    except (KeyboardInterrupt, MemoryError, torch.OutOfMemoryError) as error:
        if solution.reproducible == "exact":
            raise
        status = Status.INTERRUPTED if isinstance(error, KeyboardInterrupt) else Status.OUT_OF_MEMORY
    provenance = Provenance(
        protogen=version("protogen-codes"),
        torch=str(torch.__version__),
        python=platform.python_version(),
        device=run.device,
        threads=torch.get_num_threads(),
        steps=solution.steps,
        seconds=worked + run.clock() - began,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        status=status.value,
        reproducible=solution.reproducible,
    )
    return Prototypes(
        spec=_ended(spec, solution, status) if status in ENDED_EARLY else spec,
        source=source,
        stats=stats,
        provenance=provenance,
        facts=facts,
        tensors=solution.tensors,
    )


def _ended(spec: Spec, solution: Solution, status: Status) -> Spec:
    ended: Mapping[str, Value] = {**spec.options, "ended": f"{status.value} at step {solution.steps}"}
    return dataclasses.replace(spec, params=tuple(sorted(ended.items())))
