"""The catalogue at full size: run by hand, `python tests/benchmarks/bench_catalog.py [table thousand random agree]`.

`table`: sizes of every family, built and measured; `thousand`: `protogen ebv` with defaults at n = 1000;
`random`: how far the best closed form lies from the bound over 2,000 random sizes; `agree`: what is
listed first is built and measured at 300 random sizes. The machine should have nothing else to do.
"""

import math
import random
import statistics
import sys
import time

import torch

from protogen.bounds import coherence_bound
from protogen.catalog import LINES, ClosedForm, Padded, choose, label
from protogen.generating import generate
from protogen.measuring.measure import measure
from protogen.methods import resolve
from protogen.rows import InMemory, Rows

TABLE = [
    (64, 1000),
    (100, 1000),
    (200, 1000),
    (256, 10_000),
    (500, 1000),
    (300, 1000),
    (400, 1000),
    (512, 10_000),
    (950, 1000),
    (512, 100_000),
    (1000, 100_000),
    (1024, 525_312),
    (1024, 10_000_000),
    (2048, 21_841),
    (5000, 100_000),
]
ALL_PAIRS = 2e10  # up to so many every pair is measured, beyond 1,000 random rows against all
AUTHORS = {100: 0.1350, 200: 0.0800, 300: 0.0580, 400: 0.0440, 500: 0.0350, 1000: 0.0004}


def coherence(form: ClosedForm, n: int, d: int) -> float:
    """The coherence of the first n vectors over all pairs."""
    return measure(InMemory.of(Padded(form, n, d))).coherence.value


def sampled(source: Rows, samples: int = 1000) -> float:
    """The largest |cos| of random rows with all others."""
    n = source.shape[0]
    index = torch.randint(n, (samples,), generator=torch.Generator().manual_seed(0)).unique()
    rows = torch.cat([source.rows(i, i + 1) for i in index.tolist()])
    largest = 0.0
    for start in range(0, n, 8192):
        stop = min(start + 8192, n)
        cosines = rows @ source.rows(start, stop).T
        here = ((index >= start) & (index < stop)).nonzero()[:, 0]
        cosines[here, index[here] - start] = 0
        largest = max(largest, float(cosines.abs().max()))
    return largest


def table() -> None:
    print(f"{'d':>5} {'n':>9} {'bound':>8} {'guaranteed':>10} {'ratio':>6} {'measured':>10} {'over':>12} {'s':>6}  by")
    for d, n in TABLE:
        form, bound = choose(LINES, d, n), coherence_bound(d, n).value
        assert form is not None
        began = time.perf_counter()
        if n * (n - 1) / 2 <= ALL_PAIRS:
            measured, over = coherence(form, n, d), "all pairs"
        else:
            measured, over = sampled(Padded(form, n, d)), "1,000 rows"
        seconds = time.perf_counter() - began
        met = "" if measured <= form.cosine + 1e-6 else "  NOT KEPT"
        print(
            f"{d:>5} {n:>9} {bound:8.5f} {form.cosine:10.6f} {form.cosine / bound:6.3f} {measured:10.6f} {over:>12} "
            f"{seconds:6.1f}  {label(form)}{met}",
            flush=True,
        )


def thousand() -> None:
    print(f"{'d':>5} {'coherence':>10} {'ratio':>6} {'authors':>8} {'s':>6}  start; status")
    for d in sorted([*AUTHORS, 128, 256, 350, 512, 768, 950, 990]):
        began = time.perf_counter()
        spec = resolve("ebv", d=d, n=1000)
        made = generate(spec)
        seconds = time.perf_counter() - began
        assert made.stats is not None
        found, bound = made.stats.coherence.value, coherence_bound(d, 1000).value
        ratio = f"{found / bound:6.3f}" if bound else "     -"
        theirs = f"{AUTHORS[d]:8.4f}" if d in AUTHORS else "       -"
        print(
            f"{d:>5} {found:10.6f} {ratio} {theirs} {seconds:6.1f}  {spec.options['start']}; {made.provenance.status}",
            flush=True,
        )


def random_sizes() -> None:
    drawn = random.Random(0)
    sizes = [(d, drawn.randint(d + 1, 10 * d)) for d in (drawn.randint(32, 2048) for _ in range(2000))]
    began = time.perf_counter()
    chosen = [(d, n, choose(LINES, d, n)) for d, n in sizes]
    seconds = time.perf_counter() - began
    ratios = [(form.cosine if form else 1.0) / coherence_bound(d, n).value for d, n, form in chosen]
    print(f"2000 sizes in {seconds:.1f} s: {_summary(ratios)}; no closed form at {sum(not f for *_, f in chosen)}")
    families: dict[str, list[float]] = {}
    for (*_, form), ratio in zip(chosen, ratios, strict=True):
        families.setdefault(form.family if form else "none", []).append(ratio)
    for name, own in sorted(families.items(), key=lambda item: -len(item[1])):
        print(f"  {name:<20} chosen at {len(own):>4}: {_summary(own)}")
    for low, high in ((1, 1.1), (1.1, 1.5), (1.5, 2), (2, 3), (3, 5), (5, 10)):
        own = [ratio for (d, n, _), ratio in zip(chosen, ratios, strict=True) if low < n / d <= high]
        print(f"  {low} d < n <= {high} d".ljust(21) + f"{len(own):>11} sizes: {_summary(own)}")
    for low, high in ((32, 64), (64, 128), (128, 256), (256, 512), (512, 1024), (1024, 2049)):
        own = [ratio for (d, *_), ratio in zip(chosen, ratios, strict=True) if low <= d < high]
        print(f"  {low} <= d < {high}".ljust(21) + f"{len(own):>11} sizes: {_summary(own)}")


def _summary(ratios: list[float]) -> str:
    within = [sum(ratio <= limit for ratio in ratios) / len(ratios) for limit in (1.1, 1.25)]
    return (
        f"median ratio {statistics.median(ratios):.3f}, within 1.10 {within[0]:.1%}, within 1.25 {within[1]:.1%}, "
        f"largest {max(ratios):.2f}"
    )


def agree() -> None:
    drawn = random.Random(1)
    sizes = [(777, 12_345), *((d, drawn.randint(d + 1, 20_000)) for d in (drawn.randint(4, 600) for _ in range(299)))]
    beyond, worst, families, began = [], -math.inf, set(), time.perf_counter()
    for d, n in sizes:
        form = choose(LINES, d, n)
        if form is None:
            beyond.append((d, n))
            continue
        families.add(form.family)
        measured = coherence(form, n, d)
        worst = max(worst, measured - form.cosine)
        assert measured <= form.cosine + 1e-6, (d, n, label(form), measured)
        if (d, n) == sizes[0]:
            print(f"{sizes[0]}: {label(form)} guarantees {form.cosine:.6f}, measured {measured:.6f}")
    print(
        f"{len(sizes)} sizes in {time.perf_counter() - began:.0f} s: measured is at most {worst:.1e} above what was "
        f"guaranteed; {', '.join(sorted(families))}; beyond every family: {beyond or 'none'}"
    )


PARTS = {"table": table, "thousand": thousand, "random": random_sizes, "agree": agree}

if __name__ == "__main__":
    for part in sys.argv[1:] or PARTS:
        PARTS[part]()
