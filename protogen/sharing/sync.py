"""Make a store hold what a lock asks for."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from protogen.bounds import TOLERANCE
from protogen.errors import BadRequest, IntegrityError, NotFound, ProtogenError, RemoteError, Unmet
from protogen.files.header import Header, check_file, read_header
from protogen.methods import method_of
from protogen.run import Run
from protogen.store.access import ensure_path, find_inputs
from protogen.store.pins import Pin
from protogen.store.repair import repair
from protogen.store.store import Store
from protogen.store.turns import alone

from .remotes import Remote, fetch


@dataclass(frozen=True)
class Synced:
    """How the store came to hold a pin, and from which URL; or why it does not.

    `pin` is the one that was asked for, or what `accept` put in its place.
    """

    pin: Pin
    how: Literal["present", "fetched", "generated", "failed"]
    path: Path | None = None
    url: str | None = None
    error: ProtogenError | None = None


def sync_pins(
    store: Store, pins: Iterable[Pin], places: Sequence[Remote] = (), run: Run | None = None, *, accept: bool = False
) -> Iterator[Synced]:
    """Have each pinned artifact in the store, with its key and digest; yield how it came there.

    What is there is checked in all its blocks, and set aside where it is damaged. What is not is fetched from
    the first of `places` that has it, else generated where the Spec is `exact`. With `accept` a `statistical`
    one is generated too, and its pin replaced by that of a set of the same key and of a coherence no larger,
    to 10^-6. One that fails keeps none of the others.
    """
    pins = list(pins)
    digests = {pin.digest for pin in pins}

    def turn(pin: Pin) -> tuple[int, bool, str, str]:
        # What is made from others comes after these: it has more vectors, or names one of them by its digest.
        return pin.spec.n, not digests.isdisjoint(pin.spec.options.values()), pin.spec.method, pin.name

    for pin in sorted(pins, key=turn):
        try:
            yield _synced(store, pin, places, run or Run(), accept)
        except ProtogenError as error:
            yield Synced(pin, "failed", error=error)
        except MemoryError:
            few = "ask for fewer or shorter vectors, or use a larger machine"
            yield Synced(pin, "failed", error=BadRequest(f"{pin.path}: out of memory; {few}"))


def _synced(store: Store, pin: Pin, places: Sequence[Remote], run: Run, accept: bool) -> Synced:
    path = store.holding(pin.spec, pin.digest)
    try:
        if path is not None:
            check_file(path)
            return Synced(pin, "present", path)
    except (IntegrityError, NotFound):
        pass  # seen to while no other process does the same
    with alone(store.root, pin.spec.key, say=run.say):
        repair(store, pin.spec, run.say)
        if path := store.holding(pin.spec, pin.digest):
            return Synced(pin, "present", path)
        urls: list[str] = []

        def fill(target: Path) -> Header:
            fetched = fetch(pin.path, pin.digest, target, places)
            urls.append(fetched.url)
            return fetched.header

        try:
            path = store.receive(pin.spec, pin.version, fill)
            return Synced(pin, "fetched", path, urls[0])
        except (NotFound, RemoteError) as error:
            if run.say is not None and isinstance(error, RemoteError) and (pin.reproducible == "exact" or accept):
                run.say(f"note: {error}")
            if pin.reproducible == "exact":
                return Synced(pin, "generated", _generated(store, pin, run))
            if not accept:
                raise type(error)(
                    f"{error}; it is statistical, so that another run gives another set",
                    "--accept-equivalent generates one as good and changes the lock",
                ) from error
    return _equivalent(store, pin, run)


def _generated(store: Store, pin: Pin, run: Run) -> Path:
    """Generate what a formula gives, which must be what is locked."""
    from protogen.files.writing import write
    from protogen.generating import generate

    spec = pin.spec
    store.prepare(method_of(spec).file_bytes(spec.d, spec.n))
    made = generate(spec, find_inputs(store, spec, run))

    def fill(target: Path) -> Header:
        if (digest := write(target, made)) != pin.digest:
            raise IntegrityError(
                f"generated again it has digest {digest}, locked is {pin.digest}; a formula gives the "
                "same bytes everywhere: fetch the locked one from a remote, and report this"
            )
        return read_header(target)

    return store.receive(spec, pin.version, fill)


def _equivalent(store: Store, pin: Pin, run: Run) -> Synced:
    """Find, or generate, a set of the same Spec that is as good as the locked one."""
    for entry in store.of_key(pin.spec):
        here = Pin.of(pin.name, entry.path, read_header(entry.path))
        if _as_good(here, pin):
            return Synced(here, "present", entry.path)
    path = ensure_path(pin.spec, run, store=store.root, force=True)
    made = Pin.of(pin.name, path, read_header(path))
    if made.spec != pin.spec or not _as_good(made, pin):
        raise Unmet(
            f"generated as {path} with coherence {made.coherence}, locked is {pin.coherence}; the lock stays as it is: "
            f"fetch the locked one from a remote, or `protogen lock remove {pin.name}`, and add this one"
        )
    return Synced(made, "generated", path)


def _as_good(made: Pin, locked: Pin) -> bool:
    if made.coherence is None or locked.coherence is None:
        return False
    return made.coherence <= locked.coherence + TOLERANCE
