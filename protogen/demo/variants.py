"""Heads of the demo by name, with hyper-parameters of their own: `multicenter(per_class=4,variance_weight=0)`."""

import inspect
import itertools
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from protogen.errors import BadRequest

Value = bool | int | float | str | None
WORDS: dict[str, Value] = {"true": True, "false": False, "none": None}
NAMED = re.compile(r"([^()]+)(?:\(([^()]*)\))?")
BETWEEN = re.compile(r",(?![^(]*\))")  # a comma that is not inside of brackets


@dataclass(frozen=True)
class Variant:
    """A head of the demo, and the settings in which it differs from the usual one, by their names in order."""

    head: str
    settings: tuple[tuple[str, Value], ...] = ()

    def __str__(self) -> str:
        if not self.settings:
            return self.head
        return f"{self.head}({','.join(f'{name}={_text(value)}' for name, value in self.settings)})"

    @classmethod
    def parse(cls, text: str) -> "Variant":
        """Read what `str` wrote. Raises BadRequest."""
        found = NAMED.fullmatch(text.strip())
        if found is None:
            raise BadRequest(f"head is {text!r}; allowed is a name, or name(setting=value,setting=value)")
        pairs = [_pair(part, text) for part in (found[2] or "").split(",") if part.strip()]
        return cls(found[1], tuple(sorted(pairs)))


def split_heads(text: str) -> list[str]:
    """Take the heads of a list with commas apart, whose settings may have commas too."""
    return [head.strip() for head in BETWEEN.split(text)]


def varied(heads: Iterable[str], settings: Sequence[str]) -> list[str]:
    """Put a variant for every choice among the values of its settings in the place of each head.

    A setting is `head.name=value,value`. Raises BadRequest on one that is written otherwise, of a head that is not
    among these, or named twice.
    """
    heads = list(heads)
    values: dict[str, dict[str, list[Value]]] = {}
    for setting in settings:
        name, _, listed = setting.partition("=")
        head, dot, key = (part.strip() for part in name.rpartition("."))
        if not (head and dot and key and listed.strip()):
            raise BadRequest(f"set is {setting!r}; allowed is head.name=value,value, as multicenter.per_class=1,2,4")
        if head not in heads:
            raise BadRequest(
                f"set is {setting!r}; allowed are settings of the heads that are trained, {', '.join(heads)}"
            )
        if key in values.setdefault(head, {}):
            raise BadRequest(f"set names {head}.{key} twice; give its values with commas")
        values[head][key] = [_value(part) for part in listed.split(",")]
    found: list[str] = []
    for head in heads:
        mine = sorted(values.get(head, {}).items())
        own = Variant.parse(head)
        for chosen in itertools.product(*(choices for _, choices in mine)):
            pairs = dict(own.settings) | dict(zip((key for key, _ in mine), chosen, strict=True))
            found.append(str(Variant(own.head, tuple(sorted(pairs.items())))))
    return found


def usual(*makers: Callable[..., Any], without: Iterable[str] = ()) -> dict[str, Value]:
    """The settings that functions or classes take by keyword, with their defaults."""
    left_out = {"source", "classes", "d", "n", "debug", "persistent", "group", "replicated", *without}
    return {
        name: parameter.default
        for maker in makers
        for name, parameter in inspect.signature(maker).parameters.items()
        if name not in left_out and parameter.default is not inspect.Parameter.empty
    }


def _pair(part: str, text: str) -> tuple[str, Value]:
    name, equals, value = part.partition("=")
    if not equals or not name.strip() or not value.strip():
        raise BadRequest(f"head is {text!r}; allowed is a name, or name(setting=value,setting=value)")
    return name.strip(), _value(value)


def _value(text: str) -> Value:
    """Read a whole number, a number, true, false, none, or else a word."""
    text = text.strip()
    if text.lower() in WORDS:
        return WORDS[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text


def _text(value: Value) -> str:
    return str(value).lower() if value is None or isinstance(value, bool) else format(value)
