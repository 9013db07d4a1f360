"""A file that comes from elsewhere: written, and hashed in the same pass."""

from collections.abc import Iterable
from pathlib import Path

from .digests import BlockHasher
from .header import LONGEST, Header, check_blocks, header_from


def write_arriving(path: Path, pieces: Iterable[bytes], name: str) -> Header:
    """Write the bytes of an artifact to `path` as they arrive, and check the whole as `check_file` does.

    The bytes are hashed as they pass and never read again; the header alone is. `name` says in errors what
    the artifact is. Raises IntegrityError, OSError, and what `pieces` raises; then the file is left as it is.
    """
    hasher, head, size = BlockHasher(), bytearray(), 0
    whole = False  # whether the header is there
    with path.open("w+b") as file:
        for piece in pieces:
            file.write(piece)
            size += len(piece)
            if whole:
                hasher.update(memoryview(piece))
                continue
            head += piece
            # A wrong length may be of any size; `header_from` refuses it below.
            end = 8 + min(int.from_bytes(head[:8], "little"), LONGEST)
            if len(head) >= end:
                whole = True
                hasher.update(memoryview(bytes(head[end:])))
        file.seek(0)
        header = header_from(name, file, size)
    check_blocks(name, header, hasher.digests())
    return header
