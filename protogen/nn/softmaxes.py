"""Softmaxes with a margin on vectors that may be learned: L-Softmax and ArcFace, of one or several vectors a class."""

import math

import torch
from torch import Tensor

from .checks import directions


def l_softmax_logits(features: Tensor, centers: Tensor, classes: Tensor, margin: int = 2) -> Tensor:
    """Return inner products of features (N, d) with centres (n, k, d), less at the own classes (N,): (N, n, k).

        own logit = |w| |x| psi(theta), psi(theta) = (-1)^r cos(margin theta) - 2 r
        for theta from r pi / margin to (r + 1) pi / margin

    psi falls from 1 to 1 - 2 margin. A margin of 1 changes nothing. The gradient reaches features and centres, which
    are float32 or float64; where one of them is zero it is zero.
    Source: Liu, Wen, Yu and Yang 2017, Large-Margin Softmax Loss, Eq. 4 to 7, as Generating Multi-Center Classifier,
    Table 6, combines it with centres.

    >>> import torch
    >>> from protogen.nn import l_softmax_logits
    >>> l_softmax_logits(torch.eye(2), torch.eye(2).unsqueeze(1), torch.tensor([0, 1])).shape
    torch.Size([2, 2, 1])
    """
    logits = torch.einsum("ad,nkd->ank", features, centers.to(features.dtype)).to(features.dtype)
    lengths, cosines, own = _at_own(features, centers, classes)
    with torch.no_grad():
        r = (cosines.clamp(-1, 1).acos() * margin / math.pi).floor().clamp(0, margin - 1)
    # cos(margin theta) as Chebyshev's polynomial of cos(theta), which has a gradient at 1 and -1 too.
    before, multiple = torch.ones_like(cosines), cosines
    for _ in range(margin - 1):
        before, multiple = multiple, 2 * cosines * multiple - before
    psi = (1 - 2 * (r % 2)) * multiple - 2 * r
    return logits.scatter(1, own, (lengths * psi)[:, None])


def arcface_logits(
    features: Tensor, centers: Tensor, classes: Tensor, margin: float = 0.5, scale: float = 30.0
) -> Tensor:
    """Return scale times cosines of features (N, d) to centres (n, k, d), at the own classes (N,) with a margin.

        own logit = scale cos(theta + margin) where theta + margin <= pi, else scale (cos(theta) - 1 + cos(margin))

    (N, n, k). Beyond pi it goes on as `margin_logits` do. The gradient reaches features and centres, which are float32
    or float64.
    Source: Deng, Guo, Xue and Zafeiriou 2019, ArcFace, Eq. 3, as Generating Multi-Center Classifier, Table 6,
    combines it with centres.

    >>> import torch
    >>> from protogen.nn import arcface_logits
    >>> features, centers = torch.eye(2), torch.eye(2).unsqueeze(1)
    >>> arcface_logits(features, centers, torch.tensor([0, 1]), margin=0.5, scale=1.0).shape
    torch.Size([2, 2, 1])
    """
    ahead, places = directions(features, features.shape[-1]), directions(centers, centers.shape[-1])
    cosines = torch.einsum("ad,nkd->ank", ahead, places.to(ahead.dtype)).to(ahead.dtype)
    chosen = places[classes].to(ahead.dtype)
    cosine = (ahead[:, None] * chosen).sum(-1, keepdim=True)
    sine = torch.linalg.vector_norm(ahead[:, None] - cosine * chosen, dim=-1)
    cosine = cosine.squeeze(-1)
    near = cosine * math.cos(margin) - sine * math.sin(margin)
    psi = near.where(cosine >= -math.cos(margin), cosine - (1 - math.cos(margin)))
    own = classes[:, None, None].expand(-1, 1, centers.shape[1])
    return scale * cosines.scatter(1, own, psi[:, None])


def _at_own(features: Tensor, centers: Tensor, classes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return |w| |x| and the cosines (N, k) at the own classes, and where these stand among (N, n, k)."""
    chosen = centers[classes].to(features.dtype)
    lengths = torch.linalg.vector_norm(features, dim=-1, keepdim=True) * torch.linalg.vector_norm(chosen, dim=-1)
    products = (features[:, None] * chosen).sum(-1)
    cosines = products / lengths.masked_fill(lengths == 0, math.inf)
    return lengths, cosines, classes[:, None, None].expand(-1, 1, centers.shape[1])
