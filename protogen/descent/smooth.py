"""The smooth maximum of the cosines of several sets at once: log-sum-exp, whose sharpness grows."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

# Cosines that are made at once, by the kind of device. What is made of more lies in no cache of a CPU, and takes more
# than twice as long; a GPU has more to do at each call.
AT_ONCE = {"cpu": 2**16, "cuda": 2**26}
# Of exponents: what is less adds nothing to a sum that holds exp(0), and exp takes up to ten times as long where it
# comes to nothing.
LEAST_EXPONENT = -60.0
BOTH_SIGNS = 40.0  # from this product of sharpness and largest |cos| on, the other sign of a pair adds nothing


@dataclass(frozen=True)
class Smooth:
    """Say what was evaluated of k sets.

    `values` (k,) are the smooth maxima, `gradients` (k, n, d) theirs, projected on the tangent spaces.
    `largest` (k,) are the largest cosines of points, or |cosines| of lines.
    """

    values: "Tensor"
    gradients: "Tensor"
    largest: "Tensor"


def smooth_maximum(rows: "Tensor", sharpness: "Tensor", lines: bool) -> Smooth:
    """Evaluate log(sum of exp(sharpness c)) / sharpness over the pairs of each of k sets of unit rows (k, n, d).

    c is the cosine of a pair of points; a pair of lines counts twice, with c and with -c. `sharpness` (k,) has a
    number for each set. The value lies above the largest c by at most log(terms) / sharpness.
    """
    import torch

    sets = max(1, AT_ONCE[rows.device.type] // rows.shape[1] ** 2)
    parts = zip(rows.split(sets), sharpness.split(sets), strict=True)
    found = [_maximum(*part, lines) for part in parts]
    if len(found) == 1:
        return found[0]
    values, gradients, largest = (
        torch.cat([getattr(part, name) for part in found]) for name in ("values", "gradients", "largest")
    )
    return Smooth(values, gradients, largest)


def _maximum(rows: "Tensor", sharpness: "Tensor", lines: bool) -> Smooth:
    sharp = sharpness[:, None, None]
    cosines = rows @ rows.mT
    sizes = cosines.abs() if lines else cosines
    sizes.diagonal(dim1=-2, dim2=-1).fill_(-1.0)
    largest = sizes.amax((-2, -1))
    top = largest[:, None, None]
    weights = ((sizes - top) * sharp).clamp_(min=LEAST_EXPONENT).exp_()
    weights.diagonal(dim1=-2, dim2=-1).fill_(0.0)
    total = weights.sum((-2, -1))
    if lines:
        if bool((sharpness * largest).min() < BOTH_SIGNS):
            other = ((sizes + top) * -sharp).clamp_(min=LEAST_EXPONENT).exp_()
            other.diagonal(dim1=-2, dim2=-1).fill_(0.0)
            total = total + other.sum((-2, -1))
            weights -= other
        weights.copysign_(cosines)
    # In the sums over the whole matrix each pair stands twice.
    gradients = tangent(rows, (weights @ rows) / (total / 2)[:, None, None])
    return Smooth(largest + (total / 2).log() / sharpness, gradients, largest)


def of_lines(rows: "Tensor", sharpness: "Tensor", index: "Tensor") -> Smooth:
    """Evaluate sets of lines as `Batch` asks for it; every set is as any other."""
    return smooth_maximum(rows, sharpness, lines=True)


def of_points(rows: "Tensor", sharpness: "Tensor", index: "Tensor") -> Smooth:
    """Evaluate sets of points as `Batch` asks for it; every set is as any other."""
    return smooth_maximum(rows, sharpness, lines=False)


def largest_cosine(rows: "Tensor", lines: bool) -> float:
    """Return the largest cosine of points (n, d), or |cosine| of lines, by all pairs at once, in float64."""
    rows = rows.double()
    cosines = rows @ rows.mT
    return float((cosines.abs() if lines else cosines).fill_diagonal_(-1.0).max())


def tangent(rows: "Tensor", vectors: "Tensor") -> "Tensor":
    """Project vectors (..., n, d) on the tangent spaces of the sphere at unit rows (..., n, d)."""
    return vectors - (vectors * rows).sum(-1, keepdim=True) * rows
