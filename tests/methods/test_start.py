"""Starts: written and read in one form."""

import pytest

from protogen.catalog import ClosedForm, from_label
from protogen.catalog.direct.kerdock import Kerdock
from protogen.errors import BadRequest
from protogen.methods.start import CAPACITY, CLOSED_FORM, IMPROVED, RANDOM, Start


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("random", Start(RANDOM)),
        ("capacity", Start(CAPACITY)),
        ("closed-form:kerdock(k=3)", Start(CLOSED_FORM, "kerdock(k=3)")),
        ("closed-form+descent:mub(p=3)", Start(IMPROVED, "mub(p=3)")),
    ],
)
def test_what_is_written_is_read_again(text: str, start: Start) -> None:
    assert Start.parse(text) == start
    assert str(start) == text


@pytest.mark.parametrize("form", [Kerdock(3), from_label("simplices(n=16,k=8)")])
@pytest.mark.parametrize("word", [CLOSED_FORM, IMPROVED])
def test_a_closed_form_comes_back(form: ClosedForm, word: str) -> None:
    assert Start.parse(str(Start.of(form, word))).closed_form == form


def test_other_starts_have_no_closed_form() -> None:
    assert Start(RANDOM).closed_form is None
    with pytest.raises(BadRequest, match="unknown closed form"):
        _ = Start.parse("closed-form:nothing(p=3)").closed_form
