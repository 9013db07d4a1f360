"""Losses of basis vectors beside the cosine softmax: the softmax of angles, and the bare cosine to the own vector."""

from typing import Any

import torch
from torch import Tensor

from protogen.errors import BadRequest

from .checks import directions, own_prototypes, positive
from .entropy import of_logits
from .fixed import FixedPrototypes
from .heads import cosine_logits
from .targets import Losses, Wanted, weighted_loss

LEAST_SINE = 1e-12  # squared: where a feature lies on a vector or opposite to it, its angle has no derivative


def spherical_logits(features: Tensor, prototypes: Tensor | FixedPrototypes, temperature: float = 1.0) -> Tensor:
    """Return minus the angles, in radians, between features (..., d) and prototypes (n, d), over the temperature.

    (..., n). Eq. 2 prints no temperature, which is 1; "exp(-phi)" is then e^-pi at least, so that the softmax of many
    classes is nearly flat. In float32, float64 if the features are. Where the angle is 0 or pi its gradient is 0.

    Raises BadRequest where features or temperature are not allowed.
    Source: Equiangular Basis Vectors, Section 3.2, Eq. 2, phi the spherical distance.

    >>> import torch
    >>> from protogen.nn import spherical_logits
    >>> spherical_logits(torch.tensor([[1.0, 1.0]]), torch.eye(2))
    tensor([[-0.7854, -0.7854]])
    """
    temperature = positive("temperature", temperature)
    cosines = cosine_logits(features, prototypes, 1.0)
    cosines = cosines.to(torch.promote_types(cosines.dtype, torch.float32))
    squared = (1 - cosines.square()).clamp(min=0)
    sines = squared.where(squared > LEAST_SINE, 1).sqrt().where(squared > LEAST_SINE, 0)
    return -sines.atan2(cosines) / temperature


def spherical_loss(
    features: Tensor,
    prototypes: Tensor | FixedPrototypes,
    targets: Tensor,
    temperature: float = 1.0,
    **settings: Any,
) -> Tensor:
    """Return the cross entropy of `spherical_logits` with labels (...) or soft targets (..., n), averaged.

    The settings are those of `CosineHead.loss`, and `debug`. All logits are in memory.

    Raises BadRequest where features, targets or settings are not allowed.
    Source: Equiangular Basis Vectors, Section 3.2, Eq. 2.

    >>> import torch
    >>> from protogen.nn import spherical_loss
    >>> spherical_loss(torch.ones(1, 2), torch.eye(2), torch.tensor([1]))
    tensor(0.6931)
    """
    n, d = (prototypes.n, prototypes.d) if isinstance(prototypes, FixedPrototypes) else prototypes.shape

    def losses(wanted: Wanted) -> Losses:
        return of_logits(spherical_logits(features.reshape(-1, d), prototypes, temperature), wanted)

    return weighted_loss(losses, features, targets, n, d, **settings)


def cosine_loss(features: Tensor, prototypes: Tensor | FixedPrototypes, labels: Tensor, **settings: Any) -> Tensor:
    """Return 1 - cos of each feature (..., d) and its label's own vector, averaged: a baseline.

    The objective that the paper names first and rejects, since fitting samples to vectors that know nothing of them
    might disrupt what is learned. `reduction`, `ignore_index`, `weight` and `debug` are those of `CosineHead.loss`.

    Raises BadRequest where features, labels or settings are not allowed.
    Source: Equiangular Basis Vectors, Section 3.4, Implementations.

    >>> import torch
    >>> from protogen.nn import cosine_loss
    >>> cosine_loss(torch.tensor([[2.0, 0.0]]), torch.eye(2), torch.tensor([1]))
    tensor(1.)
    """
    n, d = (prototypes.n, prototypes.d) if isinstance(prototypes, FixedPrototypes) else prototypes.shape

    def losses(wanted: Wanted) -> Losses:
        if wanted.classes is None or wanted.shares is not None:
            raise BadRequest("targets are soft; allowed are labels without smoothing: with soft ones take ebv_loss")
        ahead = directions(features.reshape(-1, d), d)
        return 1 - (ahead * own_prototypes(prototypes, wanted.classes).to(ahead.dtype)).sum(-1), None

    return weighted_loss(losses, features, labels, n, d, **settings)
