"""Count where an answer rises with more room: python tests/benchmarks/bench_monotone.py [PAIRS] [SEED] [SEARCHES].

Draws pairs of sizes (d, n) and (d', n') with d' >= d and n' <= n, and compares the cosines that each
family of closed forms answers with. Then draws (d, alpha), and looks for closed forms with more lines than
`protogen capacity` takes from the catalogue, up to the bound. Prints each fault, then the counts. 20,000 pairs
take about four minutes, 500 searches two.
"""

import random
import sys

from protogen.bounds import LARGEST, TOLERANCE, max_lines
from protogen.capacity.capacity import most_by_formula
from protogen.catalog import LINES, POINTS, choose, label

LARGER = 25  # numbers of lines that are looked up beside each search


def rises(drawn: random.Random, pairs: int) -> None:
    """Print where a family's cosine rises though d grows and n falls."""
    count, answers = 0, 0
    for _ in range(pairs):
        d = round(2 ** drawn.uniform(1, 11))
        n = max(2, round(d * 2 ** drawn.uniform(-1, 8)))
        wider = d + drawn.choice([0, 1, drawn.randint(0, d)])
        fewer = max(2, n - drawn.choice([0, 1, drawn.randint(0, n // 2)]))
        for family in LINES + POINTS:
            form, other = family.reach(d, n), family.reach(wider, fewer)
            if form is None:
                continue
            answers += 1
            if other is None or other.cosine > form.cosine + 1e-12:
                count += 1
                print(f"({d}, {n}) {label(form)}, but ({wider}, {fewer}) {label(other) if other else 'none'}")
    print(f"{pairs} pairs of sizes, {answers} answers of families, {count} rises")


def searches(drawn: random.Random, count: int) -> None:
    """Print where the catalogue has more lines within alpha than a search begins with."""
    looked, more, maxima = 0, 0, 0
    for _ in range(count):
        d, alpha = drawn_target(drawn)
        limit = max_lines(d, alpha)
        top = min(limit.n if limit else LARGEST, LARGEST)
        n = most_by_formula(d, alpha, top)[0].shape[0]
        maxima += bool(limit) and n == limit.n
        larger = {n + 1, limit.n if limit else n + 1}
        larger |= {n + round(2 ** drawn.uniform(0, 3) * n / 8) for _ in range(LARGER)}
        for other in sorted(m for m in larger if n < m <= top):
            looked += 1
            form = choose(LINES, d, other)
            if form is not None and form.cosine <= alpha + TOLERANCE:
                more += 1
                print(f"d={d}, alpha={alpha}: {n}, but the catalogue has {label(form)} with {other}")
    print(f"{count} of (d, alpha), {looked} larger numbers looked up, {more} are there; the bound met {maxima} times")


def drawn_target(drawn: random.Random) -> tuple[int, float]:
    """Draw a dimension, and a coherence that some closed form has, nearly has, or 1/k."""
    d = round(2 ** drawn.uniform(1.5, 11))
    form = choose(LINES, d, max(d + 1, round(d * 2 ** drawn.uniform(0, 6))))
    if form is None or drawn.random() < 0.5:
        return d, 1 / drawn.randint(2, max(3, 2 * d // 3))
    return d, min(0.99, form.cosine * drawn.choice([1.0, 1.02, 1.1]))


def main(pairs: int = 20_000, seed: int = 0, count: int = 500) -> None:
    rises(random.Random(seed), pairs)
    searches(random.Random(seed), count)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
