"""The command line: options in, results on stdout, messages on stderr, an exit code."""

import io
import os
import sys
from typing import Annotated, TextIO

import typer

from protogen.errors import BadRequest, DiskError, ProtogenError, RankLost
from protogen.ranks.launching import is_told, started, take_part

from .commands import Commands
from .neighbours import usage_of, with_commands
from .options import INTERRUPTED, tell

UNREAD = 141  # as a shell says it of a program that SIGPIPE ends, whose reader is gone

app = typer.Typer(
    name="protogen",
    cls=Commands,
    add_completion=False,
    invoke_without_command=True,
    pretty_exceptions_enable=False,
)


def _print_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(version("protogen-codes"))
        raise typer.Exit


@app.callback()
def protogen_(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version and exit.")
    ] = False,
) -> None:
    """Make, measure and keep fixed classifier prototypes."""
    if context.invoked_subcommand is None:
        print(context.get_help())
        raise typer.Exit(BadRequest.exit_code)


def main() -> None:
    """Run the command line; an error that a user can cause is one line on stderr and an exit code."""
    # None where the shell has closed it.
    sys.stdout, sys.stderr = (stream or os.fdopen(_nowhere(), "w") for stream in (sys.stdout, sys.stderr))
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")  # a path goes out as it came in
    if started() == 1:
        sys.exit(_flushed(_run()))
    # A rank does not wait for the end of Python. After Ctrl-C something may still refer to the process group, and a
    # thread of it that lets go of a tensor as Python ends aborts the process, after all is done and said.
    os._exit(_flushed(take_part(_run)))


def _run() -> int:
    """Run a command, say what went wrong, and return the exit code."""
    streams = sys.stdout, sys.stderr
    try:
        code = app(standalone_mode=False) or 0
    except SystemExit as end:  # of a command that has said all
        if sys.stdout is not streams[0]:  # which is typer's way where the reader is gone
            sys.stdout, sys.stderr = streams
            return UNREAD
        return end.code if isinstance(end.code, int) else 0
    except (ProtogenError, typer.TyperException) as error:
        message = _said(error)
        if message and not (isinstance(error, RankLost) and is_told()):  # of a group without a command the help is all
            _complain(message)
        return error.exit_code
    except OSError as error:
        _complain(f"{error.strerror or error}; make room, or write to another place")
        return DiskError.exit_code
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and "allocate" not in str(error):
            raise
        _complain("out of memory; ask for fewer or shorter vectors or a smaller --tile, or use a larger machine")
        return ProtogenError.exit_code
    except KeyboardInterrupt:
        code = INTERRUPTED
    if code == INTERRUPTED:
        tell("interrupted")
    return code


def _said(error: ProtogenError | typer.TyperException) -> str:
    """The message of an error; of an option that is missing with the way in which the command is written."""
    if not isinstance(error, typer.TyperException):
        return str(error)
    message = error.format_message()
    if isinstance(error, typer.BadParameter) and error.ctx is not None and message.startswith("Missing "):
        return f"{message.rstrip('.')}; write `{usage_of(error.ctx)}`"
    return with_commands(message, getattr(error, "ctx", None))


def _flushed(code: int) -> int:
    """Write out what is left for stdout; the exit code, another where that fails and nothing else has."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has what it wants
        code = code if code > 1 else UNREAD  # the answer that makes a 1 is lost, too
        _drop(sys.stdout)
    except OSError as error:
        if code <= 1:
            _complain(f"stdout: {error.strerror or error}; make room, or write to another place")
            code = DiskError.exit_code
        _drop(sys.stdout)
    try:
        sys.stderr.flush()
    except OSError:
        _drop(sys.stderr)
    return code


def _complain(message: str) -> None:
    tell(f"error: {' '.join(message.split())}")


def _drop(stream: TextIO) -> None:
    """Let what could not be written go nowhere, so that the interpreter does not try again at its end."""
    os.dup2(_nowhere(), stream.fileno())


def _nowhere() -> int:
    return os.open(os.devnull, os.O_WRONLY)
