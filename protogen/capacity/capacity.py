"""How many lines fit: the largest n found for a given d and coherence, from the catalogue up to the bound.

Shen, Sun and Wei 2023, Equiangular Basis Vectors, supplement: Section 1 and Figure 1.
"""

import contextlib
import math
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from itertools import product
from pathlib import Path
from typing import Any

from protogen.bounds import LARGEST, TOLERANCE, Limit, max_lines
from protogen.catalog import LINES, Padded, choose, label
from protogen.checks import check_between, check_whole
from protogen.errors import BadRequest
from protogen.methods import resolve
from protogen.methods.ebv import EBV
from protogen.methods.method import MAX_SEED
from protogen.methods.start import CAPACITY, CLOSED_FORM, Start
from protogen.ranks.lead import led
from protogen.rows import InMemory, Rows
from protogen.run import Run
from protogen.spec import Spec, Value
from protogen.store.access import ensure_path
from protogen.store.store import Store
from protogen.store.turns import alone

from .journal import Probe
from .search import Search

STEPS = 500
WORK = 4e9  # multiplications of one pass, up to which n is tried where no max_n says how far


class End(StrEnum):
    """Why a search ended; the value is what the user reads."""

    MAXIMUM = "the maximum"
    CAPPED = "found, as many as max-n allows"
    CLOSED = "found"
    COSTLY = "found; no more were tried without max-n"
    TIME_LIMIT = "found so far: time limit, the same again goes on"


@dataclass(frozen=True)
class Capacity:
    """The most lines found for d and alpha, and how.

    `limit` is the upper bound, None where it lies above 10^12. `closed_form` names the set unless a
    descent made it; `path` is its file, if it has one.
    """

    d: int
    alpha: float
    n: int
    end: End
    limit: Limit | None
    max_n: int | None
    closed_form: str | None
    path: Path | None
    probes: tuple[Probe, ...]

    def to_dict(self) -> dict[str, Any]:
        """The record as plain JSON values."""
        more = {"maximum": self.end is End.MAXIMUM, "seconds": sum(probe.seconds for probe in self.probes)}
        return {**asdict(self), "path": self.path and str(self.path), **more}


def capacity(
    d: int,
    alpha: float,
    *,
    max_n: int | None = None,
    steps: int = STEPS,
    seed: int = 0,
    run: Run | None = None,
    store: str | Path | None = None,
    start: Path | None = None,
    save: bool = False,
    say: Callable[[str], None] | None = None,
) -> Capacity:
    """Search the largest n with n lines in R^d of coherence at most alpha, to 10^-6; never above the bound.

    1. The search starts from the closed form with the most lines, or from an artifact that has more.
    2. A probe adds vectors to the best set so far. It descends with these alone, then with all vectors, then
       drops vectors until no pair violates alpha.
    3. Each finished probe is kept in the store: the same call goes on after the last one. Once the search is
       done, the same call answers at once.
    4. A set that a descent made is published.

    - `max_n`: the most lines that are tried; None: as many as one pass of WORK multiplications allows.
    - `steps`: the most passes of each descent.
    - `run`: how to compute; its `time_limit` is that of this call.
    - `start`: an artifact to start from.
    - `save`: publish a closed form too.
    - `say`: called with a line where a search goes on or starts anew.

    Raises BadRequest and DiskError.

    >>> import protogen
    >>> cell = protogen.search_capacity(7, 1 / 3)
    >>> cell.n
    28
    """
    run = how = Run.given(run)
    _check_how(max_n, steps, seed, run)
    check(d, alpha)
    return led(run.group, lambda: _capacity(d, alpha, max_n, steps, seed, how, store, start, save, say))


def _capacity(
    d: int,
    alpha: float,
    max_n: int | None,
    steps: int,
    seed: int,
    run: Run,
    store: str | Path | None,
    start: Path | None,
    save: bool,
    say: Callable[[str], None] | None,
) -> Capacity:
    """Do what `capacity` says, on rank 0 where the run has a group."""
    limit = max_lines(d, alpha)
    top = min(limit.n if limit else LARGEST, max_n or LARGEST)
    known, origin = most_by_formula(d, alpha, top)
    if start is not None:
        known, origin = max((known, origin), _artifact(start, d, alpha, top), key=lambda each: each[0].shape[0])
    params: dict[str, Value] = {
        "alpha": float(alpha),
        "start": CAPACITY,
        "from": origin,
        "steps": steps,
        "max_n": max_n,
    }
    spec = Spec.of(EBV.name, EBV.version, d=d, n=known.shape[0], seed=seed, params=params)
    reach = top if max_n else min(top, math.isqrt(int(WORK / d)))
    place = Store.of(store)
    search = Search(spec, known, reach, run, place, say or (lambda _: None))
    path = _go(search, spec, known, place, say)
    form = origin if path is None else None
    if path is None and save:
        asked = resolve(EBV.name, d=d, n=spec.n, start=CLOSED_FORM)
        form = Start.parse(str(asked.options["start"])).form
        path = ensure_path(asked, run, store=store)
    return Capacity(d, float(alpha), search.n, _end(search, limit, max_n), limit, max_n, form, path, search.probes)


def most_by_formula(d: int, alpha: float, top: int) -> tuple[Rows, str]:
    """Return the most lines, up to top, that the catalogue has in R^d within alpha, and their label."""

    def fits(n: int) -> bool:
        form = choose(LINES, d, n)
        return form is not None and form.cosine <= alpha + TOLERANCE

    low, step = min(d, top), 1
    while low + step <= top and fits(low + step):
        low, step = low + step, 2 * step
    n = low + bisect_left(range(low + 1, min(low + step, top + 1)), True, key=lambda n: not fits(n))
    form = choose(LINES, d, n)
    assert form is not None, "n <= d lines are orthonormal"
    return Padded(form, n, d), label(form)


def _check_how(max_n: int | None, steps: int, seed: int, run: Run) -> None:
    """Raise BadRequest on values of the options that none can have."""
    check_whole("steps", steps, 1)
    check_whole("seed", seed, 0, MAX_SEED)
    if max_n is not None:
        check_whole("max-n", max_n, 2, LARGEST)
    if run.device != "cpu":  # which needs no torch
        from protogen.measuring.geometry import pick_device

        pick_device(run.device)


def _go(search: Search, spec: Spec, known: Rows, place: Store, say: Callable[[str], None] | None) -> Path | None:
    """Search, one process at a time; return the file of the set, or None where a closed form has as many lines."""
    path = None
    with alone(place.root, spec.key, say=say) if search.following() else contextlib.nullcontext():
        search.go()
        if search.n > spec.n or isinstance(known, InMemory):
            path = search.publish()
        search.close()
    return path


def sweep(dimensions: Sequence[int], alphas: Sequence[float], **options: Any) -> Iterator[Capacity]:
    """Yield the capacity of each d and alpha, rising, with the options of `capacity`.

    A set for a smaller d or alpha serves as it is: each search starts from the largest of those before,
    so that n never falls with d or alpha. All of the grid is checked before any work.
    """
    for d, alpha in product(dimensions, alphas):
        check(d, alpha)
    done: list[Capacity] = []
    for d, alpha in product(sorted(set(dimensions)), sorted(set(alphas))):
        fit = [cell for cell in done if cell.closed_form is None and cell.d <= d and cell.alpha <= alpha]
        start = max(fit, key=lambda cell: cell.n).path if fit else None
        done.append(capacity(d, alpha, start=start, **options))
        yield done[-1]


def check(d: int, alpha: float) -> None:
    """Raise BadRequest unless d is a dimension and alpha a coherence that can be asked for."""
    check_whole("d", d, 2, LARGEST)
    check_between("alpha", alpha, 0, 1)


def _artifact(path: Path, d: int, alpha: float, top: int) -> tuple[Rows, str]:
    """The vectors of an artifact, up to top, in R^d, and its digest. Raises BadRequest where they do not fit."""
    from torch.nn.functional import pad

    from protogen.files.reading import read

    made = read(path)
    coherence = EBV.rank(made.stats, made.facts)
    if made.d > d or coherence > alpha + TOLERANCE or len(made.source.shape) > 2:
        raise BadRequest(
            f"{path}: has d={made.d}, coherence {coherence:.6f}; allowed to start from are one vector a class, "
            f"d at most {d} and coherence at most {alpha}"
        )
    return InMemory(pad(made.rows(0, min(made.n, top)), (0, d - made.d))), str(made.digest)


def _end(search: Search, limit: Limit | None, max_n: int | None) -> End:
    if limit and search.n == limit.n:
        return End.MAXIMUM
    if search.n == max_n:
        return End.CAPPED
    if search.following() is not None:
        return End.TIME_LIMIT
    return End.COSTLY if search.missed is None else End.CLOSED
