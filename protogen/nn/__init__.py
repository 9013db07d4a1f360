"""The training side: prototypes that do not learn, and the heads on them, for torch."""

from protogen.measuring.geometry import random_signs

from .assigning import assign
from .assignment import AssignmentHead, regression_loss, update_means
from .ddp import ddp_ignore
from .distances import cosine_loss, spherical_logits, spherical_loss
from .fingerprint import Fingerprint
from .fixed import FixedPrototypes
from .frozen import FrozenPrototypes
from .head import Head
from .heads import ChunkedCosineLoss, CosineHead, EBVLoss, chunked_cross_entropy, cosine_logits, ebv_loss
from .margin import MarginHead, margin_logits, max_margin
from .multicenter import (
    MultiCenterClassifier,
    multicenter_centers,
    multicenter_cross_entropy,
    multicenter_logits,
    variance_loss,
)
from .placement import PlacedPrototypes, place
from .polytope import polytope_logits, polytope_loss
from .recall import recall_at
from .softmaxes import arcface_logits, l_softmax_logits
from .sources import as_prototypes
from .structured import StructuredPrototypes
from .subcenters import SubcenterHead, subcenter_logits, subcenter_loss
from .temperature import fitting_temperature
from .uniformity import uniformity_loss

HEADS: tuple[type[Head], ...] = (CosineHead, MarginHead, AssignmentHead, SubcenterHead, MultiCenterClassifier)

__all__ = [
    "HEADS",
    "AssignmentHead",
    "ChunkedCosineLoss",
    "CosineHead",
    "EBVLoss",
    "Fingerprint",
    "FixedPrototypes",
    "FrozenPrototypes",
    "Head",
    "MarginHead",
    "MultiCenterClassifier",
    "PlacedPrototypes",
    "StructuredPrototypes",
    "SubcenterHead",
    "arcface_logits",
    "as_prototypes",
    "assign",
    "chunked_cross_entropy",
    "cosine_logits",
    "cosine_loss",
    "ddp_ignore",
    "ebv_loss",
    "fitting_temperature",
    "l_softmax_logits",
    "margin_logits",
    "max_margin",
    "multicenter_centers",
    "multicenter_cross_entropy",
    "multicenter_logits",
    "place",
    "polytope_logits",
    "polytope_loss",
    "random_signs",
    "recall_at",
    "regression_loss",
    "spherical_logits",
    "spherical_loss",
    "subcenter_logits",
    "subcenter_loss",
    "uniformity_loss",
    "update_means",
    "variance_loss",
]
