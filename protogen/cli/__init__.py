"""The command line: options in, results on stdout, messages on stderr, an exit code."""

import io
import os
import sys
from typing import Annotated

import typer

from protogen.errors import DiskError, ProtogenError, printable

from .commands import Commands
from .options import INTERRUPTED

app = typer.Typer(
    name="protogen",
    cls=Commands,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _print_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(version("protogen-codes"))
        raise typer.Exit


@app.callback()
def protogen_(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version and exit.")
    ] = False,
) -> None:
    """Make, measure and keep fixed classifier prototypes."""


def main() -> None:
    """Run the command line; an error that a user can cause is one line on stderr and an exit code."""
    # None where the shell has closed it.
    sys.stdout, sys.stderr = (stream or os.fdopen(_nowhere(), "w") for stream in (sys.stdout, sys.stderr))
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
    print(f"error: {printable(' '.join(message.split()))}", file=sys.stderr)


def _drop_output() -> None:
    """Let what could not be written go nowhere, so that the interpreter does not try again at its end."""
    os.dup2(_nowhere(), sys.stdout.fileno())


def _nowhere() -> int:
    return os.open(os.devnull, os.O_WRONLY)
