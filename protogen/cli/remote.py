"""The commands between a store and its remotes."""

import re
from collections.abc import Iterable
from pathlib import Path, PurePath
from typing import Annotated

import typer

from protogen.errors import BadRequest
from protogen.files.header import Header
from protogen.files.names import parse_path
from protogen.sharing.remotes import Remote, fetch, find_header, remotes
from protogen.sharing.remotes import push as upload
from protogen.store.repair import set_aside
from protogen.store.store import Store, store_root
from protogen.store.turns import alone

from .options import Json, RemoteOption, StoreOption, print_result


def push(
    files: Annotated[list[Path], typer.Argument(help="Files of a store.", show_default=False, readable=False)],
    remote: RemoteOption = None,
    json: Json = False,
) -> None:
    """Upload files of a store under their own names to the first remote; what is there is never overwritten."""
    place = _places(remote)[0]
    _tell(((file, "pushed" if upload(file, place) else "there already") for file in files), json)


def pull(
    names: Annotated[
        list[str], typer.Argument(help="<method>/d<d>-n<n>/v<k>-<key>.safetensors, or its URL.", show_default=False)
    ],
    remote: RemoteOption = None,
    store: StoreOption = None,
    json: Json = False,
) -> None:
    """Download artifacts into the store from the first remote that has them; their digests are checked."""
    place = Store(store_root(store))
    _tell((_pull(name, remote, place) for name in names), json)


def _places(remote: list[str] | None) -> tuple[Remote, ...]:
    places = remotes(remote or ())
    if not places:
        raise BadRequest("no remote is given; name one with --remote, or some in PROTOGEN_REMOTE")
    return places


def _pull(name: str, remote: list[str] | None, store: Store) -> tuple[Path, str]:
    """Have an artifact in the store, and say where and how it came there."""
    named = parse_path(Path(name))
    if named is None:
        raise BadRequest(f"{name}: no artifact's path; allowed is <method>/d<d>-n<n>/v<k>-<key>.safetensors, or a URL")
    path = PurePath(*PurePath(name).parts[-3:])
    places = (Remote.of(re.sub(r"(/+[^/]+){3}$", "", name)),) if "://" in name else _places(remote)
    header = find_header(path, places)
    with alone(store.root, header.spec.key):
        if held := store.holding(header.spec, header.digest):
            set_aside(store, held)
            if held.exists():
                return held, "there already"

        def fill(target: Path) -> Header:
            return fetch(path, header.digest, target, places).header

        return store.receive(header.spec, named.version, fill), "pulled"


def _tell(done: Iterable[tuple[Path, str]], json: bool) -> None:
    """Say of each file what became of it, as soon as it is known."""
    rows = []
    for path, outcome in done:
        rows.append({"path": str(path), "outcome": outcome})
        if not json:
            print(f"{path}: {outcome}", flush=True)
    if json:
        print_result({"files": rows}, lambda _: [], json)
