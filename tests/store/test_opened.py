"""The store opens what it needs: among a thousand other files in the folder, the one that is asked for."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from artifacts import file_of
from commands import Command, done

from protogen import Run, ensure, load
from protogen.files import header
from protogen.files.names import artifact_path
from protogen.methods import resolve
from protogen.spec import Spec
from protogen.store.access import ensure_path
from protogen.store.store import Store

OTHERS = 1000
SPEC = resolve("ebv", d=3, n=3)
DRAWN = resolve("ebv", d=3, n=3, start="random", steps=2)
Opened = Callable[[], list[Path]]


@pytest.fixture(scope="module")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store whose folder of d3-n3 has a thousand sound files, each of a Spec of its own, and none of SPEC."""
    root = tmp_path_factory.mktemp("crowded")
    (root / "ebv/d3-n3").mkdir(parents=True)
    for seed in range(OTHERS):
        spec = Spec.of("ebv", 1, d=3, n=3, seed=seed, params={"alpha": 0.25})
        file_of(root / artifact_path(spec, seed + 1), torch.eye(3), spec=spec.to_dict())
    store = Store(root)
    assert sum(entry.error is None for entry in store.entries()) == OTHERS
    return store


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Opened:
    """The files of artifacts whose headers were read since the last question, in turn."""
    real, paths = header.header_from, []

    def header_from(path: Path, *rest: Any) -> header.Header:
        paths.append(path)
        return real(path, *rest)

    def question() -> list[Path]:
        found = paths[:]
        paths.clear()
        return found

    monkeypatch.setattr(header, "header_from", header_from)
    return question


def test_a_set_that_is_made_is_read_back_and_loaded(crowded: Store, opened: Opened) -> None:
    made = ensure(SPEC, store=crowded.root)
    assert made.version == OTHERS + 1
    temporary, published = opened()
    assert temporary.name.endswith(".tmp")
    assert published == made.path


def test_a_hit_opens_the_one_file(crowded: Store, opened: Opened) -> None:
    path = ensure_path(SPEC, store=crowded.root)
    opened()
    assert ensure_path(SPEC, store=crowded.root) == path
    assert opened() == [path]
    assert ensure(SPEC, Run(), store=crowded.root).path == path
    assert opened() == [path]


def test_a_hit_of_the_command_line_opens_the_one_file(crowded: Store, run: Command, opened: Opened) -> None:
    words = ("ebv", "--d", 3, "--n", 3, "--store", crowded.root, "--quiet")
    path = done(run(*words))
    opened()
    assert done(run(*words)) == path
    assert list(map(str, opened())) == [path]


def test_made_again_it_is_compared_with_its_own_file_alone(crowded: Store, opened: Opened) -> None:
    path = ensure_path(SPEC, store=crowded.root)
    opened()
    assert ensure_path(SPEC, store=crowded.root, force=True) == path
    others = set(opened()) - {path}
    assert all(re.fullmatch(r"\..*\.tmp", other.name) for other in others)


def test_what_the_folder_has_of_a_spec_is_found_by_its_name(crowded: Store, opened: Opened) -> None:
    path = ensure_path(DRAWN, store=crowded.root)
    digest = ensure(DRAWN, store=crowded.root).digest
    opened()
    assert crowded.holding(DRAWN, str(digest)) == path
    assert crowded.holding(DRAWN, "0" * 64) is None
    assert [entry.path for entry in crowded.of_key(DRAWN)] == [path]
    assert opened() == [path] * 3


def test_a_key_or_a_version_that_is_asked_for_is_looked_for_among_names(crowded: Store, opened: Opened) -> None:
    path = ensure_path(SPEC, store=crowded.root)
    opened()
    assert load("ebv", key=SPEC.key, store=crowded.root).path == path
    assert opened() == [path] * 2
