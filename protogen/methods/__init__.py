"""The methods by name: a new one is one new file and one word here."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from protogen.checks import check_names, check_spec
from protogen.errors import BadRequest
from protogen.spec import Spec, Value

from .ebv import EBV, AimedEBV, PackedEBV, SignedEBV
from .fit import Fit
from .imported import Import
from .method import Method
from .polytope import Cube, Orthoplex, Simplex
from .subcenters import Subcenters
from .task import Task
from .uniform import PackedUniform, Uniform

__all__ = ["METHODS", "Method", "Task", "asked_for", "method_of", "resolve"]

METHODS: dict[str, type[Method]] = {
    method.name: method for method in (EBV, Uniform, Simplex, Orthoplex, Cube, Subcenters, Fit, Import)
}
# Of a method with several versions, METHODS has the one that takes requests.
_EVERY: tuple[type[Method], ...] = (*METHODS.values(), SignedEBV, PackedEBV, AimedEBV, PackedUniform)
VERSIONS = {(method.name, method.version): method for method in _EVERY}


def resolve(method: str, *, d: int | None = None, n: int | None = None, seed: int = 0, **params: Value) -> Spec:
    """Turn a request into its Spec: `resolve("ebv", d=100, n=1000, alpha=0.14)`.

    Where d is left out, a method that has a smallest d for n takes it: `resolve("simplex", n=100)`.
    Raises BadRequest on an unknown method or parameter, a size that is missing, or a value that is not allowed.

    >>> import protogen
    >>> spec = protogen.resolve("ebv", d=13, n=26)
    >>> spec.key, spec.options["start"]
    ('11cf6f3aee95', 'closed-form:paley(q=25)')
    """
    return _resolved("resolve", method, d, n, seed, params)


def asked_for(
    call: str, spec: Spec | str, d: int | None, n: int | None, seed: int, params: Mapping[str, Value]
) -> Spec:
    """Return the Spec that a function of this name was given, or the one of a method's name with sizes beside it.

    Raises BadRequest as `resolve`, and where a Spec comes with d, n, a seed or params.
    """
    if isinstance(spec, str):
        return _resolved(call, spec, d, n, seed, params)
    check_spec(spec)
    if (d, n, seed) != (None, None, 0) or params:
        raise BadRequest("a Spec with sizes or params; allowed is a Spec alone, or a method's name with them")
    return spec


def _resolved(call: str, method: str, d: int | None, n: int | None, seed: int, params: Mapping[str, Value]) -> Spec:
    if not isinstance(method, str) or method not in METHODS:
        raise BadRequest(f"unknown method {method!r}; the methods are {', '.join(METHODS)}")
    check_names(method, params, [f.name for f in fields(METHODS[method])])
    needs_d = METHODS[method].least_d(2) is None
    missing = [*(["d"] if d is None and needs_d else []), *(["n"] if n is None else [])]
    if n is None or missing:
        sizes = "d=100, n=1000" if needs_d else "n=100"
        raise BadRequest(
            f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing with {method!r}",
            f"write {call}({method!r}, {sizes})",
        )
    options: dict[str, Any] = dict(params)
    return METHODS[method](**options).resolve(d, n, seed)


def method_of(spec: Spec) -> Method:
    """The method that a Spec names, with its parameters.

    A Spec may come from anywhere, and passes the limits of a request. Raises BadRequest where it does not, and where
    this version of protogen has no such method.
    """
    known = VERSIONS.get((spec.method, spec.version))
    if known is None:
        has = ", ".join(f"{name} {version}" for name, version in VERSIONS)
        raise BadRequest(f"no method {spec.method} of version {spec.version} here; there are {has}")
    method = known.of(spec)
    method.check(spec.d, spec.n, spec.seed)
    return method
