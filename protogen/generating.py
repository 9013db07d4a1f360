"""From a Spec to Prototypes: the only orchestration of solving, measuring and recording."""

import dataclasses
import math
import platform
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING

import psutil

from .descent.checkpoint import Checkpoint
from .errors import BadRequest
from .files.prototypes import Prototypes
from .files.provenance import Provenance
from .files.reading import read
from .methods import method_of
from .rows import HELD, InMemory, has_classes
from .run import EXACT_PAIRS, Run
from .solution import ENDED_EARLY, Solution, Status
from .spec import Spec, Value

if TYPE_CHECKING:
    import torch

TILE_NUMBER_BYTES = 32  # of each cosine of a tile: itself, copies, its bin and its float64 in 8 bytes each


def generate(spec: Spec, run: Run | None = None) -> Prototypes:
    """Make and measure the set that a Spec asks for, in memory.

    Rows that a formula gives stay a formula where they would fill more than HELD bytes, and are not
    measured where the run asks for the certificate alone. A run that was ended by time or by hand
    comes back under a Spec that says so; where the run names a folder the same call goes on there, as
    after a kill, with the time limit anew. An interruption
    of the statistics keeps a set that no formula gives, unmeasured. Where a class has several rows,
    the statistics are of pairs of different classes, and those within one are a fact. Raises
    BadRequest where the device is unknown, the memory too small, or an artifact that the Spec names
    is not among the run's files.
    """
    from .measuring.geometry import pick_device

    run = run or Run()
    method = method_of(spec)
    device = pick_device(run.device)
    needed = method.peak_bytes(spec.d, spec.n) + tile_bytes(spec.n, device, run.tile)
    check_memory(f"d={spec.d}, n={spec.n}", needed, device)
    began = time.monotonic()
    given = {str(made.digest): made.tensors.get("centers", made.tensor) for made in map(read, run.files)}
    checkpoint = Checkpoint(run.folder, spec, device, run.say or (lambda line: None)) if run.folder else None
    how = dataclasses.replace(run, inputs={**run.inputs, **given}, checkpoint=checkpoint)
    solution = method.solve(spec.d, spec.n, spec.seed, how)
    return record(spec, solution, run, began - (checkpoint.seconds if checkpoint else 0.0))


def record(spec: Spec, solution: Solution, run: Run, began: float) -> Prototypes:
    """Measure the solution of a Spec, as `generate` says; `began` is when the work did, on the monotonic clock."""
    import torch

    from .measuring.measure import measure

    source, status, facts = solution.source, solution.status, dict(solution.facts)
    if 4 * math.prod(source.shape) <= HELD:
        source = InMemory.of(source)
    few = spec.n * (spec.n - 1) // 2 <= EXACT_PAIRS
    stats = None
    try:
        if run.stats == "exact" or (run.stats == "auto" and few) or not solution.guaranteed:
            stats = measure(source, run.device, run.tile, run.measuring)
        if has_classes(source):
            facts["within_class"] = measure(source, run.device, run.tile, within=True).to_dict()
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
        seconds=time.monotonic() - began,
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


def tile_bytes(n: int, device: "torch.device", tile: int | None) -> int:
    """The memory that the Gram tiles of n rows need, of the statistics or a descent."""
    from .measuring.tiles import tile_edge

    return TILE_NUMBER_BYTES * min(tile_edge(device, tile), n) ** 2


def check_memory(what: str, needed: int, device: "torch.device") -> None:
    """Raise BadRequest where the memory that is free is less than `what` needs."""
    free = psutil.virtual_memory().available
    if device.type == "cuda":
        import torch

        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        free = min(free, torch.cuda.mem_get_info(device)[0] + cached)
    if needed > free:
        raise BadRequest(
            f"{what} needs about {gigabytes(needed)} of memory, free are {gigabytes(free)}; "
            "ask for fewer or shorter vectors or a smaller --tile, or use a larger machine"
        )


def gigabytes(size: int) -> str:
    """Write a size in bytes as GB."""
    return f"{size / 1e9:,.1f} GB"


def _ended(spec: Spec, solution: Solution, status: Status) -> Spec:
    ended: Mapping[str, Value] = {**spec.options, "ended": f"{status.value} at step {solution.steps}"}
    return dataclasses.replace(spec, params=tuple(sorted(ended.items())))
