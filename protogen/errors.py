"""Errors that a user can cause: one line each, with the exit code the command line gives them."""

import re
from pathlib import Path

MOST = 2000  # characters of a message; what a damaged file says may be of any length
# Also what turns the direction of writing, or is not seen.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]")


def printable(text: str) -> str:
    """Write control characters as Python does: what a file says may move a terminal's cursor."""
    return _CONTROL.sub(lambda found: ascii(found[0])[1:-1], text)


class ProtogenError(Exception):
    """Say in one line what was wrong, the value got, what is allowed, and what to do.

    `problem` is the first of these, `remedy` what to do; the text of the error joins the two. A remedy that
    depends on where the error is met is given as such, so that who knows better can give another. Most errors
    have all in `problem`, and an empty `remedy`.

    >>> import protogen
    >>> try:
    ...     protogen.resolve("ebv", d=16)
    ... except protogen.ProtogenError as error:
    ...     print(error, error.exit_code)
    n is missing with 'ebv'; write resolve('ebv', d=100, n=1000) 2
    """

    exit_code = 2

    def __init__(self, problem: str, remedy: str = "") -> None:
        self.problem, self.remedy = problem, remedy
        message = f"{problem}; {remedy}" if remedy else problem
        if len(message) > MOST:  # the end says what to do
            message = f"{message[: MOST // 2]} ... {message[-MOST // 2 + 5 :]}"
        super().__init__(printable(message))


class BadRequest(ProtogenError):
    """A value that is not allowed, or a request that cannot be met."""


class Unmet(ProtogenError):
    """Something asked for and not so: an alpha missed under --strict, a verification that failed."""

    exit_code = 1


class NotFound(ProtogenError):
    """No such file or artifact."""

    exit_code = 3


class DiskError(ProtogenError):
    """The disk refused: permission, space, or a path that is not what it should be."""

    exit_code = 4


class IntegrityError(ProtogenError):
    """A file whose content is not what it says it is."""

    exit_code = 5


class Damaged(IntegrityError):
    """A file whose bytes contradict their own digest, or that is cut short: the only kind that is set aside."""


class SchemaError(IntegrityError):
    """A file of a later protogen, sound as it may be."""


class RemoteError(ProtogenError):
    """A remote that could not be reached, or that refused."""

    exit_code = 6


class RankLost(ProtogenError):
    """A process of several that work together is gone, and the others cannot go on."""

    exit_code = 7


class Interrupted(KeyboardInterrupt):
    """Ctrl-C has ended a run whose best set so far is kept in the file `path`."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"the best set so far is {path}; the same call goes on from there")
        self.path = path

    def __reduce__(self) -> tuple[type["Interrupted"], tuple[Path]]:
        return Interrupted, (self.path,)
