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
