"""The training side: prototypes that do not learn, and the heads on them, for torch."""

from .ddp import ddp_ignore
from .frozen import Fingerprint, FixedPrototypes, FrozenPrototypes
from .heads import CosineHead, cosine_logits
from .structured import StructuredPrototypes, as_prototypes

__all__ = [
    "CosineHead",
    "Fingerprint",
    "FixedPrototypes",
    "FrozenPrototypes",
    "StructuredPrototypes",
    "as_prototypes",
    "cosine_logits",
    "ddp_ignore",
]
