"""A word that is no command is answered with the command that was meant, and what is missing with the whole line."""

import pytest
from commands import Command, one_error

from protogen.cli.commands import LINES, load_command
from protogen.cli.neighbours import MEANT


@pytest.mark.parametrize("line", sorted(set(MEANT.values())))
def test_what_was_meant_is_there(line: str) -> None:
    program, name, *rest = line.split()
    assert program == "protogen"
    if name == "--version":
        return
    command = load_command(name)
    if rest and rest[0] in getattr(command, "commands", {}):
        command = command.commands[rest.pop(0)]  # type: ignore[union-attr]
    options = {option for parameter in command.params for option in parameter.opts} | {"--help"}
    assert {word for word in rest if word.startswith("--")} <= options
    needed = {each.opts[0] for each in command.params if each.required and each.opts[0].startswith("--")}
    assert "--help" in rest or needed <= set(rest)


def test_what_was_meant_is_asked_for_by_no_command() -> None:
    assert not MEANT.keys() & LINES.keys()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("simplex", "--n", 5), "No such command 'simplex'; write `protogen polytope simplex --n N`"),
        (("Lines",), "write `protogen ebv --d D --n N`"),
        (("gallry",), "did you mean `protogen gallery`?"),
        (("zzz",), "No such command 'zzz'; `protogen --help` lists them"),
        (("ebv",), "Missing option '--d'; write `protogen ebv --d D --n N`"),
        (("polytope", "cube", "--d", 4), "Missing option '--n'; write `protogen polytope cube --n N`"),
        (("polytope", "simples"), "'simples'. Did you mean 'simplex'? There are simplex, orthoplex, cube"),
        (("lock", "backbone"), "No such command 'backbone'; there are add, remove, list"),
        (("lock", "add"), "write `protogen lock add NAME FILE`"),
        (("extend",), "write `protogen extend FILE --n N`"),
        (("capacity", "--d", 5), "write `protogen capacity --d D --alpha ALPHA`"),
    ],
)
def test_a_slip_is_answered_in_a_line(run: Command, words: tuple[object, ...], says: str) -> None:
    one_error(run(*words), 2, says)
