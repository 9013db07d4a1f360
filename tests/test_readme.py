"""What the README shows runs as it stands."""

import re
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]


def blocks(language: str) -> list[str]:
    """Return the README's code blocks in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)


def run(code: str) -> None:
    """Run a block in a namespace of its own."""
    exec(compile(code, "<README.md>", "exec"), {"__name__": "__main__"})


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty directory with a store of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PROTOGEN_STORE", str(tmp_path / "store"))
    return tmp_path


def test_training_example_learns_digits(capsys: pytest.CaptureFixture[str]) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        run(blocks("python")[0])
    label, accuracy = capsys.readouterr().out.split(": ")
    assert label == "test accuracy"
    # Chance is 0.1, and a nearest class mean on the pixels has 0.90.
    assert float(accuracy) > 0.92


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
