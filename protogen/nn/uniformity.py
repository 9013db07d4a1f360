"""How uniformly vectors lie on the sphere, as a loss that a learned classifier trains with."""

import math

import torch
from torch import Tensor

from protogen.errors import BadRequest

from .checks import directions, positive


def uniformity_loss(vectors: Tensor, t: float = 2.0, *, weight: float = 1.0, subset: Tensor | None = None) -> Tensor:
    """Return weight log(1/m sum over i of the subset and all j of exp(-t |w_i - w_j|^2)), a scalar.

    - `vectors` are (c, d) and of any length: w are their directions. The gradient reaches all of them;
    - `t` is the sharpness of the Gaussian potential. The paper prints no number; 2 is that of Wang and Isola 2020;
    - `weight` is the lambda of the paper's PSC*, a learned classifier that is kept uniform;
    - `subset` (m,) are the numbers of some vectors; left out: all.

        loss = cross_entropy(linear(features), labels) + uniformity_loss(linear.weight, weight=0.01)

    The terms of i = j, which are 1, count as printed. Computed in float32 (float64 if the vectors are), with
    the m x c potentials in memory.

    >>> import torch
    >>> from protogen.nn import uniformity_loss
    >>> uniformity_loss(torch.tensor([[2.0, 0.0], [-1.0, 0.0]]), t=1.0)
    tensor(0.0181)

    Raises BadRequest where `vectors`, `subset`, `t` or `weight` are not allowed.
    Source: Dynamic Label-to-Prototype Assignment, Section 3.2.1, Eq. 3 to 5; PSC*: Section 4.4.4, Table 8 (lambda
    0.01) and Figure 3d.
    """
    t, weight = positive("t", t), positive("weight", weight, "; the paper's is 0.01", or_zero=True)
    if vectors.dim() != 2 or not vectors.is_floating_point():
        raise BadRequest(
            f"vectors are {tuple(vectors.shape)} of {vectors.dtype}; allowed is a floating tensor (c, d), one a class"
        )
    rows = directions(vectors, vectors.shape[1])
    if subset is not None and (subset.dim() != 1 or subset.is_floating_point() or len(subset) == 0):
        raise BadRequest(f"subset is {tuple(subset.shape)} of {subset.dtype}; allowed are some numbers of vectors (m,)")
    some = rows if subset is None else rows[subset]
    with torch.autocast(rows.device.type, enabled=False):
        exponents = 2 * t * (some @ rows.T - 1)  # -t |u - v|^2 of unit vectors
    loss: Tensor = exponents.flatten().logsumexp(0) - math.log(len(some))
    return weight * loss
