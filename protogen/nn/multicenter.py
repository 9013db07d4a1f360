"""A classifier that is linear, and trains as if each class had several centres around its own."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .checks import flag, positive, whole
from .entropy import of_logits
from .fixed import check_features
from .head import Head, Source, hold
from .targets import Losses, Wanted, weighted_loss


def multicenter_logits(features: Tensor, weight: Tensor, log_variance: Tensor, noise: Tensor) -> Tensor:
    """Return the inner products of features (..., d) with each class's mean and sub-centres, (..., n (K + 1)).

        centers[t] = [weight[t], weight[t] + exp(log_variance[t] / 2) * noise[t, k] for k = 1 to K]

    `weight` and `log_variance` are (n, d), `noise` is (n, K, d), standard normal. Class t owns the logits
    t (K + 1), its mean's, to t (K + 1) + K. Gradients reach the features, the means and the log variances.
    Sub-centres are computed in float32 at least; the product is in the wider type of features and weight,
    under autocast in autocast's.

    Raises BadRequest where `features` has another width than d or is not of a floating type.
    Source: Generating Multi-Center Classifier via Conditional Gaussian Distribution, Section 4.1, Eq. 5 to 7.
    """
    check_features(features, weight.shape[-1])
    noise = noise.to(torch.promote_types(noise.dtype, torch.float32))
    means = weight.to(torch.promote_types(weight.dtype, noise.dtype))[:, None]
    deviations = (log_variance.to(means.dtype) / 2).exp()[:, None]
    centers = torch.cat([means, torch.addcmul(means, deviations, noise)], 1).flatten(0, 1)
    dtype = torch.promote_types(features.dtype, weight.dtype)
    return F.linear(features.to(dtype), centers.to(dtype))


def multicenter_cross_entropy(logits: Tensor, labels: Tensor, per_class: int = 2, *, debug: bool = False) -> Tensor:
    """Return the mean cross entropy of logits (..., n (K + 1)) with soft labels made of labels (...).

    The soft label of class t is 0.5 at its mean, t (K + 1), and 0.5/K at each of its K sub-centres behind it;
    K is `per_class`. In float32 (float64 if the logits are float64), without the (..., n (K + 1)) labels.

    Raises BadRequest on labels that are not allowed: those outside 0 to n - 1 on the CPU, with `debug` on
    every device.
    Source: Generating Multi-Center Classifier, Section 4.2, Eq. 8 and 9.
    """
    width = logits.shape[-1]
    return weighted_loss(
        lambda wanted: _entropies(logits.reshape(-1, width), per_class, wanted),
        logits,
        labels,
        width // (per_class + 1),
        width,
        debug=debug,
    )


def _entropies(logits: Tensor, per_class: int, wanted: Wanted) -> Losses:
    """Return Eq. 9 of logits (N, n (K + 1)), at the classes and over shares of the n."""
    centers = logits.to(torch.promote_types(logits.dtype, torch.float32)).unflatten(1, (-1, per_class + 1))
    total = centers.flatten(1).logsumexp(1)
    own = spread = None
    if wanted.classes is not None:
        place = wanted.classes[:, None, None].expand(-1, 1, per_class + 1)
        found = centers.gather(1, place).squeeze(1)
        own = total - (found[:, 0] + found[:, 1:].mean(1)) / 2
    if wanted.shares is not None:
        logs = (centers[..., 0] + centers[..., 1:].mean(2)) / 2
        spread = total * wanted.shares.sum(-1) - (logs * wanted.shares).sum(1)
    return own, spread


def variance_loss(log_variance: Tensor) -> Tensor:
    """Return the divergence of N(0, variance) from N(0, 1), summed over d and averaged over classes, a scalar.

        loss = -1/2 sum(1 + log_variance - exp(log_variance)) for log_variance (n, d)

    Source: Generating Multi-Center Classifier, Section 4.2, Eq. 10, after Kingma and Welling 2014.
    """
    log_variance = log_variance.to(torch.promote_types(log_variance.dtype, torch.float32))
    # Near the minimum, at log_variance 0, exp(...) - 1 would lose more digits.
    return (log_variance.expm1() - log_variance).sum(-1).mean() / 2


class MultiCenterClassifier(Head):
    """Learn the mean and the variance of n Gaussians in R^d; train on samples of them, classify by the means.

        head = MultiCenterClassifier(d=512, n=1000)
        loss = head.loss(features, labels)
        linear = head.as_linear()

    - `d` and `n`: the sizes of a classifier that begins as nn.Linear does; `source` are prototypes that it
      begins with instead, and learns from there;
    - `per_class`: K, the number of sub-centres that are drawn for a class at each step;
    - `sigma`: the deviation that it begins with;
    - `debug`: read features and targets on every device.

    `head(features)` are the logits of the means, without bias. In training `head.loss` draws K sub-centres a
    class anew, from torch's generator for the device, and is Eq. 11; in evaluation it is the plain cross entropy.
    Parameters: `weight` (n, d), and `log_variance` (n, d).

    >>> import torch
    >>> from protogen.nn import MultiCenterClassifier
    >>> head = MultiCenterClassifier(d=4, n=3)
    >>> head(torch.ones(2, 4)).shape
    torch.Size([2, 3])
    >>> head.loss(torch.ones(2, 4), torch.tensor([0, 2])).shape
    torch.Size([])

    Raises BadRequest where a setting is not allowed.
    Source: Generating Multi-Center Classifier via Conditional Gaussian Distribution, Section 4; K: Section 4.1.
    """

    def __init__(
        self,
        source: Source | None = None,
        per_class: int = 2,
        sigma: float = 0.1,
        *,
        d: int | None = None,
        n: int | None = None,
        debug: bool = False,
    ) -> None:
        super().__init__()
        self.per_class = whole("per_class", per_class, 1)
        self.sigma = positive("sigma", sigma)
        self.debug = flag("debug", debug)
        if source is None:
            n, d, prototypes = whole("n", n, 1), whole("d", d, 1), None
        else:
            prototypes = hold(source, d, n)
            n, d = prototypes.n, prototypes.d
        self.weight = nn.Parameter(torch.empty(n, d))
        self.log_variance = nn.Parameter(torch.empty(n, d))
        self.reset_parameters()
        if prototypes is not None:
            with torch.no_grad():
                self.weight.copy_(prototypes.rows(0, n))

    @property
    def n(self) -> int:
        """The number of classes."""
        return self.weight.shape[0]

    @property
    def d(self) -> int:
        """The dimension, which is the width of the features."""
        return self.weight.shape[1]

    def reset_parameters(self) -> None:
        """Draw the means anew and set the deviations to `sigma`."""
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))  # as nn.Linear does
        nn.init.constant_(self.log_variance, 2 * math.log(self.sigma))

    def forward(self, features: Tensor) -> Tensor:
        """Return the logits (..., n) of features (..., d): their inner products with the means."""
        return _linear(features, self.weight)

    def vectors(self, labels: Tensor) -> Tensor:
        """Return the mean of each label's class (...), (..., d)."""
        return self.weight[self._classes(labels)]

    def as_linear(self) -> nn.Sequential:
        """Return the means as an nn.Linear of its own, without bias; nothing must precede it."""
        linear = nn.Linear(self.d, self.n, bias=False, device="meta")
        linear.weight = nn.Parameter(self.weight.detach().clone())
        return nn.Sequential(linear)

    def _losses(self, features: Tensor, wanted: Wanted) -> Losses:
        if not self.training:
            return of_logits(self(features), wanted)
        noise = torch.randn(self.n, self.per_class, self.d, device=self.weight.device)
        logits = multicenter_logits(features, self.weight, self.log_variance, noise)
        own, spread = _entropies(logits, self.per_class, wanted)
        # The mean over a batch adds Eq. 10 to Eq. 9 once.
        divergence = variance_loss(self.log_variance)
        own = None if own is None else own + divergence
        if spread is None or wanted.shares is None:
            return own, None
        return own, spread + wanted.shares.sum(-1) * divergence

    def extra_repr(self) -> str:
        """Show sizes and settings where the module is printed."""
        return f"d={self.d}, n={self.n}, per_class={self.per_class}, sigma={self.sigma}"


@torch.fx.wrap
def _linear(features: Tensor, weight: Tensor) -> Tensor:
    check_features(features, weight.shape[1])
    dtype = torch.promote_types(features.dtype, weight.dtype)
    return F.linear(features.to(dtype), weight.to(dtype))
