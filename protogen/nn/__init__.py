"""The training side: prototypes that do not learn, and the heads on them, for torch."""

from .frozen import FixedPrototypes, FrozenPrototypes, exclude_from_ddp
from .heads import CosineHead, cosine_logits
from .structured import StructuredPrototypes, as_prototypes

__all__ = [
    "CosineHead",
    "FixedPrototypes",
    "FrozenPrototypes",
    "StructuredPrototypes",
    "as_prototypes",
    "cosine_logits",
    "exclude_from_ddp",
]
