"""How many threads a step is worth."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

SMALL_WORK = 10**7  # multiplications of a step, below which more threads cost more than they bring


@contextmanager
def threads_for(multiplications: int) -> Iterator[None]:
    """Work on one thread as long as this lasts, where the steps within take so few multiplications each."""
    before = torch.get_num_threads()
    if multiplications >= SMALL_WORK or before == 1:
        yield
        return
    try:
        torch.set_num_threads(1)
        yield
    finally:
        torch.set_num_threads(before)
