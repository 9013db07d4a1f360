"""The training side: frozen prototypes and the heads on them, for torch."""

from .frozen import FrozenPrototypes, exclude_from_ddp
from .heads import CosineHead, cosine_logits

__all__ = ["CosineHead", "FrozenPrototypes", "cosine_logits", "exclude_from_ddp"]
