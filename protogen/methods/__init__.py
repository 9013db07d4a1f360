"""The methods by name: a new one is one new file and one word here."""

from dataclasses import fields
from typing import Any

from protogen.checks import check_names
from protogen.errors import BadRequest
from protogen.spec import Spec, Value

from .ebv import EBV, PackedEBV, SignedEBV
from .fit import Fit
from .imported import Import
from .method import Method
from .polytope import Cube, Orthoplex, Simplex
from .subcenters import Subcenters
from .task import Task
from .uniform import PackedUniform, Uniform

__all__ = ["METHODS", "Method", "Task", "method_of", "resolve"]

METHODS: dict[str, type[Method]] = {
    method.name: method for method in (EBV, Uniform, Simplex, Orthoplex, Cube, Subcenters, Fit, Import)
}
# Of a method with several versions, METHODS has the one that takes requests.
_EVERY: tuple[type[Method], ...] = (*METHODS.values(), SignedEBV, PackedEBV, PackedUniform)
VERSIONS = {(method.name, method.version): method for method in _EVERY}


def resolve(method: str, *, d: int | None = None, n: int, seed: int = 0, **params: Value) -> Spec:
    """Turn a request into its Spec: `resolve("ebv", d=100, n=1000, alpha=0.14)`.

    Where d is left out, a method that has a smallest d for n takes it: `resolve("simplex", n=100)`.
    Raises BadRequest on an unknown method or parameter, or a value that is not allowed.
    """
    if not isinstance(method, str) or method not in METHODS:
        raise BadRequest(f"unknown method {method!r}; the methods are {', '.join(METHODS)}")
    check_names(method, params, [f.name for f in fields(METHODS[method])])
    options: dict[str, Any] = params
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
