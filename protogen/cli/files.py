"""The commands that read a file: what it says, what is measured, whether the two agree."""

import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

from protogen import report
from protogen.errors import BadRequest, DiskError, IntegrityError, SchemaError, Unmet
from protogen.files import verify as verifying
from protogen.files.figures import measure_file
from protogen.files.verify import Verified
from protogen.ranks.launching import group_of_command
from protogen.report.difference import comparison, comparison_lines
from protogen.report.plot import save_png, terminal_lines
from protogen.store.keeping import verify_store
from protogen.store.store import Store

from .options import Device, File, Json, StoreOption, Tile, Transpose, print_result, tell

app = typer.Typer()


@app.command()
def show(
    file: Annotated[str, typer.Argument(help="A safetensors file, or the URL of one.", show_default=False)],
    plot: Annotated[bool, typer.Option("--plot", help="Draw the histogram of angles, with the bounds marked.")] = False,
    png: Annotated[
        Path | None,
        typer.Option("--png", help="Write the histogram as a picture; needs the extra `plot`.", readable=False),
    ] = None,
    json: Json = False,
) -> None:
    """Say what a file, or one at a URL, says of itself.

    Reads the header alone.
    """
    if plot and json:
        raise BadRequest("--plot with --json: one JSON document holds no drawing; it has the histogram under stats")
    shown = report.record_of(file)
    drawn = terminal_lines(shown, shutil.get_terminal_size().columns, sys.stdout.encoding) if plot else []
    if png is not None:
        save_png(shown, png)
    print_result(shown.to_dict(), lambda _: [*report.artifact_lines(shown), *drawn], json)


@app.command()
def stats(
    file: File,
    tensor: Annotated[str | None, typer.Option(help="Which tensor; else prototypes, or the only matrix.")] = None,
    transpose: Transpose = False,
    device: Device = "cpu",
    tile: Tile = None,
    json: Json = False,
) -> None:
    """Measure the rows of any matrix file over all pairs.

    Reads .safetensors, .npy and .pt. Rows are scaled to length one.
    """
    from protogen.report.progress import Display

    with Display(quiet=False) as display:
        rows, measured = measure_file(
            file,
            tensor,
            transpose=transpose,
            device=device,
            tile=tile,
            report=display.measuring,
            say=tell,
            group=group_of_command(),
        )
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


@app.command()
def verify(
    file: Annotated[Path | None, typer.Argument(help="A safetensors file.", show_default=False, readable=False)] = None,
    all_: Annotated[bool, typer.Option("--all", help="Check the digests of every file of the store.")] = False,
    full: Annotated[bool, typer.Option("--full", help="With --all: measure every file again, too.")] = False,
    device: Device = "cpu",
    tile: Tile = None,
    store: StoreOption = None,
    json: Json = False,
) -> None:
    """Check a file's digests, and measure it again.

    Exits with 1 where the figures differ from what the file says.
    """
    if all_ == (file is not None) or (full and not all_):
        raise BadRequest("verify takes a file, which is measured, or --all for the store, with --full to measure it")
    if file is None:
        _verify_store(Store.of(store), full, device, tile, json)
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
    from protogen.report.progress import Display

    with Display(quiet=not full) as display:
        found = verify_store(
            store.root, full=full, device=device, tile=tile, report=display.measuring, group=group_of_command()
        )
    damaged, newer, unreadable, differing = found.damaged, found.newer, found.unreadable, found.differing
    document = {
        "store": str(store.root),
        "files": found.files,
        "damaged": {str(path): error for path, error in damaged.items()},
        "newer": {str(path): error for path, error in newer.items()},
        "unreadable": {str(path): error for path, error in unreadable.items()},
        "differing": {str(path): list(what) for path, what in differing.items()},
    }
    lines = [f"damaged: {error}" for error in damaged.values()]
    lines += [f"newer: {error}" for error in newer.values()]
    lines += [f"unreadable: {error}" for error in unreadable.values()]
    lines += [f"differs: {path}: {'; '.join(what)}" for path, what in differing.items()]
    faulty = f"{len(damaged)} damaged, {len(unreadable)} unreadable, {len(differing)} with other figures"
    said = f"{found.files} files, {faulty}" + (f", {len(newer)} of a newer schema" if newer else "")
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
        return verifying.verify(
            file, full=True, device=device, tile=tile, report=display.measuring, group=group_of_command()
        )


@app.command()
def export(
    file: File,
    bits: Annotated[bool, typer.Option("--bits", help="One bit a coordinate: a one where it is negative.")] = False,
    to: Annotated[
        Path | None, typer.Option("--to", help="The .npy file to write; else FILE with .bits.npy.", readable=False)
    ] = None,
    json: Json = False,
) -> None:
    """Write the rows of a file as packed bits, where they are signs."""
    from protogen.files.bits import write_bits

    if not bits:
        raise BadRequest("export writes packed bits alone; add --bits")
    target = to or file.with_name(f"{file.name.removesuffix('.safetensors')}.bits.npy")
    n, d = write_bits(file, target)
    print_result(
        {"path": str(target), "n": n, "d": d, "bytes": n * -(-d // 8)},
        lambda _: [f"{target}: {n} rows of {d} bits, {-(-d // 8)} bytes a row"],
        json,
    )


@app.command()
def diff(
    one: File,
    other: File,
    json: Json = False,
) -> None:
    """Compare two artifacts: request, figures, content, rows.

    Exits with 1 where the content differs.
    """
    found = comparison(one, other)
    print_result(found.to_dict(), lambda _: comparison_lines(found), json)
    if not found.same:
        sys.exit(Unmet.exit_code)
