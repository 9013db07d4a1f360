"""Which prototypes a module or a checkpoint has."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from protogen.files.digests import BlockHasher, content_digest
from protogen.files.prototypes import Prototypes
from protogen.rows import InMemory, Rows, pieces

SHOWN = 12  # hex digits of a digest that messages show and a shape holds
DIGEST, COUNT, NAME = 32, 8, 88  # bytes of the digest, the number of classes and the name in a checkpoint


@dataclass(frozen=True)
class Fingerprint:
    """Which prototypes these are: the sha256, in hex, of their content, what messages call them, and how many.

    The name and the number are no part of the identity: a tensor has the fingerprint of the file that holds it.
    The digest is that of a file's tensor `prototypes`, which for a file without another tensor is the file's own.

    >>> import torch
    >>> from protogen.nn import FrozenPrototypes
    >>> FrozenPrototypes(torch.eye(3)).fingerprint.n
    3
    """

    digest: str
    name: str = field(compare=False)
    n: int | None = field(default=None, compare=False)

    @classmethod
    def of_tensor(cls, rows: Tensor) -> Self:
        """Digest the float32 rows as a file does its data section, whatever device they are on."""
        return cls.of_rows(InMemory(rows.detach()))

    @classmethod
    def of_rows(cls, source: Rows) -> Self:
        """Digest the float32 rows of a source, piece by piece."""
        hasher = BlockHasher()
        for start, stop in pieces(source.shape):
            # A copy of each piece: numpy's look at the memory would part what is shared until it is written to.
            piece = source.rows(start, stop).to("cpu", torch.float32, copy=True).contiguous()
            hasher.update(piece.numpy().data.cast("B"))
            del piece  # before the next one is made
        return cls(content_digest(hasher.digests()), f"a tensor {source.shape}", source.shape[0])

    @classmethod
    def of_file(cls, path: str | Path, digest: str, n: int | None = None) -> Self:
        """Take the digest of a file's header and the end of its path."""
        return cls(digest, "/".join(Path(path).parts[-3:]), n)

    @classmethod
    def of_record(cls, record: Prototypes) -> Self | None:
        """That of the file that a record lies in; None where it lies in none, or is only a part of one."""
        if record.part is None and record.path and record.digest:
            return cls.of_file(record.path, record.digest, record.n)
        return None

    @classmethod
    def of_label(cls, label: str, n: int, d: int) -> Self:
        """Digest the label of a closed form and its size: its rows may be too many to be built."""
        name = f"{label} as ({n}, {d})"
        return cls(hashlib.sha256(name.encode()).hexdigest(), name, n)

    def shape(self) -> tuple[int, ...]:
        """Write the digest's first 12 hex digits as the shape of a tensor without values, (0, a, b, c).

        A loader that knows nothing of fingerprints refuses another one as a tensor of another size, before it
        writes anything; and no average or cast can change it.
        """
        return 0, *(int(self.digest[i : i + 4], 16) for i in range(0, SHOWN, 4))

    def pack(self) -> Tensor:
        """Write digest, number and name as 128 float32 values, a byte each, which half precision keeps."""
        count = (self.n or 0).to_bytes(COUNT, "little")
        raw = bytes.fromhex(self.digest) + count + self.name.encode()[:NAME].ljust(NAME, b"\0")
        return torch.tensor(list(raw), dtype=torch.float32, device="cpu")

    @classmethod
    def unpack(cls, packed: Tensor) -> Self | None:
        """Read what `pack` wrote, or its uint8 predecessor without a number; None where there is nothing to read."""
        if packed.is_meta or packed.numel() != DIGEST + COUNT + NAME:
            return None
        values = packed.float().round()
        if not ((values >= 0) & (values <= 255)).all():
            return None
        raw, old = bytes(values.to(torch.uint8).tolist()), packed.dtype == torch.uint8
        n = None if old else int.from_bytes(raw[DIGEST : DIGEST + COUNT], "little")
        name = raw[DIGEST if old else DIGEST + COUNT :]
        return cls(raw[:DIGEST].hex(), name.rstrip(b"\0").decode(errors="ignore"), n or None)

    @classmethod
    def read(cls, shape: tuple[int, ...] | None, packed: Tensor | None) -> Self | None:
        """Read what a checkpoint holds of a fingerprint: the shape decides, the packed values tell more."""
        told = None if packed is None else cls.unpack(packed)
        if shape is None or len(shape) != 4:
            return told
        digits = "".join(f"{part:04x}" for part in shape[1:])
        return told if told and told.digest.startswith(digits) else cls(digits, "prototypes")

    def matches(self, other: "Fingerprint") -> bool:
        """Whether two are of the same prototypes, by as many digits as both have."""
        digits = min(len(self.digest), len(other.digest))
        return self.digest[:digits] == other.digest[:digits]

    def __str__(self) -> str:
        return f"{self.name} (sha256 {self.digest[:SHOWN]})"
