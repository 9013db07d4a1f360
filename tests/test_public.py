"""What a user reads runs: the public names in tests/user_api.py, and the examples in docstrings."""

import ast
import doctest
from importlib import import_module
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest
import torch
import user_api

import protogen
import protogen.nn

USER = ast.parse(Path(user_api.__file__).read_text())
PACKAGE = Path(protogen.__file__).parent
EXAMPLES = [
    ".".join(("protogen", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")
    for path in sorted(PACKAGE.rglob("*.py"))
    if ">>> " in path.read_text()
]


def test_a_user_makes_keeps_and_reads_a_set(tmp_path: Path) -> None:
    prototypes = user_api.make(tmp_path)
    assert (prototypes.d, prototypes.n) == (6, 8)
    assert prototypes.stats is not None


def test_a_user_is_told_what_is_not_there(tmp_path: Path) -> None:
    assert str(tmp_path) in user_api.absent(tmp_path)


def test_a_user_trains_towards_a_set(tmp_path: Path) -> None:
    prototypes = user_api.make(tmp_path)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        first = user_api.train(prototypes, steps=1)
        torch.manual_seed(0)
        last = user_api.train(prototypes, steps=20)
    assert last[0] < first[0] / 2
    assert last[1] < first[1] / 2


def test_a_user_looks_at_a_set_and_a_size(tmp_path: Path) -> None:
    found = user_api.look(tmp_path / "sets")
    assert found.pop("page") > 5000
    assert found.pop("coherence") == pytest.approx(1 / 3)
    assert found.pop("lines") == found.pop("points") * -1 == pytest.approx(1 / 3)
    assert found.pop("forms") >= 1
    assert found == {
        "rows": 4,
        "differences": 0,
        "same": True,
        "sets": 1,
        "sound": True,
        "pruned": 0,
        "capacity": 28,
        "ranks": 8,
    }


def test_a_user_shares_a_set(tmp_path: Path) -> None:
    assert user_api.share(tmp_path)[:2] == ["present", "backbone"]


def test_a_user_brings_what_there_is(tmp_path: Path) -> None:
    assert [(made.n, made.d) for made in user_api.bring(tmp_path)] == [(3, 2), (4, 4), (3, 3)]


def test_a_user_holds_prototypes() -> None:
    assert [held.n for held in user_api.hold()] == [3, 100, 3]


@pytest.mark.usefixtures("store")
def test_a_user_classifies(tmp_path: Path) -> None:
    losses = user_api.classify(tmp_path)
    assert losses.keys() == {*(head.__name__ for head in protogen.nn.HEADS), "EBVLoss", "ChunkedCosineLoss"}
    values = user_api.equations()
    assert values.keys() <= set(protogen.nn.__all__)
    for value in (*losses.values(), *values.values()):
        assert bool(value.isfinite().all())
    assert float(values["recall_at"]) == 1.0
    assert values["assign"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("module", EXAMPLES)
@pytest.mark.usefixtures("store")
def test_examples_in_docstrings(module: str) -> None:
    ran = doctest.testmod(import_module(module), optionflags=doctest.ELLIPSIS)
    assert ran.attempted > 0
    assert ran.failed == 0


@pytest.mark.parametrize("name", [*protogen.__all__, *(f"nn.{name}" for name in protogen.nn.__all__)])
def test_every_public_name_has_an_example(name: str) -> None:
    value = attrgetter(name)(protogen)
    if name != "nn.HEADS":  # which is a tuple
        assert ">>> " in value.__doc__
        assert value.__module__ in EXAMPLES


@pytest.mark.parametrize("room", [protogen, protogen.nn])
def test_a_user_writes_every_public_name(room: Any) -> None:
    written = {node.attr for node in ast.walk(USER) if isinstance(node, ast.Attribute)}
    written |= {alias.name for node in ast.walk(USER) if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert set(room.__all__) <= written
