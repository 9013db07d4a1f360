"""Digests of a file's content, block by block."""

import hashlib
from collections.abc import Iterable

BLOCK = 2 << 20  # bytes of the data section under one digest


PENDING = "0" * 64  # stands for a digest while the tensors are being written


class BlockHasher:
    """Digest a stream block by block, whatever the pieces it comes in."""

    def __init__(self) -> None:
        self._done: list[str] = []
        self._open = hashlib.sha256()
        self._filled = 0

    def update(self, data: memoryview) -> None:
        """Take in the next bytes."""
        while data:
            piece = data[: BLOCK - self._filled]
            self._open.update(piece)
            self._filled += len(piece)
            data = data[len(piece) :]
            if self._filled == BLOCK:
                self._close()

    def digests(self) -> list[str]:
        """Close the last block and give the sha256 of each, in hex."""
        if self._filled:
            self._close()
        return self._done

    def _close(self) -> None:
        self._done.append(self._open.hexdigest())
        self._open, self._filled = hashlib.sha256(), 0


def content_digest(blocks: Iterable[str]) -> str:
    """The sha256, in hex, over the blocks' digests, joined."""
    return hashlib.sha256("".join(blocks).encode()).hexdigest()
