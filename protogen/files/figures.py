"""Measure the rows of any safetensors file."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from protogen.checks import check_flag, check_kind, check_path, check_tile
from protogen.measuring.stats import AngleStats

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

    from protogen.rows import Rows


def measure_file(
    path: str | os.PathLike[str],
    tensor: str | None = None,
    *,
    transpose: bool = False,
    device: str = "cpu",
    tile: int | None = None,
    report: Callable[[float], None] | None = None,
    say: Callable[[str], None] | None = None,
    group: "ProcessGroup | None" = None,
) -> "tuple[Rows, AngleStats]":
    """Read a matrix, scale its vectors to length one and measure them over all pairs; return both.

    - `tensor`: its name, else `prototypes`, or the only matrix of the file.
    - `transpose`: its columns are the vectors, not its rows; the rows returned are these vectors.
    - `device`, `tile`, `group`: those of the measurement. `report` is called with the share of it that is done.
    - `say`: told in a line where the unit vectors are the other way.

    The file is safetensors, .npy or one of `torch.save`, of which tensors alone are read.
    Raises NotFound, DiskError, IntegrityError, and BadRequest where there is no such matrix, the device is unknown
    or the memory too small.

    >>> import numpy, protogen
    >>> numpy.save("matrix.npy", numpy.array([[1.0, 0.0], [3.0, 3.0]]))
    >>> rows, stats = protogen.measure_file("matrix.npy")
    >>> round(stats.min_angle_lines_deg, 4)
    45.0
    """
    from protogen.measuring.geometry import pick_device
    from protogen.measuring.measure import measure
    from protogen.measuring.memory import check_memory, tile_bytes

    from .foreign import advice, open_matrix, scaled_rows

    check_path("path", path)
    check_kind("tensor", tensor, str)
    check_flag("transpose", transpose)
    check_tile(tile)
    where, matrix = pick_device(device), open_matrix(Path(path), tensor, transpose)
    rows = scaled_rows(matrix)
    if say is not None and (line := advice(matrix)) is not None:
        say(line)
    n = rows.shape[0]
    check_memory(f"n={n} with this --tile", tile_bytes(n, where, tile), where)
    return rows, measure(rows, device, tile, report, group=group)
