"""What an error says: its problem and its remedy, joined, in one line of bounded length."""

import pickle

import pytest

from protogen.errors import MOST, IntegrityError, ProtogenError


def test_the_remedy_is_a_field_and_stands_in_the_text() -> None:
    error = IntegrityError("file: damaged", "make it again")
    assert (error.problem, error.remedy) == ("file: damaged", "make it again")
    assert str(error) == "file: damaged; make it again"


def test_an_error_without_a_remedy_of_its_own() -> None:
    error = ProtogenError("d is 1; allowed is 2 or more")
    assert (str(error), error.remedy) == (error.problem, "")


def test_an_error_survives_the_way_to_another_process() -> None:
    error = pickle.loads(pickle.dumps(IntegrityError("file: damaged", "make it again")))
    assert (type(error), str(error), error.remedy) == (IntegrityError, "file: damaged; make it again", "make it again")


@pytest.mark.parametrize("remedy", ["", "make it again"])
def test_a_long_error_keeps_both_ends(remedy: str) -> None:
    text = str(ProtogenError("file: " + "x" * 3 * MOST + " end", remedy))
    assert len(text) <= MOST
    assert text.startswith("file: x")
    assert text.endswith(remedy or "x end")


def test_control_characters_are_written_out() -> None:
    assert str(ProtogenError("a\x1b[2Jb\nc")) == r"a\x1b[2Jb\nc"
