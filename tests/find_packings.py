"""Make protogen/catalog/packings.txt: python tests/find_packings.py COUNT.

For COUNT random sizes, the same at every run, search a member that beats the truncated nets and what
the table has for them, and add it; at the end, drop those that another one is no worse than.
"""

import random
import sys
from pathlib import Path

from protogen.catalog.cyclic import CyclicPacking, search
from protogen.catalog.fields import prime_powers
from protogen.catalog.packing import orders

TABLE = Path(__file__).parents[1] / "protogen" / "catalog" / "packings.txt"


def sizes(count: int) -> list[tuple[int, int]]:
    """Sizes with 1 < n / d <= 10, one in four with the logarithm of d uniform from 8 to 2048, the others with d."""
    rng, drawn = random.Random(0), []
    while len(drawn) < count:
        d = round(8 * 256 ** rng.random()) if len(drawn) % 4 == 0 else rng.randint(32, 2048)
        drawn.append((d, rng.randint(d + 1, 10 * d)))
    return drawn


def of_nets(d: int, n: int) -> int:
    """The most lines on a point of a truncated net with n vectors in R^d, (r - 1) q + g lines on g q points."""
    return max(
        (
            r
            for q in prime_powers(2, 200)
            for r in range(2, min(q + 1, d // q + 1) + 1)
            for order in orders(r)[:1]
            if (g := -(-n // (q * order))) <= q and (r - 1) * q + g <= d
        ),
        default=1,
    )


def written(form: CyclicPacking) -> str:
    """A line of the table: see protogen.catalog.cyclic."""
    blocks = ("".join(f"{DIGITS[x // 32]}{DIGITS[x % 32]}" for x in block[1:]) for block in form.blocks)
    return f"{form.own_d} {form.v} {form.order} {','.join(blocks)}"


DIGITS = "0123456789abcdefghijklmnopqrstuv"


def no_worse(one: CyclicPacking, other: CyclicPacking) -> bool:
    return one.r >= other.r and one.own_d <= other.own_d and one.own_n >= other.own_n


def write(forms: list[CyclicPacking]) -> None:
    forms = sorted(forms, key=lambda form: (-form.r, form.own_d, -form.own_n))
    kept: list[CyclicPacking] = []
    for form in forms:
        if not any(no_worse(other, form) for other in kept):
            kept.append(form)
    TABLE.write_text("".join(written(form) + "\n" for form in kept), "ascii")


def main() -> None:
    forms: list[CyclicPacking] = []
    reached: list[tuple[int, int, int]] = []
    for index, (d, n) in enumerate(sizes(int(sys.argv[1]))):
        known = max((r for own_d, own_n, r in reached if own_d <= d and own_n >= n), default=1)
        if form := search(d, n, max(known, of_nets(d, n)), nodes=200_000):
            forms.append(form)
            reached.append((form.own_d, form.own_n, form.r))
        if index % 100 == 99:
            write(forms)
    write(forms)


if __name__ == "__main__":
    main()
