"""The commands: the group and the line of each in `protogen --help`, and the module that has it.

A command's module, with all that it loads, is loaded when the command is called. The lines are the first ones
of the commands' own help; a test compares them.
"""

import sys
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from protogen.checks import check_whole
from protogen.errors import BadRequest
from protogen.ranks.launching import launch, started

from .neighbours import unknown_command
from .options import whole

GROUPS = {
    "Make": ("ebv", "uniform", "polytope", "subcenters", "fit", "extend", "import"),
    "Look": ("show", "stats", "verify", "diff", "export", "gallery"),
    "Keep": ("list", "lock", "prune", "cache-key"),
    "Share": ("sync", "push", "pull"),
    "Know": ("bounds", "catalog", "capacity", "plan", "demo", "help"),
}
MODULES = {
    "make": ("ebv", "uniform", "polytope", "subcenters", "fit", "extend"),
    "files": ("show", "stats", "verify", "diff", "export"),
    "keep": ("list", "lock", "prune", "cache-key", "sync"),
    "remote": ("push", "pull"),
    "bring": ("import",),
    "gallery": ("gallery",),
    "sizes": ("bounds", "catalog", "capacity", "plan"),
    "demo": ("demo",),
    "topics": ("help",),
}
LINES = {
    "ebv": "Make n lines in R^d of the lowest coherence, or of one asked for.",
    "uniform": "Make n points on the sphere, uniform by the Gaussian potential.",
    "polytope": "Make a regular polytope: simplex, orthoplex or cube, by formula.",
    "subcenters": "Draw fixed sub-centres around each of n class centres.",
    "fit": "Make a row for each class that fits its features, in one pass.",
    "extend": "Add vectors to a set; its own stay bit for bit and come first.",
    "import": "Bring another program's vectors into the store, measured.",
    "show": "Say what a file, or one at a URL, says of itself.",
    "stats": "Measure the rows of any matrix file over all pairs.",
    "verify": "Check a file's digests, and measure it again.",
    "diff": "Compare two artifacts: request, figures, content, rows.",
    "export": "Write the rows of a file as packed bits, where they are signs.",
    "gallery": "Draw a store as one HTML page: coherence, angles, pins, heads.",
    "list": "List the artifacts of a store, with coherence and bound.",
    "lock": "Pin artifacts by names, in a file of the project's repository.",
    "prune": "Remove leftovers, and the artifacts that the options let go.",
    "cache-key": "Print a key for a CI cache of the store.",
    "sync": "Make the store hold what the lock asks for.",
    "push": "Upload files of a store to the first remote.",
    "pull": "Download artifacts into the store from the first remote.",
    "bounds": "List the lower bounds for n vectors in R^d, with sources.",
    "catalog": "List the closed forms that reach n vectors in R^d, best first.",
    "capacity": "Search how many lines of a coherence fit into R^d.",
    "plan": "Say which set, head and temperature to begin with, and their cost.",
    "demo": "Train on real data with each head and with a learned one.",
    "help": "Explain a topic: choose, heads, store, lock, ci and others.",
}
SHARED = (*GROUPS["Make"][:-1], "stats", "verify", "capacity")  # commands that several processes can share


def load_command(name: str) -> TyperCommand | TyperGroup:
    """Load the module that has a command, and build the command with its options."""
    (module,) = (module for module, names in MODULES.items() if name in names)
    app: typer.Typer = import_module(f".{module}", __package__).app
    command = typer.main.get_group(app).commands[name]
    assert isinstance(command, TyperCommand | TyperGroup)
    if name in SHARED:
        for each in command.commands.values() if isinstance(command, TyperGroup) else [command]:
            each.params.append(_processes())
    return command


def _processes() -> Any:
    """The option that runs a command on several processes; the command itself does not get it."""

    def start(processes: int | None) -> None:
        if processes is None:
            return
        check_whole("processes", processes, 1)
        if started() not in (1, processes):
            raise BadRequest(f"processes is {processes} and torchrun has started {started()}; leave --processes out")
        if started() < processes:
            sys.exit(launch(processes, sys.argv[1:]))

    def holder(
        processes: Annotated[
            int | None,
            typer.Option(
                "--processes",
                help="Share the work among so many processes of this machine.",
                parser=whole,
                callback=start,
            ),
        ] = None,
    ) -> None: ...

    app = typer.Typer(add_completion=False)
    app.command()(holder)
    (option,) = (each for each in typer.main.get_command(app).params if each.name == "processes")
    option.expose_value = False
    return option


class Commands(TyperGroup):
    """All commands by their names and lines; one that is called is loaded then."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.commands = {name: TyperCommand(name, help=LINES[name]) for names in GROUPS.values() for name in names}

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write all commands by their groups, a line each: a screen of 80 x 40 has them all."""
        formatter.write(f"Usage: protogen COMMAND [OPTIONS]\n{self.help}\n")
        for group, names in GROUPS.items():
            formatter.write(f"\n{group}\n")
            formatter.write("".join(f"  {name:<10}  {LINES[name]}\n" for name in names))
        formatter.write("protogen COMMAND --help has a command's options, --version the version.\n")

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command that the first word names. Raises BadRequest where there is none."""
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            raise unknown_command(args[0], list(self.commands))
        name, listed, rest = super().resolve_command(ctx, args)
        return name, load_command(args[0]) if listed else None, rest
