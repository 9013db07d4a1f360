"""Records from JSON: a frozen dataclass, and which of its fields a file of some schema has."""

import types
from collections.abc import Collection, Mapping
from dataclasses import is_dataclass
from functools import cache
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from protogen.spec import is_number

Record = TypeVar("Record")
Names = Mapping[type, Collection[str]]  # which fields of a record a file has; of one that is not named, all


def from_json(kind: type[Record], values: Any, names: Names) -> Record:
    """Build a record from the object of JSON that holds it; a field that the file has not keeps its default.

    Raises ValueError, which names the field, on a field too few or too many, and on a value of another type.
    """
    kinds = _kinds(kind)  # type: ignore[arg-type]  # every class is hashable
    has = names.get(kind, kinds.keys())
    if type(values) is not dict:
        raise ValueError(f"{kind.__name__} is {values!r}, needed is an object")
    if values.keys() != set(has):
        strange = sorted(values.keys() ^ set(has))[0]
        raise ValueError(f"{kind.__name__} has {'an unknown' if strange in values else 'no'} {strange!r}")
    return kind(**{name: _value(name, kinds[name], value, names) for name, value in values.items()})


@cache
def _kinds(kind: Any) -> dict[str, Any]:
    """The types of a record's fields by name."""
    return get_type_hints(kind)


def _value(name: str, kind: Any, value: Any, names: Names) -> Any:
    """Read one value of a type. Raises ValueError on a value of another."""
    origin, among = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in among:
            return None
        (kind,) = (each for each in among if each is not type(None))
        return _value(name, kind, value, names)
    if is_dataclass(kind) and isinstance(kind, type):
        return from_json(kind, value, names)
    if origin is tuple and type(value) is list:
        if among[0] is int and set(map(type, value)) == {int} and all(map(is_number, (min(value), max(value)))):
            return tuple(value)  # a histogram is long: each number by itself would take most of the time of a header
        return tuple(_value(name, among[0], each, names) for each in value)
    if origin is Literal:
        sound = type(value) is str and value in among
    elif kind is float:
        sound = is_number(value)
    else:
        sound = type(value) is kind and (kind is not int or is_number(value))
    if not sound:
        raise ValueError(f"{name} is {value!r}, allowed is {getattr(kind, '__name__', None) or kind}")
    return value
