"""The tables of what stands here of each paper, held to the code."""

import importlib
import re
from pathlib import Path

import pytest

TABLES = Path(__file__).with_name("papers.md").read_text(encoding="utf-8")
PAPERS = (
    "Equiangular Basis Vectors",
    "Maximally Compact and Separated Features with Regular Polytope Networks",
    "Hyperspherical Classification with Dynamic Label-to-Prototype Assignment",
    "The Fixed Sub-Center",
    "Generating Multi-Center Classifier via Conditional Gaussian Distribution",
)


def rows(paper: str) -> list[list[str]]:
    """The cells of a paper's table: item, where, here, how."""
    section = TABLES.split(f"## {paper}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[1:]]


def find(name: str) -> object:
    """What a dotted name stands for. Raises AttributeError or ModuleNotFoundError where there is nothing."""
    parts = name.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            found: object = importlib.import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        for part in parts[cut:]:
            found = getattr(found, part)
        return found
    raise ModuleNotFoundError(name)


@pytest.mark.parametrize("paper", PAPERS)
def test_what_a_table_names_is_there(paper: str) -> None:
    table = rows(paper)
    assert len(table) >= 8
    for item, where, here, how in table:
        assert item
        assert where
        if here == "-":
            assert how.startswith("not here: "), item
            continue
        (name,) = re.findall(r"`(protogen[\w.]+)`", here)
        assert callable(find(name)), name


def test_a_name_that_is_gone_is_found_out() -> None:
    with pytest.raises(AttributeError):
        find("protogen.nn.softmax_of_old")
    with pytest.raises(ModuleNotFoundError):
        find("nothing.at.all")


@pytest.mark.parametrize("paper", PAPERS)
def test_every_equation_stands_in_a_table(paper: str) -> None:
    """Each paper's equations are numbered from 1 on, and none is left out."""
    last = dict(zip(PAPERS, (7, 12, 9, 8, 11), strict=True))[paper]
    named: set[int] = set()
    for _, where, _, _ in rows(paper):
        for part in re.findall(r"(?<!supplement, )Eq\. ([\d, andto]+)", where):
            for first, end in re.findall(r"(\d+)(?: to (\d+))?", part):
                named |= set(range(int(first), int(end or first) + 1))
    assert set(range(1, last + 1)) <= named
