"""Look after a whole store: list it, verify it, prune it, each in one call."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from protogen.checks import check_between, check_flag, check_kind, check_names, check_tile, check_whole
from protogen.errors import BadRequest, DiskError, IntegrityError, NotFound, SchemaError
from protogen.files.verify import verify

from .pins import Pin
from .prune import Removed, prune
from .store import Entry, Store

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


@dataclass(frozen=True)
class StoreVerified:
    """What was found of the files of a store: how many there are, and by path what is wrong with those that are not
    sound. `newer` are of a later protogen's schema, `differing` have other figures than they say."""

    files: int
    damaged: dict[Path, str] = field(default_factory=dict)
    newer: dict[Path, str] = field(default_factory=dict)
    unreadable: dict[Path, str] = field(default_factory=dict)
    differing: dict[Path, tuple[str, ...]] = field(default_factory=dict)

    @property
    def is_sound(self) -> bool:
        """Whether nothing is wrong with any file."""
        return not (self.damaged or self.newer or self.unreadable or self.differing)


def artifacts(store: str | Path | None = None, method: str | None = None, **parts: object) -> list[Entry]:
    """List the artifacts of a store by their headers; of one method, and with these d, n, version or key.

    Raises BadRequest on a part that no name has, and DiskError where the store cannot be read.

    >>> import protogen
    >>> made = protogen.ensure("simplex", n=4)
    >>> [(entry.name.n, entry.name.d) for entry in protogen.artifacts(n=4)]
    [(4, 3)]
    """
    check_names("a name", parts, ("d", "n", "version", "key"))
    for part, value in parts.items():
        if part != "key":
            check_whole(part, value, 1)
    check_kind("key", parts.get("key"), str)
    check_kind("method", method, str)
    return Store.of(store).entries(method, **parts)


def verify_store(
    store: str | Path | None = None,
    *,
    full: bool = False,
    device: str = "cpu",
    tile: int | None = None,
    report: Callable[[float], None] | None = None,
    group: "ProcessGroup | None" = None,
) -> StoreVerified:
    """Check the digests of every file of a store; with `full` measure each again and compare with what it says.

    `device`, `tile`, `report` and `group` are those of `verify`. Raises NotFound where there is no store, DiskError
    where it cannot be listed, and BadRequest where the device is unknown or the memory too small.

    >>> import protogen
    >>> made = protogen.ensure("simplex", n=4)
    >>> protogen.verify_store().is_sound
    True
    """
    check_flag("full", full)
    check_tile(tile)
    place = Store.of(store)
    if not place.root.exists():
        raise NotFound(f"{place.root}: no such store; name another with --store or PROTOGEN_STORE")
    entries = place.entries()
    found = StoreVerified(len(entries))
    for entry in entries:
        try:
            if entry.error is not None:
                raise entry.error
            verified = verify(entry.path, full=full, device=device, tile=tile, report=report, group=group)
            if verified.differences:
                found.differing[entry.path] = verified.differences
        except SchemaError as error:
            found.newer[entry.path] = str(error)
        except IntegrityError as error:
            found.damaged[entry.path] = str(error)
        except DiskError as error:
            found.unreadable[entry.path] = str(error)
        except NotFound:  # gone meanwhile
            pass
    return found


def prune_store(
    store: str | Path | None = None,
    *,
    keep: Mapping[str, Pin] | None = None,
    older_than: float | None = None,
    max_size: int | None = None,
    dry_run: bool = False,
) -> list[Removed]:
    """Remove leftovers of a store, and artifacts where any condition is given; list what went.

    - `keep`: no artifact of these pins goes, as `protogen.pins()` reads them.
    - `older_than`: none goes that was written fewer seconds ago.
    - `max_size`: the oldest go until the rest has at most so many bytes.
    - `dry_run`: nothing goes, and what would is listed.

    Raises BadRequest and DiskError. As `protogen.store.prune.prune`, which yields each when it is gone.

    >>> import protogen
    >>> made = protogen.ensure("simplex", n=7)
    >>> [removed.why for removed in protogen.prune_store(max_size=0, dry_run=True)][-1]
    'artifact'
    """
    if older_than is not None:
        check_between("older_than", older_than, 0, math.inf)
    if max_size is not None:
        check_whole("max_size", max_size, 0)
    check_flag("dry_run", dry_run)
    if not isinstance(keep, Mapping | None):
        raise BadRequest(f"keep is {keep!r}; allowed are pins by their names, as protogen.pins() reads them")
    kept = None if keep is None else {(pin.spec.key, pin.digest) for pin in keep.values()}
    return list(prune(Store.of(store), keep=kept, older_than=older_than, max_size=max_size, dry_run=dry_run))
