"""Classifiers on fixed prototypes."""

import math

from torch import Tensor, nn
from torch.nn import functional as F

from protogen.errors import BadRequest

from .checks import check_prototypes, directions
from .fixed import FixedPrototypes


def cosine_logits(features: Tensor, prototypes: Tensor | FixedPrototypes, temperature: float = 0.07) -> Tensor:
    """Return the cosines between features (..., d) and prototypes (n, d) over the temperature: (..., n).

        logits = normalize(features) @ prototypes.T / temperature

    Their softmax is the P of Eq. 6 and their cross entropy the J of Eq. 7, summed or averaged. The rows of
    `prototypes` are taken as unit vectors; the gradient reaches `features` alone.

    Features of any floating type are normalised in float32 (float64 if they are float64), and the logits
    come in that type. Under autocast the normalisation stays in float32; the matrix product runs in
    autocast's type and returns the logits in it, as that of `nn.Linear` does: a cosine is then good to about
    1e-2 with bfloat16 and 1e-3 with float16. Structured prototypes have no such product and stay in float32.
    A zero feature has no direction: its logits and its gradient are zero.

    Raises BadRequest where `features` has another width than d or is not of a floating type, and where
    `temperature` is not positive and finite.
    Source: Equiangular Basis Vectors, Section 3.4, Eq. 6; temperature: Section 4.1.1.
    """
    _check_temperature(temperature)
    # The temperature divides the (..., d) factor: the (..., n) product may be the largest tensor of the step.
    if isinstance(prototypes, FixedPrototypes):
        return prototypes.product(directions(features, prototypes.d) / temperature)
    ahead = directions(features, prototypes.shape[1])
    return F.linear(ahead / temperature, prototypes.detach().to(ahead.dtype))


class CosineHead(nn.Module):
    """Classify by the cosine to fixed prototypes; no parameters.

    Takes features (..., d) and returns logits (..., n) for a cross entropy: `cosine_logits` with the
    prototypes and the temperature held here, be they FrozenPrototypes or StructuredPrototypes.

    Raises BadRequest where `prototypes` are neither or `temperature` is not positive and finite.
    Source: Equiangular Basis Vectors, Section 3.4, Eq. 6; temperature: Section 4.1.1.
    """

    def __init__(self, prototypes: FixedPrototypes, temperature: float = 0.07) -> None:
        super().__init__()
        check_prototypes("CosineHead", prototypes)
        _check_temperature(temperature)
        self.prototypes = prototypes
        self.temperature = temperature

    def forward(self, features: Tensor) -> Tensor:
        """Return logits (..., n) for features (..., d)."""
        return cosine_logits(features, self.prototypes, self.temperature)

    def topk(self, features: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Return the k largest logits of features (..., d) and their classes, without all n logits in memory."""
        return self.prototypes.topk(directions(features, self.prototypes.d) / self.temperature, k)

    def extra_repr(self) -> str:
        """Show the temperature where the module is printed."""
        return f"temperature={self.temperature}"


def _check_temperature(temperature: float) -> None:
    """Raise BadRequest unless `temperature` is positive and finite."""
    if not 0 < temperature < math.inf:
        raise BadRequest(f"temperature must be positive and finite, got {temperature}: the paper's is 0.07")
