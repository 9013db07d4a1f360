"""What ranks say to each other: calls, failures that all hear of, and the end."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from processes import on_ranks
from torch import distributed

from protogen.errors import BadRequest, RankLost
from protogen.ranks.group import Ranks, cut


def here() -> Ranks:
    ranks = Ranks.of(distributed.group.WORLD)
    assert ranks is not None
    return ranks


def summed(ranks: Ranks, tensor: torch.Tensor, failing: int | None = None) -> float:
    """Add up what every rank got, on all; one of them may fail."""
    with ranks.agreeing():
        if ranks.rank == failing:
            raise MemoryError(f"on rank {ranks.rank}")
        total = tensor.sum() * (ranks.rank + 1)
    return ranks.add(total).item()


def test_all_do_what_rank_0_says_and_return_what_it_returns(tmp_path: Path) -> None:
    large = torch.ones(2**15)  # it is sent beside the pickle

    def work(rank: int) -> Any:
        ranks = here()
        return ranks.led(lambda: [ranks.together(summed, large), ranks.led(lambda: rank), large])

    first, second = on_ranks(2, tmp_path / "meeting", work)
    assert first[:2] == second[:2] == [3 * 2**15, 0]
    assert torch.equal(first[2], second[2])


@pytest.mark.parametrize("failing", [0, 1])
def test_a_failure_of_one_is_raised_on_rank_0_and_the_others_go_on(tmp_path: Path, failing: int) -> None:
    def leading(ranks: Ranks) -> float:
        with pytest.raises(MemoryError, match=f"on rank {failing}"):
            ranks.together(summed, torch.ones(1), failing)
        return ranks.together(summed, torch.ones(1))

    def work(rank: int) -> float:
        ranks = here()
        return ranks.led(lambda: leading(ranks))

    assert on_ranks(2, tmp_path / "meeting", work) == [3, 3]


def test_an_error_of_rank_0_is_raised_on_all(tmp_path: Path) -> None:
    def refused() -> None:
        raise BadRequest("no", "ask for something else")

    found = on_ranks(2, tmp_path / "meeting", lambda rank: here().led(refused))
    assert [(type(each), str(each)) for each in found] == [(BadRequest, "no; ask for something else")] * 2


def waiting(ranks: Ranks, signalled: str) -> None:
    """Agree again and again; Ctrl-C comes to all in the meantime."""
    for turn in range(1000):
        with ranks.agreeing():
            if turn == 3:
                os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.001)


def test_an_interruption_counts_where_the_ranks_agree(tmp_path: Path) -> None:
    def leading(ranks: Ranks) -> str:
        with pytest.raises(KeyboardInterrupt):
            ranks.together(waiting, "")
        return "kept"

    def work(rank: int) -> str:
        ranks = here()
        return ranks.led(lambda: leading(ranks))

    assert on_ranks(2, tmp_path / "meeting", work) == ["kept", "kept"]


def ending(ranks: Ranks, rank: int) -> None:
    with ranks.agreeing():
        if ranks.rank == rank:
            os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("killed", [0, 1])
def test_a_rank_that_is_killed_ends_the_others(tmp_path: Path, killed: int) -> None:
    def work(rank: int) -> None:
        ranks = here()
        ranks.led(lambda: ranks.together(ending, killed))

    found = on_ranks(2, tmp_path / "meeting", work)
    assert found[killed] is None
    assert isinstance(found[1 - killed], RankLost)


def test_rows_are_cut_as_torch_cuts_them() -> None:
    for n in range(1, 12):
        for world in range(1, 6):
            parts = torch.arange(n).chunk(world)
            cuts = [cut(n, rank, world) for rank in range(world)]
            assert [stop - start for start, stop in cuts if stop > start] == [len(part) for part in parts]
            assert (cuts[0][0], cuts[-1][1]) == (0, n)


def test_rows_come_together_and_are_summed(tmp_path: Path) -> None:
    rows = torch.arange(15.0).view(5, 3)

    def work(rank: int) -> tuple[torch.Tensor, torch.Tensor]:
        ranks = here()
        start, stop = ranks.range(5)
        return ranks.gather_rows(rows[start:stop], 5), ranks.add_rows(rows.clone())

    found = on_ranks(3, tmp_path / "meeting", work)
    assert all(torch.equal(whole, rows) for whole, _ in found)
    assert torch.equal(torch.cat([own for _, own in found]), 3 * rows)
