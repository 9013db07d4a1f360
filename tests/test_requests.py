"""Requests in Python meet the checks of the command line: each wrong value is one line, before any work."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import Command, done, one_error
from draws import draw

import protogen
from protogen.errors import BadRequest, NotFound
from protogen.files.disk import path_of_variable
from protogen.measuring.geometry import random_signs
from protogen.methods import METHODS, method_of
from protogen.run import Run
from protogen.spec import Spec
from protogen.store.pins import lock_path
from protogen.store.store import store_path

RUNS: list[dict[str, Any]] = [
    *({"tile": value} for value in (-1, 0, 1.5, "8", True)),
    *({"time_limit": value} for value in (-3, math.nan, math.inf, "3", True)),
    *({"stats": value} for value in ("x", None, 5)),
    *({"device": value} for value in (3, None)),
    *({"files": value} for value in ("a.safetensors", Path("a"), 5, (5,))),
    *({"folder": value} for value in ("x", 5)),
    *({name: 3} for name in ("report", "measuring", "say", "clock", "held")),
    {"clock": None},
]


@pytest.mark.parametrize("given", RUNS, ids=str)
def test_how_to_compute(given: dict[str, Any]) -> None:
    (name,) = given
    with pytest.raises(BadRequest, match=name):
        Run(**given)


def test_how_to_compute_says_what_is_allowed() -> None:
    assert Run(tile=1, time_limit=0.5, files=(Path("a"),), folder=Path("b")).tile == 1
    with pytest.raises(BadRequest, match="tile is -1; allowed is a whole number, at least 1"):
        Run(tile=-1)
    with pytest.raises(BadRequest, match="stats is 'x'; allowed are auto, exact, certificate"):
        Run(stats="x")  # type: ignore[arg-type]


def of(method: str, d: Any, n: Any, seed: Any = 0, **params: Any) -> Spec:
    return Spec.of(method, METHODS[method].version, d=d, n=n, seed=seed, params=params)


SPECS = {
    "d is 1": of("ebv", 1, 5),
    "d is '4'": of("ebv", "4", 5),
    "n is 10000000000000": of("ebv", 4, 10**13),
    "n is '5'": of("ebv", 4, "5"),
    "n is 5.0": of("ebv", 4, 5.0),
    "seed is -1": of("ebv", 4, 5, -1, start="random"),
    "alpha is 2.0": of("ebv", 4, 5, alpha=2.0, start="random"),
    "alpha is 0.01": of("ebv", 4, 50, alpha=0.01, start="random"),
    "steps is -1": of("ebv", 4, 5, steps=-1, start="random"),
    "start is 'nowhere'": of("ebv", 4, 5, start="nowhere"),
    "start is 5": of("ebv", 4, 5, start=5),
    "d for n=9 is 2": of("simplex", 2, 9),
    "per-class is 0": of("subcenters", 4, 5, per_class=0),
    "t is -1.0": of("uniform", 4, 50, t=-1.0, start="random"),
    "batch is 51": of("uniform", 4, 50, update="paper", batch=51, start="random"),
    "statistics is None": of("fit", 4, 5),
}


@pytest.mark.parametrize("says", SPECS)
def test_a_spec_outside_the_limits(store: Path, says: str) -> None:
    for make in (protogen.generate, protogen.ensure):
        with pytest.raises(BadRequest, match=says):
            make(SPECS[says])
    assert not store.exists()


@pytest.mark.parametrize("method", [name for name, method in METHODS.items() if method.from_options])
def test_what_a_request_resolves_to_is_within_the_limits(method: str) -> None:
    for d, n in ((11, 12), (5, 30)):
        if d < (METHODS[method].least_d(n) or 2):
            continue
        for params in ({}, {"restarts": 2, "start": "random"}, {"update": "paper", "restarts": 2, "start": "random"}):
            if params and method not in ("ebv", "uniform"):
                continue
            spec = protogen.resolve(method, d=d, n=n, **params)  # type: ignore[arg-type]
            method_of(spec)


@pytest.fixture
def kept(store: Path) -> Path:
    path = protogen.ensure(protogen.resolve("simplex", n=4)).path
    assert path
    return path


Call = Callable[[Any, Path], object]  # of the public names, and the path of an artifact
X, Y = draw(6, 4).float(), torch.tensor([0, 1, 2, 3, 4, 0])
CALLS: dict[str, Call] = {
    "run is 5": lambda p, path: p.generate(p.resolve("simplex", n=4), 5),
    "run is 6": lambda p, path: p.ensure(p.resolve("simplex", n=4), 6),
    "run is 7": lambda p, path: p.search_capacity(3, 0.5, run=7),
    "run is 8": lambda p, path: p.extend(path, 7, run=8),
    "run is 9": lambda p, path: p.fit(X, Y, d=4, run=9),
    "d and n are missing with .ebv.; write generate": lambda p, path: p.generate("ebv"),
    "spec is 5": lambda p, path: p.ensure(5),
    "d and n are missing with .uniform.; write ensure": lambda p, path: p.ensure("uniform"),
    "n is missing with .simplex.; write resolve": lambda p, path: p.resolve("simplex"),
    "d is missing with .ebv.; write resolve": lambda p, path: p.resolve("ebv", n=5),
    "force is 'yes'": lambda p, path: p.ensure(p.resolve("simplex", n=4), force="yes"),
    "unknown method 5": lambda p, path: p.resolve(5, d=4, n=5),
    r"unknown method \['ebv'\]": lambda p, path: p.resolve(["ebv"], d=4, n=5),
    "d is '4'": lambda p, path: p.resolve("ebv", d="4", n=5),
    "alpha is '0.5'": lambda p, path: p.resolve("ebv", d=4, n=5, alpha="0.5"),
    "steps is 1.5": lambda p, path: p.resolve("ebv", d=4, n=5, steps=1.5),
    "extends is 5": lambda p, path: p.resolve("ebv", d=4, n=5, extends=5),
    "check is 'x'": lambda p, path: p.load(path, check="x"),
    "full is 1": lambda p, path: p.load(path, full=1),
    "lock is 5": lambda p, path: p.pins(5),
    "name 5": lambda p, path: p.pin(5, path),
    "file is 5": lambda p, path: p.pin("a", 5),
    "file is 6": lambda p, path: p.extend(6, 7),
    "file is 7": lambda p, path: p.push(7, remotes=["r"]),
    "name is 5": lambda p, path: p.pull(5, remotes=["r"]),
    r"remotes is 'r'.*write \('r',\)": lambda p, path: p.push(path, remotes="r"),
    "d is '5'": lambda p, path: p.artifacts(d="5"),
    "no parameter 'x'": lambda p, path: p.artifacts(x=4),
    "method is 4": lambda p, path: p.artifacts(method=4),
    "store is 5": lambda p, path: p.artifacts(5),
    "older_than is '30d'": lambda p, path: p.prune_store(older_than="30d"),
    "max_size is -1": lambda p, path: p.prune_store(max_size=-1),
    "dry_run is 1": lambda p, path: p.prune_store(dry_run=1),
    "keep is 3": lambda p, path: p.prune_store(keep=3),
    "tile is 0": lambda p, path: p.verify(path, full=True, tile=0),
    "path is 5": lambda p, path: p.verify(5),
    "path is 6": lambda p, path: p.measure_file(6),
    "path is 7": lambda p, path: p.comparison(7, path),
    "device is 5": lambda p, path: p.verify(path, full=True, device=5),
    "tile is 'x'": lambda p, path: p.verify_store(tile="x"),
    "tile is 1.5": lambda p, path: p.measure_file(path, tile=1.5),
    "tensor is 5": lambda p, path: p.measure_file(path, 5),
    "transpose is 1": lambda p, path: p.measure_file(path, transpose=1),
    "d is '6'": lambda p, path: p.listing("6", 5, False),
    "points is 1": lambda p, path: p.listing(6, 5, 1),
    "dimension d = '4'": lambda p, path: p.line_bounds("4", 5),
    "dimension d = True": lambda p, path: p.point_bounds(True, 5),
    r"n = 5\.5": lambda p, path: p.point_bounds(4, 5.5),
    "max-n is 1.5": lambda p, path: p.search_capacity(3, 0.5, max_n=1.5),
    "alpha is 'x'": lambda p, path: p.search_capacity(3, "x"),
    "n is '7'": lambda p, path: p.extend(path, "7"),
    "extend has no parameter 'foo'": lambda p, path: p.extend(path, 7, foo=1),
    "fit has no parameter 'foo'": lambda p, path: p.fit(X, Y, d=4, foo=1),
    "narrow is 2": lambda p, path: p.fit(X, Y, d=4, narrow=2),
    r"features have shape \(\), labels \(\)": lambda p, path: p.fit(torch.tensor(1.0), torch.tensor(0), d=4),
    r"features have shape \(6,\)": lambda p, path: p.fit(X[:, 0], Y, d=4),
    r"labels \(6, 2, 2\)": lambda p, path: p.fit(X, torch.zeros(6, 2, 2, dtype=torch.long), d=4),
    "seed is 'x'": lambda p, path: random_signs(X, seed="x"),  # type: ignore[arg-type]
    r"rows have shape \(\)": lambda p, path: random_signs(torch.tensor(1.0)),
}


@pytest.mark.parametrize("says", CALLS)
def test_a_call(kept: Path, says: str) -> None:
    with pytest.raises(BadRequest, match=says) as error:
        CALLS[says](protogen, kept)
    assert "\n" not in str(error.value)


def test_paths_in_variables(run: Command, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PROJECT", "mine")
    for given, wanted in (
        ("$HOME/sets", tmp_path / "sets"),
        ("${HOME}/$PROJECT", tmp_path / "mine"),
        ("~/sets", tmp_path / "sets"),
        ("plain", Path("plain")),
        ("", Path("prototypes")),
    ):
        monkeypatch.setenv("PROTOGEN_STORE", given)
        assert store_path() == wanted
    monkeypatch.setenv("PROTOGEN_STORE", "$HOME/sets")
    done(run("polytope", "simplex", "--n", 4))
    assert (tmp_path / "sets" / "simplex").is_dir()
    assert store_path("$HOME") == Path("$HOME")  # of an option the shell has replaced them
    monkeypatch.setenv("PROTOGEN_LOCK", "$PROJECT.lock")
    assert lock_path() == Path("mine.lock")
    monkeypatch.setenv("PROTOGEN_REMOTE", "$HOME/far ~/near")
    with pytest.raises(NotFound, match=f"{tmp_path}/far.*|{tmp_path}/near"):
        protogen.pull("simplex/d3-n4/v1-0123456789ab.safetensors")
    monkeypatch.setenv("PROTOGEN_STORE", "$NOWHERE/sets")
    one_error(run("list"), 2, "PROTOGEN_STORE is '$NOWHERE/sets'", "NOWHERE is not set")
    assert path_of_variable("NOWHERE") is None
