"""Measure the rows of any safetensors file."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from protogen.measuring.stats import AngleStats

if TYPE_CHECKING:
    from protogen.rows import Rows


def measure_file(
    path: str | os.PathLike[str],
    tensor: str | None = None,
    *,
    device: str = "cpu",
    tile: int | None = None,
    report: Callable[[float], None] | None = None,
) -> "tuple[Rows, AngleStats]":
    """Read a matrix, scale its rows to length one and measure them over all pairs; return both.

    - `tensor`: its name, else `prototypes`, or the only matrix of the file.
    - `device`, `tile`: those of the measurement. `report` is called with the share of it that is done.

    Raises NotFound, DiskError, IntegrityError, and BadRequest where there is no such matrix, the device is unknown
    or the memory too small.
    """
    from protogen.measuring.geometry import pick_device
    from protogen.measuring.measure import measure
    from protogen.measuring.memory import check_memory, tile_bytes

    from .foreign import read_matrix

    rows, where = read_matrix(Path(path), tensor), pick_device(device)
    n = rows.shape[0]
    check_memory(f"n={n} with this --tile", tile_bytes(n, where, tile), where)
    return rows, measure(rows, device, tile, report)
