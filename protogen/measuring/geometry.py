"""Plain functions on unit rows: random starts, signs, devices, angles."""

import math

import torch
from torch import Tensor
from torch.nn.functional import normalize

from protogen.checks import check_whole
from protogen.errors import BadRequest


def random_rows(sets: int, n: int, d: int, seed: int) -> Tensor:
    """Draw rows uniformly from the unit sphere, float32, on the CPU: (n, d), or (sets, n, d) for several.

    The same seed gives the same rows on every device, one set or the first of several; the global
    generator is not touched.
    """
    generator = torch.Generator().manual_seed(seed)
    drawn = [torch.randn(n, d, generator=generator, dtype=torch.float32, device="cpu") for _ in range(sets)]
    return normalize(torch.stack(drawn) if sets > 1 else drawn[0], dim=-1)


def random_signs(rows: Tensor, seed: int = 0) -> Tensor:
    """Turn random ones of the rows (n, d) round: the same lines, of the same coherence.

    To train on lines by their signed cosines. Many closed forms have a direction to which all rows have the
    same cosine: there the cross entropy is flat and far lower than around it, and a network that comes there
    learns nothing more (tests/demo/SCIENCE.md). The same seed gives the same signs to the first rows of more.

    >>> import torch
    >>> from protogen.nn import random_signs
    >>> random_signs(torch.eye(3)).abs()
    tensor([[1., 0., 0.],
            [0., 1., 0.],
            [0., 0., 1.]])
    """
    check_whole("seed", seed, 0, 2**63 - 1)
    if rows.dim() != 2:
        raise BadRequest(f"rows have shape {tuple(rows.shape)}; allowed is (n, d)")
    signs = torch.randint(2, (len(rows), 1), generator=torch.Generator().manual_seed(seed), device="cpu")
    return rows * (2 * signs - 1).to(rows)


def pick_device(name: str) -> torch.device:
    """The torch device of a name: cpu, cuda or cuda:<index>. Raises BadRequest on any other."""
    there = ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    if name not in there and not (name == "cuda" and len(there) > 1):
        raise BadRequest(f"device is {name!r}; this machine has {', '.join(there)}")
    return torch.device(name)


def angles_deg(u: Tensor, v: Tensor) -> Tensor:
    """The angles between vectors (..., d) in degrees, 0 to 180: (...), float64.

    2 atan2(|u - v|, |u + v|) on unit vectors, which keeps its digits near 0 and near 180
    (Kahan 2006, How futile are mindless assessments of roundoff).
    """
    u, v = normalize(u.double(), dim=-1), normalize(v.double(), dim=-1)
    norm = torch.linalg.vector_norm
    return torch.rad2deg(2 * torch.atan2(norm(u - v, dim=-1), norm(u + v, dim=-1)))


def mean_angle_deg(rows: Tensor) -> float:
    """Return the mean angle over all pairs of unit rows (n, d), in degrees: the average pairwise angular distance.

    Any rows with the mean 0 have nearly the same, 90 degrees and little more: the figure does not tell how evenly they
    lie. All n^2 angles are in memory in float64.
    Source: Dynamic Label-to-Prototype Assignment, Section 3.2.1 and Figure 2 (APAD).
    """
    n = len(rows)
    cosines = (rows.double() @ rows.double().T).clamp(-1, 1)
    angles = cosines.acos().fill_diagonal_(0)
    return math.degrees(float(angles.sum()) / (n * (n - 1)))
