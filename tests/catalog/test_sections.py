"""Points of sections of the Leech lattice: the table against whole numbers, and where they are chosen."""

from collections.abc import Iterator
from fractions import Fraction

import pytest
import torch
from torch import Tensor

from protogen.catalog import POINTS, choose
from protogen.catalog.algebra.leech import leech
from protogen.catalog.points.sections import SectionPoints, members, table, written
from protogen.errors import BadRequest

SAMPLE = sorted(members())[::9]


def sections() -> Iterator[tuple[int, Tensor]]:
    """Yield the place and the vectors of each line of the table, the vectors of what it is cut from at hand."""
    held: dict[int, Tensor] = {-1: leech().float()}
    last = {line.parent: place for place, line in enumerate(table())}
    for place, line in enumerate(table()):
        word = torch.tensor([*line.cut[0], *[0] * (24 - len(line.cut[0]))], dtype=torch.float32)
        held[place] = held[line.parent][held[line.parent] @ word == line.cut[1]]
        yield place, held[place]
        for done in [one for one in held if last.get(one, -1) <= place]:
            del held[done]


def test_every_line_of_the_table_has_its_number_of_vectors() -> None:
    for place, vectors in sections():
        line = table()[place]
        assert len(vectors) == line.n, place
        if line.cosine is not None and line.n < 300:
            centre = vectors.double().mean(0)
            differences = vectors.double() - centre
            assert int(torch.linalg.matrix_rank(differences)) >= line.d - 1


@pytest.mark.parametrize("size", SAMPLE, ids=str)
def test_points_meet_in_the_cosine_of_the_table(size: tuple[int, int]) -> None:
    form = SectionPoints(*size)
    rows = form.rows(0, form.n)
    assert rows.shape == (form.n, form.d)
    assert (rows.norm(dim=1) - 1).abs().max() < 1e-6
    sample = torch.arange(0, form.n, max(1, form.n // 100))
    cosines = rows[sample] @ rows.T
    cosines[torch.arange(len(sample)), sample] = -1.0
    assert cosines.max().item() == pytest.approx(form.cosine, abs=1e-6)
    assert torch.equal(form.rows(5, 11), rows[5:11])


def test_every_set_is_the_choice_at_its_size() -> None:
    assert [choose(POINTS, *size) for size in members()] == [SectionPoints(*size) for size in members()]


@pytest.mark.parametrize(
    ("d", "n", "cosine"), [(16, 512, 5 / 13), (15, 552, 2 / 5), (19, 128, 3 / 19), (21, 176, 17 / 105)]
)
def test_a_request_gets_the_set_of_lowest_cosine_that_is_large_enough(d: int, n: int, cosine: float) -> None:
    form = choose(POINTS, d, n)
    assert form
    assert form.cosine <= cosine + 1e-12


@pytest.mark.parametrize(("d", "n", "allowed"), [(16, 745, "n one of 46"), (12, 50, "d from 13 to 23")])
def test_other_sizes_are_refused(d: int, n: int, allowed: str) -> None:
    with pytest.raises(BadRequest, match=allowed):
        SectionPoints(d, n)


def test_a_line_is_written_as_it_is_read() -> None:
    line = table()[-1]
    text = written(line.parent, list(line.cut[0]), line.cut[1], line.n, line.cosine)
    assert text.split()[2:4] == [str(line.cut[1]), str(line.n)]
    assert Fraction(text.split()[4]) == line.cosine
