"""Labels, Specs, locks and headers that were changed at random: tests and bench_store.py read them."""

import copy
import json
import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from forged import forged, joined

from protogen.catalog import FAMILIES, from_label, label
from protogen.errors import MOST, ProtogenError
from protogen.files.header import read_header
from protogen.files.reading import read
from protogen.methods import method_of, resolve
from protogen.methods.ebv import EBV
from protogen.spec import Spec, canonical_json
from protogen.store.pins import Pin, read_lock

Tree = dict[str, Any]

LABELS = (
    *("kerdock(k=3)", "mub(p=7)", "simplices(n=9,k=2)", "cyclic(m=7,s=[0.1.3])"),
    "projection(form=kerdock(k=2),columns=12)",
    "blow-up(form=simplex-lines(n=4),k=2)",
)
SPECS = (
    resolve("ebv", d=16, n=64, start="closed-form"),
    resolve("ebv", d=16, n=64, start="random", alpha=0.5),
    resolve("uniform", d=16, n=64, start="random", update="paper", batch=3),
    resolve("subcenters", d=16, n=64),
    resolve("fit", d=16, n=64, statistics="0" * 64, alpha=0.9),
    resolve("cube", d=16, n=64),
)
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 64, 2**31, 10**12, 10**12 + 1, 2**63 - 1, 2**63, 10**400, 0.0, -0.0, 0.5, 1e308),
    *(float("inf"), float("nan"), "", "random", "auto", "closed-form", "0" * 64, "x" * 100_000, "\x1b[2J\u202e\0"),
    *("../../x", "\ud800", [], {}, [[]] * 1000, {"a": {"b": []}}, "closed-form:kerdock(k=1000000007)", "capacity"),
    *(f"closed-form:{text}" for text in LABELS),
    "closed-form:" + "projection(form=" * 2000,
    "closed-form:" + "projection(form=" * 500 + "kerdock(k=2)" + ",columns=3)" * 500,
)
PIECES = (
    *("(", ")", "[", "]", "{", "}", ",", ":", "=", '"', "\\", ".", ";", "-", "0", "9" * 5000, "1e999", "NaN", "\x1b"),
    *("\u202e", "\0", "\n", "\u0661", "1000000007", "projection(form=", "kerdock(k=9)", "[" * 3000, "{}," * 3000),
)


@dataclass(frozen=True)
class Case:
    """Something that was changed, and what reads it: an error of protogen's, or it is what it says."""

    kind: str
    what: str
    read: Callable[[], None]


def changed_text(draw: random.Random, text: str) -> str:
    """Change a text in one to three places."""
    for _ in range(draw.randint(1, 3)):
        start = draw.randrange(len(text) + 1)
        stop = min(len(text), start + draw.randint(0, 12))
        more = text[start:stop] * draw.choice((2, 1000))
        put = draw.choice(("", draw.choice(PIECES), more, chr(draw.randrange(128))))
        text = text[:start] + put + text[stop:]
    return text


def changed_tree(draw: random.Random, tree: Any) -> Any:
    """Replace, remove or add values of a tree of JSON, in one to three places."""
    tree = copy.deepcopy(tree)
    for _ in range(draw.randint(1, 3)):
        within = draw.choice(list(_containers(tree)))
        keys = list(within) if isinstance(within, dict) else list(range(len(within)))
        how, value = draw.randrange(3), draw.choice(VALUES)
        if how == 0 and isinstance(within, dict):
            within[draw.choice(("x", "spec", "alpha", "ended", "\x1b", "y" * 9000))] = value
        elif how == 1 and keys:
            del within[draw.choice(keys)]
        elif keys:
            within[draw.choice(keys)] = value
    return tree


def _containers(tree: Any) -> Iterator[Any]:
    if isinstance(tree, dict | list):
        yield tree
        for value in tree.values() if isinstance(tree, dict) else tree:
            yield from _containers(value)


def cases(folder: Path, made: Path, seed: int, count: int) -> Iterator[Case]:
    """Yield so many cases, a quarter of each kind; `made` is an artifact of 64 rows in R^16, `folder` is written to."""
    draw, raw = random.Random(seed), made.read_bytes()
    kinds = {"label": _label, "spec": _spec, "lock": _lock, "header": _header}
    header = read_header(made)
    pins = {spec.method + spec.key: Pin(spec.key, spec, 1, header.digest, "exact", 0.5).to_dict() for spec in SPECS}
    for index in range(count):
        kind = list(kinds)[index % 4]
        path = folder / f"{kind}.safetensors"
        yield Case(kind, f"{kind} {index} of seed {seed}", kinds[kind](draw, path, raw, pins))


def _label(draw: random.Random, path: Path, raw: bytes, pins: Tree) -> Callable[[], None]:
    text = changed_text(draw, draw.choice((*LABELS, f"{draw.choice(list(FAMILIES))}(k=2)")))

    def read_it() -> None:
        form = from_label(text)
        assert label(form) == text
        assert form.own_d > 0
        assert form.own_n > 0
        assert math.isfinite(form.cosine)

    return read_it


def _spec(draw: random.Random, path: Path, raw: bytes, pins: Tree) -> Callable[[], None]:
    """An artifact whose Spec was changed, beside a check that is right: read, made anew, extended."""
    table, meta, data = _parts(raw)
    meta["spec"] = changed_tree(draw, {**draw.choice(SPECS).to_dict(), "version": draw.choice((1, 2, 7))})
    _write(path, table, meta, data)

    def read_it() -> None:
        spec = read_header(path).spec
        method = method_of(spec)
        assert method.peak_bytes(spec.d, spec.n) > 0
        assert method.file_bytes(spec.d, spec.n) > 0
        EBV(extends=str(path)).resolve(16, 65)

    return read_it


def _lock(draw: random.Random, path: Path, raw: bytes, pins: Tree) -> Callable[[], None]:
    document = {"schema": 1, "artifacts": dict(draw.sample(list(pins.items()), 3))}
    if draw.random() < 0.3:
        path.write_text(changed_text(draw, json.dumps(document)), encoding="utf-8")
    else:
        document = changed_tree(draw, document)
        for pin in document["artifacts"].values() if isinstance(document.get("artifacts"), dict) else ():
            if isinstance(pin, dict) and isinstance(pin.get("spec"), dict) and draw.random() < 0.8:
                pin["spec"] = changed_tree(draw, pin["spec"])
                _rekey(pin)
        path.write_text(_dumped(document), encoding="utf-8")

    def read_it() -> None:
        for pin in read_lock(path).values():
            method = method_of(pin.spec)
            assert method.peak_bytes(pin.spec.d, pin.spec.n) > 0

    return read_it


def _header(draw: random.Random, path: Path, raw: bytes, pins: Tree) -> Callable[[], None]:
    table, meta, data = _parts(raw)
    if draw.random() < 0.3:
        end = 8 + int.from_bytes(raw[:8], "little")
        path.write_bytes(joined(changed_text(draw, raw[8:end].decode()), data))
    else:
        meta["facts"]["closed_form"] = draw.choice(VALUES)
        tree = changed_tree(draw, {"table": table, "meta": meta})
        _write(path, tree.get("table"), tree.get("meta"), data)

    def read_it() -> None:
        found = read(path)
        assert found.digest == read_header(path).digest
        EBV(extends=str(path)).resolve(16, 65)

    return read_it


def _parts(raw: bytes) -> tuple[Tree, Tree, bytes]:
    end = 8 + int.from_bytes(raw[:8], "little")
    table = json.loads(raw[8:end])
    return table, json.loads(table.pop("__metadata__")["protogen"]), raw[end:]


def _write(path: Path, table: Any, meta: Any, data: bytes) -> None:
    """Write a file as `encode` would, with a check that is right where there can be one."""
    try:
        raw = forged(table, meta, data)
    except (AttributeError, TypeError, ValueError):  # trees that are no header's
        raw = joined(_dumped({"__metadata__": {"protogen": _dumped(meta)}, "x": table}), data)
    path.write_bytes(raw)


def _dumped(tree: Any) -> str:
    try:
        return json.dumps(tree)
    except ValueError:  # a number of more digits than text may have
        return json.dumps(str(type(tree)))


def _rekey(pin: Tree) -> None:
    """Give a pin the key that its Spec has, if it can have one."""
    try:
        pin["key"] = Spec.from_dict(pin["spec"]).key
        assert canonical_json(pin["spec"])
    except (LookupError, TypeError, AttributeError, ValueError):
        pass


def refusal(case: Case) -> str | None:
    """What is said of a case, in one line; None where it is read, as what it says."""
    try:
        case.read()
    except ProtogenError as error:
        message = str(error)
        assert message.isprintable(), (case.what, message)
        assert 0 < len(message) <= MOST + 10, (case.what, message)
        return message
    return None
