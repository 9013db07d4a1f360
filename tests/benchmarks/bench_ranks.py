"""Several processes against one, by hand: python tests/benchmarks/bench_ranks.py [descent] [ring] [stats] [kill] ...

The other parts are [loss], [step] and [sizes]. One thread a process, gloo. Bytes sent are those of the loopback
interface, which sees every process of this machine. Beside the time on the clock stands that of the processor, of the
rank that took most: what else runs on the machine changes it little.
"""

import contextlib
import gc
import itertools
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil
import torch
from peak import Peak
from torch import distributed, multiprocessing

from protogen.descent import sharded
from protogen.generating import make
from protogen.measuring.geometry import random_rows
from protogen.measuring.measure import measure
from protogen.methods import resolve
from protogen.nn import CosineHead, StructuredPrototypes
from protogen.ranks.plan import plan
from protogen.rows import InMemory
from protogen.run import Progress, Run


def loopback() -> int:
    """The bytes that all processes of this machine have sent each other over the network's loopback."""
    return psutil.net_io_counters(pernic=True)["lo"].bytes_sent


def peak() -> int:
    """The bytes that this process has had in memory at its peak."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _rank(rank: int, world: int, work: Callable[..., Any], arguments: tuple[Any, ...], folder: str) -> None:
    torch.set_num_threads(1)
    meeting = Path(folder) / "meeting"
    distributed.init_process_group("gloo", init_method=meeting.as_uri(), rank=rank, world_size=world)
    torch.save(work(*arguments), Path(folder) / f"{rank}.pt")
    distributed.barrier()
    gc.collect()
    distributed.destroy_process_group()


def on_ranks(world: int, work: Callable[..., Any], *arguments: Any) -> list[Any]:
    """What each of `world` processes returns of some work."""
    with tempfile.TemporaryDirectory() as folder:
        multiprocessing.spawn(_rank, (world, work, arguments, folder), world)
        return [torch.load(Path(folder) / f"{rank}.pt", weights_only=False) for rank in range(world)]


def descended(d: int, n: int, steps: int, ring: bool) -> dict[str, Any]:
    """Seconds a step after the first, processor seconds, coherence, bytes a step, and the peak of memory."""
    if ring:
        sharded._fits = lambda *_: False
    times: list[tuple[float, int]] = []

    def report(at: Progress) -> None:
        times.append((at.seconds, loopback()))

    spec = resolve("ebv", d=d, n=n, start="random", steps=steps)
    began, before = time.process_time(), peak()
    made = make(spec, Run(report=report, group=distributed.group.WORLD, stats="exact" if n <= 20000 else "auto"))
    worked = time.process_time() - began
    assert made.stats is not None
    found = {"worked": worked, "coherence": made.stats.coherence.value, "more": peak() - before}
    if len(times) > 1:  # on rank 0
        (first, sent), (last, after) = times[0], times[-1]
        found |= {"seconds": (last - first) / (len(times) - 1), "sent": (after - sent) / (len(times) - 1)}
    return found


def descent(d: int = 1000, n: int = 20000, steps: int = 4, ring: bool = False) -> None:
    """The same steps on 1, 2 and 4 processes."""
    one: dict[str, Any] = {}
    for world in (1, 2, 4):
        found = on_ranks(world, descended, d, n, steps, ring and world > 1)
        first, worked = found[0], max(each["worked"] for each in found)
        one = one or {**first, "worked": worked}
        told = plan(d, n, world).ring if ring else plan(d, n, world).descent
        print(
            f"{'ring' if ring else 'descent'} ({d}, {n}), {world} processes: {first['seconds']:.2f} s a step, "
            f"{first['seconds'] / one['seconds']:.2f} of one; processor {worked:.1f} s in all, "
            f"{worked / one['worked']:.2f} of one; coherence {first['coherence']:.7f} after {steps}; sent "
            f"{first['sent'] / 1e6:.1f} MB a step, planned {told.sent_bytes * world / 1e6:.1f}; peak "
            f"{[round(each['more'] / 1e6) for each in found]} MB, planned {told.memory_bytes / 1e6:.0f}",
            flush=True,
        )


def ring(d: int = 1000, n: int = 20000, steps: int = 4) -> None:
    """The same where blocks of rows go round."""
    descent(d, n, steps, ring=True)


def sizes(batch: int = 128) -> None:
    """What `protogen plan` says at 10^7 and 10^8 classes, d = 512."""
    for n, ranks in itertools.product((10**7, 10**8), (8, 64, 512)):
        print(f"n = {n:.0e}, {ranks} ranks of {batch} features, of one rank in a step:")
        for cost in plan(512, n, ranks, batch).costs:
            print(
                f"  {cost.name}: {cost.multiplications:.2e} products, {cost.held_bytes / 1e9:.3f} GB held, "
                f"{cost.step_bytes / 1e9:.3f} beside, {cost.sent_bytes / 1e6:.0f} MB sent"
            )


def measured(d: int, n: int) -> tuple[float, float, dict[str, Any]]:
    """Seconds, processor seconds and figures of the statistics of random rows, after a warm-up."""
    rows = random_rows(1, n, d, 0)
    measure(InMemory(rows[:3000]), group=distributed.group.WORLD)
    distributed.barrier()
    began, worked = time.perf_counter(), time.process_time()
    stats = measure(InMemory(rows), group=distributed.group.WORLD)
    return time.perf_counter() - began, time.process_time() - worked, asdict(stats)


def stats(d: int = 256, n: int = 50000) -> None:
    """The statistics on 1, 2 and 4 processes, and how far their figures are from one another."""
    alone, worked, figures = on_ranks(1, measured, d, n)[0]
    print(f"statistics ({d}, {n}), 1 process: {alone:.2f} s, processor {worked:.2f} s", flush=True)
    for world in (2, 4):
        ranks = on_ranks(world, measured, d, n)
        (seconds, _, found), most = ranks[0], max(each[1] for each in ranks)
        exact = [name for name, value in figures.items() if not isinstance(value, float) and value != found[name]]
        sums = max(abs(found[k] - v) / max(1, abs(v)) for k, v in figures.items() if isinstance(v, float))
        print(
            f"statistics ({d}, {n}), {world} processes: {seconds:.2f} s, {seconds / alone:.2f} of one; "
            f"processor {most:.2f} s, {most / worked:.2f} of one; extremes and "
            f"counts that differ: {exact or 'none'}; sums differ by {sums:.1e} at the most",
            flush=True,
        )


def kill(turns: int = 10) -> None:
    """Kill one rank of two at random moments; then let one process go on."""
    store = tempfile.mkdtemp()
    asked = ["ebv", "--d", "128", "--n", "6000", "--start", "random", "--steps", "400", "--store", store, "--quiet"]
    command = [sys.executable, "-m", "protogen", *asked]
    drawn = random.Random(0)
    for _ in range(turns):
        process = subprocess.Popen([*command, "--processes", "2"], stdout=-1, stderr=-1, text=True)
        after, rank = drawn.uniform(1, 20), drawn.randrange(2)
        began, victim = time.monotonic(), None
        while process.poll() is None and (victim is None or time.monotonic() - began < after):
            for each in psutil.Process(process.pid).children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    victim = each if each.environ().get("RANK") == str(rank) else victim
            time.sleep(0.1)
        if victim is not None:
            os.kill(victim.pid, signal.SIGKILL)
        _, said = process.communicate()
        left = sorted(str(path.relative_to(store)) for path in Path(store).rglob("*") if path.is_file())
        lines = [line for line in said.splitlines() if line.startswith("error")]
        print(f"rank {rank} killed after {after:.1f} s: exit code {process.returncode}, {lines}; in the store: {left}")
    ran = subprocess.run([*command, "--time-limit", "5"], capture_output=True, text=True, check=False)
    print(f"one process after that: exit code {ran.returncode}, {ran.stderr.splitlines()}")
    shutil.rmtree(store)


FORMULA = "delsarte-goethals(m=6,t=2)"
SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "label_smoothing": {"label_smoothing": 0.1},
    "ignore_index": {"ignore_index": 3},
    "sum": {"reduction": "sum"},
}


def lost(n: int, d: int, batch: int, formula: bool) -> dict[str, Any]:
    """Losses, gradients, seconds of a step and memory, of this rank's part of one batch."""
    world, rank = distributed.get_world_size(), distributed.get_rank()
    source: Any = StructuredPrototypes(FORMULA, n, d) if formula else None
    before = psutil.Process().memory_info().rss
    more: dict[str, Any] = {"group": distributed.group.WORLD} if world > 1 else {}
    rows = random_rows(1, n, d, 0) if source is None else source
    head = CosineHead(rows, **more)
    del rows
    gc.collect()
    held = sum(buffer.nbytes for buffer in head.buffers())
    features, labels = random_rows(1, batch, d, 1), torch.arange(batch) * 7919 % n
    mine = slice(rank * batch // world, (rank + 1) * batch // world)
    found: dict[str, Any] = {}
    for name, settings in {**SETTINGS, "weight": {"weight": torch.linspace(0.5, 1.5, n)}}.items():
        leaf = features[mine].clone().requires_grad_()
        loss = head.loss(leaf, labels[mine], **{"reduction": "sum", **settings})
        loss.backward()
        found[name] = (loss.item(), leaf.grad)
    leaf = features[mine].clone().requires_grad_()
    with Peak() as tensors:
        head.loss(leaf, labels[mine]).backward()
    distributed.barrier()
    began, worked, sent = time.perf_counter(), time.process_time(), loopback()
    for _ in range(3):
        leaf = features[mine].clone().requires_grad_()
        head.loss(leaf, labels[mine]).backward()
    distributed.barrier()
    seconds, sent = (time.perf_counter() - began) / 3, (loopback() - sent) // 3
    worked = (time.process_time() - worked) / 3
    memory = psutil.Process().memory_info().rss - before
    cost = {"seconds": seconds, "worked": worked, "sent": sent, "held": held, "more": memory, "step": tensors.most}
    return {"found": found, **cost}


def loss(n: int = 100_000, d: int = 512, batch: int = 256) -> None:
    """One batch on 1, 2 and 4 processes: losses and gradients, a step's time, memory and traffic."""
    (alone,) = on_ranks(1, lost, n, d, batch, False)
    print(
        f"loss ({d}, {n}), batch {batch}, 1 process: {alone['seconds']:.3f} s a step, "
        f"processor {alone['worked']:.3f} s, "
        f"rows {alone['held'] / 1e6:.1f} MB, tensors of a step {alone['step'] / 1e6:.1f} MB"
    )
    for world in (2, 4):
        ranks = on_ranks(world, lost, n, d, batch, False)
        told = plan(d, n, world, batch // world).costs[0]
        for name, (value, gradient) in alone["found"].items():
            total = sum(each["found"][name][0] for each in ranks)
            apart = (
                torch.cat([each["found"][name][1] for each in ranks]) - gradient
            ).abs().max() / gradient.abs().max()
            print(f"  {world} processes, {name}: loss off by {abs(total / value - 1):.1e}, gradient by {apart:.1e}")
        first, worked = ranks[0], max(each["worked"] for each in ranks)
        print(
            f"  {world} processes: {first['seconds']:.3f} s a step, {first['seconds'] / alone['seconds']:.2f} of one; "
            f"processor {worked:.3f} s, {worked / alone['worked']:.2f} of one; tensors of a step "
            f"{first['step'] / 1e6:.1f} MB, planned {told.step_bytes / 1e6:.1f}; "
            f"rows {first['held'] / 1e6:.1f} MB, planned {told.held_bytes / 1e6:.1f}; "
            f"sent {first['sent'] / 1e6:.2f} MB a step by all, planned {told.sent_bytes * world / 1e6:.2f}"
        )


def step(n: int = 1_000_000, d: int = 64, batch: int = 64) -> None:
    """One training step at a million classes on 2 ranks, rows held and by formula."""
    for formula in (False, True):
        first, *_ = on_ranks(2, lost, n, d, batch, formula)
        told = plan(d, n, 2, batch // 2).costs[1 if formula else 0]
        print(
            f"step ({d}, {n}), {'formula' if formula else 'stored'}, 2 ranks of {batch // 2}: "
            f"{first['seconds']:.3f} s, rows and tables {first['held'] / 1e6:.1f} MB, in all "
            f"{first['more'] / 1e6:.0f} MB more than before; "
            f"tensors of a step {first['step'] / 1e6:.1f} MB; "
            f"planned rows {told.held_bytes / 1e6:.1f} MB, beside {told.step_bytes / 1e6:.1f} MB"
        )


PARTS: dict[str, Callable[[], None]] = {
    "descent": descent,
    "ring": ring,
    "stats": stats,
    "kill": kill,
    "loss": loss,
    "step": step,
    "sizes": sizes,
}

if __name__ == "__main__":
    for part in sys.argv[1:] or PARTS:
        PARTS[part]()
