"""Lines on blocks of four coordinates: as many blocks as there can be, what they meet in, and where they are chosen."""

from itertools import combinations

import pytest
from forms import check

from protogen.catalog import LINES, POINTS, choose, label
from protogen.catalog.direct.quadruples import Quadruples, blocks
from protogen.errors import BadRequest

# A(v, 4, 4): the size of the largest code of length v, of constant weight 4 and distance 4.
LARGEST = {9: 18, 10: 30, 11: 35, 12: 51, 13: 65, 14: 91, 15: 105}


@pytest.mark.parametrize(("v", "count"), LARGEST.items())
def test_as_many_blocks_share_at_most_two_points(v: int, count: int) -> None:
    found = blocks(v)
    assert len(set(found)) == len(found) == count
    assert all(len({*block} & {*range(v)}) == 4 for block in found)
    assert all(len({*one} & {*other}) <= 2 for one, other in combinations(found, 2))


@pytest.mark.parametrize("v", LARGEST)
def test_lines_meet_in_a_half_and_are_the_choice(v: int) -> None:
    form = Quadruples(v)
    check(form, tight=v != 11)  # 35 blocks are not on 11 points equally
    assert choose(LINES, v, form.own_n) == form
    points = choose(POINTS, v, 2 * form.own_n)
    assert points
    assert label(points) == f"antipodes(form=quadruples(v={v}))"


@pytest.mark.parametrize(("v", "points"), [(9, 306), (10, 500), (11, 582), (12, 840)])
def test_kissing_configurations(v: int, points: int) -> None:
    assert 2 * Quadruples(v).own_n == points


@pytest.mark.parametrize("v", [-1, 8, 16])
def test_other_sizes_are_refused(v: int) -> None:
    with pytest.raises(BadRequest, match=r"allowed is 9 to 15"):
        Quadruples(v)


@pytest.mark.parametrize(("d", "n"), [(8, 120), (9, 100), (11, 120)])
def test_of_equal_cosine_the_lines_of_e8_stay_the_choice(d: int, n: int) -> None:
    form = choose(LINES, d, n)
    assert form
    assert label(form) == "sharp-lines(d=8,n=120)"
