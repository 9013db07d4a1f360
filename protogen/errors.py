"""Errors that a user can cause: one line each, with the exit code the command line gives them."""


class ProtogenError(Exception):
    """Say in one line what was wrong, the value got, what is allowed and what to do."""

    exit_code = 2


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
