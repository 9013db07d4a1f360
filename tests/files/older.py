"""What must hold of a store that an older protogen has made: run as a program with this protogen on its path.

The working directory has `prototypes` and `protogen.lock`. The result is one JSON document on stdout.
"""

import contextlib
import io
import json
import sys
from pathlib import Path

import protogen
from protogen import cli, generating
from protogen.files.header import read_header
from protogen.files.reading import read
from protogen.files.verify import verify
from protogen.store.store import Store

STORE = Store(Path("prototypes"))


def command(*words: object) -> tuple[int, str]:
    """Run a command in this process; return its exit code and what it printed on stdout."""
    sys.argv, out = ["protogen", *map(str, words)], io.StringIO()
    with contextlib.redirect_stdout(out):
        try:
            cli.main()
        except SystemExit as end:
            return int(end.code or 0), out.getvalue()
    raise AssertionError("a command ends by SystemExit")


def tree() -> dict[str, str]:
    """The content of each file of the store, in hex."""
    return {str(path): path.read_bytes().hex() for path in sorted(STORE.root.rglob("*")) if path.is_file()}


def extended(path: Path) -> dict[str, object]:
    """Extend an artifact by two vectors."""
    before = read(path)
    code, out = command("extend", path, "--n", before.n + 2, "--steps", 3, "--json")
    made = read(json.loads(out)["path"])
    return {
        "code": code,
        "kept": bool((made.tensor[: before.n] == before.tensor).all()),
        "schema": read_header(str(made.path)).schema,
        "figures": sorted(made.stats.to_dict()) if made.stats else [],
        "stats": made.stats.to_dict() if made.stats else {},
    }


def ensured() -> list[bool]:
    """Whether each artifact's Spec gives that artifact, with no set made."""
    made, generating.make = generating.make, None  # type: ignore[assignment]
    try:
        return [protogen.ensure(e.spec).path == e.path for e in STORE.entries() if e.spec is not None]
    finally:
        generating.make = made


def main() -> None:
    before, entries = tree(), STORE.entries()
    paths = [entry.path for entry in entries]
    random = next(path for path in paths if path.parent.name == "d12-n30")
    found: dict[str, object] = {
        "errors": [str(entry.error) for entry in entries if entry.error is not None],
        "read": [read(path, full=True).digest == read_header(path).digest for path in paths],
        "differences": [list(verify(path, full=True).differences) for path in paths],
        "figures": [
            sorted(name for name, value in e.stats.to_dict().items() if value is None) for e in entries if e.stats
        ],
        "ensured": ensured(),
        "listed": [row.get("fault") for row in json.loads(command("list", "--json")[1])["artifacts"]],
        "shown": [command("show", path)[0] for path in paths],
        "diff": [command("diff", paths[0], other)[0] for other in paths[:2]],
        "verified": command("verify", "--all", "--full", "--json")[0],
        "synced": [each["how"] for each in json.loads(command("sync", "--json")[1])["artifacts"]],
        "fetched": json.loads(command("sync", "--json", "--store", "other", "--remote", "prototypes")[1])["artifacts"],
        "pruned": [each["path"] for each in json.loads(command("prune", "--dry-run", "--json")[1])["removed"]],
        "unchanged": tree() == before,
    }
    found["extended"] = extended(random)
    found["kept"] = before.items() <= tree().items()
    found["quarantine"] = (STORE.root / ".quarantine").exists()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
