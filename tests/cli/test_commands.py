"""The list of commands: all that there are, each with its own line, loaded when it is called."""

import subprocess
import sys
from importlib.metadata import version

import pytest
from commands import Command, done

import protogen
from protogen.cli.commands import GROUPS, LINES, MODULES, load_command
from protogen.methods import METHODS


def test_each_command_is_listed_once() -> None:
    names = [name for names in GROUPS.values() for name in names]
    assert list(GROUPS) == ["Make", "Look", "Keep", "Share", "Know"]
    assert sorted(names) == sorted(LINES) == sorted(name for names in MODULES.values() for name in names)
    assert len(names) == len(set(names))


def test_each_method_is_listed() -> None:
    assert {method.group or method.name for method in METHODS.values()} <= set(LINES)


@pytest.mark.parametrize("name", LINES)
def test_a_line_is_the_first_of_the_help_of_its_command(name: str) -> None:
    command = load_command(name)
    assert command.name == name
    assert (command.help or "").split("\n\n")[0].replace("\n", " ") == LINES[name]


def test_the_help_has_the_groups_in_one_screen(run: Command) -> None:
    lines = done(run("--help")).splitlines()
    assert [line for line in lines if line in GROUPS] == list(GROUPS)
    assert [line.split()[0] for line in lines if line.startswith("  ")] == [
        n for names in GROUPS.values() for n in names
    ]
    assert len(lines) < 40
    assert max(map(len, lines)) <= 80
    assert run().out.splitlines() == lines


def test_the_version_is_that_of_the_distribution(run: Command) -> None:
    assert done(run("--version")) == protogen.__version__ == version("protogen-codes")


def test_help_loads_no_command() -> None:
    code = """
import sys
sys.argv = ["protogen", "--help"]
from protogen import cli
try:
    cli.main()
except SystemExit:
    print(*sorted(name for name in sys.modules if name.startswith("protogen.")))
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    loaded = set(ran.stdout.splitlines()[-1].split())
    assert "protogen.cli.commands" in loaded
    assert not {f"protogen.{name}" for name in ("methods", "catalog", "report", "sharing", "capacity")} & loaded
    assert not {f"protogen.cli.{name}" for name in MODULES} & loaded
