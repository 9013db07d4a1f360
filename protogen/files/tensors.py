"""Tensors as a file holds them: their place in it, dtypes, memory, norms."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .digests import BLOCK

if TYPE_CHECKING:
    from torch import Tensor

NORM_TOLERANCE = 1e-5  # how far the norm of a row of unit vectors may lie from one, in float32
ITEM_BYTES = {"F64": 8, "I64": 8, "F32": 4, "I32": 4, "U8": 1, "BOOL": 1}
DTYPES = {"float64": "F64", "float32": "F32", "int64": "I64", "int32": "I32", "uint8": "U8", "bool": "BOOL"}
NAMES = {code: name for name, code in DTYPES.items()}
TENSOR = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")  # a tensor's name


@dataclass(frozen=True)
class TensorEntry:
    """One tensor of the file: `start` and `end` are bytes from the begin of the data section."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


def layout(tensors: Mapping[str, tuple[str, Sequence[int]]]) -> tuple[TensorEntry, ...]:
    """Lay tensors, name -> (dtype, shape), one after the other: widest items first, so all are aligned.

    Raises KeyError on a dtype that is not in ITEM_BYTES.
    """
    entries, start = [], 0
    for name, (dtype, shape) in sorted(tensors.items(), key=lambda item: (-ITEM_BYTES[item[1][0]], item[0])):
        end = start + math.prod(shape) * ITEM_BYTES[dtype]
        entries.append(TensorEntry(name, dtype, tuple(shape), start, end))
        start = end
    return tuple(entries)


def block_count(entries: Sequence[TensorEntry]) -> int:
    """Count the blocks of the data section."""
    return -(-entries[-1].end // BLOCK)


def memory_of(tensor: "Tensor") -> memoryview:
    """Look at a contiguous tensor's memory."""
    import torch

    return tensor.flatten().view(torch.uint8).numpy().data


def norm_fault(rows: "Tensor", first: int, free: bool) -> str | None:
    """Find a row that is not finite or, unless norms are free, not of norm 1; `first` is the number of the first."""
    import torch

    norms = torch.linalg.vector_norm(rows, dim=-1)
    # Written so that NaN, of which every comparison is false, is a fault.
    sound = norms.isfinite() if free else (norms - 1).abs() <= NORM_TOLERANCE
    if sound.all():
        return None
    place = (~sound).nonzero()[0].tolist()
    allowed = "a finite one" if free else f"1 within {NORM_TOLERANCE}"
    return f"row {first + place[0]} has norm {norms[tuple(place)].item()}, allowed is {allowed}"
