"""A file that comes from elsewhere: written, and hashed in the same pass."""

from pathlib import Path

from .digests import BLOCK, BlockHasher
from .header import Header, Source, check_blocks, header_from, wrong_length

PIECE = 4 * BLOCK  # bytes that are read at a time


def write_arriving(path: Path, source: Source, name: str) -> Header:
    """Write the bytes of an artifact to `path` as they arrive, and check the whole as `check_file` does.

    The header comes first and says how many bytes there are: one more is asked for, and no other. The bytes are
    hashed as they pass and never read again. `name` says in errors what the artifact is. Raises IntegrityError,
    OSError, and what reading `source` raises; then the file is left as it is.
    """
    kept = _Kept(source)
    header = header_from(name, kept, None)
    hasher, left = BlockHasher(), header.data_bytes
    with path.open("wb") as file:
        file.write(kept.taken)
        while piece := source.read(min(PIECE, left + 1)):
            left -= len(piece)
            if left < 0:
                break
            file.write(piece)
            hasher.update(memoryview(piece))
    if left:
        raise wrong_length(name, header.file_bytes - left, header.file_bytes)
    check_blocks(name, header, hasher.digests())
    return header


class _Kept:
    """A source, and all that was read of it."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.taken = bytearray()

    def read(self, size: int, /) -> bytes:
        piece = self._source.read(size)
        self.taken += piece
        return piece
