"""What commands share: their options, the Run that these make, and how a result is printed."""

import contextlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from protogen.checks import check_seconds
from protogen.errors import BadRequest, printable
from protogen.ranks.launching import group_of_command
from protogen.run import Run

INTERRUPTED = 130
MOST_CELLS = 10_000


def whole(text: str | int) -> int:
    """Read a whole number. Raises BadParameter."""
    try:
        return int(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a whole number; write one like 1000") from None


def number(text: str | float) -> float:
    """Read a number. Raises BadParameter."""
    try:
        return float(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a number; write one like 0.05") from None


def _store(text: str | Path) -> Path:
    """Read the directory of a store. Raises BadRequest."""
    from protogen.store.store import store_path  # here, since `protogen --help` needs no store

    return store_path(text)


Dimension = Annotated[int, typer.Option("--d", help="Dimension, at least 2.", parser=whole)]
AnyDimension = Annotated[int | None, typer.Option("--d", help="Dimension; left out: the smallest for n.", parser=whole)]
Number = Annotated[int, typer.Option("--n", help="Number of prototypes, at least 2.", parser=whole)]
# Whether a file can be read is seen where it is read: the parser's own check would make a bad request of it.
File = Annotated[Path, typer.Argument(help="A safetensors file.", show_default=False, readable=False)]
StoreOption = Annotated[
    Path | None,
    typer.Option(
        "--store",
        help="Directory of the artifacts; else PROTOGEN_STORE, else ./prototypes.",
        parser=_store,
        metavar="DIRECTORY",
    ),
]
RemoteOption = Annotated[
    list[str] | None,
    typer.Option("--remote", help="A directory or URL of artifacts, the first first; else those of PROTOGEN_REMOTE."),
]
Points = Annotated[bool, typer.Option("--points", help="Of points (largest cos), not of lines (|cos|).")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print the path alone.")]
Transpose = Annotated[bool, typer.Option("--transpose", help="The columns of the matrix are the vectors.")]
Device = Annotated[str, typer.Option("--device", help="cpu, cuda or cuda:<index>.")]
Tile = Annotated[
    int | None,
    typer.Option("--tile", help="Edge of a Gram tile in rows; else chosen for the device.", parser=whole),
]


def values(name: str, text: str, number: Callable[[str], Any]) -> list[Any]:
    """Read the numbers of a list with commas, rising; start:stop:step is a range with both ends, free of drift.

    Raises BadRequest.
    """
    from decimal import Decimal

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


def run_of(device: str, tile: int | None, stats: Any = "auto", time_limit: float | None = None) -> Run:
    """Make the Run that the options describe. Raises BadRequest on values that none can have."""
    check_seconds("time-limit", time_limit)
    return Run(device, tile, time_limit, stats=stats, group=group_of_command())


def tell(line: str) -> None:
    """Write a message on stderr, also where nobody reads it any more."""
    with contextlib.suppress(OSError):
        # One write, which the lines of other processes on the same terminal do not cut.
        sys.stderr.write(f"{printable(line)}\n")
        sys.stderr.flush()


def print_line(line: str) -> None:
    """Print a line of a result, free of control characters."""
    print(printable(line), flush=True)


def print_result(
    document: dict[str, Any],
    lines: Callable[[dict[str, Any]], list[str]],
    as_json: bool,
    quiet: bool = False,
    alone: str = "path",
) -> None:
    """Print a result on stdout: as JSON, one part of it alone, or in lines, free of control characters."""
    if as_json:
        print(json.dumps(document, allow_nan=False))
    elif quiet:
        print(document[alone])
    else:
        for line in lines(document):
            print_line(line)
