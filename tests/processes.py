"""Processes of a test: they share its memory as it stands, so that a local function can be one's work."""

import multiprocessing
import os
import pickle
import signal
import warnings
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

FORK = multiprocessing.get_context("fork")


def on_ranks(world: int, meeting: Path, work: Callable[[int], Any]) -> list[Any]:
    """Do some work on each of `world` ranks of a gloo group, and return what they return, by rank.

    `meeting` is a file that is not there. What a rank raises is returned. A rank that is killed returns None.
    """
    results = FORK.SimpleQueue()

    def one(rank: int) -> None:
        import torch
        from torch import distributed

        warnings.simplefilter("error")
        torch.set_num_threads(1)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        distributed.init_process_group(
            "gloo", init_method=meeting.as_uri(), rank=rank, world_size=world, timeout=timedelta(seconds=60)
        )
        try:
            result = work(rank)
        except BaseException as error:
            result = error
        results.put((rank, pickle.dumps(result)))  # a queue would pass on tensors by handles of this process
        # Process groups that are still held may abort the interpreter as it ends, or wait for their threads for ever.
        os._exit(0)

    ranks = [FORK.Process(target=one, args=(rank,)) for rank in range(world)]
    for each in ranks:
        each.start()
    found: dict[int, Any] = {}
    while any(each.is_alive() for each in ranks) or not results.empty():
        if results.empty():
            ranks[0].join(0.01)
        else:
            rank, result = results.get()
            found[rank] = pickle.loads(result)
    for each in ranks:
        each.join()
    return [found.get(rank) for rank in range(world)]
