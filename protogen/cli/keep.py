"""The commands about the store."""

from .. import report
from ..store import Store, store_root
from .options import Json, StoreOption, print_result


def list_(store: StoreOption = None, json: Json = False) -> None:
    """List the artifacts of a store."""
    rows = [report.entry_of(entry) for entry in Store(store_root(store)).entries()]
    print_result({"store": str(store_root(store)), "artifacts": rows}, lambda _: report.entry_lines(rows), json)
