"""What a command that is not there, or that lacks an option, was meant to be."""

from difflib import get_close_matches
from typing import Any

from protogen.errors import BadRequest

LINES = "protogen ebv --d D --n N"
POINTS = "protogen uniform --d D --n N"
# By a word that is no command: what to write, and where no one command answers to it, in words.
MEANT = {
    "simplex": "protogen polytope simplex --n N",
    "orthoplex": "protogen polytope orthoplex --n N",
    "cube": "protogen polytope cube --d D --n N",
    "polytopes": "protogen polytope simplex --n N",
    **dict.fromkeys(("lines", "ebvs", "frame", "etf", "equiangular", "prototypes"), LINES),
    **dict.fromkeys(("generate", "gen", "make", "create", "new", "ensure", "start", "run"), LINES),
    **dict.fromkeys(("points", "sphere", "spherical", "spread", "hyperspherical"), POINTS),
    **dict.fromkeys(("subcentres", "subcenter", "subcentre", "centers", "centres"), "protogen subcenters --d D --n N"),
    **dict.fromkeys(("learn", "codes"), "protogen fit --features X --labels Y --d D"),
    **dict.fromkeys(("add", "append", "grow"), "protogen extend FILE --n N"),
    **dict.fromkeys(("info", "describe", "header", "cat", "open", "load", "read"), "protogen show FILE"),
    **dict.fromkeys(("plot", "histogram", "draw"), "protogen show FILE --plot"),
    **dict.fromkeys(("measure", "coherence", "statistics"), "protogen stats FILE"),
    **dict.fromkeys(("check", "validate"), "protogen verify FILE"),
    **dict.fromkeys(("compare", "cmp"), "protogen diff ONE OTHER"),
    **dict.fromkeys(("bits", "pack", "save"), "protogen export FILE --bits"),
    **dict.fromkeys(("ls", "dir", "store"), "protogen list"),
    **dict.fromkeys(("pin", "unpin", "pins"), "protogen lock --help"),
    **dict.fromkeys(("rm", "remove", "delete", "clean", "gc"), "protogen prune --dry-run"),
    **dict.fromkeys(("fetch", "download"), "protogen pull PATH"),
    **dict.fromkeys(("upload", "publish"), "protogen push FILE"),
    **dict.fromkeys(("restore", "install", "update"), "protogen sync"),
    **dict.fromkeys(("html", "page", "browse"), "protogen gallery"),
    **dict.fromkeys(("bound", "welch"), "protogen bounds --d D --n N"),
    **dict.fromkeys(("forms", "families", "catalogue", "closed-forms"), "protogen catalog --d D --n N"),
    **dict.fromkeys(("search", "maximum"), "protogen capacity --d D --alpha ALPHA"),
    **dict.fromkeys(("cost", "estimate", "choose", "recommend"), "protogen plan --d D --n N"),
    **dict.fromkeys(("train", "benchmark", "example", "examples", "heads"), "protogen demo --task digits"),
    "version": "protogen --version",
}


def unknown_command(name: str, known: list[str]) -> BadRequest:
    """Say that there is no such command, and which one was meant: by its name, its neighbours', or its letters."""
    meant = MEANT.get(name.lower().replace("_", "-"))
    if meant is None:
        close = get_close_matches(name.lower(), known, n=3, cutoff=0.6)
        near = " or ".join(f"`protogen {each}`" for each in close)
        remedy = f"did you mean {near}? `protogen --help` lists them" if close else "`protogen --help` lists them"
    else:
        remedy = f"write `{meant}`"
    return BadRequest(f"No such command {name!r}", remedy)


def usage_of(context: Any) -> str:
    """How a command is written with all that it needs, as `protogen ebv --d D --n N`."""
    names: list[str] = []
    above = context
    while above.parent is not None:
        names.insert(0, above.info_name)
        above = above.parent
    needed = []
    for parameter in context.command.params:
        word = str(parameter.name).upper().replace("_", "-")
        if parameter.required:
            needed.append(f"{parameter.opts[0]} {word}" if parameter.param_type_name == "option" else word)
    return " ".join(["protogen", *names, *needed])


def with_commands(message: str, context: Any) -> str:
    """Add to the message of a word that is no command of a group the commands that the group has."""
    if not message.startswith("No such command") or context is None:
        return message
    there = ", ".join(context.command.commands)
    return f"{message} There are {there}" if message.endswith("?") else f"{message.rstrip('.')}; there are {there}"
