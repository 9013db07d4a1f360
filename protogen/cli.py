"""The command line: options in, results on stdout, messages on stderr, an exit code."""

import inspect
import io
import json
import math
import os
import re
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields, replace
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from . import report
from .access import ensure_path
from .bounds import LARGEST, coherence_bound, line_bounds, max_cos_bound, point_bounds
from .capacity import STEPS, sweep
from .errors import BadRequest, DiskError, ProtogenError, Unmet
from .header import read_header
from .methods import METHODS, Method
from .methods.ebv import EBV
from .methods.method import check_between, check_whole, check_word
from .plot import check_png, save_capacity, save_png, terminal_lines
from .solution import EXACT_PAIRS, Rows, Run, Stats, Status
from .stats import AngleStats
from .store import Store, store_root

INTERRUPTED = 130
MOST_CELLS = 10_000
HOW = ("device", "tile", "stats", "time_limit")
STATS = f"exact, certificate (what a formula guarantees, unmeasured) or auto: exact up to {EXACT_PAIRS:.0e} pairs."


def _whole(text: str | int) -> int:
    try:
        return int(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a whole number; write one like 1000") from None


def _number(text: str | float) -> float:
    try:
        return float(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a number; write one like 0.05") from None


def _cosine(text: str) -> float:
    """A number, or a quotient like 1/3 or 1/sqrt5. Raises ValueError."""
    quotient = re.fullmatch(r"(\d+)/(sqrt)?(\d+)", text)
    if quotient is None or int(quotient[3]) == 0:
        return float(text)
    below = int(quotient[3])
    return int(quotient[1]) / (math.sqrt(below) if quotient[2] else below)


def _values(name: str, text: str, number: Callable[[str], Any]) -> list[Any]:
    """The numbers of a list with commas, rising; start:stop:step stands for a range with both ends, free of drift."""
    found = set()
    try:
        for part in text.split(","):
            if ":" not in part:
                found.add(number(part.strip()))
                continue
            start, stop, step = map(Decimal, part.split(":"))
            if not 0 <= (stop - start) / step < MOST_CELLS:
                raise ValueError(part)
            found |= {number(str(start + index * step)) for index in range(int((stop - start) / step) + 1)}
    except (ValueError, ArithmeticError):
        like = "100 or 50,100,200 or 50:200:50" if number is int else "0.1 or 1/3 or 1/sqrt5 or 0.1,0.2 or 0.1:0.3:0.05"
        raise BadRequest(
            f"{name} is {text!r}; allowed are a number, a list and a range start:stop:step of less than {MOST_CELLS} "
            f"steps: write {like}"
        ) from None
    return sorted(found)


Dimension = Annotated[int, typer.Option("--d", help="Dimension, at least 2.", parser=_whole)]
AnyDimension = Annotated[
    int | None, typer.Option("--d", help="Dimension; left out: the smallest for n.", parser=_whole)
]
Number = Annotated[int, typer.Option("--n", help="Number of prototypes, at least 2.", parser=_whole)]
File = Annotated[Path, typer.Argument(help="A safetensors file.", show_default=False)]
StoreOption = Annotated[
    Path | None,
    typer.Option("--store", help="Directory of the artifacts; else PROTOGEN_STORE, else ./prototypes."),
]
Points = Annotated[bool, typer.Option("--points", help="Of points (largest cos), not of lines (|cos|).")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print the path alone.")]
Device = Annotated[str, typer.Option("--device", help="cpu, cuda or cuda:<index>.")]
Tile = Annotated[
    int | None,
    typer.Option("--tile", help="Edge of a Gram tile in rows; else chosen for the device.", parser=_whole),
]


app = typer.Typer(
    name="protogen",
    help="Make, measure and keep fixed classifier prototypes.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def main() -> None:
    """Run the command line; an error that a user can cause is one line on stderr and an exit code."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")  # a path goes out as it came in
    try:
        code = app(standalone_mode=False) or 0
        sys.stdout.flush()
    except (ProtogenError, typer.TyperException) as error:
        message = error.format_message() if isinstance(error, typer.TyperException) else str(error)
        if message:  # without a command there is none, the help is all
            _complain(message)
        code = error.exit_code
    except BrokenPipeError:  # the reader has what it wants
        code = 1
        _drop_output()
    except OSError as error:
        _complain(f"{error}; make room, or write to another place")
        code = DiskError.exit_code
        _drop_output()
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and "allocate" not in str(error):
            raise
        _complain("out of memory; ask for fewer or shorter vectors or a smaller --tile, or use a larger machine")
        code = ProtogenError.exit_code
    except KeyboardInterrupt:
        code = INTERRUPTED
    if code == INTERRUPTED:
        print("interrupted", file=sys.stderr)
    sys.exit(code)


def _complain(message: str) -> None:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)


def _drop_output() -> None:
    """Let what could not be written go nowhere, so that the interpreter does not try again at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _generate(
    asked: Method,
    d: int | None,
    n: int,
    run: Run,
    store: Path | None,
    json: bool,
    quiet: bool,
    force: bool,
    seed: int = 0,
    strict: bool = False,
) -> None:
    """Answer a method's command: from the store, or made and stored."""
    from .display import Display

    spec = asked.resolve(d, n, seed)
    bounds = {
        "coherence": coherence_bound(spec.d, spec.n).value,
        "largest cosine": max_cos_bound(spec.d, spec.n).value,
    }
    with Display(quiet, bounds) as display:
        how = replace(run, report=display.step, measuring=display.measuring, files=asked.files())
        path = ensure_path(spec, how, store=store, force=force)
    record = report.record_of(path)
    _print(record, report.artifact_lines, json, quiet)
    status, target = record["provenance"]["status"], asked.target()
    if "ended" in record["spec"]["params"]:
        print(
            f"{status}: this is the best so far, not what was asked for; run the command again for the whole of it",
            file=sys.stderr,
        )
        if status == Status.INTERRUPTED:
            sys.exit(INTERRUPTED)  # all is said
    if target is not None and (miss := _missed(record, target)):
        if strict:
            raise Unmet(miss)
        print(f"note: {miss}", file=sys.stderr)


def _missed(record: dict[str, Any], target: float) -> str | None:
    measured = record["stats"]["coherence"]["value"] if record["stats"] else None
    known = record["facts"].get("guaranteed_coherence") if measured is None else measured
    if known is not None and known <= target + 1e-6:
        return None
    best = "is not measured" if known is None else f"is {known:.6f}"
    status = record["provenance"]["status"]
    remedy = "--start random" if status == Status.FORMULA else "more steps, another seed or start"
    return f"coherence {best}, asked for was at most {target}; {status}: try {remedy}, or a larger alpha"


def _command(method: type[Method]) -> Callable[..., None]:
    """A method's command: its options are the fields of its dataclass, and those that it shares with others."""
    own = [f.name for f in fields(method)]

    def command(**given: Any) -> None:
        _answer(method(**{name: given.pop(name) for name in own}), **given)

    size = [
        _parameter("d", Dimension) if method.least_d(2) is None else _parameter("d", AnyDimension, None),
        _parameter("n", Number),
    ]
    return _signed(command, *size, *_fields(method, own), *(SHARED[name] for name in method.takes), *COMMON)


def _extend(**given: Any) -> None:
    """Add vectors to a set: its own stay as they are, bit for bit, and come first.

    A closed form gives its next rows; else a descent moves the new vectors alone.
    """
    file = given.pop("file")
    asked = EBV(extends=str(file), **{name: given.pop(name) for name in EXTENDED})
    _answer(asked, d=read_header(file).spec.d, **given)


def _signed(command: Callable[..., None], *parameters: inspect.Parameter) -> Callable[..., None]:
    vars(command)["__signature__"] = inspect.Signature(parameters)
    return command


def _fields(method: type[Method], names: Sequence[str]) -> list[inspect.Parameter]:
    """The options of some fields of a method."""
    known = {f.name: f for f in fields(method)}
    return [_parameter(name, known[name].type, known[name].default, known[name].metadata["help"]) for name in names]


def _answer(asked: Method, **given: Any) -> None:
    """Run a command that makes a set, with the options that it shares with others."""
    _generate(asked, run=_run(**{name: given.pop(name) for name in HOW if name in given}), **given)


def _run(device: str, tile: int | None, stats: Any = "auto", time_limit: float | None = None) -> Run:
    """How to compute, as the options say. Raises BadRequest on values that none can have."""
    _check_tile(tile)
    check_word("stats", stats, get_args(Stats))
    if time_limit is not None:
        check_between("time-limit", time_limit, 0, float("inf"))
    return Run(device, tile, time_limit, stats=stats)


def _parameter(
    name: str, kind: Any, default: Any = inspect.Parameter.empty, help: str | None = None
) -> inspect.Parameter:
    """One option of a command; `kind` is a type, or an option shared by commands."""
    if help is not None:
        number = {int: _whole, int | None: _whole, float: _number, float | None: _number}.get(kind)
        option = typer.Option(f"--{name.replace('_', '-')}", help=help, parser=number)
        kind = Annotated[kind, option]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)


SHARED = {
    "seed": _parameter("seed", int, 0, "Seed of the random start."),
    "time_limit": _parameter("time_limit", float | None, None, "Seconds a descent may take; the best so far is saved."),
    "strict": _parameter("strict", bool, False, "Exit with 1 where what was asked for is missed."),
}
COMMON = (
    _parameter("device", Device, "cpu"),
    _parameter("tile", Tile, None),
    _parameter("stats", str, "auto", STATS),
    _parameter("store", StoreOption, None),
    _parameter("json", Json, False),
    _parameter("quiet", Quiet, False),
    _parameter("force", bool, False, "Generate again though the store has it."),
)
EXTENDED = ("alpha", "steps", "restarts")  # what `extend` takes of the fields of EBV


def _help(thing: object) -> str:
    """A docstring for the terminal, which breaks lines by itself."""
    return "\n\n".join(" ".join(part.split()) for part in (inspect.getdoc(thing) or "").split("\n\n"))


def _add_methods() -> None:
    """Give each method its command, in its group if it has one."""
    groups: dict[str, typer.Typer] = {}
    for method in METHODS.values():
        place = app
        if method.group is not None and method.group in groups:
            place = groups[method.group]
        elif method.group is not None:
            place = groups[method.group] = typer.Typer(no_args_is_help=True)
            app.add_typer(place, name=method.group, help=_help(inspect.getmodule(method)))
        place.command(method.name, help=_help(method))(_command(method))


_add_methods()
app.command("extend", help=_help(_extend))(
    _signed(
        _extend,
        _parameter("file", File),
        _parameter("n", Number),
        *_fields(EBV, EXTENDED),
        *(SHARED[name] for name in EBV.takes),
        *COMMON,
    )
)


@app.command()
def show(
    file: File,
    plot: Annotated[bool, typer.Option("--plot", help="Draw the histogram of angles, with the bounds marked.")] = False,
    png: Annotated[
        Path | None, typer.Option("--png", help="Write the histogram as a picture; needs the extra `plot`.")
    ] = None,
    json: Json = False,
) -> None:
    """Say what a file says of itself; reads its header alone."""
    if plot and json:
        raise BadRequest("--plot with --json: one JSON document holds no drawing; it has the histogram under stats")
    record = report.record_of(file)
    drawn = terminal_lines(record, shutil.get_terminal_size().columns, sys.stdout.encoding) if plot else []
    if png is not None:
        save_png(record, png)
    _print(record, lambda shown: [*report.artifact_lines(shown), *drawn], json)


@app.command()
def stats(
    file: File,
    tensor: Annotated[str | None, typer.Option(help="Which tensor; else prototypes, or the only matrix.")] = None,
    device: Device = "cpu",
    tile: Tile = None,
    json: Json = False,
) -> None:
    """Measure the rows of any safetensors file over all pairs, scaled to length one."""
    from .matrix import read_matrix

    _check_tile(tile)
    rows = read_matrix(file, tensor)
    measured = _measure(rows, device, tile).to_dict()
    n, d = rows.shape
    document = {
        "path": str(file),
        "d": d,
        "n": n,
        "stats": measured,
        "bounds": report.compare(d, n, measured),
    }
    _print(
        document,
        lambda shown: [f"{file}  d {d}  n {n}", *report.stats_lines(measured, shown["bounds"])],
        json,
    )


@app.command()
def verify(file: File, device: Device = "cpu", tile: Tile = None, json: Json = False) -> None:
    """Check a file's digests, measure it again and compare with what it says; exit 1 where they differ."""
    from .prototypes import read

    _check_tile(tile)
    prototypes = read(file)
    measured = _measure(prototypes.source, device, tile)
    differences = report.differences(prototypes.stats, measured, prototypes.facts)
    if "within_class" in prototypes.facts:
        recorded = AngleStats.from_dict(prototypes.facts["within_class"])
        within = _measure(prototypes.source, device, tile, within=True)
        differences += [f"within a class {what}" for what in report.differences(recorded, within, {})]
    document = {"path": str(file), "differences": differences, "stats": measured.to_dict()}
    _print(
        document,
        lambda _: [] if differences else [f"{file}: is what it says, coherence {measured.coherence.value:.6f}"],
        json,
    )
    if differences:
        raise Unmet(f"{file}: {'; '.join(differences)}; do not trust it, generate it again")


@app.command("list")
def list_(store: StoreOption = None, json: Json = False) -> None:
    """List the artifacts of a store."""
    rows = [report.entry_of(entry) for entry in Store(store_root(store)).entries()]
    _print({"store": str(store_root(store)), "artifacts": rows}, lambda _: report.entry_lines(rows), json)


def _measure(source: Rows, device: str, tile: int | None, within: bool = False) -> AngleStats:
    """Measure rows and show how far it is. Raises BadRequest where the device is unknown or too small."""
    from .display import Display
    from .geometry import pick_device
    from .measure import measure
    from .pipeline import check_memory, tile_bytes

    where, n = pick_device(device), source.shape[0]
    check_memory(f"n={n} with this --tile", tile_bytes(n, where, tile), where)
    with Display(quiet=False) as display:
        return measure(source, device, tile, display.measuring, within=within)


@app.command()
def bounds(
    d: Dimension,
    n: Number,
    points: Points = False,
    json: Json = False,
) -> None:
    """List the lower bounds that hold for n vectors in R^d, the best first, with their sources."""
    found = [asdict(bound) for bound in (point_bounds(d, n) if points else line_bounds(d, n))]
    _print({"d": d, "n": n, "points": points, "bounds": found}, lambda _: report.bound_lines(found), json)


@app.command("catalog")
def catalog_(
    d: Dimension,
    n: Number,
    points: Points = False,
    json: Json = False,
) -> None:
    """List the closed forms that reach n vectors in R^d, the lowest guaranteed cosine first; builds nothing."""
    check_whole("d", d, 2, LARGEST)
    check_whole("n", n, 2, LARGEST)
    _print(report.listing(d, n, points), report.listing_lines, json)


@app.command()
def capacity(
    d: Annotated[str, typer.Option("--d", help="Dimension, at least 2; 50,100 or 50:200:50 for a table.")],
    alpha: Annotated[str, typer.Option("--alpha", help="Largest |cos|: 0.1, 1/3, 1/sqrt5; 0.1:0.3:0.05 for a table.")],
    max_n: Annotated[
        int | None, typer.Option("--max-n", help="Try no more lines; else what a descent manages.", parser=_whole)
    ] = None,
    steps: Annotated[
        int, typer.Option("--steps", help="The most passes over all pairs of one descent.", parser=_whole)
    ] = STEPS,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the new vectors.", parser=_whole)] = 0,
    save: Annotated[bool, typer.Option("--save", help="Write the file also where a formula gives the set.")] = False,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="Write n against alpha as a picture; needs the extra `plot`.")
    ] = None,
    time_limit: Annotated[
        float | None, typer.Option("--time-limit", help="Seconds for each d and alpha.", parser=_number)
    ] = None,
    device: Device = "cpu",
    tile: Tile = None,
    store: StoreOption = None,
    json: Json = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print the numbers of lines alone.")] = False,
) -> None:
    """Search how many lines of coherence at most alpha fit into R^d: found, and the upper bound.

    Starts from the catalogue, then probes with descents. Every probe is kept in the store: the same
    command goes on after the last one, and answers at once when all is done.
    """
    from .display import Display

    def say(line: str) -> None:
        if not quiet:
            print(line, file=sys.stderr)

    run = _run(device, tile, time_limit=time_limit)
    run = replace(run, report=lambda at: display.step(at), measuring=lambda share: display.measuring(share))
    dimensions, alphas = _values("d", d, int), _values("alpha", alpha, _cosine)
    one = len(dimensions) * len(alphas) == 1
    if plot is not None:
        check_png(plot)
    records: list[dict[str, Any]] = []
    cells = sweep(dimensions, alphas, max_n=max_n, steps=steps, seed=seed, run=run, store=store, save=save, say=say)
    try:
        while len(records) < len(dimensions) * len(alphas):
            with Display(quiet) as display:
                records.append(next(cells).to_dict())
            if not json:
                _print(
                    records[-1], partial(report.capacity_lines, head=len(records) == 1, probes=one), False, quiet, "n"
                )
    except KeyboardInterrupt:
        print("interrupted: the same command goes on after the last finished probe", file=sys.stderr)
        sys.exit(INTERRUPTED)
    if json:
        _print({"cells": records}, lambda _: [], json)
    if plot is not None:
        save_capacity(records, plot)


def _check_tile(tile: int | None) -> None:
    if tile is not None:
        check_whole("tile", tile, 1)


def _print(
    document: dict[str, Any],
    lines: Callable[[dict[str, Any]], list[str]],
    as_json: bool,
    quiet: bool = False,
    alone: str = "path",
) -> None:
    """Print a result on stdout: as JSON, one part of it alone, or in lines."""
    if as_json:
        print(json.dumps(document, allow_nan=False))
    elif quiet:
        print(document[alone])
    else:
        for line in lines(document):
            print(line, flush=True)
