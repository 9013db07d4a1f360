"""Fixed classifier prototypes: n unit vectors in R^d, spread as well as anyone knows how.

The way through:

    options -> Spec -> method -> Solution -> measuring -> Prototypes -> store -> load -> frozen buffer -> head and loss

The rooms, from the ground up; each imports from those before it alone:

    errors, spec    what a user can cause; what was asked for
    checks, bounds  checks of values; what no set can beat
    ranks/          processes that work on one thing: their exchange, their start, what they cost
    rows, run       rows in memory or by formula; how to compute
    measuring/      geometry, Gram tiles, statistics over all pairs
    files/          one safetensors file: names, header, records, reading, writing, verification, disk
    solution        what a method gives
    catalog/        closed forms, a family a file, and the choice among them
    descent/        losses, steppers, goals, checkpoints
    fitting/        statistics of the classes of data, codes pushed apart
    methods/        parameters and mathematics of each generator
    generating      Spec -> Prototypes, the only orchestration
    store/          a directory of immutable files: access, loading, pins (protogen.lock), turns, repair, prune
    sharing/        other places with the layout of a store: transport, remotes, sync
    capacity/       how many lines of a coherence fit
    nn/             frozen heads and losses
    demo/           training on real data
    report/         records for machines, lines and pictures for people, progress
    cli/            commands; all logic lies below

What every command does is one call here. Nothing here prints but `show_progress`: `Run.say` and the parameters named
`say` and `report` are told what there is to tell.

    make   resolve, ensure, generate, fit, extend, import_file, show_progress
                                                commands ebv, uniform, polytope, subcenters, fit, extend, import
    look   load, best, pinned, measure_file, verify, comparison, write_gallery    show, stats, verify, diff, gallery
    keep   artifacts, verify_store, pin, unpin, pins, cache_key, prune_store           list, lock, cache-key, prune
    share  push, pull, sync                                                                       push, pull, sync
    know   line_bounds, point_bounds, listing, search_capacity, plan                 bounds, catalog, capacity, plan
"""

import importlib
import importlib.util
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __version__: str

    from .bounds import line_bounds, point_bounds
    from .capacity.capacity import capacity as search_capacity
    from .errors import ProtogenError
    from .files.figures import measure_file
    from .files.prototypes import Prototypes
    from .files.verify import verify
    from .generating import generate
    from .methods import resolve
    from .ranks.plan import plan
    from .report.difference import comparison
    from .report.gallery import write_gallery
    from .report.progress import show_progress
    from .report.record import listing
    from .run import Run
    from .sharing.project import pull, push, sync
    from .spec import Spec
    from .store.access import ensure
    from .store.extending import extend
    from .store.fitting import fit
    from .store.importing import import_file
    from .store.keeping import artifacts, prune_store, verify_store
    from .store.loading import best, load, pinned
    from .store.pinning import pin, pins, unpin
    from .store.pins import cache_key

__all__ = [
    "ProtogenError",
    "Prototypes",
    "Run",
    "Spec",
    "artifacts",
    "best",
    "cache_key",
    "comparison",
    "ensure",
    "extend",
    "fit",
    "generate",
    "import_file",
    "line_bounds",
    "listing",
    "load",
    "measure_file",
    "pin",
    "pinned",
    "pins",
    "plan",
    "point_bounds",
    "prune_store",
    "pull",
    "push",
    "resolve",
    "search_capacity",
    "show_progress",
    "sync",
    "unpin",
    "verify",
    "verify_store",
    "write_gallery",
]

# Where each public name is defined, and its name there where that is another.
_HOMES = {
    "ProtogenError": "errors",
    "Prototypes": "files.prototypes",
    "Run": "run",
    "Spec": "spec",
    "artifacts": "store.keeping",
    "best": "store.loading",
    "cache_key": "store.pins",
    "comparison": "report.difference",
    "ensure": "store.access",
    "extend": "store.extending",
    "fit": "store.fitting",
    "generate": "generating",
    "import_file": "store.importing",
    "line_bounds": "bounds",
    "listing": "report.record",
    "load": "store.loading",
    "measure_file": "files.figures",
    "pin": "store.pinning",
    "pinned": "store.loading",
    "pins": "store.pinning",
    "plan": "ranks.plan",
    "point_bounds": "bounds",
    "prune_store": "store.keeping",
    "pull": "sharing.project",
    "push": "sharing.project",
    "resolve": "methods",
    "search_capacity": "capacity.capacity:capacity",
    "show_progress": "report.progress",
    "sync": "sharing.project",
    "unpin": "store.pinning",
    "verify": "files.verify",
    "verify_store": "store.keeping",
    "write_gallery": "report.gallery",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":  # looked up when it is asked for, which takes longer than all the rest here
        from importlib.metadata import version

        return version("protogen-codes")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}{_meant(name)}")
    home, _, inside = _HOMES[name].partition(":")
    value = getattr(importlib.import_module(f".{home}", __name__), inside or name)
    globals()[name] = value
    return value


def _meant(name: str) -> str:
    """What a name that is a method's was meant to be."""
    # `from protogen import cli` asks for an attribute first, and loads no methods for it.
    if name.startswith("_") or importlib.util.find_spec(f"{__name__}.{name}") is not None:
        return ""
    if name not in importlib.import_module(".methods", __name__).METHODS:
        return ""
    return f"; write {__name__}.ensure({name!r}, ...), or `protogen --help` for the commands"


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
