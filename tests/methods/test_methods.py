"""One contract for every registered method, and what their commands say to wrong input."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import Command, one_error

import protogen
from protogen.errors import BadRequest
from protogen.generating import generate
from protogen.methods import METHODS, Method, method_of, resolve
from protogen.report.lines import artifact_lines
from protogen.report.record import record_of
from protogen.spec import Spec
from protogen.store.loading import load
from protogen.store.store import Store

D, N = 11, 12  # which every method can make in a moment

# A Spec has its key for ever: a change here makes every file of the method one that is found no more.
KEYS = {
    "ebv": "e9c2a3a6780a",
    "uniform": "08c2b4d64538",
    "simplex": "0efb00cd08af",
    "orthoplex": "75300e5d63c4",
    "cube": "282101680557",
    "subcenters": "8444e8409525",
}
names = pytest.mark.parametrize("name", KEYS)
pytestmark = pytest.mark.usefixtures("store")


def words_of(method: type[Method]) -> list[str]:
    return [*([method.group] if method.group else []), method.name]


def test_the_contract_covers_every_method() -> None:
    # Those that need data beside their options have tests of their own.
    assert KEYS.keys() == {name for name, method in METHODS.items() if method.from_options}
    assert all(method.name == name for name, method in METHODS.items())


@names
def test_made_published_and_loaded_it_is_the_same(name: str, store: Path) -> None:
    spec = resolve(name, d=D, n=N)
    assert (spec.method, spec.d, spec.n) == (name, D, N)
    made = generate(spec)
    assert made.spec == spec
    assert (made.tensor.shape[0], made.tensor.shape[-1], made.tensor.dtype) == (N, D, torch.float32)
    assert made.facts.norms == "free" or (made.tensor.norm(dim=-1) - 1).abs().max() < 1e-6
    path = Store(store).publish(made)
    for found in (load(path), load(name), load(name, d=D, n=N), protogen.ensure(spec)):
        assert (found.path, found.spec, found.stats) == (path, spec, made.stats)
        assert torch.equal(found.tensor, made.tensor)
        assert found.facts == made.facts
        assert found.tensors.keys() == made.tensors.keys()
        assert all(torch.equal(found.tensors[key], made.tensors[key]) for key in made.tensors)
    assert path.stat().st_size >= method_of(spec).file_bytes(D, N)
    assert method_of(spec).peak_bytes(D, N) >= method_of(spec).file_bytes(D, N)


@names
def test_an_exact_set_has_the_same_bytes_again(name: str) -> None:
    spec = resolve(name, d=D, n=N)
    kept = protogen.ensure(spec)
    assert kept.provenance.reproducible in ("exact", "statistical")
    if kept.provenance.reproducible == "exact":
        assert protogen.ensure(spec, force=True).path == kept.path


@names
def test_its_rank_is_finite_and_its_report_has_lines(name: str) -> None:
    kept = protogen.ensure(resolve(name, d=D, n=N))
    assert kept.stats is not None
    assert kept.path is not None
    assert math.isfinite(METHODS[name].rank(kept.stats, kept.facts))
    lines = artifact_lines(record_of(kept.path))
    assert lines[0].startswith(f"{name}  d {D}  n {N}")
    assert all("\n" not in line for line in lines)


@names
def test_its_spec_survives_json_and_gives_the_method_back(name: str) -> None:
    spec = resolve(name, d=D, n=N, seed=3)
    assert Spec.from_dict(spec.to_dict()) == spec
    method = method_of(spec)
    assert isinstance(method, METHODS[name])
    given = dataclasses.asdict(method)
    assert {key: given[key] for key in spec.options} == spec.options


@names
def test_its_key_is_for_ever(name: str) -> None:
    # What `auto` stands for changes with the catalogue.
    assert resolve(name, d=D, n=N, **({"start": "random"} if name == "ebv" else {})).key == KEYS[name]


@pytest.mark.slow
@names
def test_its_command_makes_verifies_and_shows(name: str, run: Command) -> None:
    ran = run(*words_of(METHODS[name]), "--d", D, "--n", N, "--quiet")
    assert (ran.code, ran.err) == (0, "")
    path = Path(ran.out.strip())
    assert path.is_file()
    for check in (("verify", path), ("show", path, "--plot"), ("stats", path), ("list",)):
        ran = run(*check)
        assert (ran.code, ran.err) == (0, ""), check
        assert name in ran.out or check[0] == "stats"


@names
def test_its_command_helps_with_every_option(name: str, run: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    method = METHODS[name]
    assert method.__doc__
    for option in dataclasses.fields(method):
        assert option.metadata["help"].endswith("."), option.name
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERM", "dumb")
    ran = run(*words_of(method), "--help")
    assert ran.code == 0
    shared = {"seed", "time_limit", "strict"}
    shown = {"d", "n", "store", "json", *(f.name for f in dataclasses.fields(method)), *method.takes}
    assert all(f"--{option.replace('_', '-')} " in ran.out for option in shown)
    assert not any(f"--{option.replace('_', '-')} " in ran.out for option in shared - shown)


def test_without_a_parameter_it_says_so() -> None:
    for ask in (load, lambda name, **params: resolve(name, n=N, **params)):
        with pytest.raises(BadRequest, match="simplex has no parameter 'colour'; it has none"):
            ask("simplex", colour=1)


@pytest.mark.parametrize(("name", "parameter"), [("ebv", "extends"), ("subcenters", "centers")])
@pytest.mark.parametrize("value", [3, b"path", True], ids=repr)
def test_a_file_that_is_no_path(name: str, parameter: str, value: Any) -> None:
    for ask in (load, lambda name, **params: resolve(name, d=D, n=N, **params)):
        with pytest.raises(BadRequest, match=f"{parameter} is {value!r}; allowed is str"):
            ask(name, **{parameter: value})


@names
def test_what_it_does_not_know_is_refused(name: str) -> None:
    with pytest.raises(BadRequest, match=f"{name} has no parameter 'colour'"):
        resolve(name, d=D, n=N, colour=1)
    with pytest.raises(BadRequest, match=f"{name} has no parameter 'colour'"):
        load(name, colour=1)
    with pytest.raises(BadRequest, match=f"no method {name} of version 99"):
        method_of(dataclasses.replace(resolve(name, d=D, n=N), version=99))


@names
@pytest.mark.parametrize(
    "wrong",
    [{"n": 1}, {"n": 10**13}, {"n": "12"}, {"n": True}, {"n": 2.0}, {"d": 0}, {"d": 10**13}, {"d": "a"}, {"seed": -1}],
)
def test_sizes_are_checked(name: str, wrong: dict[str, Any]) -> None:
    with pytest.raises(BadRequest) as caught:
        resolve(name, **{"d": D, "n": N, **wrong})
    message = str(caught.value)
    assert "\n" not in message
    assert f"{next(iter(wrong.values()))!r}; allowed is a whole number, at least " in message


@names
def test_d_is_left_out_only_where_there_is_a_smallest(name: str) -> None:
    least = METHODS[name].least_d(N)
    if least is None:
        with pytest.raises(BadRequest, match=f"d is missing with '{name}'; write resolve"):
            resolve(name, n=N)
    else:
        assert resolve(name, n=N) == resolve(name, d=least, n=N)


@pytest.fixture
def centers(tmp_path: Path) -> dict[str, str]:
    """Files that are no centres for (5, 6): of another size, damaged, foreign."""
    from safetensors.torch import save_file

    other = protogen.ensure(resolve("simplex", n=9)).path
    assert other is not None
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(other.read_bytes()[:-1])
    save_file({"w": torch.ones(6, 5)}, tmp_path / "foreign.safetensors")
    return {"OTHER": str(other), "CUT": str(cut), "FOREIGN": str(tmp_path / "foreign.safetensors")}


SUB = "subcenters --d 5 --n 6"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        ("polytope sphere --n 5", 2, "No such command 'sphere'"),
        ("polytope simplex", 2, "Missing option '--n'"),
        ("polytope simplex --n 1", 2, "n is 1; allowed is a whole number, at least 2"),
        ("polytope simplex --n ten", 2, "'ten' is not a whole number; write one like 1000"),
        ("polytope simplex --n 10 --d 8", 2, "d for n=10 is 8; allowed is a whole number, at least 9"),
        ("polytope orthoplex --n 9 --d 4", 2, "d for n=9 is 4; allowed is a whole number, at least 5"),
        ("polytope cube --n 1025 --d 10", 2, "d for n=1025 is 10; allowed is a whole number, at least 11"),
        ("polytope cube --n 10 --d 0", 2, "d for n=10 is 0"),
        ("polytope cube --n 10 --seed 1", 2, "No such option: --seed"),
        ("polytope cube --n 10 --time-limit 1", 2, "No such option: --time-limit"),
        ("polytope cube --n 10 --device gpu", 2, "device is 'gpu'; this machine has cpu"),
        ("polytope cube --n 10 --tile 0", 2, "tile is 0"),
        ("polytope simplex --n 100000000", 4, "of disk"),
        ("subcenters --n 5", 2, "Missing option '--d'"),
        (f"{SUB} --per-class 0", 2, "per-class is 0; allowed is a whole number, at least 1"),
        (f"{SUB} --per-class many", 2, "'many' is not a whole number"),
        (f"{SUB} --variance -1", 2, "variance is -1.0; allowed"),
        (f"{SUB} --variance nan", 2, "variance is nan"),
        (f"{SUB} --variance inf", 2, "variance is inf"),
        (f"{SUB} --seed -1", 2, "seed is -1"),
        (f"{SUB} --strict", 2, "No such option: --strict"),
        (f"{SUB} --centers none.safetensors", 3, "none.safetensors: no such file"),
        (f"{SUB} --centers OTHER", 2, "has d=8, n=9, asked for are d=5, n=6"),
        (f"{SUB} --centers CUT", 5, "truncated"),
        (f"{SUB} --centers FOREIGN", 5, "not a protogen artifact"),
        (f"{SUB} --centers .", 4, "is a directory"),
        ("show OTHER --plot --json", 2, "--plot with --json"),
        ("show OTHER --png a.jpg", 2, "png is 'a.jpg'; allowed is a file name that ends in .png"),
        ("show OTHER --png none/a.png", 4, "No such file or directory; name a place"),
        ("show CUT --plot", 5, "truncated"),
        ("load", 2, "No such command 'load'"),
    ],
)
def test_wrong_input_is_answered_in_one_line(
    words: str, code: int, says: str, centers: dict[str, str], run: Command
) -> None:
    before = sorted(Path.cwd().rglob("*"))
    one_error(run(*(centers.get(word, word) for word in words.split())), code, says)
    assert sorted(Path.cwd().rglob("*")) == before
