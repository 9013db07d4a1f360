"""Fixed classifier prototypes: n unit vectors in R^d, spread as well as anyone knows how."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .errors import ProtogenError
    from .files.prototypes import Prototypes
    from .generating import generate
    from .methods import resolve
    from .run import Run
    from .spec import Spec
    from .store.access import ensure
    from .store.fitting import fit
    from .store.loading import load

__all__ = ["ProtogenError", "Prototypes", "Run", "Spec", "ensure", "fit", "generate", "load", "resolve"]

_HOMES = {
    "ProtogenError": "errors",
    "Prototypes": "files.prototypes",
    "Run": "run",
    "Spec": "spec",
    "ensure": "store.access",
    "fit": "store.fitting",
    "generate": "generating",
    "load": "store.loading",
    "resolve": "methods",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
