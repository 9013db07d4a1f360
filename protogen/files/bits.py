"""Rows of signs as packed bits, for programs that count Hamming distances."""

from pathlib import Path

from protogen.errors import BadRequest, DiskError

from .disk import disk_error, temporary
from .foreign import read_matrix

ROWS = 8192  # packed at a time
ROUNDING = 1e-3  # how far sqrt(d) times a coordinate may be from 1 or -1


def write_bits(source: Path, target: Path) -> tuple[int, int]:
    """Write the signs of a file's rows as a .npy array (n, ceil(d / 8)) uint8, and return n and d.

    A negative coordinate is a one. The first of eight coordinates is the highest bit, and zeros fill the last byte:
    `numpy.unpackbits(bits, axis=1, count=d)` gives the bits back. Raises BadRequest where a coordinate is neither
    1/sqrt(d) nor its negative, and the errors of `read_matrix`; nothing is written then.
    """
    import numpy
    import torch
    from numpy.lib import format as npy

    if target.suffix != ".npy":
        raise BadRequest(f"to is {str(target)!r}; allowed is a file name that ends in .npy")
    if not target.parent.is_dir():
        raise DiskError(f"{target}: No such file or directory; name a place with room and permission")
    rows = read_matrix(source)
    n, d = rows.shape
    try:
        with temporary(target.parent) as part:
            with part.open("wb") as file:
                header = {"descr": "|u1", "fortran_order": False, "shape": (n, -(-d // 8))}
                npy.write_array_header_1_0(file, header)
                for start in range(0, n, ROWS):
                    block = rows.rows(start, min(start + ROWS, n))
                    far = (block.abs() * d**0.5 - 1).abs()
                    if not bool((far <= ROUNDING).all()):
                        row, column = divmod(int(torch.nan_to_num(far, nan=torch.inf).argmax()), d)
                        raise BadRequest(
                            f"{source}: coordinate {column} of row {start + row} is {float(block[row, column]):.6g}; "
                            f"bits have 1/sqrt(d) = {d**-0.5:.6g} and its negative alone; "
                            "make such rows with `protogen ebv --signs`"
                        )
                    file.write(numpy.packbits((block < 0).numpy(), axis=1).tobytes())
            part.replace(target)
    except OSError as error:
        raise disk_error(target, error, "of the file by --to") from error
    return int(n), int(d)
