"""Search for small symmetric sets: over groups, their representations and the sizes of orbits, by a seed."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from .batch import Batch
from .groups import LARGEST_ORDER, Group, group, irreducibles, names
from .orbits import Matrices, OrbitLoss

# The shares, of what is tried, of cyclic groups whose order divides n, and of all cyclic groups.
DIVIDING, CYCLIC = 0.35, 0.6
SHORT = 8  # orbits at most that are shorter than most
DRAWS = 20  # of a representation, before a layout is given up
STARTS, AGAIN = 32, 64  # of a layout when it is tried first, and once it is among the best
SCREENED, KEPT = 0.6, 8  # the share of the work that goes into first tries, and how many of these are tried again
OVERHEAD = 10**6  # multiplications that a step of a batch counts for at least: in the same time that many are made
# The sharpness of each stage of a first try, and of those that are tried again; the steps of a stage at the most.
FIRST, FIRST_STEPS = (20.0, 140.0, 1000.0), 60
LAST, LAST_STEPS = (20.0, 276.0, 3.8e3, 5.2e4, 7.2e5, 1e7), 120
GAIN = 1e-2  # over the sharpness: a stage whose steps gain less ends


@dataclass(frozen=True)
class Symmetric:
    """A symmetric set: its rows (n, d), float64, the largest cosine or |cosine|, its group in words, the work done.

    `interrupted`: whether a KeyboardInterrupt ended the search.
    """

    rows: Tensor
    largest: float
    group: str
    multiplications: int
    interrupted: bool


@dataclass(frozen=True)
class Stabiliser:
    """What maps the vectors of an orbit to themselves: places of elements, and -1 where to the negative (lines)."""

    elements: tuple[int, ...]
    signs: tuple[int, ...]


@dataclass(frozen=True)
class _Tried:
    """A group, the stabilisers of its orbits, and representations that did well, each by its irreducible parts."""

    largest: float
    own: Group
    layout: tuple[Stabiliser, ...]
    parts: tuple[int, ...]
    rows: Tensor  # (k, d), one of each orbit


def orbit_descent(
    d: int,
    n: int,
    *,
    lines: bool,
    seed: int,
    multiplications: int,
    go_on: Callable[[float, int], bool] | None = None,
) -> Symmetric | None:
    """Search for n lines or points in R^d of small largest |cos| or cos among sets that a finite group maps to itself.

    1. A group, stabilisers whose orbits have n vectors together, and a representation for each of STARTS starts are
       drawn at random; a short descent tells what they are worth. So goes the share SCREENED of `multiplications`.
    2. The KEPT best are tried again from more starts, up to the largest sharpness.

    `go_on` is told the lowest largest cosine so far and the multiplications made; where it says False the search
    ends with what there is, as it does on a KeyboardInterrupt, which is raised where there is nothing. Returns None
    where no draw has given a set at all.
    """
    search = _Search(d, n, lines, seed, multiplications, go_on)
    try:
        while search.more(SCREENED):
            search.screen()
        for tried in search.best():
            if search.more(1.0):
                search.deepen(tried)
    except KeyboardInterrupt:
        if not search.tried:
            raise
        search.interrupted = True
    return search.result()


class _Search:
    def __init__(
        self, d: int, n: int, lines: bool, seed: int, budget: int, go_on: Callable[[float, int], bool] | None
    ) -> None:
        self._d, self._n, self._lines, self._budget, self._go_on = d, n, lines, budget, go_on
        self._generator = torch.Generator().manual_seed(seed)
        most = min(2 * n, LARGEST_ORDER)
        every = list(names(most))
        self._cyclic = [name for name in every if name.startswith("cyclic") and "x" not in name]
        self._dividing = [f"cyclic({m})" for m in range(2, min(n, most) + 1) if n % m == 0]
        self._others = [name for name in every if name not in self._cyclic]
        self.tried: list[_Tried] = []
        self.interrupted = False
        self._spent, self._lowest, self._stopped, self._draws = 0, 2.0, False, 0

    def more(self, share: float) -> bool:
        """Whether there is work left, of this share of all."""
        return not self._stopped and self._spent < share * self._budget and self._draws < 10_000

    def screen(self) -> None:
        """Draw a group and a layout, and see what a few starts make of them."""
        self._draws += 1
        kind = self._uniform()
        listed = (
            self._dividing if kind < DIVIDING else self._cyclic if kind < CYCLIC or not self._others else self._others
        )
        own = group(listed[self._whole(len(listed))])
        layout = self._layout(own)
        parts = [self._parts(own, layout) for _ in range(STARTS)] if layout else []
        if layout is not None and None not in parts:
            self._try(own, layout, [part for part in parts if part is not None], FIRST, FIRST_STEPS)

    def deepen(self, tried: _Tried) -> None:
        """Try the same again from more starts, one from the best rows, half with their representation."""
        fresh = [self._parts(tried.own, tried.layout) or tried.parts for _ in range(AGAIN // 2)]
        self._try(tried.own, tried.layout, [tried.parts] * (AGAIN // 2) + fresh, LAST, LAST_STEPS, tried.rows)

    def best(self) -> list[_Tried]:
        """List the best of what was tried, of each group and layout once."""
        listed: dict[object, _Tried] = {}
        for tried in sorted(self.tried, key=lambda tried: tried.largest):
            listed.setdefault((tried.own.name, tried.layout), tried)
        return list(listed.values())[:KEPT]

    def result(self) -> Symmetric | None:
        if not self.tried:
            return None
        tried = min(self.tried, key=lambda tried: tried.largest)
        matrices = _representation(tried.own, tried.parts)
        rows = torch.cat([_orbit(tried.own, matrices, *pair) for pair in zip(tried.rows, tried.layout, strict=True)])
        text = f"{tried.own.name}; irreducible parts {'.'.join(map(str, tried.parts))}; {len(tried.rows)} orbits"
        return Symmetric(normalize(rows, dim=1), tried.largest, text, self._spent, self.interrupted)

    def _try(
        self,
        own: Group,
        layout: tuple[Stabiliser, ...],
        parts: list[tuple[int, ...]],
        sharpnesses: tuple[float, ...],
        steps: int,
        first: Tensor | None = None,
    ) -> None:
        matrices = torch.stack([_representation(own, part) for part in parts])
        spaces = torch.stack([_projection(matrices, stabiliser) for stabiliser in layout])
        drawn = torch.randn(
            len(parts), len(layout), self._d, generator=self._generator, dtype=torch.float64, device="cpu"
        )
        rows = normalize(torch.einsum("ksij,skj->ski", spaces, drawn), dim=2)
        if first is not None:
            rows[0] = first
        itself = torch.zeros(own.order, len(layout), dtype=torch.bool, device="cpu")
        for place, stabiliser in enumerate(layout):
            itself[list(stabiliser.elements), place] = True
        short = any(len(stabiliser.elements) > 1 for stabiliser in layout)
        loss = OrbitLoss(Matrices.of(matrices), itself, self._lines, spaces.transpose(0, 1) if short else None)
        each = own.order * len(layout) * self._d * (2 * len(layout) + self._d)
        batch = Batch(rows, loss, sharpnesses, steps, GAIN)
        try:
            while batch.going and not self._stopped:
                self._spent += max(each * batch.going, OVERHEAD)
                batch.advance()
                self._tell(float(batch.largest.min()))
        except KeyboardInterrupt:  # ends the search as well, after what was found is noted
            if not batch.largest.isfinite().any():
                raise
            self.interrupted = self._stopped = True
        self._note(own, layout, parts, batch)

    def _tell(self, best: float) -> None:
        if self._go_on is not None and not self._go_on(min(best, self._lowest), self._spent):
            self._stopped = True

    def _note(self, own: Group, layout: tuple[Stabiliser, ...], parts: list[tuple[int, ...]], batch: Batch) -> None:
        largest, place = (value.item() for value in batch.largest.min(0))
        self._lowest = min(self._lowest, largest)
        self.tried.append(_Tried(largest, own, layout, parts[int(place)], batch.rows[int(place)]))
        self.tried = sorted(self.tried, key=lambda tried: tried.largest)[: 10 * KEPT]

    def _layout(self, own: Group) -> tuple[Stabiliser, ...] | None:
        """Draw stabilisers of orbits that have n vectors together, most of them alike; None where that fails."""
        main = self._stabiliser(own, 0 if self._uniform() < 0.7 else 1)
        count = self._n // (own.order // len(main.elements))
        if count and self._uniform() < 0.2:
            count -= 1 + self._whole(min(count, 2))
        layout = [main] * count
        left = self._n - count * (own.order // len(main.elements))
        for _ in range(SHORT):
            if not left:
                break
            other = self._stabiliser(own, self._whole(3), whole=self._uniform() < 0.3)
            if own.order // len(other.elements) <= left:
                layout.append(other)
                left -= own.order // len(other.elements)
        # Vectors of short orbits are repeated: twice the work is enough for that.
        return tuple(layout) if not left and len(layout) * own.order <= 2 * self._n else None

    def _stabiliser(self, own: Group, elements: int, whole: bool = False) -> Stabiliser:
        """Draw the subgroup that some random elements generate, and for lines what signs these give."""
        drawn = [self._whole(own.order) for _ in range(elements)]
        found = tuple(range(own.order)) if whole else own.generated(drawn)
        signs = dict.fromkeys(found, 1)
        if self._lines and len(found) > 1:
            signs = self._signs(own, found)
        return Stabiliser(found, tuple(signs[g] for g in found))

    def _signs(self, own: Group, elements: tuple[int, ...]) -> dict[int, int]:
        """Draw a homomorphism of a subgroup to 1 and -1; the trivial one where the draw is none."""
        generators, reached = [], {0}
        for g in elements:
            if g not in reached:
                generators.append(g)
                reached = set(own.generated(generators))
        chosen = {g: 1 - 2 * self._whole(2) for g in generators}
        signs, new = {0: 1}, [0]
        while new:
            g = new.pop()
            for h, sign in chosen.items():
                product = int(own.table[g, h])
                if product not in signs:
                    signs[product] = signs[g] * sign
                    new.append(product)
        sound = all(signs[int(own.table[g, h])] == signs[g] * chosen[h] for g in elements for h in chosen)
        return signs if sound else dict.fromkeys(elements, 1)

    def _parts(self, own: Group, layout: tuple[Stabiliser, ...]) -> tuple[int, ...] | None:
        """Draw a representation in R^d by its irreducible parts, in which each stabiliser leaves room."""
        sizes = [matrices.shape[1] for matrices in irreducibles(own.name)]
        for _ in range(DRAWS):
            left, parts = self._d, []
            allowed = range(len(sizes)) if self._uniform() < 0.3 else range(min(1, len(sizes) - 1), len(sizes))
            while left:
                fitting = [part for part in allowed if sizes[part] <= left] or [0]
                weights = torch.tensor([float(sizes[part]) ** 2 for part in fitting], dtype=torch.float64, device="cpu")
                parts.append(fitting[int(torch.multinomial(weights, 1, generator=self._generator))])
                left -= sizes[parts[-1]]
            if self._fits(own, layout, tuple(sorted(parts))):
                return tuple(sorted(parts))
        return None

    def _fits(self, own: Group, layout: tuple[Stabiliser, ...], parts: tuple[int, ...]) -> bool:
        """Whether orbits have as many vectors as their stabilisers say, and each stabiliser leaves some direction."""
        characters = sum(
            (irreducibles(own.name)[part].diagonal(dim1=1, dim2=2).sum(1) for part in parts),
            torch.zeros(own.order, dtype=torch.float64, device="cpu"),
        )
        same = characters > self._d - 0.5
        if self._lines:
            same |= characters < 0.5 - self._d
        for stabiliser in set(layout):
            others = same.clone()
            others[list(stabiliser.elements)] = False
            signs = characters.new_tensor(stabiliser.signs)
            room = (characters[list(stabiliser.elements)] * signs).mean()
            if room < 0.5 or others.any():
                return False
        return True

    def _uniform(self) -> float:
        return float(torch.rand((), generator=self._generator, dtype=torch.float64, device="cpu"))

    def _whole(self, below: int) -> int:
        return int(torch.randint(below, (), generator=self._generator, device="cpu"))


def _representation(own: Group, parts: tuple[int, ...]) -> Tensor:
    """Return the matrices (m, d, d) of a representation by its irreducible parts."""
    blocks = [irreducibles(own.name)[part] for part in parts]
    matrices = blocks[0].new_zeros(own.order, sum(b.shape[1] for b in blocks), sum(b.shape[1] for b in blocks))
    place = 0
    for block in blocks:
        matrices[:, place : place + block.shape[1], place : place + block.shape[1]] = block
        place += block.shape[1]
    return matrices


def _projection(matrices: Tensor, stabiliser: Stabiliser) -> Tensor:
    """Return the projections (s, d, d) on what a stabiliser leaves as it is, or turns round as its signs say."""
    signs = matrices.new_tensor(stabiliser.signs)[:, None, None]
    return (matrices[:, list(stabiliser.elements)] * signs).mean(1)


def _orbit(own: Group, matrices: Tensor, row: Tensor, stabiliser: Stabiliser) -> Tensor:
    """Return the vectors of an orbit, each once."""
    cosets = own.table[:, list(stabiliser.elements)].amin(1)
    return matrices[cosets.unique()] @ row
