"""What `load` and `ensure` say to values of another kind, and to files whose values are wrong."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
from artifacts import file_of

from protogen import ensure, load, resolve
from protogen.errors import BadRequest, IntegrityError
from protogen.files.reading import read
from protogen.store.store import Store

pytestmark = pytest.mark.usefixtures("store")


@pytest.fixture
def made() -> Path:
    path = ensure(resolve("ebv", d=16, n=20, start="random", steps=2)).path
    assert path
    return path


@pytest.mark.parametrize("target", [3, None, b"ebv", True, ["ebv"]], ids=repr)
def test_a_target_of_another_kind(made: Path, target: Any) -> None:
    with pytest.raises(BadRequest, match=re.escape(f"target is {target!r}; allowed are a path, a method (ebv,")):
        load(target)


@pytest.mark.slow
@pytest.mark.parametrize(
    "where",
    [
        *({part: value} for part in ("d", "n", "version") for value in ("16", 16.0, True, [16], 0)),
        *({"key": value} for value in (3, b"x", True)),
        *({"alpha": value} for value in ("x", [1], True, {})),
        *({"start": value} for value in (3, ["random"], b"random")),
        *({"steps": value} for value in ("2", 2.0, True)),
        {"restarts": [1]},
    ],
    ids=repr,
)
def test_a_filter_of_another_kind(made: Path, where: dict[str, Any]) -> None:
    ((name, value),) = where.items()
    with pytest.raises(BadRequest, match=re.escape(f"{name} is {value!r}; allowed is")):
        load("ebv", **where)


@pytest.mark.parametrize(
    "where",
    [
        {"d": 16, "n": 20, "version": 1},
        {"alpha": 1},
        {"alpha": 0.999},
        {"alpha": None, "start": None, "extends": None},
        {"start": "random", "steps": 2},
    ],
    ids=repr,
)
def test_a_filter_that_fits(made: Path, where: dict[str, Any]) -> None:
    assert load("ebv", **where).path == made


def test_a_spec_that_leaves_its_start_out(made: Path, tmp_path: Path) -> None:
    sound = read(made)
    bare = dataclasses.replace(sound.spec, params=(("alpha", None),))
    path = Store(tmp_path / "bare").publish(dataclasses.replace(sound, spec=bare))
    assert load("ebv", start="random", store=tmp_path / "bare").path == path


@pytest.mark.parametrize("place", [3, b"p", "a\0b", "", True, ["p"], Path("a\0b")], ids=repr)
def test_a_store_that_is_no_path(tmp_path: Path, place: Any) -> None:
    spec = resolve("simplex", n=3)
    for ask in (lambda: load("ebv", store=place), lambda: ensure(spec, store=place)):
        with pytest.raises(BadRequest, match=r"store is .*; allowed is a directory's path"):
            ask()
    assert list(tmp_path.iterdir()) == []


def test_values_that_are_wrong_under_right_digests(tmp_path: Path) -> None:
    spec = resolve("orthoplex", n=4)
    path = ensure(spec).path
    assert path
    sound = read(path)
    rows, made = 4 * sound.tensor, sound.provenance.to_dict()
    path.unlink()
    file_of(path, rows, spec=spec.to_dict(), facts=sound.facts.to_dict(), provenance=made)
    for ask in (lambda: load(path), lambda: load("orthoplex"), lambda: ensure(spec)):
        with pytest.raises(IntegrityError, match=r"digests are right, but row 0 .*; delete it") as caught:
            ask()
        assert "--force" not in str(caught.value)
    path.unlink()
    assert ensure(spec).digest == sound.digest


def test_a_methods_name_and_sizes_stand_for_a_spec() -> None:
    spec = resolve("ebv", d=16, n=20, seed=3, start="random", steps=2)
    found = ensure("ebv", d=16, n=20, seed=3, start="random", steps=2)
    assert found.spec == spec
    assert found.path == ensure(spec).path
    with pytest.raises(BadRequest, match="n is missing with 'ebv'"):
        ensure("ebv", d=16)
    with pytest.raises(BadRequest, match="a Spec with sizes or params; allowed is a Spec alone"):
        ensure(spec, n=20)


def test_a_record_is_one_line() -> None:
    made = ensure("ebv", d=16, n=20, start="random", steps=2)
    assert made.stats
    words = f"Prototypes(ebv, n=20, d=16, coherence={made.stats.coherence.value:.6f}"
    assert repr(made) == f"{words}, {made.path})"
    assert made.path
    assert repr(load(made.path, rows=slice(5, 9))) == f"{words.replace('n=20', 'n=4')}, rows 5 to 8, {made.path})"
