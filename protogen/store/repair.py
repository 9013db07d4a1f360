"""Damaged files, set aside."""

import contextlib
import sys
from datetime import UTC, datetime
from pathlib import Path

from protogen.errors import Damaged, IntegrityError, NotFound
from protogen.files.disk import link
from protogen.files.header import check_file
from protogen.spec import Spec

from .store import Store


def set_aside(store: Store, path: Path) -> None:
    """Move a damaged file into `.quarantine` and say so on stderr; one that is sound after all stays.

    A file of a later protogen stays too, and one that was written wrong: its digests are right. The versions that
    its key has claimed remain its own. Raises the Damaged where the store cannot be written.
    """
    try:
        check_file(path)
    except Damaged as damage:
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
    except (NotFound, IntegrityError):  # another process was first; or no damage
        return


def _is_sound(path: Path) -> bool:
    try:
        check_file(path)
    except Damaged:
        return False
    except IntegrityError:  # of a later protogen, or written wrong
        return True
    return True


def repair(store: Store, spec: Spec) -> None:
    """Set aside the files of a Spec that are damaged. Raises as `set_aside`."""
    for entry in store.of_key(spec):
        set_aside(store, entry.path)
