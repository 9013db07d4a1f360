"""What the README and the topics of `protogen help` show runs as it stands, and what they name is there."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from protogen.catalog.choice import seek
from protogen.cli.commands import LINES, load_command
from protogen.topics.reading import TOPICS, line_of

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
TOPIC_PAGES = [ROOT / "protogen" / "topics" / f"{topic}.md" for topic in TOPICS]
MEASURED = [ROOT / "tests" / "demo" / "SCIENCE.md", ROOT / "tests" / "benchmarks" / "BENCHMARKS.md"]
COMMANDS: dict[str, Any] = {name: load_command(name) for name in LINES}


def blocks(language: str, page: Path = README) -> list[str]:
    """Return a page's code blocks in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


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
    assert sum(bool(line) and "import" not in line for line in code.splitlines()) <= 10
    x, y = names["x"], names["y"]
    right = names["model"].eval()(x[1::2].float() / 16).argmax(1) == y[1::2]
    assert 0.955 < right.double().mean() < 0.965  # the README says 96%


def test_python_example_finds_in_the_store_what_it_made(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(blocks("python")[1])
    stored = list((elsewhere / "store").rglob("*.safetensors"))
    assert len(stored) == 1
    key, path, shape = capsys.readouterr().out.split(" ", 2)
    assert key in stored[0].name
    assert Path(path) == stored[0]
    assert shape == "torch.Size([5, 16])\n"


def test_the_first_command_ends_at_the_coherence_that_is_told() -> None:
    form = seek(1000, 100_000)
    assert form is not None
    assert f"coherence {form.cosine:.6f}" in README.read_text()


@pytest.mark.parametrize("topic", TOPICS)
def test_a_topic_runs_as_it_is_written(topic: str) -> None:
    page = ROOT / "protogen" / "topics" / f"{topic}.md"
    assert page.read_text().startswith(f"# {topic}: {line_of(topic)}\n")
    for code in blocks("python", page):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            run(code)


def test_no_text_lies_beside_the_topics() -> None:
    assert sorted(TOPIC_PAGES) == sorted((ROOT / "protogen" / "topics").glob("*.md"))


@pytest.mark.parametrize("page", [README, ROOT / "protogen" / "topics" / "choose.md"], ids=lambda page: page.name)
def test_figures_of_accuracy_and_memory_are_measured_ones(page: Path) -> None:
    rows = [line for line in page.read_text().splitlines() if line.startswith("|")]
    figures = re.findall(r"[+-]\d+\.\d\d\b|\b\d+\.\d\d(?= MB)", "\n".join(rows))
    assert len(figures) > 8
    measured = "\n".join(each.read_text() for each in MEASURED)
    known = set(re.findall(r"(?<![\d.])[+-]?\d+\.\d\d\b", measured))
    assert set(figures) <= known
    assert all(f"({share})" in measured for share in re.findall(r"\d+%(?= of )", page.read_text()))


def test_ci_runs_the_test_command_of_the_readme() -> None:
    headline, tests = blocks("sh")
    assert "protogen ebv --d 1000 --n 100000" in headline
    assert (ROOT / ".ci/run").read_text().endswith(f"\n{tests}")


def test_every_setup_is_pinned_by_the_constraints() -> None:
    assert all("pip install -q -c constraints.txt -e " in command for command in blocks("sh"))
    assert "torch==2.13.0\n" in (ROOT / "constraints.txt").read_text()


def test_a_newcomer_reads_it_through() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 180


@pytest.mark.parametrize("page", [README, ROOT / ".github" / "CONTRIBUTING.md"], ids=lambda page: page.name)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    for link in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        name, _, heading = link.partition("#")
        text = (page.parent / name).read_text()
        titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
        assert not heading or heading in {title.lower().replace(" ", "-") for title in titles}, link


@pytest.mark.parametrize("page", [README, *TOPIC_PAGES], ids=lambda page: page.stem)
def test_commands_and_options_of_a_page_exist(page: Path) -> None:
    text = page.read_text()
    code = "\n".join(re.findall(r"`[^`\n]+`|^\$ .*$", text, re.MULTILINE))
    for command, rest in re.findall(r"protogen ([a-z][a-z-]*)(?= |`|$)(.*)", code):
        assert command in COMMANDS, command
        assert set(re.findall(r"--[a-z-]+", rest)) <= options(COMMANDS[command]), command
    known = set[str]().union(*map(options, COMMANDS.values()))
    assert set(re.findall(r"(?<=`)--[a-z][a-z-]*", text)) <= known
    topics = re.findall(r"protogen help ([a-z]+)", text)
    assert set(topics) <= set(TOPICS)
