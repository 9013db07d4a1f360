"""One file by several ranks: each writes the blocks of its range of a formula's rows."""

import math
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from protogen.errors import BadRequest
from protogen.ranks.lead import leading
from protogen.rows import InMemory, Rows

from .digests import BLOCK, BlockHasher
from .tensors import memory_of, norm_fault

if TYPE_CHECKING:
    from protogen.ranks.group import Ranks

CHUNK = 8 << 20  # bytes of rows that are built and written at a time
FEW = 64 << 20  # bytes that one rank writes while several would agree on who does what


def write_ranges(path: Path, begin: int, source: Rows) -> list[str] | None:
    """Have all ranks write the rows of a formula, float32, from byte `begin` of a file; return its blocks' digests.

    None, and nothing is written, where this process leads no others, or the rows are in memory or few. Raises OSError,
    and BadRequest on rows that no reader would accept.
    """
    ranks = leading()
    if ranks is None or isinstance(source, InMemory) or 4 * math.prod(source.shape) < FEW or sys.byteorder != "little":
        return None
    return ranks.together(_write_range, str(path.absolute()), begin, source)


def _write_range(ranks: "Ranks", path: str, begin: int, source: Rows) -> list[str]:
    row = 4 * math.prod(source.shape[1:])
    size = row * source.shape[0]
    start, stop = (min(size, block * BLOCK) for block in ranks.range(-(-size // BLOCK)))
    hasher = BlockHasher()
    with ranks.agreeing(), open(path, "r+b") as file:
        file.seek(begin + start)
        step = max(1, CHUNK // row)
        for first in range(start // row, -(-stop // row) if stop > start else 0, step):
            end = min(first + step, source.shape[0])
            rows = source.rows(first, end)
            fault = norm_fault(rows, first, False)
            if fault:
                raise BadRequest(f"{path}: {fault}; normalise the rows before writing them")
            data = memory_of(rows)[max(0, start - first * row) : max(0, stop - first * row)]
            hasher.update(data)
            file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return [digest for part in ranks.gathered(hasher.digests()) for digest in part]
