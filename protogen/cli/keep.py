"""The commands that keep a store: what it has, what a project's lock asks of it, what may go."""

import contextlib
import re
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from protogen import report
from protogen.errors import BadRequest, ProtogenError
from protogen.run import Run
from protogen.sharing.project import sync_each
from protogen.sharing.sync import Synced
from protogen.store import pinning
from protogen.store.pins import Pin, cache_key, lock_path, read_lock
from protogen.store.prune import Removed, prune
from protogen.store.store import Store

from .options import Json, RemoteOption, StoreOption, print_line, print_result, tell

UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
SECONDS = {"m": 60, "h": 3600, "d": 86_400, "w": 604_800}

LockOption = Annotated[
    Path | None, typer.Option("--lock", help="The lock; else PROTOGEN_LOCK, else ./protogen.lock.", readable=False)
]
Name = Annotated[str, typer.Argument(help="The project's name for the artifact.", show_default=False)]

app = typer.Typer()
lock = typer.Typer(no_args_is_help=True)
app.add_typer(lock, name="lock", help="Pin artifacts by names, in a file of the project's repository.")


@app.command("list")
def list_(store: StoreOption = None, json: Json = False) -> None:
    """List the artifacts of a store, with coherence and bound.

    Of points the coherence column is the largest cosine.
    """
    place = Store.of(store)
    rows = [report.entry_of(entry) for entry in place.entries()]
    print_result({"store": str(place.root), "artifacts": rows}, lambda _: report.entry_lines(rows), json)


@lock.command()
def add(
    name: Name,
    file: Annotated[
        Path, typer.Argument(help="An artifact: a file, or its path in the store.", show_default=False, readable=False)
    ],
    lock: LockOption = None,
    store: StoreOption = None,
    json: Json = False,
) -> None:
    """Pin an artifact under a name; its content is checked."""
    _print_pins([pinning.pin(name, file, lock=lock, store=store, say=tell)], json)


@lock.command()
def remove(name: Name, lock: LockOption = None, json: Json = False) -> None:
    """Take a name out of the lock; the store stays as it is."""
    _print_pins([pinning.unpin(name, lock=lock, say=tell)], json)


@lock.command("list")
def list_pins(lock: LockOption = None, json: Json = False) -> None:
    """List what is pinned."""
    _print_pins(list(pinning.pins(lock).values()), json)


@app.command("sync")
def sync_(
    lock: LockOption = None,
    store: StoreOption = None,
    remote: RemoteOption = None,
    accept_equivalent: Annotated[
        bool,
        typer.Option("--accept-equivalent", help="Generate what is to be had nowhere as good, and change the lock."),
    ] = False,
    json: Json = False,
) -> None:
    """Make the store hold what the lock asks for.

    What is missing is fetched, or generated where a formula gives it.
    """
    from protogen.report.progress import Display

    path, place = lock_path(lock), Store.of(store)
    rows: list[dict[str, Any]] = []
    failed: ProtogenError | None = None
    with Display(quiet=False) as display:
        run = Run(report=display.step, measuring=display.measuring, say=tell)
        for relocked in sync_each(path, place, remote or (), run, accept_equivalent):
            done = relocked.synced
            rows.append(_row(done, relocked.lock_changed))
            failed = failed or done.error
            if done.error is not None:
                tell(f"error: {done.pin.name}: {done.error}")
            elif not json:
                with contextlib.suppress(BrokenPipeError):  # who reads no more still wants the whole store
                    print_line(_line(done, relocked.lock_changed))
    if json:
        print_result({"lock": str(path), "store": str(place.root), "artifacts": rows}, lambda _: [], json)
    if failed is not None:
        sys.exit(failed.exit_code)


@app.command("cache-key")
def cache_key_(lock: LockOption = None) -> None:
    """Print a key for a CI cache of the store.

    The key is made of what the lock asks for, and of the schema of the files.
    """
    print(cache_key(read_lock(lock_path(lock))))


@app.command("prune")
def prune_(
    keep_lock: Annotated[bool, typer.Option("--keep-lock", help="Remove no artifact that the lock asks for.")] = False,
    older_than: Annotated[
        str | None,
        typer.Option("--older-than", help="Remove none written less long ago: 30d, 12h, 2w; also runs left so long."),
    ] = None,
    max_size: Annotated[
        str | None,
        typer.Option("--max-size", help="Remove the oldest, until the rest has at most so much: 2GB, 500MB."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go, and remove nothing.")] = False,
    lock: LockOption = None,
    store: StoreOption = None,
    json: Json = False,
) -> None:
    """Remove leftovers, and the artifacts that the options let go.

    Leftovers are what dead processes have left. An artifact goes where all of the options that are given let it go.
    """
    removed: list[Removed] = []
    keep = {(pin.spec.key, pin.digest) for pin in read_lock(lock_path(lock)).values()} if keep_lock else None
    age = None if older_than is None else _amount("older-than", older_than, SECONDS, "30d, 12h or 2w")
    size = None if max_size is None else _amount("max-size", max_size, UNITS, "2GB or 500MB")
    for each in prune(Store.of(store), keep=keep, older_than=age, max_size=size, dry_run=dry_run):
        removed.append(each)
        if not json:
            print_line(f"{each.path}: {each.why}, {report.megabytes(each.size)}")
    total = sum(each.size for each in removed)
    document = {
        "dry_run": dry_run,
        "bytes": total,
        "removed": [{"path": str(each.path), "why": each.why, "bytes": each.size} for each in removed],
    }
    said = f"{len(removed)} {'would be ' if dry_run else ''}removed, {report.megabytes(total)}"
    print_result(document, lambda _: [said], json)


def _print_pins(pins: list[Pin], json: bool) -> None:
    document = {"artifacts": {pin.name: pin.to_dict() for pin in pins}}
    width = max((len(pin.name) for pin in pins), default=0)
    lines = [
        f"{pin.name:<{width}}  {pin.path}  {pin.digest[:12]}  {pin.reproducible:<11}  "
        f"{'-' if pin.coherence is None else f'{pin.coherence:.6f}'}"
        for pin in pins
    ]
    print_result(document, lambda _: lines or ["no names"], json)


def _row(done: Synced, relocked: bool) -> dict[str, Any]:
    return {
        "name": done.pin.name,
        "how": done.how,
        "digest": done.pin.digest,
        "lock_changed": relocked,
        "path": None if done.path is None else str(done.path),
        "url": done.url,
        "error": None if done.error is None else str(done.error),
    }


def _line(done: Synced, relocked: bool) -> str:
    source = f" from {done.url}" if done.url else ""
    lock = f"; the lock now has digest {done.pin.digest[:12]}" if relocked else ""
    return f"{done.pin.name}: {done.how}{source}, {done.path}{lock}"


def _amount(name: str, text: str, units: dict[str, int], like: str) -> int:
    """Read a number with a unit. Raises BadRequest."""
    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?) ?([A-Za-z]*)", text)
    if match is None or match[2] not in units:
        named = ", ".join(filter(None, units))
        raise BadRequest(
            f"{name} is {text!r}; allowed is a number below 10^9 with a unit, one of {named}: write {like}"
        )
    return int(float(match[1]) * units[match[2]])
