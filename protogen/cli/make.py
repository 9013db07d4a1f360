"""The commands that make a set: one for each method, its options the method's parameters, and `extend`."""

import inspect
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from protogen import report
from protogen.bounds import TOLERANCE, coherence_bound, max_cos_bound
from protogen.errors import Interrupted, Unmet, printable
from protogen.files.header import Header, read_header
from protogen.methods import METHODS, Method
from protogen.methods.ebv import EBV
from protogen.methods.fit import Fit
from protogen.run import EXACT_PAIRS, Run
from protogen.solution import Status
from protogen.store.access import ensure_with
from protogen.store.extending import PARAMETERS
from protogen.store.fitting import taken

from .options import (
    INTERRUPTED,
    AnyDimension,
    Device,
    Dimension,
    File,
    Json,
    Number,
    Quiet,
    StoreOption,
    Tile,
    number,
    print_result,
    run_of,
    tell,
    whole,
)

HOW = ("device", "tile", "stats", "time_limit")
STATS = f"exact, certificate (what a formula guarantees, unmeasured) or auto: exact up to {EXACT_PAIRS:.0e} pairs."


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
    from protogen.report.progress import Display

    spec = asked.resolve(d, n, seed)
    bounds = {
        "coherence": coherence_bound(spec.d, spec.n).value,
        "largest cosine": max_cos_bound(spec.d, spec.n).value,
    }
    with Display(quiet, bounds) as display:
        how = replace(run, report=display.step, measuring=display.measuring, say=tell, files=asked.files())
        try:
            shown = ensure_with(report.record_of, spec, how, store=store, force=force)
        except Interrupted as ended:
            shown = report.record_of(ended.path)
    print_result(shown.to_dict(), lambda _: report.artifact_lines(shown), json, quiet)
    status, target = shown.header.provenance.status, asked.target()
    if "ended" in shown.header.spec.options:
        tell(f"{printable(status)}: this is the best so far, not what was asked for; run the command again to go on")
        if status == Status.INTERRUPTED:
            sys.exit(INTERRUPTED)  # all is said
    if target is not None and (miss := _missed(shown.header, target)):
        if strict:
            raise Unmet(miss)
        tell(f"note: {printable(miss)}")


def _missed(header: Header, target: float) -> str | None:
    known = EBV.cosine(header.stats, header.facts)
    if known is not None and known <= target + TOLERANCE:
        return None
    best = "is not measured" if known is None else f"is {known:.6f}"
    status = header.provenance.status
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
    """Add vectors to a set; its own stay bit for bit and come first.

    A closed form gives its next rows; else a descent moves the new vectors alone.
    """
    file = given.pop("file")
    asked = EBV(extends=str(file), **{name: given.pop(name) for name in PARAMETERS})
    _answer(asked, d=read_header(file).spec.d, **given)


def _fit(**given: Any) -> None:
    """Make a row for each class that fits its features, in one pass.

    Each class has the direction of its mean, among the d that tell the classes apart best. With --alpha the rows are
    pushed apart until the largest |cos| is at most that, each as little as can be. With --extends later classes find
    places by their own features, and the rows of the file stay.
    """
    from protogen.report.progress import Display

    features, labels, n, narrow = (given.pop(name) for name in DATA)
    run = run_of(**{name: given.pop(name) for name in HOW})
    with Display(given["quiet"]) as display:
        statistics = taken(features, labels, n, narrow, run.device, display.passing)
    ((digest, tensors),) = statistics.held.items()
    asked = Fit(statistics=digest, **{name: given.pop(name) for name in FITTED})
    _generate(asked, n=statistics.classes, run=replace(run, held={digest: tensors}), **given)


def _signed(command: Callable[..., None], *parameters: inspect.Parameter) -> Callable[..., None]:
    vars(command)["__signature__"] = inspect.Signature(parameters)
    return command


def _fields(method: type[Method], names: Sequence[str]) -> list[inspect.Parameter]:
    """The options of some fields of a method."""
    known = {f.name: f for f in fields(method)}
    return [_parameter(name, known[name].type, known[name].default, known[name].metadata["help"]) for name in names]


def _answer(asked: Method, **given: Any) -> None:
    """Run a command that makes a set, with the options that it shares with others."""
    _generate(asked, run=run_of(**{name: given.pop(name) for name in HOW if name in given}), **given)


def _parameter(
    name: str, kind: Any, default: Any = inspect.Parameter.empty, help: str | None = None
) -> inspect.Parameter:
    """One option of a command; `kind` is a type, or an option shared by commands."""
    if help is not None:
        parser = {int: whole, int | None: whole, float: number, float | None: number}.get(kind)
        option = typer.Option(f"--{name.replace('_', '-')}", help=help, parser=parser)
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
FITTED = ("alpha", "power", "ridge", "steps", "extends")  # what `fit` takes of the fields of Fit
DATA = {
    "features": _parameter(
        "features", Annotated[Path, typer.Option(help="Features (samples, width): a .npy or safetensors file.")]
    ),
    "labels": _parameter(
        "labels", Annotated[Path, typer.Option(help="Labels (samples,), whole numbers from 0: such a file too.")]
    ),
    "n": _parameter("n", int | None, None, "Number of classes; left out: one more than the largest label."),
    "narrow": _parameter(
        "narrow", int | None, None, "Project features to this width first, where memory is short for n times theirs."
    ),
}


def _help(thing: object) -> str:
    """A docstring for the terminal, which breaks lines by itself."""
    return "\n\n".join(" ".join(part.split()) for part in (inspect.getdoc(thing) or "").split("\n\n"))


def _add_commands(app: typer.Typer) -> None:
    """Give each method its command, in its group if it has one, and `extend` its own."""
    groups: dict[str, typer.Typer] = {}
    for method in METHODS.values():
        if not method.from_options:
            continue
        place = app
        if method.group is not None and method.group in groups:
            place = groups[method.group]
        elif method.group is not None:
            place = groups[method.group] = typer.Typer(no_args_is_help=True)
            app.add_typer(place, name=method.group, help=_help(inspect.getmodule(method)))
        place.command(method.name, help=_help(method))(_command(method))
    app.command("fit", help=_help(_fit))(
        _signed(
            _fit,
            *DATA.values(),
            _parameter("d", Dimension),
            *_fields(Fit, FITTED),
            *(SHARED[name] for name in Fit.takes),
            *COMMON,
        )
    )
    app.command("extend", help=_help(_extend))(
        _signed(
            _extend,
            _parameter("file", File),
            _parameter("n", Number),
            *_fields(EBV, PARAMETERS),
            *(SHARED[name] for name in EBV.takes),
            *COMMON,
        )
    )


app = typer.Typer()
_add_commands(app)
