"""Linear programs on the active pairs: known optima to ten digits, and what is said of them."""

import math

import pytest
import torch
from draws import double_rows
from torch import Tensor
from torch.nn.functional import normalize

from protogen.descent.polish import Polishing, _unturned, steepest


def icosahedron() -> Tensor:
    golden = (1 + math.sqrt(5)) / 2
    corners = [(0.0, a, b * golden) for a in (1, -1) for b in (1, -1)]
    rows = [corner[shift:] + corner[:shift] for corner in corners for shift in range(3)]
    return normalize(torch.tensor(rows, dtype=torch.float64), dim=1)


def shaken(rows: Tensor, by: float) -> Tensor:
    return normalize(rows + by * double_rows(*rows.shape, seed=1), dim=1)


def polished(rows: Tensor, lines: bool, steps: int) -> Polishing:
    """Polish rows (n, d) to the end, by at most so many linear programs and one more."""
    polishing = Polishing(rows, lines, steps)
    while polishing.jammed is None:
        polishing.advance()
    return polishing


@pytest.mark.slow
@pytest.mark.parametrize("lines", [False, True])
def test_the_icosahedron_is_met_to_the_last_digits(lines: bool) -> None:
    rows = icosahedron()
    if lines:  # one of each pair of opposite corners
        rows = torch.stack([row for row in rows if row[row.abs() > 1e-9][0] > 0])
    found = polished(shaken(rows, 1e-3), lines, 20)
    assert found.largest == pytest.approx(1 / math.sqrt(5), abs=1e-10)
    assert found.jammed is not None
    # Each of 12 corners has 5 neighbours; each of 6 lines meets all 5 others at that angle.
    assert found.jammed.active_pairs == (15 if lines else 30)
    assert found.jammed.slope < 1e-4
    assert (found.rows.norm(dim=1) - 1).abs().max() < 1e-14


def test_it_is_never_worse_and_says_where_there_is_a_way_down() -> None:
    rows = double_rows(9, 3)
    cosines = (rows @ rows.T).fill_diagonal_(-1)
    found = polished(rows, False, 1)
    assert found.largest <= cosines.max().item()
    assert found.jammed is not None
    assert found.jammed.slope > 0.1
    assert polished(rows, False, 0).largest == cosines.max().item()


def test_a_program_promises_what_a_small_move_gives() -> None:
    rows = double_rows(8, 4, seed=2)
    moves, slope = steepest(rows, True, 1e-6)
    moved = normalize(rows + moves, dim=1)
    before, after = ((r @ r.T).fill_diagonal_(0).abs().max().item() for r in (rows, moved))
    assert (moves * rows).sum(1).abs().max() < 1e-15
    assert before - after == pytest.approx(slope * 1e-6, rel=1e-4)


def test_what_turns_all_rows_is_taken_out() -> None:
    rows = double_rows(7, 4)
    skew = double_rows(4, 4, seed=5)
    turn = rows @ (skew - skew.T).T
    assert _unturned(rows, turn).abs().max() < 1e-12
    other = double_rows(7, 4, seed=6)
    assert torch.allclose(_unturned(rows, other + turn), _unturned(rows, other), atol=1e-12)
