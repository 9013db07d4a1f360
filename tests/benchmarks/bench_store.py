"""The store's figures, by hand: python tests/benchmarks/bench_store.py [PART], one of these:

parts: a file of 400 MB, read whole, by an eighth of its rows, the same with all blocks checked, and as the share of
one rank in eight: the bytes read, the time, and the memory needed above that of the process before.
load: a file of 10 MB, and the import of the package (torch is there already), against the plain read of its bytes.
Each reading has a process of its own, and the file lies in the page cache.
badfiles: an artifact that is cut at every byte of its header and 500 of its data, or of which every bit of the header
or 2,000 of the data are flipped, one at a time, read in every way; then headers that would fill the memory, of the
largest length that is read and of 100 MB: the most time, memory above that before, and characters of the message.
mutations: 5,000 labels, Specs, locks and headers that were changed at random: how many are refused, each in one line,
and how many are sound; the most time and memory above that before, and what took it.
faults: a generation, exact and with a descent, and a sync: each call on the disk fails in turn, once or from then on,
with each error; an AssertionError where anything but a success or one line of error follows, a visible file is not
sound, what was made is lost, or the next run does not succeed. Then how the cases ended.
kills: 300 times one of eight processes is killed, which generate, publish rivals, prune and empty one store.
crowd: 32 processes ask for one new Spec, ten times; then with locks that everybody gets. What they make differs.
many: `protogen list` of 2,000 artifacts.
"""

import ctypes
import errno
import multiprocessing
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from importlib import import_module
from itertools import pairwise, product
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch

if TYPE_CHECKING:
    from protogen.files.prototypes import Prototypes
    from protogen.spec import Spec

TURNS = 5
FORK = multiprocessing.get_context("fork")
Result = TypeVar("Result")
READINGS = {
    "whole": "protogen.load(path)",
    "eighth": "protogen.load(path, rows=slice(n // 8, n // 4))",
    "eighth, full": "protogen.load(path, rows=slice(n // 8, n // 4), full=True)",
    "rank 1 of 8": "protogen.nn.FrozenPrototypes.of_rank(path, 1, 8)",
}


def figure(file: str, name: str) -> int:
    """One number that the system keeps of this process."""
    return next(int(line.split()[1]) for line in Path("/proc/self", file).open() if line.startswith(name))


def write_rows(path: Path, n: int, d: int) -> None:
    """Write an artifact of n random rows."""
    from protogen.files.prototypes import Prototypes, Provenance
    from protogen.files.writing import write
    from protogen.rows import InMemory
    from protogen.spec import Spec

    rows = torch.nn.functional.normalize(torch.randn(n, d))
    made = Provenance("0", "0", "0", "cpu", 1, 0, 0.0, "2000-01-01T00:00:00Z", "drawn at random", "statistical")
    write(path, Prototypes(Spec.of("ebv", 1, d=d, n=n, seed=0, params={}), InMemory(rows), None, made))


def read_part(path: str, how: str) -> None:
    """Print what one reading costs: bytes, milliseconds, KiB."""
    import protogen.nn

    n = protogen.load(path, rows=slice(0, 1)).spec.n  # everything that is imported late
    before, peak, began = figure("io", "rchar"), figure("status", "VmHWM"), time.perf_counter()
    held = eval(READINGS[how], {"protogen": protogen, "path": path, "n": n})
    seconds = time.perf_counter() - began
    print(figure("io", "rchar") - before, seconds, figure("status", "VmHWM") - peak)
    del held


def read_all(path: str) -> None:
    """Print the seconds of a plain read, of the package's import and of a load."""
    times = [time.perf_counter()]
    Path(path).read_bytes()
    times.append(time.perf_counter())
    from protogen import load

    import_module("protogen.files.reading")  # which `load` imports late
    times.append(time.perf_counter())
    load(path)
    times.append(time.perf_counter())
    print(*(end - start for start, end in pairwise(times)))


def compiled() -> dict[str, str]:
    """An environment in which compiled modules are kept, as for anyone who has the package installed."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def fresh(*arguments: str) -> list[float]:
    """Run one reading in a process of its own and return the numbers that it prints."""
    command = [sys.executable, __file__, *arguments]
    printed = subprocess.run(command, env=compiled(), capture_output=True, text=True, check=True).stdout
    return [float(word) for word in printed.split()]


def parts(folder: Path) -> None:
    path = folder / "large.safetensors"
    write_rows(path, 100_000, 1000)
    size = path.stat().st_size
    print(f"{size:,} bytes; {'':>12} bytes read   of an eighth   seconds   MiB of memory")
    for how in READINGS:
        count, seconds, memory = min((fresh("read_part", str(path), how) for _ in range(TURNS)), key=lambda row: row[1])
        print(f"{how:>20} {count:>17,.0f} {8 * count / size:>14.4f} {seconds:>9.3f} {memory / 1024:>15.1f}")


def load(folder: Path) -> None:
    path = folder / "ten.safetensors"
    write_rows(path, 10_000, 250)
    print(f"{path.stat().st_size:,} bytes, ms: plain read, import of the package, load, the latter two above the first")
    for _ in range(TURNS):
        plain, imported, loaded = (1e3 * seconds for seconds in fresh("read_all", str(path)))
        print(f"{plain:8.1f} {imported:8.1f} {loaded:8.1f} {imported + loaded - plain:8.1f}")


def refusal(path: Path, reader: Callable[[Path], object]) -> float:
    """The seconds that a refusal takes; anything else is an error here."""
    from protogen.errors import DiskError, IntegrityError, NotFound

    began = time.perf_counter()
    try:
        reader(path)
    except (DiskError, IntegrityError, NotFound):
        return time.perf_counter() - began
    raise AssertionError(f"{path} was read")


def refuse(reader: Callable[[Path], object], path: Path) -> tuple[float, int, int]:
    """The seconds and the KiB that one refusal takes, and how long its message is."""
    from protogen.errors import ProtogenError

    ctypes.CDLL(None).malloc_trim(0)  # what lies free here would hide what is needed
    Path("/proc/self/clear_refs").write_text("5")  # the peak is the size of now
    before, began = figure("status", "VmHWM"), time.perf_counter()
    try:
        reader(path)
    except ProtogenError as error:
        return time.perf_counter() - began, figure("status", "VmHWM") - before, len(str(error))
    raise AssertionError(f"{path} was read")


def forked(work: Callable[..., Result], *arguments: object) -> Result:
    """Do some work in a process of its own, which has all that this one has imported."""
    receiver, sender = FORK.Pipe()
    process = FORK.Process(target=lambda: sender.send(work(*arguments)))
    process.start()
    result: Result = receiver.recv()
    process.join()
    return result


def readers() -> dict[str, Callable[[Path], object]]:
    """The ways to read a file."""
    from protogen.files.foreign import read_matrix
    from protogen.files.header import check_file, read_header
    from protogen.files.reading import read

    return {"header": read_header, "check": check_file, "read": read, "stats": read_matrix}


def badfiles(folder: Path) -> None:
    from forged import HUGE

    from protogen import ensure, resolve
    from protogen.files.header import LONGEST, VALUES, read_header

    ways = {name: reader for name, reader in readers().items() if name != "stats"}  # which checks no digest
    path = ensure(resolve("ebv", d=64, n=1000), store=folder / "store").path
    assert path is not None
    raw, start = path.read_bytes(), read_header(path).data_start
    print(f"{len(raw):,} bytes, {start:,} of them header; refusals, ms of the slowest by {', '.join(ways)}")

    def sweep(what: str, spoil: Callable[[int], None], mend: Callable[[int], None], places: list[int]) -> None:
        slowest = dict.fromkeys(ways, 0.0)
        for place in places:
            spoil(place)
            for name, reader in ways.items():
                if (name, what) != ("header", "bits of the data"):  # at which it does not look
                    slowest[name] = max(slowest[name], refusal(path, reader))
            mend(place)
        print(f"{len(places):>8,} {what:<20}", *(f"{1e3 * seconds:8.2f}" for seconds in slowest.values()))

    def flip(place: int) -> None:
        with path.open("r+b") as file:
            file.seek(place // 8)
            byte = file.read(1)[0]
            file.seek(place // 8)
            file.write(bytes([byte ^ 1 << place % 8]))

    def restore(place: int) -> None:
        path.write_bytes(raw)

    draw = random.Random(0)
    cut = partial(os.truncate, path)
    sweep("cuts of the header", cut, restore, list(range(start)))
    sweep("cuts of the data", cut, restore, draw.sample(range(start, len(raw)), 500))
    sweep("bits of the header", flip, flip, list(range(8 * start)))
    sweep("bits of the data", flip, flip, draw.sample(range(8 * start, 8 * len(raw)), 2000))
    assert path.read_bytes() == raw

    print(f"{'':<26} {'MB':>6} {'values to':>11} {'ms':>8} {'MB of memory':>13} {'message':>8}")
    huge = folder / "huge.safetensors"
    for longest, most in ((LONGEST, VALUES), (LONGEST, LONGEST), (10**8, 10**8)):
        for name, make in HUGE.items():
            forked(lambda make=make, longest=longest, most=most: huge.write_bytes(make(longest, most)))
            found = zip(*(forked(refuse, reader, huge) for reader in readers().values()), strict=True)
            seconds, memory, message = map(max, found)
            print(
                f"{name:<26} {huge.stat().st_size / 1e6:6.1f} {most:>11,} "
                f"{1e3 * seconds:8.1f} {memory * 1024 / 1e6:13.1f} {message:8}"
            )


def mutations(folder: Path) -> None:
    from mutations import cases, refusal

    from protogen import ensure, resolve

    path = ensure(resolve("ebv", d=16, n=64, start="random", steps=5), store=folder / "changed").path
    assert path is not None
    ends, worst = Counter[tuple[str, str]](), {"s": (0.0, ""), "s of CPU": (0.0, ""), "MB": (0.0, "")}
    for case in cases(folder, path, seed=0, count=5000):
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
        before, began, worked = figure("status", "VmHWM"), time.perf_counter(), time.process_time()
        message = refusal(case)
        seconds, cpu = time.perf_counter() - began, time.process_time() - worked
        memory = (figure("status", "VmHWM") - before) * 1024 / 1e6
        ends[case.kind, "sound" if message is None else "refused"] += 1
        for name, value in {"s": seconds, "s of CPU": cpu, "MB": memory}.items():
            worst[name] = max(worst[name], (value, case.what))
    print(
        "5,000 mutations of seed 0:", ", ".join(f"{kind} {end} {count}" for (kind, end), count in sorted(ends.items()))
    )
    print("the most:", ", ".join(f"{value:.3f} {name} ({what})" for name, (value, what) in worst.items()))


def faults(folder: Path) -> None:
    from failing_disk import ANY, CALLS, ERRORS, TASKS, Disk, Place

    def sweep(place: Place, what: str, calls: Iterable[str], root: Path, lasting: bool) -> None:
        began, ends = time.process_time(), Counter[tuple[str, str, int]]()
        for call, code in product(calls, ERRORS):
            for k in range(1, place.counts[call] + 1):
                ends[call, errno.errorcode[code], place.fail(Disk(root, call, k, code, lasting)).returncode] += 1
        print(f"{what}: {sum(ends.values())} cases in {time.process_time() - began:.0f} s of CPU, all sound")
        for call in calls:
            for code in ERRORS:
                name = errno.errorcode[code]
                found = {end: count for (*case, end), count in sorted(ends.items()) if case == [call, name]}
                if found:
                    print(f"    {call:<7} {name:<7} {', '.join(f'exit {end}: {n}' for end, n in found.items())}")

    for task in TASKS:
        place = Place(folder / f"faults-{task}", task)
        sweep(place, f"{task}, once", CALLS, place.root, False)
        sweep(place, f"{task}, from then on", (ANY, *CALLS), place.root, True)
        sweep(place, f"{task}, from then on and everywhere", [ANY], place.folder, True)


def permuted(made: "Prototypes", draw: random.Random) -> "Prototypes":
    """The same rows in another order: other content under the same Spec."""
    from protogen.rows import InMemory

    return replace(made, source=InMemory(made.tensor[draw.sample(range(made.n), made.n)]))


def ask(root: Path, specs: list["Spec"], seed: int, done: Any) -> None:
    """Ask a store for overlapping things, forced or not, bring rivals into it, prune it, and empty it, until `done`."""
    from protogen import ensure, generate
    from protogen.store.prune import prune
    from protogen.store.store import Store

    draw, store = random.Random(seed), Store(root)
    while not done.value:
        spec, action = draw.choice(specs), draw.random()
        if action < 0.6:
            ensure(spec, store=root, force=action < 0.2)
        elif action < 0.8 and spec.options["start"] == "random":
            store.publish(permuted(generate(spec), draw), force=True)
        elif action < 0.99:
            list(prune(store))
        else:
            for entry in store.entries():
                entry.path.unlink(missing_ok=True)


def broken(root: Path) -> list[str]:
    """What is wrong with the visible files of a store, and with the claims on their versions."""
    from protogen.errors import IntegrityError, NotFound
    from protogen.files.header import check_file
    from protogen.store.store import Store

    wrong = []
    for entry in Store(root).entries():
        try:
            check_file(entry.path)
            claimed = (entry.path.parent / ".claims" / str(entry.version)).read_text()
            if claimed != entry.name.key:
                wrong.append(f"{entry.path} is claimed by {claimed}")
        except NotFound:  # taken out
            pass
        except (IntegrityError, OSError) as error:
            wrong.append(str(error))
    return wrong


def leftovers(root: Path) -> list[str]:
    """What lies in a store beside its artifacts and the claims on their versions."""
    paths = (os.path.relpath(Path(folder, file), root) for folder, _, files in os.walk(root) for file in files)
    return [path for path in paths if re.search(r"(^|/)\.(?!claims/\d+$)", path)]


def kills(folder: Path) -> None:
    from protogen import ensure, resolve
    from protogen.descent import checkpoint
    from protogen.store.prune import prune
    from protogen.store.store import Store

    checkpoint.EVERY_S = 0.0
    root, draw, done = folder / "killed", random.Random(0), FORK.RawValue("b")  # which nobody dies holding
    specs = [resolve("ebv", d=8, n=6, alpha=alpha) for alpha in (None, 0.5)]
    specs += [resolve("ebv", d=8, n=6, start="random", steps=40, seed=seed) for seed in (0, 1)]

    def begin(seed: int) -> Any:
        process = FORK.Process(target=ask, args=(root, specs, seed, done), daemon=True)
        process.start()
        return process

    began, processes = time.perf_counter(), [begin(seed) for seed in range(8)]
    wrong: list[str] = []
    failed, most = 0, 0
    for kill in range(260):
        time.sleep(draw.uniform(0.0, 0.4))
        victim = processes.pop(draw.randrange(len(processes)))
        victim.kill()
        victim.join()
        failed += victim.exitcode != -signal.SIGKILL
        processes.append(begin(8 + kill))
        wrong += broken(root)
        most = max(most, len(leftovers(root)))
    done.value = True
    for process in processes:
        process.join()
        failed += process.exitcode != 0
    done.value = False
    for first in range(300, 340, 8):  # all at once, so that nobody is there to clean up after them
        processes = [begin(seed) for seed in range(first, first + 8)]
        time.sleep(draw.uniform(0.1, 0.4))
        for process in processes:
            process.kill()
        for process in processes:
            process.join()
        wrong += broken(root)
    for spec in specs:
        ensure(spec, store=root)
    removed = len(list(prune(Store(root))))
    print(f"300 kills in {time.perf_counter() - began:.0f} s: {failed} processes failed by themselves, broken {wrong}")
    print(f"leftovers: {most} at most, {removed} pruned at the end, then {leftovers(root)}; broken {broken(root)}")


def crowd(folder: Path) -> None:
    import fcntl
    from unittest.mock import patch

    from protogen import ensure, generate, resolve
    from protogen.store.store import Store

    count, answers = FORK.Value("i"), FORK.SimpleQueue()

    def counted(*args: Any) -> "Prototypes":
        with count.get_lock():
            count.value += 1
        return permuted(generate(*args), random.Random(os.getpid()))

    def work(barrier: Any, spec: "Spec", root: Path) -> None:
        barrier.wait()
        answers.put(ensure(spec, store=root).digest)

    def rounds(root: Path) -> None:
        began, ends = time.perf_counter(), []
        for seed in range(10):
            spec, barrier = resolve("ebv", d=8, n=20, start="random", steps=30, seed=seed), FORK.Barrier(32)
            count.value = 0
            processes = [FORK.Process(target=work, args=(barrier, spec, root), daemon=True) for _ in range(32)]
            for process in processes:
                process.start()
            digests = {answers.get() for _ in processes}
            for process in processes:
                process.join()
            failed = sum(process.exitcode != 0 for process in processes)
            ends.append((count.value, len(digests), len(Store(root).of_key(spec)), failed))
        print(f"32 processes x 10 rounds in {time.perf_counter() - began:.0f} s: generations, digests, files, failures")
        print(*ends, "broken", broken(root), "left", leftovers(root))

    with patch("protogen.generating.make", counted):
        rounds(folder / "crowd")
        with patch.object(fcntl, "flock", lambda *_: None):  # as on file systems that grant every lock
            rounds(folder / "granted")


def many(folder: Path) -> None:
    from protogen import generate, resolve
    from protogen.files.names import artifact_path
    from protogen.files.writing import write

    made, root = generate(resolve("ebv", d=8, n=16, start="random", steps=2)), folder / "many"
    for seed in range(2000):
        spec = replace(made.spec, seed=seed)
        path = root / artifact_path(spec, seed + 1)
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, replace(made, spec=spec))
    print(f"`protogen list` of 2,000 artifacts, s: wall, CPU; load of the machine {os.getloadavg()[0]:.1f}")
    for _ in range(TURNS):
        before, began = os.times(), time.perf_counter()
        command = [sys.executable, "-m", "protogen", "list", "--store", str(root)]
        lines = subprocess.run(command, env=compiled(), capture_output=True, text=True, check=True).stdout.splitlines()
        seconds, after = time.perf_counter() - began, os.times()
        assert len(lines) == 2001
        cpu = after.children_user + after.children_system - before.children_user - before.children_system
        print(f"{seconds:8.2f} {cpu:8.2f}")


def main() -> None:
    if sys.argv[1:2] == ["read_part"]:
        return read_part(*sys.argv[2:])
    if sys.argv[1:2] == ["read_all"]:
        return read_all(*sys.argv[2:])
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    with tempfile.TemporaryDirectory() as folder:
        for part in (parts, load, badfiles, mutations, faults, kills, crowd, many):
            if sys.argv[1:] in ([], [part.__name__]):
                part(Path(folder))


if __name__ == "__main__":
    main()
