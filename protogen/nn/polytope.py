"""The softmax of features of any length on fixed vertices, without a margin."""

from typing import Any

from torch import Tensor
from torch.nn import functional as F

from protogen.errors import BadRequest

from .checks import positive
from .entropy import of_logits
from .fixed import FixedPrototypes, at_least_float32
from .targets import Wanted, weighted_loss


def polytope_logits(features: Tensor, prototypes: Tensor | FixedPrototypes, kappa: float | Tensor = 1.0) -> Tensor:
    """Return kappa_j times the inner products of features (..., d), as long as they are, with prototypes: (..., n).

    `kappa` is a number, or (n,) with one a class. The gradient reaches the features, and kappa where it is a tensor
    that learns. In float32, float64 if the features are, or what autocast makes of it.

    Raises BadRequest where features or kappa are not allowed.
    Source: Maximally Compact and Separated Features with Regular Polytope Networks, Section 3, Eq. 1 and 6. Eq. 6
    has the feature's length in its numerator and prints a normalised feature below: ours has the length in both.

    >>> import torch
    >>> from protogen.nn import polytope_logits
    >>> polytope_logits(torch.tensor([[2.0, 0.0]]), torch.eye(2), kappa=3.0)
    tensor([[6., 0.]])
    """
    n, d = (prototypes.n, prototypes.d) if isinstance(prototypes, FixedPrototypes) else prototypes.shape
    if isinstance(kappa, Tensor):
        if tuple(kappa.shape) != (n,) or not kappa.is_floating_point():
            raise BadRequest(
                f"kappa is {tuple(kappa.shape)} of {kappa.dtype}; allowed is a number, or one a class, ({n},)"
            )
    else:
        kappa = positive("kappa", kappa)
    features = at_least_float32(features, d)
    if isinstance(prototypes, FixedPrototypes):
        return prototypes.product(features) * kappa
    return F.linear(features, prototypes.detach().to(features.dtype)) * kappa


def polytope_loss(
    features: Tensor,
    prototypes: Tensor | FixedPrototypes,
    targets: Tensor,
    kappa: float | Tensor = 1.0,
    **settings: Any,
) -> Tensor:
    """Return the cross entropy of `polytope_logits` with labels (...) or soft targets (..., n), averaged.

    The settings are those of `CosineHead.loss`, and `debug`. All logits are in memory.

    Raises BadRequest where features, targets, kappa or settings are not allowed.
    Source: Maximally Compact and Separated Features with Regular Polytope Networks, Section 3, Eq. 6.

    >>> import torch
    >>> from protogen.nn import polytope_loss
    >>> polytope_loss(torch.zeros(1, 2), torch.eye(2), torch.tensor([1]))
    tensor(0.6931)
    """
    n, d = (prototypes.n, prototypes.d) if isinstance(prototypes, FixedPrototypes) else prototypes.shape

    def losses(wanted: Wanted) -> tuple[Tensor | None, Tensor | None]:
        return of_logits(polytope_logits(features.reshape(-1, d), prototypes, kappa), wanted)

    return weighted_loss(losses, features, targets, n, d, **settings)
