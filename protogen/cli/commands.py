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

from .options import whole

GROUPS = {
    "Make": ("ebv", "uniform", "polytope", "subcenters", "fit", "extend", "import"),
    "Look": ("show", "stats", "verify", "diff", "export"),
    "Keep": ("list", "lock", "prune", "cache-key"),
    "Share": ("sync", "push", "pull"),
    "Know": ("bounds", "catalog", "capacity", "plan", "demo"),
}
MODULES = {
    "make": ("ebv", "uniform", "polytope", "subcenters", "fit", "extend"),
    "files": ("show", "stats", "verify", "diff", "export"),
    "keep": ("list", "lock", "prune", "cache-key", "sync"),
    "remote": ("push", "pull"),
    "bring": ("import",),
    "sizes": ("bounds", "catalog", "capacity", "plan"),
    "demo": ("demo",),
}
LINES = {
    "ebv": "Make n lines in R^d whose largest |cos| is as low as asked for, or as low as it goes.",
    "uniform": "Make n points on the sphere of R^d, as uniform as the Gaussian potential tells.",
    "polytope": "Regular polytopes: n vertices of the simplex, the orthoplex or the cube, by formula.",
    "subcenters": "Draw sub-centres in R^d around each of n class centres; they keep the norms that chance gives them.",
    "fit": "A row for each class that fits its features: one pass over the data, then frozen.",
    "extend": "Add vectors to a set: its own stay as they are, bit for bit, and come first.",
    "import": "Bring the vectors of another program's file into the store, measured; a pickle is never read.",
    "show": "Say what a file says of itself; reads its header alone, also at a URL.",
    "stats": "Measure the rows of any safetensors, .npy or .pt file over all pairs, scaled to length one.",
    "verify": "Check a file's digests, measure it again and compare with what it says; exit 1 where they differ.",
    "diff": "Compare two artifacts: what was asked for, figures, content and rows; exit 1 where the content differs.",
    "export": "Write the rows of a file in another form: packed bits, where they are signs.",
    "list": "List the artifacts of a store; coherence is the largest cosine where the set is one of points.",
    "lock": "Pin artifacts by names, in a file that the project's repository keeps.",
    "prune": "Remove what dead processes left over, and the artifacts that all of the options given allow to go.",
    "cache-key": "Print a key for a cache of the store: of what the lock asks for, and of the schema of the files.",
    "sync": "Make the store hold what the lock asks: present, fetched, or generated where a formula gives it.",
    "push": "Upload files of a store under their own names to the first remote; what is there is never overwritten.",
    "pull": "Download artifacts into the store from the first remote that has them; their digests are checked.",
    "bounds": "List the lower bounds that hold for n vectors in R^d, the best first, with their sources.",
    "catalog": "List the closed forms that reach n vectors in R^d, the lowest guaranteed cosine first; builds nothing.",
    "capacity": "Search how many lines of coherence at most alpha fit into R^d: found, and the upper bound.",
    "plan": "Say what a training step costs a process of several: products, memory, traffic; fixed and learned rows.",
    "demo": "Train a small network with a learned classifier and with fixed prototypes, and compare them.",
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
        self.commands = {
            name: TyperCommand(name, help=LINES[name], rich_help_panel=group)
            for group, names in GROUPS.items()
            for name in names
        }

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command that the first word names. Raises UsageError where there is none."""
        name, listed, rest = super().resolve_command(ctx, args)
        return name, load_command(args[0]) if listed else None, rest
