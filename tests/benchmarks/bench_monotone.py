"""Count where an answer rises with more room: python tests/benchmarks/bench_monotone.py [PAIRS] [SEED].

Draws pairs of sizes (d, n) and (d', n') with d' >= d and n' <= n, and compares the cosines that each
family of closed forms answers with. Prints each rise, then the counts. 20,000 pairs take about three minutes.
"""

import random
import sys

from protogen.catalog import LINES, POINTS, label


def main(pairs: int = 20_000, seed: int = 0) -> None:
    drawn, rises, answers = random.Random(seed), 0, 0
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
                rises += 1
                print(f"({d}, {n}) {label(form)}, but ({wider}, {fewer}) {label(other) if other else 'none'}")
    print(f"{pairs} pairs of sizes, {answers} answers of families, {rises} rises")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
