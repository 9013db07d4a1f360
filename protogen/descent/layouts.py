"""What of a symmetric set does not move: its group, the sizes of its orbits, how the group acts; drawn by a seed."""

import json
import random
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import groupby
from typing import Self

import torch
from torch import Tensor

from .groups import LARGEST_ORDER, MOST_GROUPS, Group, families, generated, group, irreducibles

# How often a group is drawn of each family; the cyclic ones whose order divides n, or one less, have their own share.
SHARES = {
    "dividing": 0.25,
    "cyclic": 0.1,
    "dihedral": 0.1,
    "dicyclic": 0.05,
    "products": 0.15,
    "affine": 0.15,
    "semidirect": 0.1,
    "doubled": 0.1,
    "others": 0.2,
}
# Of a family a group is drawn the more often the smaller it is: lines (12, 43) come to .2727 in place of .2893. Those
# with which a set has more than USUAL orbits are no smaller in this.
USUAL = 10
# The best sets known have orbits of many lengths, such as 2, 4 and five times 8 of lines (12, 46). An orbit that is not
# like most is drawn up to SHORT times, and stands up to TWICE times. In the share FEWER of all sets up to FEWEST of the
# orbits that are like most are left out.
SHORT, TWICE, FEWER, FEWEST = 12, 2, 0.4, 3
DRAWS = 12  # of a representation, before a layout is given up
FEW, RARE = 2.5, 0.2  # sets with fewer vectors an orbit than FEW are drawn so often
HELD = 512  # layouts, with which elements make their vectors; a process that makes many sets has no end of them
MORE, ABOUT = 8, 0.5  # one vector in MORE, or one, may be too many or too few, in this share of all sets


@dataclass(frozen=True)
class Stabiliser:
    """What maps the vector of an orbit to itself: places of elements, and -1 where to the negative (lines)."""

    elements: tuple[int, ...]
    signs: tuple[int, ...]


@dataclass(frozen=True)
class Design:
    """Say what of a symmetric set does not move.

    - `group`: its name.
    - `layout`: the stabiliser of each orbit.
    - `parts`: the irreducible parts of the representation in R^d, by their places among those of the group.
    """

    group: str
    layout: tuple[Stabiliser, ...]
    parts: tuple[int, ...]

    @property
    def text(self) -> str:
        """The group in words."""
        return f"{self.group}; irreducible parts {'.'.join(map(str, self.parts))}; {len(self.layout)} orbits"

    @cached_property
    def written(self) -> str:
        """The design as JSON, of which `read` makes it again."""
        runs = [(one.elements, one.signs, len(list(alike))) for one, alike in groupby(self.layout)]
        return json.dumps((self.group, self.parts, runs), separators=(",", ":"))

    @classmethod
    def read(cls, written: str) -> Self:
        """Make a design of what `written` says."""
        name, parts, runs = json.loads(written)
        layout = [Stabiliser(tuple(elements), tuple(signs)) for elements, signs, times in runs for _ in range(times)]
        return cls(name, tuple(layout), tuple(parts))

    @property
    def sizes(self) -> list[int]:
        """How many vectors each orbit has."""
        order = group(self.group).order
        return [order // len(stabiliser.elements) for stabiliser in self.layout]

    def tables(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return what makes the set of one vector an orbit.

        - Matrices (e, d, d) of some elements; the first is the identity.
        - Which of these make the vectors of each orbit (k, e): one of each coset of its stabiliser.
        - The projections (k, d, d) on what the stabilisers leave as it is, or turn round as their signs say.
        """
        elements, making = _images(self.group, self.layout)
        stabilisers = list(dict.fromkeys(self.layout))
        own = [torch.tensor(stabiliser.elements, device="cpu") for stabiliser in stabilisers]
        whole = _matrices(self.group, self.parts, torch.cat((elements, *own)))
        matrices, *fixing = whole.split([len(elements), *map(len, own)])
        spaces = {
            stabiliser: (each * each.new_tensor(stabiliser.signs)[:, None, None]).mean(0)
            for stabiliser, each in zip(stabilisers, fixing, strict=True)
        }
        return matrices, making, torch.stack([spaces[stabiliser] for stabiliser in self.layout])

    def vectors(self, rows: Tensor) -> Tensor:
        """Return the set (N, d) of rows (k, d), one of each orbit: orbit by orbit."""
        matrices, making, _ = self.tables()
        return (matrices @ rows.T).permute(2, 0, 1)[making]


@dataclass(frozen=True)
class _Known:
    """What draws ask of a group: its table in lists, and of each irreducible part what follows."""

    own: Group
    table: list[list[int]]
    characters: list[list[float]]
    kernels: list[int]  # as bits, the elements that a part maps to the identity
    negations: list[int]  # those that it maps to its negative

    @property
    def sizes(self) -> list[int]:
        return [round(part[0]) for part in self.characters]


@lru_cache(MOST_GROUPS)
def _known(name: str) -> _Known:
    own = group(name)
    characters = [part.diagonal(dim1=1, dim2=2).sum(1) for part in irreducibles(name)]
    kernels = [_bits(part > part[0] - 0.5) for part in characters]
    negations = [_bits(part < 0.5 - part[0]) for part in characters]
    return _Known(own, own.table.tolist(), [part.tolist() for part in characters], kernels, negations)


def _bits(which: Tensor) -> int:
    return sum(1 << place for place in which.nonzero()[:, 0].tolist())


def _matrices(name: str, parts: tuple[int, ...], elements: Tensor) -> Tensor:
    """Return the matrices (e, d, d) of some elements (e,) in a representation by its irreducible parts."""
    irreducible = irreducibles(name)
    own = {part: irreducible[part][elements] for part in dict.fromkeys(parts)}
    blocks = [own[part] for part in parts]
    size = sum(block.shape[1] for block in blocks)
    matrices = blocks[0].new_zeros(len(elements), size, size)
    place = 0
    for block in blocks:
        end = place + block.shape[1]
        matrices[:, place:end, place:end] = block
        place = end
    return matrices


@lru_cache(HELD)
def _images(name: str, layout: tuple[Stabiliser, ...]) -> tuple[Tensor, Tensor]:
    """Choose elements (e,) of a group that make all vectors of each orbit; say which make those of each (k, e).

    They are few: what makes the vectors of the longest orbit makes most or all of the others.
    """
    table = _known(name).own.table
    # The least element of its coset stands for each element.
    cosets = {stabiliser: table[:, list(stabiliser.elements)].amin(1) for stabiliser in dict.fromkeys(layout)}
    chosen: list[int] = []
    for own in sorted(cosets.values(), key=lambda own: len(own.unique()), reverse=True):
        chosen += sorted(set(own.tolist()) - set(own[chosen].tolist()))
    making = {}
    for stabiliser, own in cosets.items():
        made = own[chosen].tolist()
        making[stabiliser] = [made.index(coset) == place for place, coset in enumerate(made)]
    elements = torch.tensor(chosen, device="cpu")
    return elements, torch.tensor([making[stabiliser] for stabiliser in layout], device="cpu")


class Draws:
    """Draw designs of n lines or points in R^d, or of a few more or less, by a seed.

    `random` is what it draws by, whose state a search keeps.
    """

    def __init__(self, d: int, n: int, lines: bool, seed: int) -> None:
        self._d, self._n, self._lines = d, n, lines
        self.random = random.Random(seed)
        self._families = families(min(2 * n if lines else n + 1, LARGEST_ORDER))
        orders = (m for whole in (n, n - 1, n + 1) for m in range(2, min(whole, LARGEST_ORDER) + 1) if whole % m == 0)
        self._families["dividing"] = {f"cyclic({m})": m for m in orders}
        self._families = {family: names for family, names in self._families.items() if names}
        self._shares = [SHARES[family] for family in self._families]

    def design(self) -> Design | None:
        """Draw a group, a representation and stabilisers; None where these do not go together."""
        (family,) = self.random.choices(list(self._families), self._shares)
        groups = self._families[family]
        (name,) = self.random.choices(list(groups), [1 / max(order, self._n / USUAL) for order in groups.values()])
        known = _known(name)
        parts = self._faithful(known)
        layout = None if parts is None else self._layout(known, parts)
        return None if parts is None or layout is None else Design(name, layout, parts)

    def again(self, design: Design) -> Design | None:
        """Draw another representation for a group and stabilisers; None where none has room for these."""
        known = _known(design.group)
        distinct = set(design.layout)
        minus = self._minus(known, design.parts)
        for _ in range(DRAWS):
            parts = self._faithful(known)
            if parts is None or self._minus(known, parts) != minus:
                continue
            if all(self._room(known, parts, stabiliser) > 0.5 for stabiliser in distinct):
                return Design(design.group, design.layout, parts)
        return None

    def _faithful(self, known: _Known) -> tuple[int, ...] | None:
        """Draw a representation that maps the identity alone to itself; None where several draws gave none.

        Another one is that of a smaller group.
        """
        for _ in range(DRAWS):
            parts = self._parts(known.sizes)
            same = -1
            for part in parts:
                same &= known.kernels[part]
            # A group of two elements that takes each line to itself leaves all as it is, too.
            if same == 1 and not (known.own.order == 2 and self._minus(known, parts)):
                return parts
        return None

    def _minus(self, known: _Known, parts: tuple[int, ...]) -> int:
        """Return the element that takes each line to itself and each vector to its negative; 0 for none, and points."""
        bits = -1 if self._lines else 0
        for part in parts:
            bits &= known.negations[part]
        return bits.bit_length() - 1 if bits > 0 else 0

    def _room(self, known: _Known, parts: tuple[int, ...], stabiliser: Stabiliser) -> float:
        """Count the dimensions that a stabiliser leaves, or turns round as its signs say."""
        pairs = list(zip(stabiliser.elements, stabiliser.signs, strict=True))
        kept = {part: sum(known.characters[part][element] * sign for element, sign in pairs) for part in set(parts)}
        return sum(kept[part] for part in parts) / len(pairs)

    def _parts(self, sizes: list[int]) -> tuple[int, ...]:
        """Draw irreducible parts that fill d dimensions, the larger the more often."""
        left, parts = self._d, []
        allowed = range(0 if self.random.random() < 0.3 else min(1, len(sizes) - 1), len(sizes))
        while left:
            fitting = [part for part in allowed if sizes[part] <= left] or [0]
            parts.extend(self.random.choices(fitting, [sizes[part] ** 2 for part in fitting]))
            left -= sizes[parts[-1]]
        return tuple(sorted(parts))

    def _layout(self, known: _Known, parts: tuple[int, ...]) -> tuple[Stabiliser, ...] | None:
        """Draw stabilisers of orbits that have n vectors together, or about so many, most of them alike."""
        order = known.own.order
        main = self._stabiliser(known, parts, 0 if self.random.random() < 0.6 else 1 + self.random.randrange(2))
        if main is None:
            return None
        size, room = order // len(main.elements), max(1, self._n // MORE)
        wanted = self._n
        if self.random.random() < ABOUT:
            wanted += self.random.randint(-room, room)
        count = wanted // size
        if self.random.random() < FEWER:
            count = max(0, count - 1 - self.random.randrange(FEWEST))
        layout, left = [main] * count, wanted - count * size
        for _ in range(SHORT):
            if not left:
                break
            other = self._stabiliser(known, parts, self.random.randrange(3), whole=self.random.random() < 0.3)
            if other is not None and (length := order // len(other.elements)) <= left:
                times = self.random.randint(1, min(left // length, TWICE))
                layout += [other] * times
                left -= length * times
        # A set of almost as many orbits as vectors is about as hard to find as any.
        rare = len(layout) > self._n / FEW and self.random.random() > RARE
        return tuple(layout) if not left and layout and not rare else None

    def _stabiliser(
        self, known: _Known, parts: tuple[int, ...], elements: int, whole: bool = False
    ) -> Stabiliser | None:
        """Draw the subgroup that some random elements generate, and for lines what signs these give.

        None where it leaves no direction. What takes each line to itself is always in it.
        """
        minus = self._minus(known, parts)
        drawn = [self.random.randrange(known.own.order) for _ in range(elements)] + [minus] * (minus > 0)
        found = tuple(range(known.own.order)) if whole else generated(known.table, drawn)
        signs = dict.fromkeys(found, 1)
        if self._lines and len(found) > 1:
            signs = self._signs(known.table, found, minus)
        stabiliser = Stabiliser(found, tuple(signs[element] for element in found))
        return stabiliser if self._room(known, parts, stabiliser) > 0.5 else None

    def _signs(self, table: list[list[int]], elements: tuple[int, ...], minus: int) -> dict[int, int]:
        """Draw a homomorphism of a subgroup to 1 and -1, -1 for `minus`; the trivial one where the draw is none."""
        generating, reached = [], {0}
        for element in ((minus,) if minus else ()) + elements:
            if element not in reached:
                generating.append(element)
                reached = set(generated(table, generating))
        chosen = {element: -1 if element == minus else self.random.choice((1, -1)) for element in generating}
        signs, new = {0: 1}, [0]
        while new:
            element = new.pop()
            for other, sign in chosen.items():
                product = table[element][other]
                if product not in signs:
                    signs[product] = signs[element] * sign
                    new.append(product)
        sound = all(signs[table[g][h]] == signs[g] * sign for g in elements for h, sign in chosen.items())
        return signs if sound else dict.fromkeys(elements, 1)


def least_cost(d: int, vectors: int, orbits: int) -> float:
    """Count the multiplications of one evaluation of a design, and of the step that it leads to."""
    return vectors * (d * d + orbits * (2.0 * d + 12)) + 40.0 * orbits * d
