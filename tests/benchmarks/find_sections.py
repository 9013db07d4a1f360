"""Make protogen/catalog/algebra/sections.txt: python tests/benchmarks/find_sections.py; some minutes.

A beam of sections goes down from 24 dimensions to LEAST, by one cut at a time: the vectors x of a section with
<x, w> = p, for all w of a list and all p. With q the squared length of what the cuts have fixed of every x, two of
them have the cosine (16 - q) / (32 - q) at most. The beam keeps the sections that have the most vectors for their q, or
nearly so. The table gets those that are, as points or as lines, better than all closed forms, by GAIN, and than the
sections of more vectors or fewer dimensions; and the sections that these are cut from.
"""

import bisect
import math
import random
from fractions import Fraction
from typing import NamedTuple

import torch
from torch import Tensor

from protogen.catalog import LINES, POINTS, ClosedForm, choose
from protogen.catalog.algebra.leech import leech
from protogen.catalog.algebra.sections import TABLE, Line, written
from protogen.catalog.direct.sections import Sections

LEAST, MOST, MOST_COMPARED = 13, 30_000, 2000  # dimensions at the end, points of a set, and those compared by pairs
WIDTH = 500  # of the beam
GAIN = 1e-3
MANY, TRIED = 20_000, 60  # of sections with more vectors than MANY only so many cuts are tried
SHIFT = 256  # more than any product with a cut
SQUARE, NEAR = 32, 16  # the product of a shortest vector with itself, and with a nearest one


class Node(NamedTuple):
    """A section: which it is cut from, the cut, its vectors, their largest cosine and coherence.

    The coherence of opposite vectors is that of one of each two. It is not known of more than MOST_COMPARED others.
    """

    parent: int
    word: list[int]
    product: int
    n: int
    d: int
    cosine: Fraction
    coherence: Fraction | None
    opposite: bool

    @property
    def lines(self) -> int:
        return self.n // 2 if self.opposite else self.n


class Child(NamedTuple):
    """A section that a cut makes: its vectors, its q, what is cut by its place in the beam, the word's place, p."""

    n: int
    q: float
    place: int
    word: int
    product: int


class Standing(NamedTuple):
    """The vectors of a section, an orthonormal basis of its cuts (k, 24), what these fix of each vector (24,)."""

    vectors: Tensor
    basis: Tensor
    fixed: Tensor
    node: int


def words() -> Tensor:
    """List the cuts to try, (24, k): by coordinates, by sums and differences of two, octads, and other vectors."""
    vectors = leech().double()
    drawn = random.Random(1)
    octads = (vectors[1104 : 1104 + 759 * 128 : 128] != 0).double()
    first = octads[0].nonzero()[:, 0].tolist()
    order = first + [place for place in range(24) if place not in first]
    axes = torch.eye(24, dtype=torch.float64)
    pairs = [(i, j) for place, i in enumerate(order[:11]) for j in order[place + 1 : 16]]
    ones = torch.ones(24, dtype=torch.float64)
    some = [octads[place] for place in (*range(20), *drawn.sample(range(759), 20))]
    long = [ones + entry * axes[place] for place in order[:4] for entry in (4, -4)]
    others = [vectors[drawn.randrange(len(vectors))] for _ in range(80)]
    two = [axes[i] + sign * axes[j] for i, j in pairs for sign in (1, -1)]
    return torch.stack([*(axes[place] for place in order), *two, *some, *long, ones, *others], 1)


def fixed_length(cuts: list[tuple[list[int], int]]) -> Fraction:
    """Return q: the squared length of the point of least length that has these products with these words."""
    rows = [[Fraction(sum(a * b for a, b in zip(one, other, strict=True))) for other, _ in cuts] for one, _ in cuts]
    rows = [[*row, Fraction(product)] for row, (_, product) in zip(rows, cuts, strict=True)]
    for place, row in enumerate(rows):  # the Gram matrix of independent words needs no pivoting
        row[:] = [entry / row[place] for entry in row]
        for other in rows:
            if other is not row:
                other[:] = [a - other[place] * b for a, b in zip(other, row, strict=True)]
    return sum((row[-1] * product for row, (_, product) in zip(rows, cuts, strict=True)), Fraction(0))


def cuts_of(nodes: list[Node], place: int) -> list[tuple[list[int], int]]:
    found = []
    while place >= 0:
        found.append((nodes[place].word, nodes[place].product))
        place = nodes[place].parent
    return found[::-1]


def children(state: list[Standing], tried: Tensor, drawn: random.Random, least: int) -> list[Child]:
    """List the sections that a cut makes, of each n and q one."""
    found: dict[tuple[int, float], Child] = {}
    for place, (vectors, basis, fixed, _) in enumerate(state):
        squares = (tried - basis.T @ (basis @ tried)).square().sum(0)
        new = (squares > 1e-6).nonzero()[:, 0]
        if len(vectors) > MANY:
            new = torch.cat((new[:40], new[sorted(drawn.sample(range(40, len(new)), TRIED - 35))]))
        products = (vectors @ tried[:, new].float()).round().long() + SHIFT
        width = 2 * SHIFT
        counts = torch.bincount((products + torch.arange(len(new)) * width).flatten(), minlength=len(new) * width)
        where = (counts.view(-1, width) >= least).nonzero()
        chosen, p = new[where[:, 0]], where[:, 1] - SHIFT
        q = fixed.square().sum() + (p - fixed @ tried[:, chosen]) ** 2 / squares[chosen]
        n = counts.view(-1, width)[where[:, 0], where[:, 1]]
        lengths = [round(length, 6) for length in q.tolist()]
        for count, length, word, product in zip(n.tolist(), lengths, chosen.tolist(), p.tolist(), strict=True):
            found.setdefault((count, length), Child(count, length, place, word, product))
    return list(found.values())


def promising(found: list[Child]) -> list[Child]:
    """Keep WIDTH of them: those with the most vectors for their q, then those with nearly so many."""
    found = sorted(found, key=lambda one: (-one.n, -one.q))
    front: list[tuple[int, float]] = []
    for n, q, *_ in found:
        if not front or q > front[-1][1] + 1e-6:
            front.append((n, q))
    lengths = [q for _, q in front]
    behind = {one: math.log(front[bisect.bisect_left(lengths, one.q - 1e-6)][0] / one.n) for one in found}
    return sorted(found, key=behind.__getitem__)[:WIDTH]


def search() -> list[Node]:
    """Go down from the Leech lattice by cuts; return the sections that the beam has kept."""
    tried, drawn, nodes = words(), random.Random(2), list[Node]()
    empty = torch.zeros(0, 24, dtype=torch.float64)
    state = [Standing(leech().float(), empty, empty.sum(0), -1)]
    for d in range(23, LEAST - 1, -1):
        following = []
        for n, _, place, word, product in promising(children(state, tried, drawn, max(2 * d, 40))):
            vectors, basis, fixed, parent = state[place]
            new = tried[:, word] - basis.T @ (basis @ tried[:, word])
            fixed = fixed + (product - fixed @ tried[:, word]) / new.square().sum() * new
            entries = tried[:, word].long().tolist()
            q = fixed_length([*cuts_of(nodes, parent), (entries, product)])
            chosen = vectors[(vectors @ tried[:, word].float()).round() == product]
            nodes.append(Node(parent, entries, product, n, d, *figures(chosen, fixed, q)))
            following.append(Standing(chosen, torch.cat((basis, (new / new.norm())[None])), fixed, len(nodes) - 1))
        state = following
        print(d, len(state), flush=True)
    return nodes


def figures(vectors: Tensor, fixed: Tensor, q: Fraction) -> tuple[Fraction, Fraction | None, bool]:
    """Return the largest cosine of a section, as points, its coherence, as lines, and whether these lie two on one."""
    along = torch.randn(24, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    values = (vectors.double() - fixed) @ along
    opposite = bool((values.sort().values + values.sort(descending=True).values).abs().max() < 1e-6)
    if len(vectors) > MOST_COMPARED:
        cosine = (NEAR - q) / (SQUARE - q)
        return cosine, cosine if opposite else None, opposite
    products = (vectors @ vectors.T).fill_diagonal_(0)
    least, most = int(products.min()), int(products.fill_diagonal_(-SQUARE).max())
    cosine = (most - q) / (SQUARE - q)
    return cosine, cosine if opposite else max(abs(most - q), abs(least - q)) / (SQUARE - q), opposite


Size = tuple[Fraction, int, int]  # the figure of a set, n, d


def winners(
    nodes: list[Node], lines: bool, families: tuple[type[ClosedForm], ...], others: list[Size]
) -> dict[int, Size]:
    """Return the sections, by their places, that are better than all closed forms, one another, and other sets."""
    rivals = tuple(family for family in families if not issubclass(family, Sections))
    listed = [
        (node.coherence, -node.lines, node.d, place) if lines else (node.cosine, -node.n, node.d, place)
        for place, node in enumerate(nodes)
        if node.n <= MOST
    ]
    known = [(value, fewer, d, place) for value, fewer, d, place in listed if value is not None]
    front, better = list[tuple[int, int]](), dict[int, Size]()
    for value, fewer, d, place in sorted([*known, *((value, -n, d, -1) for value, n, d in others)]):
        if not any(other_d <= d and other_n >= -fewer for other_d, other_n in front):
            front.append((d, -fewer))
            form = choose(rivals, d, -fewer)
            if place >= 0 and value < (form.cosine if form else 1) - GAIN:
                better[place] = value, -fewer, d
    return better


def main() -> None:
    TABLE.write_text("")  # no form is made of those that stood there
    nodes = search()
    lines = winners(nodes, True, LINES, [])
    points = winners(nodes, False, POINTS, [(value, 2 * n, d) for value, n, d in lines.values()])
    listed: set[int] = set()
    for place in {**points, **lines}:
        while place >= 0:
            listed.add(place)
            place = nodes[place].parent
    numbers = {place: number for number, place in enumerate(sorted(listed))}
    text = ""
    for place in numbers:
        node = nodes[place]
        word = tuple(node.word[: max(at for at, entry in enumerate(node.word) if entry) + 1])
        cosine, coherence = node.cosine if place in points else None, node.coherence if place in lines else None
        parent = numbers.get(node.parent, -1)
        text += written(Line(parent, (word, node.product), node.d, node.n, cosine, coherence, node.opposite))
    TABLE.write_text(text)
    print(f"{len(points)} sets of points, {len(lines)} of lines, {len(numbers)} lines of the table")


if __name__ == "__main__":
    main()
