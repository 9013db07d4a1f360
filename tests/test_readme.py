"""What the README shows runs as it stands, and what it and the guide name is there."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from protogen.cli.commands import LINES, load_command

ROOT = Path(__file__).parents[1]
COMMANDS: dict[str, Any] = {name: load_command(name) for name in LINES}


def blocks(language: str) -> list[str]:
    """Return the README's code blocks in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)


def options(command: Any) -> set[str]:
    """Return the options of a command and of those below it."""
    own = {option for parameter in command.params for option in parameter.opts}
    return own.union(*(options(below) for below in getattr(command, "commands", {}).values()))


def run(code: str) -> dict[str, Any]:
    """Run a block in a namespace of its own, and return it."""
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(code, "<README.md>", "exec"), names)
    return names


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty directory with a store of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PROTOGEN_STORE", str(tmp_path / "store"))
    return tmp_path


def test_training_example_learns_digits_in_ten_lines() -> None:
    code = blocks("python")[0]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        names = run(code)
    assert sum(bool(line) for line in code.splitlines()) <= 10
    x, y = names["x"], names["y"]
    right = names["model"](x[1::2].float() / 16).argmax(1) == y[1::2]
    # Chance is 0.1, and a nearest class mean on the pixels has 0.90.
    assert right.double().mean() > 0.92


def test_python_example_finds_in_the_store_what_it_made(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(blocks("python")[1])
    stored = list((elsewhere / "store").rglob("*.safetensors"))
    assert len(stored) == 1
    key, path, shape = capsys.readouterr().out.split(" ", 2)
    assert key in stored[0].name
    assert Path(path) == stored[0]
    assert shape == "torch.Size([10, 16])\n"


def test_ci_runs_the_test_command_of_the_readme() -> None:
    headline, tests = blocks("sh")
    assert "protogen ebv --d 1000 --n 100000" in headline
    assert (ROOT / ".ci/run").read_text().endswith(f"\n{tests}")


def test_every_setup_is_pinned_by_the_constraints() -> None:
    assert all("pip install -q -c constraints.txt -e " in command for command in blocks("sh"))
    assert "torch==2.13.0\n" in (ROOT / "constraints.txt").read_text()


def test_a_newcomer_reads_it_through() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 190


@pytest.mark.parametrize("page", ["README.md", ".github/GUIDE.md", ".github/CONTRIBUTING.md"])
def test_links_lead_to_files_and_headings(page: str) -> None:
    for link in re.findall(r"\]\(([^)]+)\)", (ROOT / page).read_text()):
        name, _, heading = link.partition("#")
        text = ((ROOT / page).parent / name).read_text()
        titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
        assert not heading or heading in {title.lower().replace(" ", "-") for title in titles}, link


@pytest.mark.parametrize("page", ["README.md", ".github/GUIDE.md"])
def test_commands_and_options_of_a_page_exist(page: str) -> None:
    text = (ROOT / page).read_text()
    code = "\n".join(re.findall(r"`[^`\n]+`|^\$ .*$", text, re.MULTILINE))
    named = re.findall(r"protogen ([a-z][a-z-]*)(?= |`|$)(.*)", code)
    assert len(named) > 5
    for command, rest in named:
        assert command in COMMANDS, command
        assert set(re.findall(r"--[a-z-]+", rest)) <= options(COMMANDS[command]), command
    known = set[str]().union(*map(options, COMMANDS.values()))
    assert set(re.findall(r"(?<=`)--[a-z][a-z-]*", text)) <= known
