"""Checks of values that a user gives: each raises BadRequest with the value, what is allowed and its name."""

import math
import os
from collections.abc import Collection
from pathlib import Path
from typing import Any, get_args

from .errors import BadRequest
from .spec import Spec

LONGEST = 2**63 - 1  # a whole number that 64 bits hold


def check_whole(name: str, value: object, least: int, most: int | None = None) -> None:
    """Raise BadRequest unless value is a whole number from least to most."""
    if most is None and isinstance(value, int) and value > LONGEST:
        most = LONGEST
    allowed = f"a whole number, at least {least}" + (f" and at most {most}" if most is not None else "")
    if not isinstance(value, int) or isinstance(value, bool) or value < least or (most is not None and value > most):
        raise BadRequest(f"{name} is {value!r}; allowed is {allowed}")


def check_between(name: str, value: object, low: float, high: float, *, or_low: bool = False) -> None:
    """Raise BadRequest unless value is a number strictly between low and high, or, if asked for, low itself."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    # Only a number comes to the comparison, which the type checker does not follow through `number`.
    if not number or not (low < value < high or (or_low and value == low)):  # type: ignore[operator]
        least = f"from {low:g} on" if or_low else f"above {low:g}"
        raise BadRequest(f"{name} is {value!r}; allowed is a number {least} and below {high:g}")


def check_tile(tile: object) -> None:
    """Raise BadRequest unless tile is the edge of a Gram tile in rows, or None."""
    if tile is not None:
        check_whole("tile", tile, 1)


def check_seconds(name: str, value: object) -> None:
    """Raise BadRequest unless value is a number of seconds above 0, or None."""
    if value is not None:
        check_between(name, value, 0, math.inf)


def check_path(name: str, value: object) -> None:
    """Raise BadRequest unless value is the path of a file or folder."""
    if not isinstance(value, str | os.PathLike) or str(value) == "" or "\0" in str(value):
        raise BadRequest(f"{name} is {value!r}; allowed is a path")


def check_paths(name: str, values: object) -> None:
    """Raise BadRequest unless values are several paths, or none; one alone is not several."""
    if not isinstance(values, tuple | list) or not all(isinstance(each, str | os.PathLike) for each in values):
        raise BadRequest(f"{name} is {values!r}; allowed are several paths, or none: write ({values!r},) for one")


def check_spec(spec: object) -> None:
    """Raise BadRequest unless spec is a Spec."""
    if not isinstance(spec, Spec):
        raise BadRequest(f"spec is {spec!r}; allowed is a Spec, as protogen.resolve('ebv', d=16, n=10) gives")


def check_flag(name: str, value: object) -> None:
    """Raise BadRequest unless value is True or False."""
    if not isinstance(value, bool):
        raise BadRequest(f"{name} is {value!r}; allowed are True and False")


def check_names(method: str, given: Collection[str], known: Collection[str]) -> None:
    """Raise BadRequest unless all names that were given are of parameters that are known."""
    if unknown := sorted(set(given) - set(known)):
        there = f"there are {', '.join(known)}" if known else "it has none"
        raise BadRequest(f"{method} has no parameter {unknown[0]!r}; {there}")


def check_kind(name: str, value: object, kind: Any) -> None:
    """Raise BadRequest unless value is None or of the type that a method's parameter is declared with."""
    kinds = tuple(each for each in get_args(kind) or (kind,) if each is not type(None))
    allowed = (*kinds, *([int] if float in kinds else []), *([Path] if str in kinds else []))
    if value is not None and (not isinstance(value, allowed) or (isinstance(value, bool) and bool not in kinds)):
        raise BadRequest(f"{name} is {value!r}; allowed is {' or '.join(each.__name__ for each in kinds)}")


def check_word(name: str, value: object, allowed: tuple[str, ...]) -> None:
    """Raise BadRequest unless value is one of the allowed words."""
    if not isinstance(value, str) or value not in allowed:
        raise BadRequest(f"{name} is {value!r}; allowed are {', '.join(allowed)}")
