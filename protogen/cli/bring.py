"""The command that brings a set of another program into the store."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from protogen import report

from .options import Device, Json, Quiet, StoreOption, Tile, Transpose, print_result, run_of, tell

app = typer.Typer()


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="A .safetensors, .npy or .pt file.", show_default=False, readable=False)],
    tensor: Annotated[str | None, typer.Option(help="Which tensor; else prototypes, or the only matrix.")] = None,
    transpose: Transpose = False,
    normalize: Annotated[bool, typer.Option("--normalize", help="Scale vectors of any length to length one.")] = False,
    device: Device = "cpu",
    tile: Tile = None,
    store: StoreOption = None,
    json: Json = False,
    quiet: Quiet = False,
    force: Annotated[bool, typer.Option("--force", help="Measure again though the store has it.")] = False,
) -> None:
    """Bring another program's vectors into the store, measured.

    Vectors of length one stay bit for bit. The file of the store has the digest and the name of the one that it
    comes from.
    """
    from protogen.report.progress import Display
    from protogen.store.importing import import_with

    with Display(quiet) as display:
        run = replace(run_of(device, tile), measuring=display.measuring, say=tell)
        shown = import_with(report.record_of, file, tensor, transpose, normalize, run, store, force)
    print_result(shown.to_dict(), lambda _: report.artifact_lines(shown), json, quiet)
