"""The command that draws a store as a page."""

from pathlib import Path
from typing import Annotated

import typer

from protogen.report.gallery import NAME, write_gallery

from .options import Json, Quiet, StoreOption, print_result

app = typer.Typer()


@app.command()
def gallery(
    out: Annotated[Path, typer.Option("--out", help="The .html file to write.", readable=False)] = Path(NAME),
    lock: Annotated[
        Path | None,
        typer.Option("--lock", help="Whose names are shown; else PROTOGEN_LOCK, else ./protogen.lock.", readable=False),
    ] = None,
    store: StoreOption = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Draw a store as one HTML page: coherence, angles, pins, heads.

    The page stands alone and is made of the headers of the files: the size of each set, its coherence beside the
    bound, a histogram of its angles, its names in the lock, and the Python lines that train on it.
    """
    written = write_gallery(out, store=store, lock=lock)
    faulty = f", {written.faulty} of which cannot be read" if written.faulty else ""
    said = f"{written.path}: {written.sets:,} sets{faulty}, {written.bytes / 1e6:,.2f} MB; open it in a browser"
    print_result(written.to_dict(), lambda _: [said], json, quiet)
