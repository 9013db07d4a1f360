"""The commands that read a file: what it says, what is measured, whether the two agree."""

import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

from .. import report
from ..errors import BadRequest, Unmet
from ..plot import save_png, terminal_lines
from ..solution import Rows
from ..stats import AngleStats
from .options import Device, File, Json, Tile, check_tile, print_result


def show(
    file: File,
    plot: Annotated[bool, typer.Option("--plot", help="Draw the histogram of angles, with the bounds marked.")] = False,
    png: Annotated[
        Path | None, typer.Option("--png", help="Write the histogram as a picture; needs the extra `plot`.")
    ] = None,
    json: Json = False,
) -> None:
    """Say what a file says of itself; reads its header alone."""
    if plot and json:
        raise BadRequest("--plot with --json: one JSON document holds no drawing; it has the histogram under stats")
    record = report.record_of(file)
    drawn = terminal_lines(record, shutil.get_terminal_size().columns, sys.stdout.encoding) if plot else []
    if png is not None:
        save_png(record, png)
    print_result(record, lambda shown: [*report.artifact_lines(shown), *drawn], json)


def stats(
    file: File,
    tensor: Annotated[str | None, typer.Option(help="Which tensor; else prototypes, or the only matrix.")] = None,
    device: Device = "cpu",
    tile: Tile = None,
    json: Json = False,
) -> None:
    """Measure the rows of any safetensors file over all pairs, scaled to length one."""
    from ..matrix import read_matrix

    check_tile(tile)
    rows = read_matrix(file, tensor)
    measured = _measure(rows, device, tile).to_dict()
    n, d = rows.shape
    document = {
        "path": str(file),
        "d": d,
        "n": n,
        "stats": measured,
        "bounds": report.compare(d, n, measured),
    }
    print_result(
        document,
        lambda shown: [f"{file}  d {d}  n {n}", *report.stats_lines(measured, shown["bounds"])],
        json,
    )


def verify(file: File, device: Device = "cpu", tile: Tile = None, json: Json = False) -> None:
    """Check a file's digests, measure it again and compare with what it says; exit 1 where they differ."""
    from ..prototypes import read

    check_tile(tile)
    prototypes = read(file)
    measured = _measure(prototypes.source, device, tile)
    differences = report.differences(prototypes.stats, measured, prototypes.facts)
    if "within_class" in prototypes.facts:
        recorded = AngleStats.from_dict(prototypes.facts["within_class"])
        within = _measure(prototypes.source, device, tile, within=True)
        differences += [f"within a class {what}" for what in report.differences(recorded, within, {})]
    document = {"path": str(file), "differences": differences, "stats": measured.to_dict()}
    print_result(
        document,
        lambda _: [] if differences else [f"{file}: is what it says, coherence {measured.coherence.value:.6f}"],
        json,
    )
    if differences:
        raise Unmet(f"{file}: {'; '.join(differences)}; do not trust it, generate it again")


def _measure(source: Rows, device: str, tile: int | None, within: bool = False) -> AngleStats:
    """Measure rows and show how far it is. Raises BadRequest where the device is unknown or too small."""
    from ..display import Display
    from ..geometry import pick_device
    from ..measure import measure
    from ..pipeline import check_memory, tile_bytes

    where, n = pick_device(device), source.shape[0]
    check_memory(f"n={n} with this --tile", tile_bytes(n, where, tile), where)
    with Display(quiet=False) as display:
        return measure(source, device, tile, display.measuring, within=within)
