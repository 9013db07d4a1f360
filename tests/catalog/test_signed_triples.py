"""Lines on blocks of three coordinates: how many blocks there are, what they meet in, and where they are chosen."""

from itertools import combinations

import pytest
from forms import check

from protogen.catalog import LINES, choose
from protogen.catalog.direct.signed_triples import SignedTriples, blocks
from protogen.errors import BadRequest

LARGEST = {10: 13, 11: 17, 12: 20, 13: 26}  # D(v, 3, 2), Spencer 1968


@pytest.mark.parametrize(("v", "count"), LARGEST.items())
def test_as_many_blocks_share_at_most_one_point(v: int, count: int) -> None:
    found = blocks(v)
    assert len(set(found)) == len(found) == count
    assert all(len({*block} & {*range(v)}) == 3 for block in found)
    assert all(len({*one} & {*other}) <= 1 for one, other in combinations(found, 2))


@pytest.mark.parametrize("v", LARGEST)
def test_lines_meet_in_a_third_and_are_the_choice(v: int) -> None:
    form = SignedTriples(v)
    check(form, tight=v == 13)
    assert choose(LINES, v, form.own_n) == form


@pytest.mark.parametrize("v", [9, 14])
def test_other_sizes_are_refused(v: int) -> None:
    with pytest.raises(BadRequest, match=r"allowed is 10 to 13"):
        SignedTriples(v)
