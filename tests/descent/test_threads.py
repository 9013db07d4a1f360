"""Small steps on one thread, and the threads of the caller as before."""

from collections.abc import Iterator

import pytest
import torch

from protogen.descent.threads import SMALL_WORK, threads_for
from protogen.generating import generate
from protogen.methods import resolve
from protogen.run import Progress, Run


@pytest.fixture(autouse=True)
def three() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("work", "threads"), [(SMALL_WORK - 1, 1), (SMALL_WORK, 3)])
def test_small_work_has_one_thread(work: int, threads: int) -> None:
    with threads_for(work):
        assert torch.get_num_threads() == threads
    assert torch.get_num_threads() == 3


def test_the_threads_come_back_after_an_error() -> None:
    with pytest.raises(KeyboardInterrupt), threads_for(1):
        raise KeyboardInterrupt
    assert torch.get_num_threads() == 3


@pytest.mark.parametrize(("d", "n", "threads"), [(5, 20, 1), (40, 600, 3)])
def test_a_descent_goes_by_its_work(d: int, n: int, threads: int) -> None:
    seen: set[int] = set()

    def report(_: Progress) -> None:
        seen.add(torch.get_num_threads())

    made = generate(resolve("ebv", d=d, n=n, start="random", steps=2), Run(report=report))
    assert seen == {threads}
    assert (torch.get_num_threads(), made.provenance.threads) == (3, 3)
