"""Change and read what a project pins."""

from collections.abc import Callable
from pathlib import Path

from protogen.checks import check_path
from protogen.errors import BadRequest, NotFound
from protogen.files.header import check_file

from .pins import Pin, changing, lock_path, read_lock, write_lock
from .store import Store

Say = Callable[[str], None]


def pins(lock: str | Path | None = None) -> dict[str, Pin]:
    """Read what a project pins, by its names: the lock, else PROTOGEN_LOCK, else ./protogen.lock.

    Raises NotFound, DiskError, SchemaError and IntegrityError.

    >>> import protogen
    >>> pin = protogen.pin("head", protogen.ensure("simplex", n=5).path)
    >>> protogen.pins()["head"].spec.n
    5
    """
    return read_lock(lock_path(lock))


def pin(
    name: str,
    file: str | Path,
    *,
    lock: str | Path | None = None,
    store: str | Path | None = None,
    say: Say | None = None,
) -> Pin:
    """Pin an artifact under a name; its content is checked.

    `file` is a path, or a path in the store; `say` is told who is waited for. Raises BadRequest where the name
    is taken by another artifact or may not be one, and as `check_file` and `pins`.

    >>> import protogen
    >>> made = protogen.ensure("simplex", n=4)
    >>> protogen.pin("backbone", made.path).digest == made.digest
    True
    """
    check_path("file", file)
    path = Path(file)
    path = path if path.exists() else Store.of(store).root / path
    made, place = Pin.of(name, path, check_file(path)), lock_path(lock)
    with changing(place, say) as there:
        held = there.get(name, made)
        if held != made:
            raise BadRequest(
                f"{name} is {held.path} with digest {held.digest[:12]} in {place}, asked for is "
                f"{made.path} with {made.digest[:12]}",
                f"remove it first: `protogen lock remove {name}`",
            )
        write_lock(place, [*there.values(), made])
    return made


def unpin(name: str, *, lock: str | Path | None = None, say: Say | None = None) -> Pin:
    """Take a name out of the lock; the store stays as it is. Raises NotFound where the lock has it not.

    >>> import protogen
    >>> pin = protogen.pin("old", protogen.ensure("simplex", n=6).path)
    >>> protogen.unpin("old") == pin, "old" in protogen.pins()
    (True, False)
    """
    place = lock_path(lock)
    with changing(place, say) as there:
        if name not in there:
            raise NotFound(f"{name}: not in {place}, which has {', '.join(pins(place)) or 'no names'}")
        gone = there.pop(name)
        write_lock(place, there.values())
    return gone


def replace_pin(path: Path, locked: Pin, made: Pin, say: Say | None = None) -> bool:
    """Put a pin in the place of another; False where the lock has another one by now, and then it stays."""
    with changing(path, say) as there:
        if there.get(made.name) != locked:
            return False
        write_lock(path, (there | {made.name: made}).values())
        return True
