"""Lines of sections of the Leech lattice: how many there are, what they meet in, and where they are chosen."""

import pytest
import torch

from protogen.catalog import LINES, choose
from protogen.catalog.direct.lattice_lines import SECTIONS, LatticeLines
from protogen.errors import BadRequest

# Half the kissing numbers of the laminated lattices (Conway and Sloane 1999, Table 6.3).
LAMINATED = {15: 2340 // 2, 17: 5346 // 2, 18: 7398 // 2, 19: 10668 // 2, 20: 17400 // 2, 21: 27720 // 2}


@pytest.mark.parametrize("size", SECTIONS, ids=str)
def test_lines_meet_in_multiples_of_half_the_coherence_at_most(size: tuple[int, int]) -> None:
    form = LatticeLines(*size)
    rows = form.rows(0, form.n)
    assert rows.shape == (form.n, form.d)
    assert int(torch.linalg.matrix_rank(rows.T @ rows)) == form.d
    sample = torch.arange(0, form.n, form.n // 50)
    products = (rows[sample] @ rows.T).abs()
    products[torch.arange(len(sample)), sample] = 0.0
    multiples = products / form.cosine * 2
    assert (multiples - multiples.round()).abs().max() < 1e-5
    assert products.max().item() == pytest.approx(form.cosine, abs=1e-6)
    assert torch.equal(form.rows(3, 9), rows[3:9])


@pytest.mark.parametrize("size", SECTIONS, ids=str)
def test_every_set_is_the_choice_at_its_size(size: tuple[int, int]) -> None:
    assert choose(LINES, *size) == LatticeLines(*size)


def test_the_laminated_lattices_have_their_kissing_numbers() -> None:
    assert {d: n for (d, n), section in SECTIONS.items() if section.cosine == 1 / 2} == LAMINATED


@pytest.mark.parametrize(("d", "n"), [(16, 2160), (22, 1409), (14, 111)])
def test_other_sizes_are_refused(d: int, n: int) -> None:
    with pytest.raises(BadRequest, match=r"allowed is \(d, n\) one of \(14, 112\)"):
        LatticeLines(d, n)
