"""A classifier that is linear, and trains as if each class had several centres around its own."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from protogen.errors import BadRequest

from .checks import check_finite, check_labels, check_positive
from .fixed import check_features


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
    n = logits.shape[-1] // (per_class + 1)
    check_labels(labels, logits, n, debug=debug)
    rows = logits.to(torch.promote_types(logits.dtype, torch.float32)).reshape(-1, n, per_class + 1)
    own = rows.gather(1, labels.reshape(-1, 1, 1).long().expand(-1, 1, per_class + 1)).squeeze(1)
    return (rows.flatten(1).logsumexp(1) - (own[:, 0] + own[:, 1:].mean(1)) / 2).mean()


def variance_loss(log_variance: Tensor) -> Tensor:
    """Return the divergence of N(0, variance) from N(0, 1), summed over d and averaged over classes, a scalar.

        loss = -1/2 sum(1 + log_variance - exp(log_variance)) for log_variance (n, d)

    Source: Generating Multi-Center Classifier, Section 4.2, Eq. 10, after Kingma and Welling 2014.
    """
    log_variance = log_variance.to(torch.promote_types(log_variance.dtype, torch.float32))
    # Near the minimum, at log_variance 0, exp(...) - 1 would lose more digits.
    return (log_variance.expm1() - log_variance).sum(-1).mean() / 2


class MultiCenterClassifier(nn.Module):
    """Learn the mean and the variance of n Gaussians in R^d; train on samples of them, classify by the means.

    In training mode each call draws K sub-centres a class anew, from torch's generator for the device, and
    returns logits (..., n (K + 1)), class t's mean at t (K + 1) and its sub-centres behind it; in evaluation
    mode it is the linear layer of the means, without bias, and returns logits (..., n). `loss(features,
    labels)` is Eq. 11 in training and the plain cross entropy in evaluation. `as_linear()` is the layer to
    deploy.

    Parameters: `weight` (n, d), drawn as that of nn.Linear, and `log_variance` (n, d), which begins at the
    deviation `sigma`. `per_class` is K.

    Raises BadRequest where d, n or `per_class` is below 1, or `sigma` is not positive and finite.
    Source: Generating Multi-Center Classifier via Conditional Gaussian Distribution, Section 4; K: Section 4.1.
    """

    def __init__(self, d: int, n: int, per_class: int = 2, sigma: float = 0.1, *, debug: bool = False) -> None:
        super().__init__()
        for name, value in (("d", d), ("n", n), ("per_class", per_class)):
            if value < 1:
                raise BadRequest(f"{name} is {value}; allowed is a whole number from 1 on")
        check_positive("sigma", sigma)
        self.weight = nn.Parameter(torch.empty(n, d))
        self.log_variance = nn.Parameter(torch.empty(n, d))
        self.per_class = per_class
        self.sigma = sigma
        self.debug = debug
        self.reset_parameters()

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
        """Return logits for features (..., d): (..., n (K + 1)) in training, (..., n) in evaluation."""
        check_features(features, self.d)
        if self.debug:
            check_finite(features)
        if self.training:
            noise = torch.randn(self.n, self.per_class, self.d, device=self.weight.device)
            return multicenter_logits(features, self.weight, self.log_variance, noise)
        dtype = torch.promote_types(features.dtype, self.weight.dtype)
        return F.linear(features.to(dtype), self.weight.to(dtype))

    def loss(self, features: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of features (..., d) with labels (...): Eq. 11 in training, Eq. 3 in evaluation."""
        logits = self(features)
        if self.training:
            entropy = multicenter_cross_entropy(logits, labels, self.per_class, debug=self.debug)
            return entropy + variance_loss(self.log_variance)
        check_labels(labels, features, self.n, debug=self.debug)
        rows = logits.to(torch.promote_types(logits.dtype, torch.float32)).reshape(-1, self.n)
        return F.cross_entropy(rows, labels.reshape(-1).long())

    def as_linear(self) -> nn.Linear:
        """Return the means as a linear layer of its own, without bias: what evaluation computes."""
        linear = nn.Linear(self.d, self.n, bias=False, device="meta")
        linear.weight = nn.Parameter(self.weight.detach().clone())
        return linear

    def extra_repr(self) -> str:
        """Show sizes and settings where the module is printed."""
        return f"d={self.d}, n={self.n}, per_class={self.per_class}, sigma={self.sigma}"
