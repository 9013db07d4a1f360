"""Specs from outside, as a lock or a file has them: what no request gives is refused in one line, before any work."""

from dataclasses import replace
from typing import Any

import pytest

import protogen
from protogen import generating
from protogen.errors import BadRequest
from protogen.methods import METHODS, method_of, resolve
from protogen.spec import Spec

DIGEST = "0" * 64
SOUND = [
    resolve("ebv", d=4, n=5),
    resolve("ebv", d=4, n=9, start="random", alpha=0.6),
    resolve("ebv", d=6, n=20, start="closed-form+descent"),
    resolve("ebv", d=4, n=9, start="random", update="paper"),
    resolve("uniform", d=3, n=4),
    resolve("uniform", d=3, n=9),
    resolve("uniform", d=3, n=9, start="random", update="paper", batch=3),
    resolve("simplex", n=4),
    resolve("orthoplex", n=5),
    resolve("cube", n=5),
    resolve("subcenters", d=3, n=4),
    resolve("fit", d=3, n=4, statistics=DIGEST, alpha=0.5),
]


@pytest.mark.parametrize("spec", SOUND, ids=lambda spec: f"{spec.method}-{spec.key}")
def test_what_a_request_gives_is_read_again(spec: Spec) -> None:
    method = method_of(Spec.from_dict(spec.to_dict()))
    assert method.name == spec.method
    assert {name: getattr(method, name) for name in spec.options} == spec.options


def forged(method: str, d: int = 4, n: int = 6, seed: int = 0, version: int = 1, **params: Any) -> Spec:
    version = METHODS[method].version if method in METHODS else version
    return Spec.of(method, version, d=d, n=n, seed=seed, params=params)


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        (forged("none"), "no method none of version 1"),
        (replace(forged("ebv"), version=9), "no method ebv of version 9"),
        (forged("ebv", n=1), "n is 1; allowed is a whole number, at least 2"),
        (forged("ebv", d=1), "d is 1; allowed"),
        (forged("ebv", n=10**12 + 1), "n is 1000000000001; allowed"),
        (forged("ebv", d=10**13), "d is 10000000000000; allowed"),
        (forged("ebv", seed=2**63), "seed is 9223372036854775808; allowed"),
        (forged("simplex", d=4, n=6), "d for n=6 is 4; allowed is a whole number, at least 5"),
        (forged("cube", d=2, n=6), "d for n=6 is 2; allowed"),
        (forged("simplex", d=5, n=6, alpha=0.5), "simplex has no parameter 'alpha'; it has none"),
        (forged("ebv", beta=0.5), "ebv has no parameter 'beta'"),
        (forged("ebv", ended="time limit at step 3"), "is a run that was time limit at step 3; ask for the whole"),
        (forged("ebv", start="capacity", alpha=0.5), "make it with `protogen capacity --d 4 --alpha 0.5`"),
        (forged("ebv", alpha=1.5), "alpha is 1.5; allowed"),
        (forged("ebv", alpha=True), "alpha is True; allowed"),
        (forged("ebv", n=900, alpha=0.01), "alpha is 0.01, the lower bound"),
        (forged("ebv", steps=0), "steps is 0; allowed"),
        (forged("ebv", effort="high"), "effort is 'high' in a Spec of a version that has none"),
        (replace(forged("ebv", start="packing"), version=3), "effort is None; allowed"),
        (replace(forged("ebv", start="random", effort="low"), version=3), "allowed in a Spec are packing"),
        (
            replace(forged("ebv", start="packing", effort="low", steps=9), version=3),
            "steps is 9 in the Spec",
        ),
        (
            replace(forged("ebv", start="packing", effort="low", update="paper"), version=3),
            "update is 'paper' in",
        ),
        (replace(forged("ebv", start="packing", effort="low", signs=True), version=3), "signs is True in the Spec"),
        (forged("ebv", d=16, n=100, start="orbits:cyclic(2)"), "allowed is version 2 without an alpha"),
        (replace(forged("ebv", d=16, n=100, start="orbits:cyclic(2)", alpha=0.5), version=2), "with alpha 0.5"),
        (replace(forged("ebv", start="random"), version=4), "alpha is None, update 'lbfgs', start 'random' in a Spec"),
        (replace(forged("ebv", start="random", alpha=0.6, update="paper"), version=4), "update 'paper'"),
        (replace(forged("uniform", start="packing", effort="vast"), version=2), "effort is 'vast'; allowed"),
        (
            replace(forged("uniform", start="packing", effort="low", t=9.0), version=2),
            "t is 9.0 in the Spec",
        ),
        (
            replace(forged("uniform", start="packing", effort="low"), version=2),
            "sharpen is False in the Spec",
        ),
        (forged("ebv", start=None), "start is None in a Spec; allowed is a value"),
        (forged("ebv", signs=True), "signs is True in a Spec; allowed is a start of closed-form:<closed form>"),
        (forged("ebv", start="random", max_n=5), "ebv has no parameter 'max_n'"),
        (forged("ebv", restarts=-1), "restarts is -1; allowed"),
        (forged("ebv", restarts=10**400), "at most 9223372036854775807"),
        (forged("ebv", update="newton"), "update is 'newton'; allowed"),
        (forged("ebv", update="paper", rate=-1.0), "rate is -1.0; allowed"),
        (forged("ebv", extends="../../etc/passwd"), "extends is '../../etc/passwd' in a Spec; allowed is a digest"),
        (forged("ebv", extends=DIGEST, d=6, start="closed-form:mub(p=3)"), "with extends; allowed is random"),
        (forged("ebv", start="best"), "start is 'best'; allowed in a Spec are random, closed-form:<closed form> and"),
        (forged("ebv", start="closed-form"), "start is 'closed-form'; allowed in a Spec are"),
        (forged("ebv", start="random:mub(p=3)"), r"start is 'random:mub\(p=3\)'; allowed in a Spec"),
        (forged("ebv", start="closed-form:mub(p=4)"), "p"),
        (forged("ebv", start="closed-form:kerdock(k=1000000007)"), "k"),
        (forged("ebv", start="closed-form:" + "blow-up(form=" * 1000), "unknown closed form"),
        (forged("ebv", d=6, n=900, start="closed-form:mub(p=3)"), "n is 900 and d is 6; the closed form .* has 24"),
        (
            forged("ebv", d=5, n=24, start="closed-form+descent:mub(p=3)"),
            "n is 24 and d is 5; the closed form .* 6 dim",
        ),
        (forged("ebv", d=5, start="closed-form:simplices(n=6,k=1)"), "allowed"),
        (forged("uniform", d=6, start="closed-form:mub(p=3)", steps=1), "allowed are the families"),
        (forged("uniform", start="closed-form+descent:simplices(n=4,k=1)"), "allowed in a Spec are random"),
        (forged("uniform"), "steps is None; allowed"),
        (forged("uniform", steps=5, t=-1.0), "t is -1.0; allowed"),
        (forged("uniform", steps=5, t="x"), "t is 'x'; allowed"),
        (forged("uniform", steps=5, batch=7, update="paper"), "batch is 7; allowed"),
        (forged("subcenters", per_class=0), "per-class is 0; allowed"),
        (forged("subcenters", variance=-1.0), "variance is -1.0; allowed"),
        (forged("subcenters", normalize=3), "normalize is 3; allowed"),
        (forged("subcenters", centers="a"), "centers is 'a' in a Spec; allowed is a digest"),
        (forged("fit"), "statistics is None; allowed"),
        (forged("fit", statistics=DIGEST, ridge=-1.0), "ridge is -1.0; allowed"),
        (forged("fit", statistics=DIGEST, extends="a"), "extends is 'a' in a Spec; allowed is a digest"),
    ],
)
def test_what_no_request_gives_is_refused(spec: Spec, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generating, "record", lambda *_: pytest.fail("it was made"))
    with pytest.raises(BadRequest, match=says) as error:
        method_of(spec)
    assert "\n" not in str(error.value)
    for action in (protogen.generate, protogen.ensure):
        with pytest.raises(BadRequest):
            action(spec)


@pytest.mark.parametrize("value", [2**63, -(2**63), 10**400, [1], {"a": 1}, float("inf"), float("nan")])
def test_parameters_that_64_bits_do_not_hold_are_in_no_spec(value: object) -> None:
    fields = resolve("ebv", d=3, n=9, start="random").to_dict()
    with pytest.raises((ValueError, TypeError)):
        Spec.from_dict({**fields, "params": {**fields["params"], "steps": value}})
