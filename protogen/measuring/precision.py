"""The precision of float32 products."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def full_precision() -> Iterator[None]:
    """Keep out TF32 and bfloat16, which this process may use for its other products."""
    # torch sets mkldnn.matmul at run time and leaves it out of its types.
    kinds = (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul)  # type: ignore[attr-defined]
    lowered = [(kind, kind.fp32_precision) for kind in kinds if kind.fp32_precision not in ("none", "ieee")]
    for kind, _ in lowered:
        kind.fp32_precision = "ieee"
    try:
        yield
    finally:
        for kind, precision in lowered:
            # It inherits again what holds for all kinds, and has a value of its own where it had one.
            kind.fp32_precision = "none"
            if kind.fp32_precision != precision:
                kind.fp32_precision = precision
