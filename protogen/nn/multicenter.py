"""A classifier that is linear, and trains as if each class had several centres around its own."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from protogen.errors import BadRequest

from .checks import check_one_of, directions, flag, positive, whole, within
from .entropy import of_logits
from .fixed import at_least_float32, check_features
from .head import Directions, Head, Source, hold
from .softmaxes import arcface_logits, l_softmax_logits
from .targets import Losses, Wanted, weighted_loss

SOFTMAXES = ("plain", "l-softmax", "arcface")
OVER = ("mean", "sum")
USUAL_MARGIN = {"plain": 0.0, "l-softmax": 2, "arcface": 0.5}
SCALE = 30.0  # of the cosines of ArcFace


def multicenter_centers(weight: Tensor, log_variance: Tensor, noise: Tensor) -> Tensor:
    """Return each class's mean and its K sub-centres behind it, (n, K + 1, d), in float32 at least.

        centers[t] = [weight[t], weight[t] + exp(log_variance[t] / 2) * noise[t, k] for k = 1 to K]

    `weight` and `log_variance` are (n, d), `noise` is (n, K, d), standard normal.
    Source: Generating Multi-Center Classifier via Conditional Gaussian Distribution, Section 4.1, Eq. 5 to 7.

    >>> import torch
    >>> from protogen.nn import multicenter_centers
    >>> means, log_variance, noise = torch.eye(2), torch.zeros(2, 2), torch.zeros(2, 3, 2)
    >>> multicenter_centers(means, log_variance, noise).shape
    torch.Size([2, 4, 2])
    """
    noise = noise.to(torch.promote_types(noise.dtype, torch.float32))
    means = weight.to(torch.promote_types(weight.dtype, noise.dtype))[:, None]
    deviations = (log_variance.to(means.dtype) / 2).exp()[:, None]
    return torch.cat([means, torch.addcmul(means, deviations, noise)], 1)


def multicenter_logits(features: Tensor, weight: Tensor, log_variance: Tensor, noise: Tensor) -> Tensor:
    """Return the inner products of features (..., d) with the `multicenter_centers`, (..., n (K + 1)).

    Class t owns the logits t (K + 1), its mean's, to t (K + 1) + K, counted from 0: the paper's example counts classes
    from 1, which does not fit its Eq. 7. Gradients reach the features, the means and the log variances. The
    product is in the wider type of features and weight, under autocast in autocast's.

    Raises BadRequest where `features` has another width than d or is not of a floating type.
    Source: Generating Multi-Center Classifier via Conditional Gaussian Distribution, Section 4.1, Eq. 5 to 7.

    >>> import torch
    >>> from protogen.nn import multicenter_logits
    >>> means, log_variance, noise = torch.eye(2), torch.zeros(2, 2), torch.zeros(2, 3, 2)
    >>> multicenter_logits(torch.ones(5, 2), means, log_variance, noise).shape
    torch.Size([5, 8])
    """
    check_features(features, weight.shape[-1])
    centers = multicenter_centers(weight, log_variance, noise).flatten(0, 1)
    dtype = torch.promote_types(features.dtype, weight.dtype)
    return F.linear(features.to(dtype), centers.to(dtype))


def multicenter_cross_entropy(
    logits: Tensor, targets: Tensor, per_class: int = 2, *, debug: bool = False, **settings: Any
) -> Tensor:
    """Return the mean cross entropy of logits (..., n (K + 1)) with Eq. 8's labels, made of targets.

    - `targets` are labels (...), or soft targets (..., n) over the classes, such as mixup makes (Table 5);
    - `per_class` is K;
    - `settings` are those of `Head.loss`, label_smoothing (Table 4) among them.

    The label of class t is 0.5 at its mean, t (K + 1), and 0.5/K at each of its K sub-centres behind it. Soft and
    smoothed targets are divided over the centres of each class in the same way. The paper does not say how it
    smooths: over the classes, as here, or over all n (K + 1) centres. In float32 (float64 if the logits are
    float64), without the (..., n (K + 1)) labels.

    Raises BadRequest on targets that are not allowed: labels outside 0 to n - 1 on the CPU, with `debug` on
    every device.
    Source: Generating Multi-Center Classifier, Section 4.2, Eq. 8 and 9; Section 5.3, Tables 4 and 5.

    >>> import torch
    >>> from protogen.nn import multicenter_cross_entropy
    >>> multicenter_cross_entropy(torch.zeros(1, 6), torch.tensor([1]), per_class=2)
    tensor(1.7918)
    """
    width = logits.shape[-1]
    return weighted_loss(
        lambda wanted: _entropies(logits.reshape(-1, width), per_class, wanted),
        logits,
        targets,
        width // (per_class + 1),
        width,
        debug=debug,
        **settings,
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


def variance_loss(log_variance: Tensor, *, weight: float = 1.0, over: str = "mean") -> Tensor:
    """Return `weight` times the divergence of N(0, variance) from N(0, 1), summed over d, a scalar.

        loss = -weight/2 sum(1 + log_variance - exp(log_variance)) for log_variance (n, d)

    Eq. 10 sums over the d coordinates of one class and does not say what becomes of the classes. `over` "mean"
    averages them, which is our choice; "sum" adds them up, the other reading, and weighs n times as much.

    Raises BadRequest where `weight` or `over` is not allowed.
    Source: Generating Multi-Center Classifier, Section 4.2, Eq. 10, after Kingma and Welling 2014; a weight of 0:
    Table 7.

    >>> import torch
    >>> from protogen.nn import variance_loss
    >>> variance_loss(torch.zeros(3, 2))
    tensor(0.)
    """
    weight = positive("weight", weight, "; Eq. 11 has 1", or_zero=True)
    check_one_of("over", over, OVER)
    log_variance = log_variance.to(torch.promote_types(log_variance.dtype, torch.float32))
    # Near the minimum, at log_variance 0, exp(...) - 1 would lose more digits.
    each = (log_variance.expm1() - log_variance).sum(-1)
    return weight * (each.mean() if over == "mean" else each.sum()) / 2


class MultiCenterClassifier(Head):
    """Learn the mean and the variance of n Gaussians in R^d; train on samples of them, classify by the means.

        head = MultiCenterClassifier(d=512, n=1000)
        loss = head.loss(features, labels)
        linear = head.as_linear()

    - `d` and `n`: the sizes of a classifier that begins as nn.Linear does; `source` are prototypes that it
      begins with instead, and learns from there;
    - `per_class`: K, the number of sub-centres that are drawn for a class at each step (Figure 4 varies it);
    - `sigma`: the deviation that it begins with. The paper names none: 0.1 is our choice;
    - `variance_weight`: that of Eq. 10; 0 leaves the term out (Table 7);
    - `over`: whether Eq. 10 is the "mean" over classes, our choice, or their "sum";
    - `softmax`: "plain"; "l-softmax" or "arcface", with the `margin` at all centres of the own class (Table 6, whose
      L-AM is ArcFace). The margin is 2 for L-Softmax and 0.5 radians for ArcFace, which no number of the paper's is;
    - `debug`: read features and targets on every device.

    `head(features)` are the logits of the means, without bias; with ArcFace 30 times their cosines. In training
    `head.loss` draws K sub-centres a class anew, from torch's generator for the device, and is Eq. 11; in evaluation
    it is the plain cross entropy. A margin is that of one class: soft and smoothed targets go with "plain" alone.
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

    margin: float

    def __init__(
        self,
        source: Source | None = None,
        per_class: int = 2,
        sigma: float = 0.1,
        *,
        d: int | None = None,
        n: int | None = None,
        variance_weight: float = 1.0,
        over: str = "mean",
        softmax: str = "plain",
        margin: float | None = None,
        debug: bool = False,
    ) -> None:
        super().__init__()
        self.per_class = whole("per_class", per_class, 1)
        self.sigma = positive("sigma", sigma)
        self.variance_weight = positive("variance_weight", variance_weight, "; Eq. 11 has 1", or_zero=True)
        check_one_of("over", over, OVER)
        check_one_of("softmax", softmax, SOFTMAXES)
        self.over, self.softmax = over, softmax
        self.margin = _margin(softmax, margin)
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
        """Return the logits (..., n) of features (..., d): their products with the means."""
        if self.softmax == "arcface":
            return SCALE * _linear(directions(features, self.d), directions(self.weight, self.d))
        return _linear(features, self.weight)

    def vectors(self, labels: Tensor) -> Tensor:
        """Return the mean of each label's class (...), (..., d)."""
        return self.weight[self._classes(labels)]

    def as_linear(self) -> nn.Sequential:
        """Return the means as an nn.Linear of its own, without bias; nothing must precede it but with ArcFace.

        With ArcFace a normalisation stands before it, and its rows are 30 times the means' directions.
        """
        linear = nn.Linear(self.d, self.n, bias=False, device="meta")
        if self.softmax != "arcface":
            linear.weight = nn.Parameter(self.weight.detach().clone())
            return nn.Sequential(linear)
        linear.weight = nn.Parameter(SCALE * directions(self.weight.detach(), self.d))
        return nn.Sequential(Directions(self.d), linear)

    def _losses(self, features: Tensor, wanted: Wanted) -> Losses:
        if not self.training:
            return of_logits(self(features), wanted)
        noise = torch.randn(self.n, self.per_class, self.d, device=self.weight.device)
        if self.softmax == "plain":
            logits = multicenter_logits(features, self.weight, self.log_variance, noise)
        else:
            logits = self._with_margin(features, noise, wanted)
        own, spread = _entropies(logits, self.per_class, wanted)
        # The mean over a batch adds Eq. 10 to Eq. 9 once.
        divergence = variance_loss(self.log_variance, weight=self.variance_weight, over=self.over)
        own = None if own is None else own + divergence
        if spread is None or wanted.shares is None:
            return own, None
        return own, spread + wanted.shares.sum(-1) * divergence

    def _with_margin(self, features: Tensor, noise: Tensor, wanted: Wanted) -> Tensor:
        """Return the logits (N, n (K + 1)) of a softmax with a margin at the centres of the own classes."""
        if wanted.classes is None or wanted.shares is not None:
            raise BadRequest(
                f"softmax is {self.softmax!r}, whose margin is that of one class; allowed are labels without "
                "smoothing: with soft targets take softmax='plain'"
            )
        centers = multicenter_centers(self.weight, self.log_variance, noise)
        features = at_least_float32(features, self.d)
        if self.softmax == "arcface":
            return arcface_logits(features, centers, wanted.classes, self.margin, SCALE).flatten(1)
        return l_softmax_logits(features, centers, wanted.classes, int(self.margin)).flatten(1)

    def extra_repr(self) -> str:
        """Show sizes and settings where the module is printed, those beside K and sigma where they are not usual."""
        shown = f"d={self.d}, n={self.n}, per_class={self.per_class}, sigma={self.sigma}"
        if (self.variance_weight, self.over) != (1.0, "mean"):
            shown += f", variance_weight={self.variance_weight}, over={self.over!r}"
        return shown + ("" if self.softmax == "plain" else f", softmax={self.softmax!r}, margin={self.margin}")


def _margin(softmax: str, margin: float | None) -> float:
    """Return the margin of a softmax, the usual one where there is none. Raises BadRequest."""
    if margin is None:
        return USUAL_MARGIN[softmax]
    if softmax == "plain":
        raise BadRequest(f"margin is {margin!r} with softmax 'plain'; it belongs to 'l-softmax' and 'arcface'")
    return within("margin", margin, 0, math.pi) if softmax == "arcface" else whole("margin", margin, 1)


@torch.fx.wrap
def _linear(features: Tensor, weight: Tensor) -> Tensor:
    check_features(features, weight.shape[1])
    dtype = torch.promote_types(features.dtype, weight.dtype)
    return F.linear(features.to(dtype), weight.to(dtype))
