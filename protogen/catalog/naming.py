"""The names of closed forms, as Specs and facts carry them: written from a form's fields, and read back."""

import re
from dataclasses import fields

from protogen.bounds import LARGEST
from protogen.errors import BadRequest

from .derived import LINES, SIGNS
from .family import Blocks, ClosedForm
from .points import POINTS

FAMILIES = {family.family: family for family in LINES + SIGNS + POINTS}

LONGEST = 10_000  # characters of a label; those of the longest packing in the table are a few hundred
DEEPEST = 8  # forms in one another

_FAMILY = re.compile(r"([a-z0-9-]{1,40})\(")
_FIELD = re.compile(r"([a-z_]{1,40})=")
_NUMBER = re.compile(r"-?[0-9]{1,13}(?![0-9])")
_BLOCKS = re.compile(r"\[((?:[0-9]{1,13}[.;])*[0-9]{1,13})?\]")


def label(form: ClosedForm) -> str:
    """Write a form as family(field=value,...), its fields in the order of their declaration.

    >>> from protogen.catalog.direct.kerdock import Kerdock
    >>> label(Kerdock(k=3))
    'kerdock(k=3)'
    """
    return f"{form.family}({','.join(f'{name}={_written(getattr(form, name))}' for name in _names(type(form)))})"


def from_label(text: str) -> ClosedForm:
    """Read what `label` wrote, in time that grows linearly with the text, whoever wrote the text.

    Numbers are at most 10^12, as those of a request, and so is the dimension of the form.
    Raises BadRequest on anything else.
    """
    form = _Reader(text).form() if len(text) <= LONGEST else None
    if form is None or label(form) != text:
        shown = text if len(text) <= 80 else text[:80] + "..."
        raise BadRequest(f"unknown closed form {shown!r}; the families are {', '.join(FAMILIES)}")
    if form.own_d > LARGEST:
        raise BadRequest(f"closed form {text!r} has more than 10^12 dimensions; allowed are at most so many")
    return form


class _Reader:
    """Reads one label from the left; each part is None where the text is not one."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.place = 0

    def form(self) -> ClosedForm | None:
        """Read the label that is the whole text."""
        form = self._form(DEEPEST)
        return form if self.place == len(self.text) else None

    def _form(self, deeper: int) -> ClosedForm | None:
        family = FAMILIES.get(self._taken(_FAMILY) or "")
        if family is None or not deeper:
            return None
        values: list[int | Blocks | ClosedForm] = []
        for index, name in enumerate(_names(family)):
            if (index and not self._taken_character(",")) or self._taken(_FIELD) != name:
                return None
            value = self._value(deeper - 1)
            if value is None:
                return None
            values.append(value)
        if not self._taken_character(")") or not _are_kinds(family, values):
            return None
        return family(*values)

    def _value(self, deeper: int) -> int | Blocks | ClosedForm | None:
        if match := _NUMBER.match(self.text, self.place):
            self.place = match.end()
            number = int(match[0])
            return number if abs(number) <= LARGEST else None
        if match := _BLOCKS.match(self.text, self.place):
            self.place = match.end()
            blocks = match[1].split(";") if match[1] else []
            return tuple(tuple(map(int, block.split("."))) for block in blocks)
        return self._form(deeper)

    def _taken(self, pattern: re.Pattern[str]) -> str | None:
        match = pattern.match(self.text, self.place)
        if match is None:
            return None
        self.place = match.end()
        return match[1]

    def _taken_character(self, character: str) -> bool:
        here = self.text.startswith(character, self.place)
        self.place += here
        return here


def _names(family: type[ClosedForm]) -> list[str]:
    # The type says only ClosedForm; every family is a dataclass, as the contract test over all of them holds.
    return [field.name for field in fields(family)]  # type: ignore[arg-type]


def _are_kinds(family: type[ClosedForm], values: list[int | Blocks | ClosedForm]) -> bool:
    """Whether values are numbers, blocks and forms as the fields of a family are declared."""
    declared = [field.type for field in fields(family)]  # type: ignore[arg-type]  # a dataclass, as in `_names`
    return all(isinstance(value, _kind(kind)) for kind, value in zip(declared, values, strict=True))


def _kind(declared: object) -> type:
    if declared == Blocks:
        return tuple
    return int if declared is int else ClosedForm


def _written(value: int | Blocks | ClosedForm) -> str:
    if isinstance(value, int):
        return str(value)
    if isinstance(value, tuple):
        return f"[{';'.join('.'.join(map(str, block)) for block in value)}]"
    return label(value)
