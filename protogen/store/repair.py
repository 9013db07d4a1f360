"""Set damaged files of a store aside."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from protogen.errors import Damaged, IntegrityError, NotFound
from protogen.files.disk import kept, link
from protogen.files.header import check_file
from protogen.spec import Spec

from .store import Store


def repair(store: Store, spec: Spec, say: Callable[[str], None] | None = None) -> None:
    """Set aside the damaged files of a Spec. Raises as `set_aside`."""
    for entry in store.of_key(spec):
        set_aside(store, entry.path, say)


def set_aside(store: Store, path: Path, say: Callable[[str], None] | None = None) -> None:
    """Check a file of the store whole and move it into `.quarantine` if it is damaged; `say` is told so in a line.

    Damaged is a file whose bytes contradict their digests. One of a later protogen stays, and one that was written
    wrong, whose digests are right. Another process may do the same at this moment: a file that is gone, or sound
    by now, stays as it is. The versions that its key has claimed remain the key's own. Raises the Damaged where
    the store cannot be written.
    """
    try:
        check_file(path)
    except Damaged as damage:
        target = store.root / ".quarantine" / _name_aside(path.relative_to(store.root))
        try:
            with kept(target.parent):
                path.rename(target)
        except FileNotFoundError:
            return
        except OSError:
            raise damage from None
        if not _is_damaged(target):  # another process has set the damaged one aside, and brought this
            if link(target, path):
                target.unlink(missing_ok=True)
        elif say is not None:
            say(f"set aside as {target}: {damage.problem}")
    except (NotFound, IntegrityError):  # another process was first; or no damage
        return


def _name_aside(path: Path) -> str:
    """The name in `.quarantine` of a file with this path in the store: the time, then the path."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}-{'-'.join(path.parts)}"


def _is_damaged(path: Path) -> bool:
    try:
        check_file(path)
    except Damaged:
        return True
    except IntegrityError:  # of a later protogen, or written wrong
        return False
    return False
