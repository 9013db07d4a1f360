"""Tensors as a file holds them: dtypes, memory, norms."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


NORM_TOLERANCE = 1e-5


DTYPES = {"float64": "F64", "float32": "F32", "int64": "I64", "int32": "I32", "uint8": "U8", "bool": "BOOL"}


NAMES = {code: name for name, code in DTYPES.items()}


def _bytes(tensor: "Tensor") -> memoryview:
    """Look at a contiguous tensor's memory."""
    import torch

    return tensor.flatten().view(torch.uint8).numpy().data


def _fault(rows: "Tensor", first: int, free: bool) -> str | None:
    """Find a row that is not finite or, unless norms are free, not of norm 1."""
    import torch

    norms = torch.linalg.vector_norm(rows, dim=-1)
    # Written so that NaN, of which every comparison is false, is a fault.
    sound = norms.isfinite() if free else (norms - 1).abs() <= NORM_TOLERANCE
    if sound.all():
        return None
    place = (~sound).nonzero()[0].tolist()
    allowed = "a finite one" if free else f"1 within {NORM_TOLERANCE}"
    return f"row {first + place[0]} has norm {norms[tuple(place)].item()}, allowed is {allowed}"
