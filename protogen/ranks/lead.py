"""Work that rank 0 leads where there is a process group, for callers that load no torch where there is none."""

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

    from .group import Ranks

Result = TypeVar("Result")


def led(group: "ProcessGroup | None", work: Callable[[], Result]) -> Result:
    """Do some work: as `Ranks.led` says where the group has several ranks, else at once."""
    ranks = ranks_of(group)
    return work() if ranks is None else ranks.led(work)


def ranks_of(group: "ProcessGroup | None") -> "Ranks | None":
    """The ranks of a group; None where there is no group, or one of this process alone."""
    if group is None:
        return None
    from .group import Ranks

    return Ranks.of(group)


def ranks_here(group: "ProcessGroup | None") -> int:
    """How many ranks lie on the machine of rank 0, which asks."""
    ranks = ranks_of(group)
    if ranks is None:
        return 1
    machines = ranks.together(_machines)
    return machines.count(machines[0])


def _machines(ranks: "Ranks") -> list[str]:
    from platform import node

    found: list[str] = ranks.gathered(node())
    return found


def leading() -> "Ranks | None":
    """The ranks that this process leads now, if it leads any. Loads no torch."""
    module = sys.modules.get(f"{__package__}.group")
    return None if module is None else module.Ranks.leading()
