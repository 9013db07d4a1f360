"""Whether there is the memory for what is to be done, before it is begun."""

from typing import TYPE_CHECKING

from protogen.errors import BadRequest

if TYPE_CHECKING:
    import torch

    from protogen.ranks.group import Ranks

TILE_NUMBER_BYTES = 64  # of each cosine of a tile: itself, copies, bin and float64, and its place where all are close


def tile_bytes(n: int, device: "torch.device", tile: int | None) -> int:
    """The memory that the Gram tiles of n rows need, of the statistics or a descent."""
    from .tiles import tile_edge

    return TILE_NUMBER_BYTES * min(tile_edge(device, tile), n) ** 2


def check_memory(what: str, needed: int, device: "torch.device") -> None:
    """Raise BadRequest where the memory that is free is less than `what` needs, in bytes."""
    free = free_bytes(device)
    if needed > free:
        raise BadRequest(
            f"{what} needs about {gigabytes(needed)} of memory, free are {gigabytes(free)}; "
            "ask for fewer or shorter vectors or a smaller --tile, or use a larger machine"
        )


def free_bytes(device: "torch.device") -> int:
    """The memory that is free: of this machine, and of the device where it has its own."""
    import psutil

    free: int = psutil.virtual_memory().available
    if device.type == "cuda":
        import torch

        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        free = min(free, torch.cuda.mem_get_info(device)[0] + cached)
    return free


def least_free(ranks: "Ranks", device: str) -> int:
    """The memory that is free for the rank that has the least, each with its part of its machine's; all ask."""
    from platform import node

    import torch

    where = torch.device(device)
    machines = ranks.gathered(node())
    sharing = machines.count(node()) if where.type == "cpu" else 1
    least: int = min(ranks.gathered(free_bytes(where) // sharing))
    return least


def gigabytes(size: int) -> str:
    """Write a size in bytes as GB."""
    return f"{size / 1e9:,.1f} GB"
