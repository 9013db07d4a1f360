"""The command that trains on real data."""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from protogen.checks import check_whole, check_word
from protogen.errors import BadRequest
from protogen.report.plot import check_png, save_demo
from protogen.report.scatter import MOST_COORDINATES, save_scatter

from .options import (
    INTERRUPTED,
    Json,
    StoreOption,
    number,
    print_result,
    tell,
    values,
    whole,
)

if TYPE_CHECKING:
    from torch import Tensor

    from protogen.demo.data import Task
    from protogen.demo.results import RowFile
    from protogen.demo.training import Row, Trial

MOST_IMBALANCE = 1e6
USUAL = {  # d and epochs
    "digits": ("16", 60),
    "fashion": ("16", 8),
    "glyphs": ("64", 8),
    "words": ("64", 8),
    "clusters": ("64", 8),
}


app = typer.Typer()


def _option(help: str, parser: Callable[[str], Any] | None = None) -> Any:
    """Describe an option by its help, and by what reads its text."""
    return typer.Option(help=help, parser=parser)


@app.command()
def demo(
    task: Annotated[
        str, _option("digits, fashion (Fashion-MNIST), glyphs (Chinese characters), words (spoken) or clusters.")
    ],
    heads: Annotated[str | None, _option("Heads, with commas; else all that exist for d and the classes.")] = None,
    against: Annotated[str, _option("The head that the others are compared with; it is always trained.")] = "learned",
    d: Annotated[
        str | None, typer.Option("--d", help="Width of the features; 16,64 for several. Else 16 or 64.")
    ] = None,
    seeds: Annotated[int, _option("Networks of each head, of seed 0 and on.", whole)] = 3,
    epochs: Annotated[int | None, _option("Passes over the training set; else 60 or 8.", whole)] = None,
    imbalance: Annotated[float, _option("The first class has so many times the images of the last.", number)] = 1.0,
    hidden: Annotated[int, _option("Units of the network's hidden layer: more for equal budgets.", whole)] = 512,
    part: Annotated[str, _option("What is measured: test, or validation alone, for choices.")] = "test",
    classes: Annotated[
        int | None, _option("Classes of glyphs, words or clusters; else 1000, 1000, 5000.", whole)
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Vary a head: multicenter.per_class=1,2,4; may stand several times."),
    ] = None,
    data: Annotated[Path | None, _option("Folder of the data, fonts or list of words; else the system's.")] = None,
    rows: Annotated[Path, _option("File that keeps a row for each network.")] = Path("protogen-demo.jsonl"),
    plot: Annotated[Path | None, _option("Draw the accuracies as a picture; needs the extra `plot`.")] = None,
    scatter: Annotated[
        Path | None, _option("Draw features of each head, d up to 12, of seed 0, trained once more; needs `plot`.")
    ] = None,
    store: StoreOption = None,
    json: Json = False,
) -> None:
    """Train on real data with each head and with a learned one.

    Every network is kept in the file of rows as it ends: the same command goes on after the last one.
    """
    dimensions, epochs = _checked(task, d, seeds, epochs, imbalance, hidden, part, plot, scatter)
    from protogen.demo.results import RowFile, compare, plan, table_lines, warnings_of
    from protogen.demo.tasks import load_task
    from protogen.demo.variants import split_heads

    file = RowFile(rows)
    file.rows()
    loaded = load_task(task, classes, data)
    wanted = None if heads is None else split_heads(heads)
    trials = plan(loaded, wanted, against, dimensions, seeds, epochs, imbalance, hidden, part, settings or ())
    for line in warnings_of(trials):
        tell(f"note: {line}")
    try:
        there = _train(trials, loaded, file, store)
    except KeyboardInterrupt:
        tell("interrupted: the same command goes on after the last finished row")
        sys.exit(INTERRUPTED)
    mine = [there[trial] for trial in trials]
    compared = compare(mine, trials[0].head)
    comparisons = [one.to_dict() for one in compared]
    document = {"path": str(rows), "rows": [row.to_dict() for row in mine], "comparisons": comparisons}
    print_result(document, lambda _: table_lines(compared), json)
    if plot is not None:
        save_demo(comparisons, plot)
    if scatter is not None:
        save_scatter(_features(trials, loaded, store), scatter)


def _features(trials: "list[Trial]", task: "Task", store: Path | None) -> "dict[str, tuple[Tensor, Tensor]]":
    """Train each head once more, with seed 0 and the first d, for its features and labels."""
    from protogen.demo.training import features_of
    from protogen.report.progress import Display

    found = {}
    for trial in trials:
        if (trial.seed, trial.d) == (0, trials[0].d):
            with Display(quiet=False) as display:
                found[trial.head] = features_of(trial, task, store, partial(display.training, f"features {trial.head}"))
    return found


def _checked(
    task: str,
    d: str | None,
    seeds: int,
    epochs: int | None,
    imbalance: float,
    hidden: int,
    part: str,
    plot: Path | None,
    scatter: Path | None,
) -> tuple[list[int], int]:
    """Check what was asked for before anything is loaded: the dimensions and epochs, the usual ones where left out.

    Raises BadRequest, and DiskError where the picture has no place.
    """
    if task not in USUAL:
        raise BadRequest(f"task is {task!r}; allowed is {', '.join(USUAL)}")
    usual_d, usual_epochs = USUAL[task]
    epochs = usual_epochs if epochs is None else epochs
    check_whole("seeds", seeds, 1)
    check_whole("epochs", epochs, 1)
    if not 1 <= imbalance <= MOST_IMBALANCE:
        raise BadRequest(
            f"imbalance is {imbalance}; allowed is 1 to {MOST_IMBALANCE:,.0f}; 100 is usual for long tails"
        )
    check_whole("hidden", hidden, 1)
    check_word("part", part, ("validation", "test"))
    dimensions = values("d", usual_d if d is None else d, int)
    for dimension in dimensions:
        check_whole("d", dimension, 2)
    for picture in (plot, scatter):
        if picture is not None:
            check_png(picture)
    if scatter is not None and dimensions[0] > MOST_COORDINATES:
        raise BadRequest(f"d is {dimensions[0]} with --scatter; allowed is 2 to {MOST_COORDINATES}")
    return dimensions, epochs


def _train(trials: "list[Trial]", task: "Task", file: "RowFile", store: Path | None) -> "dict[Trial, Row]":
    """Train what the file does not have yet, and return the rows of all trials."""
    from protogen.demo.training import train
    from protogen.report.progress import Display

    file.check()
    there: dict[Trial, Row] = {}
    for index, trial in enumerate(trials, 1):
        there |= file.rows()
        if trial in there:
            continue
        name = f"{index}/{len(trials)}  {trial.head}  d {trial.d}  seed {trial.seed}"
        with Display(quiet=False) as display:
            row = train(trial, task, store, partial(display.training, name))
        file.add(row)
        there[trial] = row
        tell(f"{name}  accuracy {row.accuracy:.2f}")
    return there
