"""Commands on several processes: torch's launcher starts them, rank 0 runs the command, the others follow it."""

import contextlib
import logging
import os
import signal
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING

from protogen.errors import RankLost

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup
    from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

OWN = "protogen-"  # how the launcher's number of a run begins where this module has started it
INTERRUPTED = 130
PATIENCE = timedelta(days=30)  # rank 0 may work alone for so long; a rank that is gone is seen at once
CLOSING_S = 3600  # that rank 0 has to measure and to publish its best after Ctrl-C


def started() -> int:
    """How many processes torch's launcher has started of this command; 1 where it was not started so."""
    return int(os.environ["WORLD_SIZE"]) if {"RANK", "WORLD_SIZE", "MASTER_ADDR"} <= os.environ.keys() else 1


def group_of_command() -> "ProcessGroup | None":
    """The group of the processes that run this command; None where it is one process."""
    if started() == 1:
        return None
    from torch import distributed

    return distributed.group.WORLD if distributed.is_initialized() else None


def launch(processes: int, words: list[str]) -> int:
    """Run a command with these words on so many processes of this machine; return its exit code.

    This is `torchrun --nproc-per-node <processes> -m -- protogen <words>`. A process that is gone ends the others, and
    is told in one line, on stderr.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logging.getLogger("torch.distributed").setLevel(logging.CRITICAL)  # what it logs is told below, in one line
    settings = {
        "OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // processes)),
        "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": str(CLOSING_S),
    }
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=f"{OWN}{uuid.uuid4().hex}",
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
    )
    with _environment(settings):
        try:
            elastic_launch(config, sys.executable)("-m", "protogen", *words)
        except ChildFailedError as error:
            return _ended(processes, error.failures)
        except SignalException as error:
            return INTERRUPTED if error.sigval == signal.SIGINT else 128 + error.sigval
    return 0


def _ended(processes: int, failures: "Mapping[int, ProcessFailure]") -> int:
    """Say which process was lost, unless rank 0 has ended as commands end; return the exit code of all."""
    lost = RankLost.exit_code
    own = failures[0].exitcode if 0 in failures else lost
    if own >= 0 and own != lost:
        return own
    # Those that have ended because another was lost are not the cause, nor those that the launcher has ended then.
    first = min(failures.values(), key=lambda each: (each.exitcode in (lost, -signal.SIGTERM), each.local_rank))
    code = first.exitcode
    how = f"ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    told = f"error: process {first.local_rank} of {processes} was {how}; the same command goes on from its last state"
    print(told, file=sys.stderr, flush=True)
    return lost


def take_part(command: Callable[[], int]) -> int:
    """Run a command that torch's launcher has started: on rank 0, and let the others follow; return the exit code."""
    rank = int(os.environ["RANK"])
    if rank:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is for rank 0
    import torch
    from torch import distributed

    from .group import Ranks

    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    distributed.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", timeout=PATIENCE)
    ranks = Ranks.of(distributed.group.WORLD)
    assert ranks is not None, "there are several"
    try:
        if rank:
            with contextlib.suppress(KeyboardInterrupt):  # of rank 0, which tells it
                ranks.follow()
            return 0
        # The launcher sends it where another process is gone. That is seen where the ranks agree, and then the state
        # of a descent is kept.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        return ranks.led(command)
    except RankLost:
        return RankLost.exit_code
    finally:
        with contextlib.suppress(RuntimeError):
            distributed.destroy_process_group()


def is_told() -> bool:
    """Whether the launcher tells of a process that is gone, so that rank 0 need not."""
    return started() > 1 and os.environ.get("TORCHELASTIC_RUN_ID", "").startswith(OWN)


@contextlib.contextmanager
def _environment(settings: dict[str, str]) -> Iterator[None]:
    """Set variables that are not set, as long as this lasts."""
    fresh = {name: value for name, value in settings.items() if name not in os.environ}
    os.environ.update(fresh)
    try:
        yield
    finally:
        for name in fresh:
            del os.environ[name]
