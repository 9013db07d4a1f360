"""A descent whose rows lie on several ranks, each its range, because all of them do not fit one.

Blocks of rows go round the ranks in a ring, and with each the gradient that the ranks on its way have added up for it.
After half a round each pair of blocks has met once: where the number of ranks is even, the last pairs meet on two ranks
that take half of the tiles each. Then the gradients go home. A rank sends at most 4 n d bytes an evaluation, whatever
the number of ranks, and holds rows and gradient of its own and of its guest, and one more of these under way.

Rank 0 has all rows in the memory of its host at the start, at the end, and while a state is written, which is without
the curvature that the ranks know of.
"""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice, product
from typing import cast
from weakref import WeakSet

import torch
from torch import Tensor

from protogen.measuring.precision import full_precision
from protogen.measuring.tiles import blocks, upper_tiles
from protogen.ranks.group import Ranks, cut

from .evaluate import Evaluation, Objective, PairSums, Sliced, Tile, fixed_tiles
from .shards import TURN, Shard, begin, join, restart, stepped
from .states import State
from .steppers import LBFGS

# What every rank does


def _deal(ranks: Ranks, shape: tuple[int, int], dtype: torch.dtype, device: str, whole: Tensor | None = None) -> int:
    """Take this rank's range of rows, all of which rank 0 has; return the number of this set."""
    return _keep(Shard.of(ranks), ranks.deal_rows(whole, shape, dtype).to(device))


def _keep(shard: Shard, own: Tensor) -> int:
    number = max(shard.parts, default=0) + 1
    shard.parts[number] = own
    return number


def _collect(ranks: Ranks, number: int, n: int) -> Tensor | None:
    """Bring all rows of a set to rank 0."""
    return ranks.collect_rows(Shard.of(ranks).parts[number], n)


@full_precision()
def _next(ranks: Ranks, number: int, loss: float, needed: list[int]) -> int | None:
    """Step from a set; return the number of the next, or None where there is no way down.

    Of earlier sets those alone are kept that are `needed`.
    """
    shard = Shard.of(ranks)
    own = stepped(ranks, shard.parts[number], loss)
    shard.parts = {number: shard.parts[number] for number in needed}
    return None if own is None else _keep(shard, own)


@full_precision()
def _evaluate(ranks: Ranks, objective: Objective, edge: int, number: int, n: int, fixed: Tensor | None) -> Evaluation:
    """Add up the pairs of this rank's rows with each other and with those of guests, and all ranks' sums."""
    shard = Shard.of(ranks)
    own = shard.parts[number]
    most = -(-n // ranks.world)  # rows of a rank
    edge = min(edge, most)
    sums = PairSums(objective, own, edge, None if fixed is None else fixed.to(own))
    _take_in(ranks, sums.add, upper_tiles(len(own), edge), len(blocks(most, edge)) ** 2)
    if fixed is not None:
        tiles = len(blocks(most, edge)) * len(blocks(len(fixed), edge))
        _take_in(ranks, sums.add_fixed, iter(fixed_tiles(len(own), edge, fixed)), tiles)
    _meet_guests(ranks, sums, own, n, edge)
    join(ranks, sums)
    at = sums.close()
    shard.gradient = at.gradient
    return at


def _meet_guests(ranks: Ranks, sums: PairSums, own: Tensor, n: int, edge: int) -> None:
    """Let half of the other ranks' blocks come by, each with its gradient, which then goes home."""
    hops, most = ranks.world // 2, -(-n // ranks.world)
    guest, gradient = own, own[:0]  # the gradient sets out with the second hop
    for hop in range(1, hops + 1):
        start, stop = cut(n, (ranks.rank - hop) % ranks.world, ranks.world)
        guest = ranks.pass_on(guest, 1, (stop - start, own.shape[1]))
        gradient = torch.zeros_like(guest) if hop == 1 else ranks.pass_on(gradient, 1, tuple(guest.shape))
        tiles = _across(len(own), stop - start, edge)
        if 2 * hop == ranks.world:  # each of these pairs of blocks meets on both ranks
            even = ranks.rank < hop
            tiles = (tile for tile in tiles if ((tile[0] + tile[2]) // edge % 2 == 0) == even)
        add = partial(sums.add_across, others=guest, gradient=gradient)
        _take_in(ranks, add, tiles, len(blocks(most, edge)) ** 2)
    sums.gradient += ranks.pass_on(gradient, -hops, tuple(own.shape))


def _across(rows: int, others: int, edge: int) -> Iterator[Tile]:
    return ((*own, *their) for own, their in product(blocks(rows, edge), blocks(others, edge)))


def _take_in(ranks: Ranks, add: Callable[[list[Tile]], None], tiles: Iterator[Tile], most: int) -> None:
    """Take in tiles, of which no rank has more than `most`, some at a time, after which all agree that they go on."""
    for _ in range(0, most, TURN):
        with ranks.agreeing():
            add(list(islice(tiles, TURN)))


# What rank 0 does in its descent


class RingRows:
    """Rows (n, d) of which each rank has its range, and keeps it as long as rank 0 refers to them.

    They stand where a descent has a tensor, which it only hands on.
    """

    def __init__(self, ranks: Ranks, number: int, shape: tuple[int, int]) -> None:
        self._ranks, self.number, self.shape = ranks, number, shape

    def dim(self) -> int:
        """Two, as of a tensor of rows."""
        return len(self.shape)

    def gathered(self) -> Tensor:
        """Return all rows, on the CPU. Raises RankLost."""
        whole = self._ranks.together(_collect, self.number, self.shape[0])
        assert whole is not None, "rank 0 gets them"
        return whole


class Ring:
    """Evaluate as Sliced does, by all ranks, rows that lie on them; the gradient is that of rank 0's own rows."""

    def __init__(self, sliced: Sliced, ranks: Ranks, device: str) -> None:
        self._sliced, self.ranks, self._device = sliced, ranks, torch.device(device).type
        self._sets: WeakSet[RingRows] = WeakSet()
        self.at: RingRows
        """The rows that were evaluated last."""

    def dealt(self, rows: Tensor | RingRows) -> RingRows:
        """Send each rank its range of rows (n, d), unless each has it."""
        if isinstance(rows, RingRows):
            return rows
        shape = (rows.shape[0], rows.shape[1])
        return self.known(self.ranks.together(_deal, shape, rows.dtype, self._device, whole=rows), shape)

    def known(self, number: int, shape: tuple[int, int]) -> RingRows:
        """Return the rows that the ranks have under a number."""
        rows = RingRows(self.ranks, number, shape)
        self._sets.add(rows)
        return rows

    def needed(self) -> list[int]:
        """Return the numbers of the sets that are referred to."""
        return sorted(rows.number for rows in self._sets)

    def __call__(self, rows: Tensor) -> Evaluation:
        objective, edge, fixed = self._sliced.objective, self._sliced.edge, self._sliced.fixed
        self.at = self.dealt(rows)
        while True:
            at = self.ranks.together(_evaluate, objective, edge, self.at.number, self.at.shape[0], fixed)
            if not objective.adapt(at):
                return at

    def state(self) -> State:
        return self._sliced.state()

    def restore(self, state: State) -> None:
        self._sliced.restore(state)


class RingStepper:
    """Have each rank make the step of its own rows by L-BFGS; its state forgets the curvature."""

    def __init__(self, ring: Ring, make: "partial[LBFGS]") -> None:
        self._ring, self._make = ring, make
        ring.ranks.together(begin, make)

    def next(self, rows: Tensor, at: Evaluation) -> Tensor | None:
        here = self._ring.at
        number = self._ring.ranks.together(_next, here.number, at.loss, self._ring.needed())
        return None if number is None else cast(Tensor, self._ring.known(number, here.shape))

    def restart(self) -> None:
        self._ring.ranks.together(restart)

    def state(self) -> State:
        return self._make().state()

    def restore(self, state: State) -> None:
        self._ring.ranks.together(begin, self._make)


def whole(rows: Tensor | RingRows) -> Tensor:
    """Return all of some rows. Raises RankLost."""
    return rows.gathered() if isinstance(rows, RingRows) else rows
