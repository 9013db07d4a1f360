"""A Spec names a set for ever: golden keys, the JSON that is hashed, and what is no part of it."""

import json
import math
from dataclasses import FrozenInstanceError, fields, replace
from typing import Any

import pytest

from protogen.errors import BadRequest
from protogen.methods import resolve
from protogen.run import Run
from protogen.spec import Spec, Value, canonical_json

PARAMS: dict[str, Value] = {"alpha": 0.1, "start": "random", "steps": 5000, "rate": None, "flag": True}
SPEC = Spec.of("ebv", 1, d=3, n=6, seed=0, params=PARAMS)

# The key is the first 12 digits of `printf '%s' '<JSON>' | sha256sum`. None of these may ever change:
# files are found by them.
GOLDEN = [
    (
        replace(resolve("ebv", d=100, n=1000, alpha=0.14, start="random"), version=1),
        '{"d":100,"method":"ebv","n":1000,"params":{"alpha":0.14,"restarts":1,"start":"random","steps":5000,'
        '"update":"lbfgs"},"seed":0,"version":1}',
        "0690d813b039",
    ),
    (
        resolve("ebv", d=100, n=1000, alpha=0.14, start="random"),
        '{"d":100,"method":"ebv","n":1000,"params":{"alpha":0.14,"restarts":1,"start":"random","steps":5000,'
        '"update":"lbfgs"},"seed":0,"version":4}',
        "f75021556e89",
    ),
    (
        resolve("ebv", d=100, n=1000, seed=7, start="random"),
        '{"d":100,"method":"ebv","n":1000,"params":{"alpha":null,"restarts":1,"start":"random","steps":5000,'
        '"update":"lbfgs"},"seed":7,"version":1}',
        "ca7e83e7a03f",
    ),
    (
        resolve("ebv", d=100, n=1000, alpha=0.14, start="random", update="paper"),
        '{"d":100,"method":"ebv","n":1000,"params":{"alpha":0.14,"rate":0.001,"restarts":1,"start":"random",'
        '"steps":5000,"update":"paper"},"seed":0,"version":1}',
        "da216b512afc",
    ),
    (
        resolve("ebv", d=100, n=1000, alpha=0.14, start="random", update="paper", rate=1, steps=9),
        '{"d":100,"method":"ebv","n":1000,"params":{"alpha":0.14,"rate":1.0,"restarts":1,"start":"random","steps":9,'
        '"update":"paper"},"seed":0,"version":1}',
        "68e5881f70a5",
    ),
    (
        Spec.of("ebv", 1, d=1000, n=100_000, seed=0, params={"start": "closed-form:mub(p=499)"}),
        '{"d":1000,"method":"ebv","n":100000,"params":{"start":"closed-form:mub(p=499)"},"seed":0,"version":1}',
        "ba79f963ccf5",
    ),
    (
        Spec.of("ebv", 1, d=16, n=10, seed=0, params={"start": "closed-form:orthonormal(k=10)"}),
        '{"d":16,"method":"ebv","n":10,"params":{"start":"closed-form:orthonormal(k=10)"},"seed":0,"version":1}',
        "0c3dbd91087f",
    ),
    (
        Spec.of("any", 2, d=3, n=4, seed=2**63 - 1, params={"word": "aü", "none": None, "small": 1e-06, "yes": True}),
        '{"d":3,"method":"any","n":4,"params":{"none":null,"small":1e-06,"word":"a\\u00fc","yes":true},'
        '"seed":9223372036854775807,"version":2}',
        "a39208bd43cb",
    ),
]


@pytest.mark.parametrize(("spec", "text", "key"), GOLDEN, ids=[key for _, _, key in GOLDEN])
def test_keys_are_golden(spec: Spec, text: str, key: str) -> None:
    assert canonical_json(spec.to_dict()) == text
    assert spec.key == key


def test_canonical_json_has_one_form() -> None:
    assert canonical_json({"b": [1, 1.0, None], "a": {"z": True, "y": "é"}}) == (
        '{"a":{"y":"\\u00e9","z":true},"b":[1,1.0,null]}'
    )


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_json_does_not_have_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json([value])
    spec = Spec.of("ebv", 1, d=3, n=6, seed=0, params={"alpha": value})
    with pytest.raises(ValueError, match="not JSON compliant"):
        _ = spec.key


def test_a_spec_is_frozen_and_hashable() -> None:
    with pytest.raises(FrozenInstanceError):
        SPEC.d = 4  # type: ignore[misc]  # the assignment is what must fail
    options = SPEC.options
    options["alpha"] = 0.9
    assert SPEC.options == PARAMS
    assert {SPEC: "found"}[Spec.of("ebv", 1, d=3, n=6, seed=0, params=PARAMS)] == "found"


def test_the_order_of_parameters_is_nothing() -> None:
    turned = Spec.of("ebv", 1, d=3, n=6, seed=0, params=dict(reversed(PARAMS.items())))
    assert turned == SPEC
    assert hash(turned) == hash(SPEC)
    assert turned.key == SPEC.key


def test_every_part_changes_the_key() -> None:
    changed: list[dict[str, Value]] = [
        {**PARAMS, "alpha": math.nextafter(0.1, 1)},
        {**PARAMS, "alpha": None},
        {**PARAMS, "start": "auto"},
        {**PARAMS, "steps": 5001},
        {**PARAMS, "rate": 0.0},
        {**PARAMS, "flag": False},
        {**PARAMS, "more": None},
        {name: value for name, value in PARAMS.items() if name != "rate"},
        {("speed" if name == "rate" else name): value for name, value in PARAMS.items()},
    ]
    specs = [
        SPEC,
        replace(SPEC, method="uniform"),
        replace(SPEC, version=2),
        replace(SPEC, d=6, n=3),
        replace(SPEC, d=4),
        replace(SPEC, n=7),
        replace(SPEC, seed=1),
        *(Spec.of("ebv", 1, d=3, n=6, seed=0, params=params) for params in changed),
    ]
    assert len({spec.key for spec in specs}) == len(specs)


def test_how_it_is_computed_is_no_part() -> None:
    assert [field.name for field in fields(Spec)] == ["method", "version", "d", "n", "seed", "params"]
    how = {field.name for field in fields(Run)}
    assert {"device", "tile", "time_limit"} <= how
    for spec, _, _ in GOLDEN:
        assert not how & (spec.to_dict().keys() | spec.options.keys())
    for name in ("device", "tile", "time_limit", "threads"):
        with pytest.raises(BadRequest, match=f"no parameter '{name}'"):
            resolve("ebv", d=3, n=6, **{name: 1})


def test_whole_numbers_and_floats_of_one_value_give_one_key() -> None:
    whole = resolve("ebv", d=3, n=6, start="random", update="paper", rate=1)
    assert whole.key == resolve("ebv", d=3, n=6, start="random", update="paper", rate=1.0).key
    assert type(whole.options["rate"]) is float


def test_a_default_that_is_written_out_gives_the_same_key() -> None:
    bare = resolve("ebv", d=3, n=6, start="random")
    assert resolve("ebv", d=3, n=6, seed=0, start="random", alpha=None, update="lbfgs").key == bare.key


@pytest.mark.parametrize("spec", [spec for spec, _, _ in GOLDEN] + [SPEC], ids=lambda spec: spec.key)
def test_a_spec_survives_json(spec: Spec) -> None:
    again = Spec.from_dict(json.loads(canonical_json(spec.to_dict())))
    assert again == spec
    assert again.key == spec.key


@pytest.mark.parametrize(
    "fields_", [{}, {**SPEC.to_dict(), "params": []}, {**SPEC.to_dict(), "params": "ab"}, [], "spec", None]
)
def test_anything_else_is_no_spec(fields_: Any) -> None:
    with pytest.raises((KeyError, TypeError, AttributeError)):
        Spec.from_dict(fields_)


def test_the_digests_among_the_parameters_are_its_inputs() -> None:
    digest = "0123456789abcdef" * 4
    spec = Spec.of("ebv", 1, d=3, n=4, seed=0, params={"extends": digest, "start": "random", "steps": 5, "rate": None})
    assert spec.inputs == {"extends": digest}
    assert Spec.from_dict(spec.to_dict()).inputs == spec.inputs
    for other in (digest[1:], digest.upper(), f"{digest}0", f"sha256:{digest}", None, 12):
        assert Spec.of("ebv", 1, d=3, n=4, seed=0, params={"extends": other}).inputs == {}
