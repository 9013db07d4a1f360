"""The commands that read a file: what it says, what is measured, whether the two agree."""

import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

from protogen import report
from protogen.errors import BadRequest, DiskError, IntegrityError, NotFound, SchemaError, Unmet
from protogen.files import verify as verifying
from protogen.files.verify import Verified
from protogen.measuring.stats import AngleStats
from protogen.report.difference import comparison, comparison_lines
from protogen.report.plot import save_png, terminal_lines
from protogen.rows import Rows
from protogen.store.store import Store, store_root

from .options import Device, File, Json, StoreOption, Tile, check_tile, print_result


def show(
    file: Annotated[str, typer.Argument(help="A safetensors file, or the URL of one.", show_default=False)],
    plot: Annotated[bool, typer.Option("--plot", help="Draw the histogram of angles, with the bounds marked.")] = False,
    png: Annotated[
        Path | None,
        typer.Option("--png", help="Write the histogram as a picture; needs the extra `plot`.", readable=False),
    ] = None,
    json: Json = False,
) -> None:
    """Say what a file says of itself; reads its header alone, also at a URL."""
    if plot and json:
        raise BadRequest("--plot with --json: one JSON document holds no drawing; it has the histogram under stats")
    shown = report.record_of(file)
    drawn = terminal_lines(shown, shutil.get_terminal_size().columns, sys.stdout.encoding) if plot else []
    if png is not None:
        save_png(shown, png)
    print_result(shown.to_dict(), lambda _: [*report.artifact_lines(shown), *drawn], json)


def stats(
    file: File,
    tensor: Annotated[str | None, typer.Option(help="Which tensor; else prototypes, or the only matrix.")] = None,
    device: Device = "cpu",
    tile: Tile = None,
    json: Json = False,
) -> None:
    """Measure the rows of any safetensors file over all pairs, scaled to length one."""
    from protogen.files.foreign import read_matrix

    check_tile(tile)
    rows = read_matrix(file, tensor)
    measured = _measure(rows, device, tile)
    n, d = rows.shape
    bounds = report.compare(d, n, measured)
    document = {
        "path": str(file),
        "d": d,
        "n": n,
        "stats": measured.to_dict(),
        "bounds": bounds.to_dict(),
    }
    print_result(
        document,
        lambda _: [f"{file}  d {d}  n {n}", *report.stats_lines(measured, bounds)],
        json,
    )


def verify(
    file: Annotated[Path | None, typer.Argument(help="A safetensors file.", show_default=False, readable=False)] = None,
    all_: Annotated[bool, typer.Option("--all", help="Check the digests of every file of the store.")] = False,
    full: Annotated[bool, typer.Option("--full", help="With --all: measure every file again, too.")] = False,
    device: Device = "cpu",
    tile: Tile = None,
    store: StoreOption = None,
    json: Json = False,
) -> None:
    """Check a file's digests, measure it again and compare with what it says; exit 1 where they differ."""
    check_tile(tile)
    if all_ == (file is not None) or (full and not all_):
        raise BadRequest("verify takes a file, which is measured, or --all for the store, with --full to measure it")
    if file is None:
        _verify_store(Store(store_root(store)), full, device, tile, json)
        return
    verified = _verified(file, device, tile)
    differences, measured = list(verified.differences), verified.stats
    assert measured is not None, "a full verification measures"
    document = {"path": str(file), "differences": differences, "stats": measured.to_dict()}
    print_result(
        document,
        lambda _: [] if differences else [f"{file}: is what it says, coherence {measured.coherence.value:.6f}"],
        json,
    )
    if differences:
        raise Unmet(f"{file}: {'; '.join(differences)}; do not trust it, generate it again")


def _verify_store(store: Store, full: bool, device: str, tile: int | None, json: bool) -> None:
    """Check all files; one line for each that is not sound.

    The worst makes the exit code: damaged, of a newer schema, unreadable, then differing.
    """
    if not store.root.exists():
        raise NotFound(f"{store.root}: no such store; name another with --store or PROTOGEN_STORE")
    entries = store.entries()
    damaged: dict[str, str] = {}
    newer: dict[str, str] = {}
    unreadable: dict[str, str] = {}
    differing: dict[str, list[str]] = {}
    for entry in entries:
        try:
            if entry.error is not None:
                raise entry.error
            verified = _verified(entry.path, device, tile) if full else verifying.verify(entry.path)
            if verified.differences:
                differing[str(entry.path)] = list(verified.differences)
        except SchemaError as error:
            newer[str(entry.path)] = str(error)
        except IntegrityError as error:
            damaged[str(entry.path)] = str(error)
        except DiskError as error:
            unreadable[str(entry.path)] = str(error)
        except NotFound:  # gone meanwhile
            pass
    document = {
        "store": str(store.root),
        "files": len(entries),
        "damaged": damaged,
        "newer": newer,
        "unreadable": unreadable,
        "differing": differing,
    }
    lines = [f"damaged: {error}" for error in damaged.values()]
    lines += [f"newer: {error}" for error in newer.values()]
    lines += [f"unreadable: {error}" for error in unreadable.values()]
    lines += [f"differs: {path}: {'; '.join(found)}" for path, found in differing.items()]
    faulty = f"{len(damaged)} damaged, {len(unreadable)} unreadable, {len(differing)} with other figures"
    said = f"{len(entries)} files, {faulty}" + (f", {len(newer)} of a newer schema" if newer else "")
    print_result(document, lambda _: [*lines, f"{store.root}: {said}"], json)
    if damaged:
        raise IntegrityError(
            f"{store.root}: {said}; `protogen sync`, or making them again with --force, sets them aside"
        )
    if newer:
        raise SchemaError(f"{store.root}: {said}", "upgrade protogen, and verify again")
    if unreadable:
        raise DiskError(f"{store.root}: {said}; give permission to read them, and verify again")
    if differing:
        raise Unmet(f"{store.root}: {said}; do not trust them, generate them again with --force")


def _verified(file: Path, device: str, tile: int | None) -> Verified:
    """Measure a file again and show how far it is. Raises as `protogen.files.verify.verify`."""
    from protogen.report.progress import Display

    with Display(quiet=False) as display:
        return verifying.verify(file, full=True, device=device, tile=tile, report=display.measuring)


def diff(
    one: File,
    other: File,
    json: Json = False,
) -> None:
    """Compare two artifacts: what was asked for, figures, content and rows; exit 1 where the content differs."""
    found = comparison(one, other)
    print_result(found.to_dict(), lambda _: comparison_lines(found), json)
    if not found.same:
        sys.exit(Unmet.exit_code)


def _measure(source: Rows, device: str, tile: int | None) -> AngleStats:
    """Measure rows and show how far it is. Raises BadRequest where the device is unknown or too small."""
    from protogen.measuring.geometry import pick_device
    from protogen.measuring.measure import measure
    from protogen.measuring.memory import check_memory, tile_bytes
    from protogen.report.progress import Display

    where, n = pick_device(device), source.shape[0]
    check_memory(f"n={n} with this --tile", tile_bytes(n, where, tile), where)
    with Display(quiet=False) as display:
        return measure(source, device, tile, display.measuring)
