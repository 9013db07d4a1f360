"""Heads of the papers' ablations and baselines, whose rows are trained: a margin, sub-centres, a uniformity loss."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from protogen.checks import check_word
from protogen.errors import BadRequest
from protogen.methods import METHODS
from protogen.methods.polytope import Polytope
from protogen.nn import uniformity_loss
from protogen.nn.margin import CONTINUATIONS, FALLING, margin_cosines

POLYTOPES = ("simplex", "orthoplex", "cube")


class TrainedMargin(nn.Module):
    """Cosine softmax on trained rows with the margin of MarginHead: radians, or the angle of a polytope of n vertices.

    The baseline of Maximally Compact and Separated Features with Regular Polytope Networks, Section 4: a learnable
    classifier with the loss of Eq. 9.
    """

    def __init__(
        self, d: int, n: int, margin: float | str = "simplex", kappa: float = 30.0, continuation: str = FALLING
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n, d))
        nn.init.kaiming_uniform_(self.weight, math.sqrt(5))  # as nn.Linear's
        check_word("continuation", continuation, CONTINUATIONS)
        self.margin = polytope_angle(margin, n) if isinstance(margin, str) else margin
        self.kappa, self.continuation = kappa, continuation

    def forward(self, features: Tensor) -> Tensor:
        """Return logits (..., n) for features (..., d)."""
        return self.kappa * F.linear(F.normalize(features, dim=-1), F.normalize(self.weight))

    def loss(self, features: Tensor, labels: Tensor) -> Tensor:
        """Return the cross entropy with the margin, continued beyond pi as `margin_logits` is."""
        ahead, own = F.normalize(features), F.normalize(self.weight)[labels]
        psi = margin_cosines(ahead, own, self.margin, self.continuation)
        return F.cross_entropy(self(features).scatter(1, labels[:, None], self.kappa * psi[:, None]), labels)


def polytope_angle(kind: str, n: int) -> float:
    """Return the angle from a vertex of the smallest polytope of a kind with n vertices to its neighbours, in radians.

    Raises BadRequest where there is no such polytope.
    Source: Maximally Compact and Separated Features with Regular Polytope Networks, Section 3, Eq. 7 and 10 to 12.
    """
    if kind not in POLYTOPES:
        raise BadRequest(f"margin is {kind!r}; allowed is {', '.join(POLYTOPES)} or a number of radians from 0 to pi")
    made = METHODS[kind]
    assert issubclass(made, Polytope)
    return made.phi(made.least_d(n) or 1)


class TrainedUniform(nn.Linear):
    """A learned classifier whose rows are kept uniform on the sphere: PSC*, cross entropy + weight L_uni.

    Source: Dynamic Label-to-Prototype Assignment, Section 4.4.4, Table 8 (weight 0.01) and Figure 3d.
    """

    def __init__(self, d: int, n: int, uniformity: float = 0.01, t: float = 2.0) -> None:
        super().__init__(d, n)
        self.uniformity, self.t = uniformity, t

    def loss(self, features: Tensor, labels: Tensor) -> Tensor:
        """Return the cross entropy of features (b, d) with labels (b,), and the weighted loss of the rows."""
        return F.cross_entropy(self(features), labels) + uniformity_loss(self.weight, self.t, weight=self.uniformity)


class TrainedSubcenters(nn.Module):
    """Sub-centres as SubcenterHead has them, but trained: the ablation of The Fixed Sub-Center, Section 4.5."""

    def __init__(self, subcenters: Tensor, beta: float = 1e-4) -> None:
        super().__init__()
        self.subcenters = nn.Parameter(subcenters.clone())
        self.beta = beta

    def forward(self, features: Tensor) -> Tensor:
        """Return logits (..., n) for features (..., d)."""
        return torch.einsum("...d,nsd->...ns", features, self.subcenters).logsumexp(-1)

    def loss(self, features: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of `SubcenterHead.loss`, with a gradient that reaches the sub-centres too."""
        apart = features - likeliest(self.subcenters, features, labels)
        return F.cross_entropy(self(features), labels) + self.beta * apart.square().sum() / 2


def likeliest(subcenters: Tensor, features: Tensor, labels: Tensor) -> Tensor:
    """Return the most probable sub-centre of each label's class, (b, d), for features (b, d)."""
    own = subcenters[labels]
    place = torch.einsum("bd,bsd->bs", features.detach(), own.detach()).argmax(1)
    return own[torch.arange(len(own), device=own.device), place]
