"""Sections of the Leech lattice: the table against whole numbers, and where the sets are chosen."""

from collections.abc import Iterator
from fractions import Fraction

import pytest
import torch
from torch import Tensor

from protogen.catalog import LINES, POINTS, choose
from protogen.catalog.algebra.leech import leech
from protogen.catalog.algebra.sections import TABLE, sets, table, written
from protogen.catalog.direct.sections import SectionLines, Sections
from protogen.catalog.points.sections import SectionPoints
from protogen.errors import BadRequest

SAMPLE = [SectionPoints(*size) for size in sorted(sets(lines=False))[::9]]
SAMPLE_LINES = [SectionLines(*size) for size in sets(lines=True)]
# Half the kissing numbers of the laminated lattices (Conway and Sloane 1999, Table 6.3).
LAMINATED = {15: 2340 // 2, 17: 5346 // 2, 18: 7398 // 2, 19: 10668 // 2, 20: 17400 // 2, 21: 27720 // 2}


def sections() -> Iterator[Tensor]:
    """Yield the vectors of each line of the table, while those of what it is cut from are at hand."""
    held: dict[int, Tensor] = {-1: leech().float()}
    last = {line.parent: place for place, line in enumerate(table())}
    for place, line in enumerate(table()):
        word = torch.tensor([*line.cut[0], *[0] * (24 - len(line.cut[0]))], dtype=torch.float32)
        held[place] = held[line.parent][held[line.parent] @ word == line.cut[1]]
        yield held[place]
        for done in [one for one in held if last.get(one, -1) <= place]:
            del held[done]


def test_every_line_of_the_table_has_its_number_of_vectors() -> None:
    assert [len(vectors) for vectors in sections()] == [line.n for line in table()]


def test_lines_of_the_table_are_written_as_they_are_read() -> None:
    assert "".join(map(written, table())) == TABLE.read_text("ascii")


@pytest.mark.parametrize("form", [*SAMPLE, *SAMPLE_LINES], ids=str)
def test_vectors_meet_in_the_cosine_of_the_table(form: Sections) -> None:
    rows = form.rows(0, form.n)
    assert rows.shape == (form.n, form.d)
    assert (rows.norm(dim=1) - 1).abs().max() < 1e-6
    sample = torch.arange(0, form.n, max(1, form.n // 100))
    cosines = rows[sample] @ rows.T
    cosines = cosines.abs() if form.lines else cosines
    cosines[torch.arange(len(sample)), sample] = -1.0
    assert cosines.max().item() == pytest.approx(form.cosine, abs=1e-6)
    assert torch.equal(form.rows(5, 11), rows[5:11])


def test_every_set_is_the_choice_at_its_size() -> None:
    for form, families in ((SectionPoints, POINTS), (SectionLines, LINES)):
        sizes = sets(form.lines)
        assert [choose(families, *size) for size in sizes] == [form(*size) for size in sizes]


def test_lines_have_the_kissing_numbers_of_the_laminated_lattices() -> None:
    assert {d: n for (d, n), (figure, _) in sets(lines=True).items() if figure == Fraction(1, 2)} == LAMINATED


@pytest.mark.parametrize(
    ("d", "n", "cosine"), [(15, 552, 2 / 5), (16, 512, 5 / 13), (19, 128, 3 / 19), (21, 176, 17 / 105)]
)
def test_a_request_gets_the_points_of_lowest_cosine_that_are_enough(d: int, n: int, cosine: float) -> None:
    form = choose(POINTS, d, n)
    assert form
    assert form.cosine <= cosine + 1e-12


@pytest.mark.parametrize(("d", "n", "cosine"), [(16, 256, 1 / 3), (22, 1408, 1 / 3), (20, 816, 13 / 35)])
def test_a_request_gets_the_lines_of_lowest_coherence_that_are_enough(d: int, n: int, cosine: float) -> None:
    form = choose(LINES, d, n)
    assert form
    assert form.cosine <= cosine + 1e-12


@pytest.mark.parametrize(("d", "n", "allowed"), [(16, 745, "n one of 46"), (12, 50, "d from 13 to 23")])
def test_other_sizes_are_refused(d: int, n: int, allowed: str) -> None:
    with pytest.raises(BadRequest, match=allowed):
        SectionPoints(d, n)
