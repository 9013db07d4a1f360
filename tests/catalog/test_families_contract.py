"""What every family of closed forms keeps; a new family is covered as soon as it is in the registry."""

import random
import subprocess
import sys
from functools import cache
from itertools import pairwise

import pytest
import torch
from forms import check
from hypothesis import given, settings
from hypothesis import strategies as st

from protogen.catalog import FAMILIES, LINES, POINTS, SIGNS, ClosedForm, Padded, choose, from_label, label
from protogen.errors import BadRequest

ALL = [*LINES, *POINTS]


@cache
def members(family: type[ClosedForm]) -> tuple[ClosedForm, ...]:
    """Small members, as they are reached."""
    drawn = random.Random(family.family)
    sizes = [(drawn.randint(2, 64), drawn.randint(2, 260)) for _ in range(60)]
    forms = [form for d, n in [*sizes, (12, 9), (60, 400), (57, 512), (120, 200)] if (form := family.reach(d, n))]
    small = {label(form): form for form in forms if form.own_n * form.own_d <= 2**18}
    return tuple(small[name] for name in sorted(small)[:6])


@pytest.mark.slow
@pytest.mark.parametrize("family", ALL, ids=lambda family: family.family)
def test_small_members_keep_what_they_say(family: type[ClosedForm]) -> None:
    assert members(family)
    for form in members(family):
        check(form, attained=False)
        assert isinstance(form.own_n, int)
        assert isinstance(form.own_d, int)
        assert -1 <= form.cosine < 1 or form.own_d == 1
        assert form.held_bytes >= 0
        if form.exact:
            assert torch.equal(form.rows(0, form.own_n), from_label(label(form)).rows(0, form.own_n))


@pytest.mark.parametrize("family", ALL, ids=lambda family: family.family)
def test_rows_by_any_cuts_are_the_whole(family: type[ClosedForm]) -> None:
    drawn = random.Random(family.family)
    for form in members(family):
        n = form.own_n
        cuts = sorted({0, n, *(drawn.randint(0, n) for _ in range(4))})
        parts = [form.rows(start, stop) for start, stop in pairwise(cuts)]
        assert torch.equal(torch.cat(parts), form.rows(0, n)), label(form)
        assert form.rows(n, n).shape == (0, form.own_d)


@pytest.mark.slow
@pytest.mark.parametrize("family", ALL, ids=lambda family: family.family)
@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.integers(2, 400), st.integers(2, 3000), st.integers(0, 200), st.integers(0, 1500))
def test_a_reach_never_rises(family: type[ClosedForm], d: int, n: int, wider: int, fewer: int) -> None:
    form, other = family.reach(d, n), family.reach(d + wider, max(2, n - fewer))
    if form is not None:
        assert form.own_d <= d
        assert form.own_n >= n
        assert other is not None
        assert other.cosine <= form.cosine + 1e-12, (label(form), label(other))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("d", "n"), [(21, 27), (78, 144), (85, 136), (85, 120), (80, 144), (3003, 3925), (39, 55), (13, 39), (18, 53)]
)
def test_one_line_less_is_no_worse(d: int, n: int) -> None:
    form = choose(LINES, d, n)
    assert form
    for fewer in (n - 1, n - 2, n // 2):
        other = choose(LINES, d, fewer)
        assert other
        assert other.cosine <= form.cosine + 1e-12


@pytest.mark.parametrize("family", ALL, ids=lambda family: family.family)
def test_more_than_a_form_has_is_refused(family: type[ClosedForm]) -> None:
    for form in members(family)[:2]:
        with pytest.raises(BadRequest, match=f"has {form.own_n} vectors in {form.own_d} dimensions"):
            Padded(form, form.own_n + 1, form.own_d)
        with pytest.raises(BadRequest, match="allowed are n up to"):
            Padded(form, 1, form.own_d - 1)


def test_questions_load_no_heavy_library() -> None:
    code = (
        "import sys; from protogen.catalog import LINES, POINTS, from_label, label\n"
        "forms = [form for family in LINES + POINTS"
        " for d, n in ((64, 200), (57, 500), (30, 20), (90, 110), (120, 200))"
        " if (form := family.reach(d, n))]\n"
        "assert {type(form) for form in forms} == {*LINES, *POINTS}\n"
        "for form in forms:\n"
        "    assert from_label(label(form)) == form\n"
        "    form.own_d, form.own_n, form.cosine, form.exact, form.held_bytes\n"
        "print({'torch', 'numpy', 'scipy'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_no_family_is_both_of_lines_and_of_points() -> None:
    assert len(FAMILIES) == len(LINES) + len(SIGNS) + len(POINTS)
