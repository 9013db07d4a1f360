"""Cosine softmax on the vertices of a polytope, with an additive angular margin."""

import math
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from protogen.errors import BadRequest
from protogen.files.prototypes import Prototypes

from .checks import check_finite, check_labels, check_positive, directions, own_prototypes
from .fixed import FixedPrototypes
from .frozen import FrozenPrototypes
from .heads import cosine_logits


def margin_logits(
    features: Tensor,
    prototypes: Tensor | FixedPrototypes,
    labels: Tensor,
    margin: float,
    kappa: float = 30.0,
    *,
    debug: bool = False,
) -> Tensor:
    """Return kappa cos(theta_j), for the label y of a feature kappa psi(theta_y): (..., n).

        psi(theta) = cos(theta + margin)              where theta + margin <= pi,
                     cos(theta) - (1 - cos(margin))   beyond

    Their cross entropy with the labels is Eq. 9. As printed, cos(theta + margin) rises again beyond pi and
    would push features away from their class; with margin = phi that is half of all directions and more.
    This continuation is continuous (-1 at theta = pi - margin) and falls up to theta = pi for every margin
    in 0 to pi, with the pull that plain cosines have.

    cos(theta) and sin(theta) of the label are computed in float32 (float64 if the features are float64), the
    sine as the length of the feature's part across the prototype, so the gradient is finite everywhere:
    where theta is 0 or pi it is one of the subgradients. The other logits come from the product, in the
    precision that autocast gives it. The result is float32 or float64. The gradient reaches `features` alone.

    Raises BadRequest where features, labels, `margin` or `kappa` are not allowed; `debug` reads labels and
    features on every device, and waits for it.
    Source: Regular Polytope Networks, Section 3, Eq. 8 and 9.
    """
    _check_margin(margin)
    logits = _cosines(features, prototypes, kappa)
    check_labels(labels, features, logits.shape[-1], debug=debug)
    if debug:
        check_finite(features)
    own = own_prototypes(prototypes, labels)
    ahead = directions(features, own.shape[-1])
    own = own.to(ahead.dtype)
    cosine = (ahead * own).sum(-1, keepdim=True)
    sine = torch.linalg.vector_norm(ahead - cosine * own, dim=-1, keepdim=True)
    near = cosine * math.cos(margin) - sine * math.sin(margin)
    psi = near.where(cosine >= -math.cos(margin), cosine - (1 - math.cos(margin)))
    return logits.to(psi.dtype).scatter(-1, labels.long().unsqueeze(-1), kappa * psi)


class MarginHead(nn.Module):
    """Classify by the cosine to fixed prototypes, and train with an additive angular margin; no parameters.

    Called with features (..., d) it returns kappa times the cosines (..., n), Eq. 8, for predictions; with
    labels (...) as well the `margin_logits`, whose cross entropy with the labels is Eq. 9.

    `source` are prototypes, or the artifact that they come from: a `Prototypes` record or the path of its
    file. `margin` is in radians, or "max" for the `max_margin` of the artifact. A margin of 0 is Eq. 8.

    Raises BadRequest where `margin` is not 0 to pi, `kappa` is not positive and finite, or "max" is asked of
    what is no polytope's artifact.
    Source: Regular Polytope Networks, Section 3, Eq. 6, 8 and 9; kappa: below Eq. 8; margin: Eq. 10 to 12.
    """

    def __init__(
        self,
        source: FixedPrototypes | Prototypes | str | Path,
        margin: float | Literal["max"] = "max",
        kappa: float = 30.0,
        *,
        debug: bool = False,
    ) -> None:
        super().__init__()
        if isinstance(source, (str, Path)):
            from protogen.store.loading import load

            source = load(Path(source))
        if isinstance(margin, str):
            if margin != "max" or not isinstance(source, Prototypes):
                raise BadRequest(
                    f"margin is {margin!r} of {type(source).__name__}; allowed is 'max' of a polytope's artifact, "
                    "as a record or a path, or a number of radians from 0 to pi"
                )
            margin = max_margin(source)
        _check_margin(margin)
        check_positive("kappa", kappa)
        self.prototypes = source if isinstance(source, FixedPrototypes) else FrozenPrototypes(source)
        self.margin = margin
        self.kappa = kappa
        self.debug = debug

    def forward(self, features: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return logits (..., n) for features (..., d), with the margin at their labels (...) if these are given."""
        if labels is None:
            return _cosines(features, self.prototypes, self.kappa)
        return margin_logits(features, self.prototypes, labels, self.margin, self.kappa, debug=self.debug)

    def extra_repr(self) -> str:
        """Show margin and kappa where the module is printed."""
        return f"margin={self.margin}, kappa={self.kappa}"


def max_margin(artifact: Prototypes) -> float:
    """Return the largest margin that a polytope's artifact allows, in radians.

    The artifact's phi, the angle from a vertex to its neighbours; where only some of a cube's vertices are
    taken, the smallest angle between these, as measured (as guaranteed where nothing was measured).

    Raises BadRequest where the artifact has no phi.
    Source: Regular Polytope Networks, Section 3, Eq. 10 to 12.
    """
    spec, facts = artifact.spec, artifact.facts
    if facts.phi is None:
        raise BadRequest(
            f"margin is 'max', and {spec.method} with d {spec.d}, n {spec.n} has no phi; allowed is a simplex, an "
            "orthoplex or a cube, or a number of radians from 0 to pi"
        )
    largest = artifact.stats.max_cos.value if artifact.stats else facts.guaranteed_max_cos
    if spec.method == "cube" and largest is not None and spec.n < 1 << (facts.own_d or spec.d):
        return math.acos(max(-1.0, min(1.0, largest)))
    return facts.phi


def _cosines(features: Tensor, prototypes: Tensor | FixedPrototypes, kappa: float) -> Tensor:
    check_positive("kappa", kappa)
    return cosine_logits(features, prototypes, 1 / kappa)


def _check_margin(margin: float) -> None:
    """Raise BadRequest unless `margin` is an angle from 0 to pi."""
    if not 0 <= margin <= math.pi:
        raise BadRequest(f"margin is {margin}; allowed is 'max' or a number of radians from 0 to pi")
