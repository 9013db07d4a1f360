"""The commands between a store and its remotes."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from protogen.sharing import project
from protogen.store.store import Store

from .options import Json, RemoteOption, StoreOption, print_line, print_result, tell

app = typer.Typer()


@app.command()
def push(
    files: Annotated[list[Path], typer.Argument(help="Files of a store.", show_default=False, readable=False)],
    remote: RemoteOption = None,
    json: Json = False,
) -> None:
    """Upload files of a store to the first remote.

    Files keep their names. What is there is never overwritten.
    """
    outcomes = {True: "pushed", False: "there already"}
    _tell(((file, outcomes[project.push(file, remotes=remote or ())]) for file in files), json)


@app.command()
def pull(
    names: Annotated[
        list[str], typer.Argument(help="<method>/d<d>-n<n>/v<k>-<key>.safetensors, or its URL.", show_default=False)
    ],
    remote: RemoteOption = None,
    store: StoreOption = None,
    json: Json = False,
) -> None:
    """Download artifacts into the store from the first remote.

    The first remote that has one is taken. Digests are checked.
    """
    place, outcomes = Store.of(store), {True: "pulled", False: "there already"}
    pulled = (project.pull_new(name, remote or (), place, tell) for name in names)
    _tell(((path, outcomes[new]) for path, new in pulled), json)


def _tell(done: Iterable[tuple[Path, str]], json: bool) -> None:
    """Say of each file what became of it, as soon as it is known."""
    rows = []
    for path, outcome in done:
        rows.append({"path": str(path), "outcome": outcome})
        if not json:
            print_line(f"{path}: {outcome}")
    if json:
        print_result({"files": rows}, lambda _: [], json)
