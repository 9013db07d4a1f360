"""The tables of what stands here of each paper, held to the code, and of its claims, held to where they were tested."""

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TABLES = Path(__file__).with_name("papers.md").read_text(encoding="utf-8")
SCIENCE = (ROOT / "tests/demo/SCIENCE.md").read_text(encoding="utf-8")
PAPERS = (
    "Equiangular Basis Vectors",
    "Maximally Compact and Separated Features with Regular Polytope Networks",
    "Hyperspherical Classification with Dynamic Label-to-Prototype Assignment",
    "The Fixed Sub-Center",
    "Generating Multi-Center Classifier via Conditional Gaussian Distribution",
)


# How many tables and figures each has, and the figures that explain and claim nothing.
SHOWN = dict(zip(PAPERS, ((4, 2), (0, 6), (8, 4), (4, 9), (7, 4)), strict=True))
EXPLAINING = dict(zip(PAPERS, ({1}, set(), {1}, {1, 2, 3, 5}, {1, 2, 3}), strict=True))


def rows(paper: str) -> list[list[str]]:
    """The cells of a paper's table: item, where, here, how."""
    return _cells(TABLES.split(f"## {paper}\n")[1].split("\n## ")[0])


def claims(paper: str) -> list[list[str]]:
    """The cells of a paper's claims: claim, where, what came of it."""
    every = SCIENCE.split("## Every claim, paper by paper\n")[1].split("\n## ")[0]
    return _cells(every.split(f"### {paper}\n")[1].split("\n### ")[0])


def _cells(section: str) -> list[list[str]]:
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[1:]]


def sections() -> dict[str, str]:
    """What stands below each heading of SCIENCE.md to the next one, by the heading's anchor."""
    found: dict[str, str] = {}
    for part in re.split(r"^#+ ", SCIENCE, flags=re.MULTILINE)[1:]:
        title, _, text = part.partition("\n")
        anchor = re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")
        while anchor in found:
            anchor = f"{anchor.removesuffix('-1')}-1"
        found[anchor] = text
    return found


def numbers(word: str, cells: list[str]) -> set[int]:
    """The numbers that stand behind a word, as in `Tables 1, 3 and 8` or `Figures 4 to 6`."""
    named: set[int] = set()
    paper = "; ".join(part for cell in cells for part in cell.split(";") if "supplement" not in part)
    for listed in re.findall(rf"{word}s? (\d+[ab]?(?:(?:, | and | to )\d+[ab]?)*)", paper):
        for first, last in re.findall(r"(\d+)[ab]?(?: to (\d+))?", listed):
            named |= set(range(int(first), int(last or first) + 1))
    return named


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


@pytest.mark.parametrize("paper", PAPERS)
def test_a_claim_has_a_figure_and_a_command_or_a_reason(paper: str) -> None:
    table, there = claims(paper), sections()
    assert len(table) >= 8
    for claim, where, here in table:
        assert claim
        assert where
        if here.startswith("not tested here, because "):
            continue
        assert re.match(r"(yes|no|nearly|in part|open)\b", here), claim
        anchors, files = re.findall(r"\]\(#([^)]+)\)", here), re.findall(r"`(tests/[^` ]+)", here)
        assert anchors or files or "as above" in here or "those of the head" in here, claim
        for anchor in anchors:
            assert "    protogen demo --task" in there[anchor], (claim, anchor)
        for file in files:
            assert (ROOT / file).is_file(), file


@pytest.mark.parametrize("paper", PAPERS)
def test_every_table_and_figure_of_results_is_among_the_claims(paper: str) -> None:
    tables, figures = SHOWN[paper]
    where = [where for _, where, _ in claims(paper)]
    assert set(range(1, tables + 1)) <= numbers("Table", where)
    assert set(range(1, figures + 1)) - EXPLAINING[paper] <= numbers("Figure", where)
