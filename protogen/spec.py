"""What was asked for: the Spec, its canonical JSON and its key."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Value = None | bool | int | float | str
METHOD = re.compile(r"[a-z][a-z0-9-]{0,31}")  # a method's name, which is a folder's too
DIGEST = re.compile(r"[0-9a-f]{64}")  # a sha256 that names the content of an artifact

_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)


def canonical_json(value: Any) -> str:
    """Write JSON in the one form that is hashed: keys sorted, no spaces, ASCII.

    Raises ValueError on NaN and infinities, which JSON does not have.
    """
    return _ENCODER.encode(value)


def is_number(value: Any) -> bool:
    """Whether a value of JSON is a number that 64 bits hold."""
    return type(value) in (int, float) and abs(value) < 2**63


def _fits(value: Value) -> bool:
    """Whether a parameter is no number, or one that 64 bits hold."""
    return type(value) not in (int, float) or is_number(value)


@dataclass(frozen=True)
class Spec:
    """Name one set of prototypes: n unit vectors in R^d by a method with all its parameters.

    Every parameter stands in it with its default already resolved, so that the same Spec has
    the same key for ever. How it is computed (device, tile, threads, time limit) is no part of it.

    >>> spec = Spec.of("ebv", 1, d=3, n=6, seed=0, params={"start": "random"})
    >>> spec.key
    '6b2fb03d0166'
    >>> Spec.from_dict(spec.to_dict()) == spec
    True
    """

    method: str
    version: int
    d: int
    n: int
    seed: int
    params: tuple[tuple[str, Value], ...]

    @classmethod
    def of(cls, method: str, version: int, *, d: int, n: int, seed: int, params: Mapping[str, Value]) -> "Spec":
        """Build a Spec from a mapping of parameters."""
        return cls(method, version, d, n, seed, tuple(sorted(params.items())))

    @property
    def options(self) -> dict[str, Value]:
        """The parameters as a dict."""
        return dict(self.params)

    @property
    def inputs(self) -> dict[str, str]:
        """The artifacts that this one builds on: the digest of each by the parameter that names it.

        A digest stands among the parameters, as 64 hex digits, which no other parameter is. It is part of the key
        there, and so stands nowhere else.
        """
        return {name: value for name, value in self.params if isinstance(value, str) and DIGEST.fullmatch(value)}

    @property
    def key(self) -> str:
        """The first 12 hex digits of the sha256 over the canonical JSON."""
        return hashlib.sha256(canonical_json(self.to_dict()).encode()).hexdigest()[:12]

    def to_dict(self) -> dict[str, Any]:
        """The Spec as plain JSON values."""
        return {
            "method": self.method,
            "version": self.version,
            "d": self.d,
            "n": self.n,
            "seed": self.seed,
            "params": self.options,
        }

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "Spec":
        """Read what `to_dict` wrote. Raises KeyError, TypeError, AttributeError or ValueError on something else."""
        spec = cls.of(
            fields["method"],
            fields["version"],
            d=fields["d"],
            n=fields["n"],
            seed=fields["seed"],
            params=fields["params"],
        )
        numbers = [(spec.version, 1), (spec.d, 1), (spec.n, 1), (spec.seed, 0)]
        whole = all(type(number) is int and least <= number < 2**63 for number, least in numbers)
        sound = all(isinstance(value, Value) and _fits(value) for _, value in spec.params)
        if not (whole and METHOD.fullmatch(spec.method) and sound):
            raise ValueError("no Spec that protogen writes")
        return spec
