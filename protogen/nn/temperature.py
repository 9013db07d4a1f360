"""A temperature that fits the number of classes and the dimension."""

import math

import torch

from protogen.checks import check_whole
from protogen.errors import BadRequest

from .fixed import FixedPrototypes

AUTO = "auto"
COUNTED = 1024  # prototypes that the coherence is taken of
LOW, HIGH, STEPS = 0.01, 1.0, 460  # temperatures that are tried, each 1% above the one before


def random_loss(n: int, d: int, temperature: float) -> float:
    """Return the loss of a cosine softmax at features of random directions: ln n + 1 / (2 d tau^2).

    Cosines to the rows then have variance 1/d.
    """
    return math.log(n) + 1 / (2 * d * temperature**2)


def least_loss(n: int, d: int, temperature: float, coherence: float) -> float:
    """Return about the loss of a cosine softmax at perfect features, each the row of its class.

    It is ln(1 + (n - 1) exp(1 / (2 d tau^2) - 1 / tau) + exp((coherence - 1) / tau)): the other rows lie at random,
    and one at the coherence.
    """
    others = math.log(n - 1) + 1 / (2 * d * temperature**2) - 1 / temperature
    return math.log1p(math.exp(min(700.0, others)) + math.exp((coherence - 1) / temperature))


def fitting_temperature(n: int, d: int, coherence: float = 0.0) -> float:
    """Return the temperature at which a cosine softmax on n fixed rows in R^d has both room and a fair start.

    The one for which `random_loss` and `least_loss` have the smallest sum. A temperature that is too low starts at a
    loss far above ln n, which is spent on features that are merely long in the wrong direction; one that is too high
    leaves a loss that no feature can bring down.

    Raises BadRequest on sizes or a coherence that no set has.

    >>> from protogen.nn import fitting_temperature
    >>> round(fitting_temperature(10, 16), 3), round(fitting_temperature(50_000, 512), 3)
    (0.278, 0.069)
    """
    check_whole("n", n, 2)
    check_whole("d", d, 2)
    if not 0 <= coherence <= 1:
        raise BadRequest(f"coherence is {coherence}; allowed is 0 to 1")

    def cost(tau: float) -> float:
        return random_loss(n, d, tau) + least_loss(n, d, tau, coherence)

    return min((LOW * math.exp(step * math.log(HIGH / LOW) / STEPS) for step in range(STEPS + 1)), key=cost)


@torch.no_grad()
def temperature_of(prototypes: FixedPrototypes) -> float:
    """Return the temperature that fits these prototypes, by n, d and the coherence of the first of them.

    That of a closed form lies in its first rows as well as in any; on "meta" there are no rows, and it counts as 0.
    """
    if prototypes.n < 2:
        return HIGH
    rows = prototypes.rows(0, min(COUNTED, prototypes.n)).float()
    coherence = 0.0 if rows.is_meta else float((rows @ rows.T).fill_diagonal_(0).abs().max())
    return fitting_temperature(prototypes.n, max(2, prototypes.d), min(1.0, coherence))
