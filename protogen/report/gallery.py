"""A store as one page: each set with its size, its coherence beside the bound, its angles, and what trains on it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from protogen.bounds import Bound, coherence_bound, max_cos_bound
from protogen.checks import check_path
from protogen.errors import BadRequest, DiskError, NotFound
from protogen.files.disk import disk_error, temporary
from protogen.measuring.charts import charts, of_lines, of_points
from protogen.methods import METHODS
from protogen.methods.ebv import EBV
from protogen.store.pins import Pin, lock_path, read_lock
from protogen.store.store import Entry, Store

from .lines import megabytes
from .page import MARK, bar, details, element, histogram, page, text
from .record import entry_of

COLUMNS = 120  # of a histogram
LONGEST = 160  # characters of a closed form's label or of what is wrong with a file
NAME = "gallery.html"
LEGEND = (
    "A bar is the smallest angle as a share of the largest that the bound allows. A histogram has the angles of all "
    "pairs; the dashed lines are the bound: no set has its smallest angle beyond."
)
# What trains on the sets of a method: the head, what it is for, and how it is called.
COSINE = ("CosineHead", "cosine softmax", '({source}, "auto", learn_scale=True)')
MARGIN = ("MarginHead", "softmax with an angular margin", "({source})")
HEADS = {
    "ebv": COSINE,
    "fit": COSINE,
    "import": COSINE,
    "simplex": MARGIN,
    "orthoplex": MARGIN,
    "cube": MARGIN,
    "uniform": ("AssignmentHead", "classes choose their prototypes", "({source})"),
    "subcenters": ("SubcenterHead", "softmax over sub-centres", "({source})"),
}


@dataclass(frozen=True)
class Gallery:
    """A page that was written: where, how many sets of the store are on it, and how many of these cannot be read."""

    path: Path
    sets: int
    faulty: int
    bytes: int

    def to_dict(self) -> dict[str, Any]:
        """The page as the JSON document of the command."""
        return {"path": str(self.path), "sets": self.sets, "faulty": self.faulty, "bytes": self.bytes}


def write_gallery(
    path: str | Path = NAME, *, store: str | Path | None = None, lock: str | Path | None = None
) -> Gallery:
    """Write a store as one HTML file that asks for nothing from outside; only the headers of its files are read.

    - `path`: the file, which ends in .html; one that is there is replaced where it is such a page itself.
    - `store`: the directory, else PROTOGEN_STORE, else ./prototypes.
    - `lock`: whose names are shown, else PROTOGEN_LOCK, else ./protogen.lock where that is there.

    Raises BadRequest on another file, NotFound where there is no store, DiskError, and as `protogen.pins`.

    >>> import protogen
    >>> made = protogen.ensure("simplex", n=4)
    >>> protogen.write_gallery("sets.html").sets
    1
    """
    check_path("out", path)
    target, place = Path(path), Store.of(store)
    _check_target(target)
    if not place.root.exists():
        raise NotFound(f"{place.root}: no such store; name another with --store or PROTOGEN_STORE")
    names = lock_path(lock)
    pins = read_lock(names) if lock is not None or names.exists() else {}
    entries = place.entries()
    usual = place.root == Store.of(None).root and names == lock_path(None)
    content = gallery_page(place.root, entries, pins, usual).encode("utf-8", "replace")
    try:
        with temporary(target.parent) as part:
            part.write_bytes(content)
            part.replace(target)
    except OSError as error:
        raise disk_error(target, error, "by --out") from error
    return Gallery(target, len(entries), sum(entry.error is not None for entry in entries), len(content))


def _check_target(target: Path) -> None:
    """Raise BadRequest and DiskError where the page may not be written there."""
    if target.suffix.lower() != ".html":
        raise BadRequest(f"out is {str(target)!r}; allowed is a file name that ends in .html")
    if not target.parent.is_dir():
        raise DiskError(f"{target}: No such file or directory; name a place with room and permission")
    if target.is_file():
        try:
            with target.open("rb") as file:
                start = file.read(len(MARK) + 1)
        except OSError as error:
            raise disk_error(target, error, "by --out") from error
        if not start.startswith(MARK.encode()):
            raise BadRequest(f"{target}: is there, and no page of a gallery; name another file by --out, or remove it")


def gallery_page(root: Path, entries: Sequence[Entry], pins: Mapping[str, Pin], usual: bool) -> str:
    """Write the page of some artifacts; `usual`: the store and the lock are those that `protogen.pinned` reads."""
    names: dict[tuple[str, str], list[str]] = {}
    for pin in pins.values():
        names.setdefault((pin.spec.key, pin.digest), []).append(pin.name)
    sections, links, found = [], [], set()
    for method, group in groupby(entries, lambda entry: entry.name.method):
        sets = list(group)
        cards = []
        for entry in sets:
            own = names.get((entry.spec.key, entry.digest or ""), []) if entry.spec else []
            found.update(own)
            cards.append(_card(entry, own, usual))
        links.append(element("a", text(f"{method} {len(sets):,}"), href=f"#{method}"))
        head, what, _ = HEADS.get(method, COSINE)
        title = element("h2", text(method) + element("span", text(f" for {head}: {what}")))
        sections.append(element("section", title + element("div", "".join(cards), cls="sets"), id=method))
    size = sum(entry.size or 0 for entry in entries)
    said = f"{len(entries):,} sets, {megabytes(size)}, in {root}"
    top = element("h1", "Prototypes") + element("p", text(said), cls="about") + element("p", text(LEGEND), cls="beside")
    absent = [name for name in pins if name not in found]
    note = f"The lock asks for what is not here: {', '.join(absent)}; `protogen sync` brings it." if absent else ""
    return page(
        f"Prototypes in {root}",
        top + element("nav", "".join(links)) + (element("p", text(note), cls="note") if note else ""),
        "".join(sections) or element("p", "no artifacts"),
    )


def _card(entry: Entry, names: Sequence[str], usual: bool) -> str:
    """One artifact."""
    name, row = entry.name, entry_of(entry)
    title = element("h3", f"{name.n:,} <span>in</span> R<sup>{name.d:,}</sup>")
    title += "".join(element("span", text(each), cls="pin", title="its name in protogen.lock") for each in names)
    head = element("header", title)
    spec, made = entry.spec, entry.provenance
    if spec is None or made is None:
        said = element("p", text(f"{row['fault']}: {_short(row['error'])}"), cls="fault")
        return element("article", head + said + element("p", text(str(entry.path)), cls="path"), cls="faulty")
    lines = METHODS.get(spec.method, EBV).figure == "coherence"
    bound = (coherence_bound if lines else max_cos_bound)(name.d, name.n)
    drawn = ""
    if entry.stats is not None:
        mark = (of_lines if lines else of_points)(bound)
        drawn = "".join(map(histogram, charts(entry.stats, entry.facts.within_class, [mark], COLUMNS)))
    form = entry.facts.closed_form or entry.facts.construction
    facts = {
        "status": made.status,
        **({"formula": _short(form)} if form else {}),
        "made": f"{made.seconds:,.1f} s on {made.device}, {made.created[:10]}",
        "file": f"{megabytes(entry.size or 0)}, v{name.version}, key {name.key}",
        "path": str(entry.path),
    }
    figure = _figure(row["coherence"], bound, lines, entry.stats is not None)
    return element("article", head + figure + drawn + details(facts) + _trains(entry, names, usual))


def _figure(cosine: float | None, bound: Bound, lines: bool, measured: bool) -> str:
    """The cosine that counts beside the bound, in numbers and, as angles, in a bar."""
    kind = "coherence" if lines else "largest cosine"
    if cosine is None:
        return element("p", text(f"{kind} not measured"), cls="figure")
    angle, most = (math.degrees(math.acos(min(1.0, max(-1.0, value)))) for value in (cosine, bound.value))
    beside = f"{cosine / bound.value:.3f} times the" if bound.value > 0 else "the"
    said = element("strong", f"{cosine:.6f}") + text(f" {kind}{'' if measured else ', guaranteed'}")
    share = min(1.0, angle / most) if most > 0 else 1.0
    words = f"smallest angle {angle:.2f}° of at most {most:.2f}°"
    return (
        element("p", said, cls="figure")
        + element("p", text(f"{beside} bound {bound.value:.6f} ({bound.name})"), cls="beside")
        + bar(share, words)
        + element("p", text(words), cls="beside")
    )


def _trains(entry: Entry, names: Sequence[str], usual: bool) -> str:
    """What trains on a set: the head, and the lines of Python to paste."""
    head, _, call = HEADS.get(entry.name.method, COSINE)
    lines = [f"from protogen.nn import {head}"]
    if names and usual:
        lines.insert(0, "import protogen")
        source = f"protogen.pinned({_quoted(names[0])})"
    else:
        source = _quoted(str(entry.path))
    lines.append(f"head = {head}{call.format(source=source)}")
    return element("pre", element("code", text("\n".join(lines), keep="\n")), tabindex="0")


def _quoted(word: str) -> str:
    """Write a word in Python, in double quotes where it is plain."""
    return f'"{word}"' if repr(word) == f"'{word}'" else repr(word)


def _short(said: str) -> str:
    return said if len(said) <= LONGEST else f"{said[: LONGEST - 3]}..."
