"""Damaged files, set aside."""

import contextlib
import sys
from datetime import UTC, datetime
from pathlib import Path

from protogen.errors import IntegrityError, NotFound, SchemaError
from protogen.files.disk import link
from protogen.files.header import check_file
from protogen.spec import Spec

from .store import Store


def set_aside(store: Store, path: Path) -> None:
    """Move a damaged file into `.quarantine` and say so on stderr; one that is sound after all stays.

    The versions that its key has claimed remain its own. Raises the IntegrityError where the store can
    not be written, and SchemaError where the file is a later protogen's.
    """
    try:
        check_file(path)
    except SchemaError:
        raise
    except NotFound:  # another process was first
        return
    except IntegrityError as damage:
        name = f"{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}-{'-'.join(path.relative_to(store.root).parts)}"
        target = store.root / ".quarantine" / name
        try:
            target.parent.mkdir(exist_ok=True)
            path.rename(target)
        except FileNotFoundError:
            return
        except OSError:
            raise damage from None
        if _is_sound(target):  # another process has set the damaged one aside, and brought this
            if link(target, path):
                target.unlink(missing_ok=True)
            return
        with contextlib.suppress(OSError):
            print(f"set aside as {target}: {damage.problem}", file=sys.stderr)


def _is_sound(path: Path) -> bool:
    try:
        check_file(path)
    except IntegrityError:
        return False
    return True


def repair(store: Store, spec: Spec) -> None:
    """Set aside the files of a Spec that are damaged. Raises as `set_aside`."""
    for entry in store.of_key(spec):
        set_aside(store, entry.path)
