"""Cosine softmax on the vertices of a polytope, with an additive angular margin."""

import math
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from protogen.errors import BadRequest
from protogen.files.prototypes import Prototypes
from protogen.measuring.measure import measure
from protogen.rows import InMemory

from .checks import (
    as_classes,
    check_finite,
    check_label_shape,
    check_one_of,
    directions,
    own_prototypes,
    positive,
    within,
)
from .fixed import FixedPrototypes
from .head import CosineScale, Source, hold_share, taken
from .heads import cosine_logits
from .sharded import Group
from .targets import Losses, Wanted

FALLING, PRINTED = CONTINUATIONS = ("falling", "printed")
MEASURED = 20_000  # prototypes whose smallest angle is measured at once, in seconds


def margin_logits(
    features: Tensor,
    prototypes: Tensor | FixedPrototypes,
    labels: Tensor,
    margin: float,
    kappa: float = 30.0,
    *,
    continuation: str = FALLING,
    debug: bool = False,
) -> Tensor:
    """Return kappa cos(theta_j), for the label y of a feature kappa psi(theta_y): (..., n).

        psi(theta) = cos(theta + margin)              where theta + margin <= pi,
                     cos(theta) - (1 - cos(margin))   beyond

    Their cross entropy with the labels is Eq. 9. As printed, psi is cos(theta + margin) beyond pi too, which rises
    there and pushes features away from their class: `continuation="printed"`. With margin = phi of the polytope that
    begins at theta = pi - phi: below 90 degrees for simplices, at 90 for orthoplexes, above for cubes of d > 2. So it
    is more than half of all directions, half, and less. "falling" is our choice. It is continuous (-1 at
    theta = pi - margin) and falls up to theta = pi for every margin in 0 to pi, with the pull that plain cosines have.

    cos(theta) and sin(theta) of the label are computed in float32 (float64 if the features are float64), the
    sine as the length of the feature's part across the prototype, so the gradient is finite everywhere:
    where theta is 0 or pi it is one of the subgradients. The other logits come from the product, in the
    precision that autocast gives it. The result is float32 or float64. The gradient reaches `features` alone.

    Raises BadRequest where features, labels or settings are not allowed; `debug` reads labels and
    features on every device, and waits for it.
    Source: Maximally Compact and Separated Features with Regular Polytope Networks, Section 3, Eq. 8 and 9.

    >>> import torch
    >>> from protogen.nn import margin_logits
    >>> margin_logits(torch.eye(2), torch.eye(2), torch.tensor([0, 1]), margin=0.0, kappa=1.0)
    tensor([[1., 0.],
            [0., 1.]])
    """
    check_one_of("continuation", continuation, CONTINUATIONS)
    kappa, margin = positive("kappa", kappa), within("margin", margin, 0, math.pi)
    logits = cosine_logits(features, prototypes, 1 / kappa)
    classes, _ = as_classes(labels, logits.shape[-1], debug=debug)
    check_label_shape(labels, features)
    if debug:
        check_finite(features)
    own = own_prototypes(prototypes, classes)
    psi = margin_cosines(directions(features, own.shape[-1]), own, margin, continuation)
    return logits.to(psi.dtype).scatter(-1, classes.unsqueeze(-1), kappa * psi.unsqueeze(-1))


def margin_cosines(ahead: Tensor, own: Tensor, margin: float, continuation: str = FALLING) -> Tensor:
    """Return the psi of `margin_logits`, of the angles between unit features (..., d) and unit vectors (..., d): (...).

    Gradients reach both.
    """
    own = own.to(ahead.dtype)
    cosine = (ahead * own).sum(-1, keepdim=True)
    sine = torch.linalg.vector_norm(ahead - cosine * own, dim=-1)
    cosine = cosine.squeeze(-1)
    near: Tensor = cosine * math.cos(margin) - sine * math.sin(margin)
    if continuation == PRINTED:
        return near
    return near.where(cosine >= -math.cos(margin), cosine - (1 - math.cos(margin)))


class MarginHead(CosineScale):
    """Classify by the cosine to fixed prototypes, and train with an additive angular margin.

        head = MarginHead(d=9, n=10)
        loss = head.loss(features, labels)
        values, classes = head.topk(features, 5)

    - `source`, or `d` and `n`: the prototypes, as Head says; by sizes alone they are the polytope of the largest
      angle that has n vertices: simplex, orthoplex or cube;
    - `margin`: radians, from 0 to pi, or "max" for the `max_margin` of the source. A margin of 0 is Eq. 8;
    - `kappa`: what the cosines are multiplied with;
    - `continuation`: what the margin does beyond pi, "falling" or "printed", as `margin_logits` says;
    - `learn_scale`: begin at that kappa and learn it, as the parameter `log_scale`;
    - `group`, `replicated`: ranks that have each its share of the classes, as CosineHead says;
    - `debug`: read features and targets on every device.

    `head(features)` are kappa times the cosines, Eq. 8, and `head.loss` is the cross entropy of `margin_logits`,
    Eq. 9. The margin is that of one class: with soft targets train a CosineHead.

    >>> import torch
    >>> from protogen.nn import MarginHead
    >>> head = MarginHead(torch.eye(3), margin=0.5)
    >>> head(torch.tensor([[0.0, 2.0, 0.0]])).argmax(-1)
    tensor([1])
    >>> head.loss(torch.tensor([[1.0, 1.1, 0.0]]), torch.tensor([1])) > 5
    tensor(True)

    Raises BadRequest where a setting is not allowed.
    Source: Maximally Compact and Separated Features with Regular Polytope Networks, Section 3, Eq. 8 and 9; kappa:
    below Eq. 8; margin: Eq. 10 to 12.
    """

    def __init__(
        self,
        source: Source | None = None,
        margin: float | Literal["max"] = "max",
        kappa: float = 30.0,
        *,
        d: int | None = None,
        n: int | None = None,
        continuation: str = FALLING,
        learn_scale: bool = False,
        group: Group | None = None,
        replicated: bool = False,
        debug: bool = False,
    ) -> None:
        kappa = positive("kappa", kappa)
        check_one_of("continuation", continuation, CONTINUATIONS)
        if isinstance(margin, str) and margin != "max":
            raise BadRequest(f"margin is {margin!r}; allowed is 'max' or a number of radians from 0 to pi")
        if not isinstance(margin, str):
            margin = within("margin", margin, 0, math.pi, ", or 'max'")
        source = taken(source, d, n, _polytope(d, n))
        prototypes, share = hold_share(source, d, n, "", group, replicated)
        if isinstance(margin, str) and share is not None and not isinstance(source, Prototypes | str | Path):
            raise BadRequest("margin is 'max' with a group, whose ranks have a share of the rows; give a number")
        super().__init__(prototypes, 1 / kappa, learn_scale, debug, share)
        self.margin = _largest(source, prototypes) if isinstance(margin, str) else margin
        self.continuation = continuation

    @property
    def kappa(self) -> Tensor | float:
        """What the cosines are multiplied with: a tensor (1,) where it is learned."""
        return self.scale

    def _losses(self, features: Tensor, wanted: Wanted) -> Losses:
        ahead = directions(features, self.d)
        if wanted.classes is None:
            if self.margin:
                raise BadRequest(
                    f"the margin, {self.margin:g}, is that of one class; allowed are labels: with soft targets train "
                    "CosineHead, or a margin of 0"
                )
            return self._entropies(self._scaled(ahead), wanted)
        own = self.prototypes.vectors(wanted.classes) if self.share is None else self.share.vectors(wanted.classes)
        psi = margin_cosines(ahead, own, self.margin, self.continuation)
        return self._entropies(self._scaled(ahead), wanted, self._scaled(psi))

    def extra_repr(self) -> str:
        """Show margin and kappa where the module is printed."""
        shown = f"margin={self.margin}, kappa={self.kappa if self.log_scale is None else 1 / self._temperature}"
        shown += "" if self.continuation == FALLING else f", continuation={self.continuation!r}"
        return shown + ("" if self.log_scale is None else ", learn_scale=True")


def max_margin(artifact: Prototypes) -> float:
    """Return the largest margin that an artifact allows, in radians.

    The phi of a polytope's artifact, the angle from a vertex to its neighbours; where only some of a cube's
    vertices are taken, and for all other prototypes, the smallest angle between two, as measured (as guaranteed
    where nothing was measured).

    Raises BadRequest where the artifact has neither.
    Source: Maximally Compact and Separated Features with Regular Polytope Networks, Section 3, Eq. 10 to 12.

    >>> import protogen
    >>> from protogen.nn import max_margin
    >>> round(max_margin(protogen.generate("simplex", n=4)), 6)
    1.910633
    """
    spec, facts = artifact.spec, artifact.facts
    if facts.phi is not None and (spec.method != "cube" or spec.n == 1 << (facts.own_d or spec.d)):
        return facts.phi
    largest = artifact.stats.max_cos.value if artifact.stats else facts.guaranteed_max_cos
    if largest is None:
        raise BadRequest(
            f"margin is 'max', and of {spec.method} with d {spec.d}, n {spec.n} no angle is known; allowed is a set "
            "that was measured, or a number of radians from 0 to pi"
        )
    return math.acos(max(-1.0, min(1.0, largest)))


def _largest(source: Source, prototypes: FixedPrototypes) -> float:
    """Return the `max_margin` of a source, by measuring where nothing is known of its angles."""
    if isinstance(source, (str, Path)) and not str(source).endswith(")"):
        from protogen.store.loading import load

        source = load(Path(source), rows=slice(0, 1))  # its header tells the angles
    if isinstance(source, Prototypes):
        return max_margin(source)
    rows = prototypes.rows(0, 1)
    if prototypes.n > MEASURED or rows.is_meta:
        raise BadRequest(
            f"margin is 'max', and no angle of these {prototypes.n} prototypes is known; allowed is 'max' of a record, "
            "a path or rows in memory, or a number of radians from 0 to pi"
        )
    if prototypes.n == 1:
        return math.pi
    cosine = measure(InMemory(prototypes.rows(0, prototypes.n).cpu().float())).max_cos.value
    return math.acos(max(-1.0, min(1.0, cosine)))


def _polytope(d: int | None, n: int | None) -> str:
    """Return the regular polytope of the largest angle that has n vertices in R^d."""
    if d is None or n is None or n <= d + 1:
        return "simplex"
    return "orthoplex" if n <= 2 * d else "cube"
