"""The cosine softmax on fixed prototypes."""

from typing import Any, Literal

from torch import Tensor, nn
from torch.nn import functional as F

from protogen.errors import BadRequest

from .checks import IGNORED, REDUCTIONS, check_one_of, directions, flag, positive, within
from .entropy import cross_entropy
from .fixed import FixedPrototypes
from .head import CosineScale, Source, hold_share
from .sharded import Group
from .targets import Losses, Wanted
from .temperature import AUTO, temperature_of

USUAL = " or 'auto'; the paper's is 0.07"


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

    >>> import torch
    >>> from protogen.nn import cosine_logits
    >>> cosine_logits(torch.tensor([[2.0, 0.0]]), torch.eye(2), temperature=0.5)
    tensor([[2., 0.]])
    """
    temperature = positive("temperature", temperature, USUAL)
    # The temperature divides the (..., d) factor: the (..., n) product may be the largest tensor of the step.
    if isinstance(prototypes, FixedPrototypes):
        return prototypes.product(directions(features, prototypes.d) / temperature)
    ahead = directions(features, prototypes.shape[1])
    return F.linear(ahead / temperature, prototypes.detach().to(ahead.dtype))


def ebv_loss(
    features: Tensor,
    prototypes: Tensor | FixedPrototypes,
    targets: Tensor,
    temperature: float = 0.07,
    **settings: Any,
) -> Tensor:
    """Return the cross entropy of `cosine_logits` with labels (...) or soft targets (..., n).

        P = softmax(normalize(features) @ prototypes.T / temperature)
        loss = -sum over classes of target * log P

    A label is the target 1 at its class; soft targets are probabilities, such as mixup and cutmix make. The
    settings are those of `CosineHead.loss`, and `debug`. The paper prints the sum over the batch,
    `reduction="sum"`. The loss is computed in float32 (float64 if the features are float64), from logits that
    under autocast have autocast's precision; the gradient reaches `features` alone.
    Source: Equiangular Basis Vectors, Section 3.4, Eq. 5 to 7; smoothing and mixup: Section 4.1.1, Setting A2.

    >>> import torch
    >>> from protogen.nn import ebv_loss
    >>> ebv_loss(torch.eye(2), torch.eye(2), torch.tensor([0, 1])) < 1e-5
    tensor(True)
    """
    d = prototypes.d if isinstance(prototypes, FixedPrototypes) else prototypes.shape[1]
    temperature = positive("temperature", temperature, USUAL)
    return cross_entropy(directions(features, d), prototypes, targets, temperature, **settings)


def chunked_cross_entropy(
    features: Tensor,
    prototypes: Tensor | FixedPrototypes,
    labels: Tensor,
    temperature: float = 1.0,
    *,
    chunk: int | None = None,
    **settings: Any,
) -> Tensor:
    """Return the cross entropy of features (..., d) with labels (...) under prototypes (n, d), by chunks of classes.

        loss = cross_entropy(features @ prototypes.T / temperature, labels)

    A scalar, or (...) where `reduction` is "none", in float32 (float64 if the features are float64). It is
    equal to that line but for rounding and one case: the mean over ignored labels alone is 0, not NaN. The
    gradient reaches `features` alone.

    In memory are the logits of `chunk` classes at a time; left out, 2^20 logits (on a GPU 2^24), no fewer
    classes than d, and all at once where they are few. The settings are those of `CosineHead.loss`, and `debug`.

    Under autocast the products run in autocast's type, all else in float32. Structured prototypes go by
    their own product and stay in float32.

    >>> import torch
    >>> from protogen.nn import chunked_cross_entropy
    >>> chunked_cross_entropy(torch.zeros(2, 3), torch.eye(3), torch.tensor([0, 1]))
    tensor(1.0986)
    """
    temperature = positive("temperature", temperature)
    return cross_entropy(features, prototypes, labels, temperature, chunk=chunk, **settings)


class CosineHead(CosineScale):
    """Classify by the cosine to fixed prototypes, over a temperature.

        head = CosineHead(d=512, n=1000)
        loss = head.loss(features, labels)
        values, classes = head.topk(features, 5)

    - `source`, or `d` and `n`: the prototypes, as Head says; by sizes alone they are those of `protogen ebv`;
    - `temperature`: what divides the cosines. The paper takes .07 for ImageNet, .007 for 100,000 classes in R^5000
      (supplement, Section 2) and .02 for iNaturalist 2018, 8,142 classes (supplement, Section 3); "auto" is
      `fitting_temperature`, which few classes need above all;
    - `learn_scale`: begin at that temperature and learn its inverse, as the parameter `log_scale`;
    - `group`: a process group, or a mesh of one dimension, whose ranks have each its share of the classes and its own
      features; with `replicated` all have the same features. `loss`, `topk` and `vectors` are then called by all of
      them at once and give what one process gives for the features of each; no rank has the logits of all classes.
      Wrapped in DistributedDataParallel the model needs `ddp_ignore` before;
    - `debug`: read features and targets on every device.

    `head(features)` are `cosine_logits`, and `head.loss` is `ebv_loss`. Where the batch and the classes make
    many logits, the loss goes by chunks of classes and never has all logits in memory.

    >>> import torch
    >>> from protogen.nn import CosineHead
    >>> head = CosineHead(torch.eye(3), temperature=0.1)
    >>> head(torch.tensor([[0.0, 2.0, 0.0]])).argmax(-1)
    tensor([1])
    >>> head.loss(torch.tensor([[0.0, 2.0, 0.0]]), torch.tensor([1])) < 1e-3
    tensor(True)

    Raises BadRequest where a setting is not allowed.
    Source: Equiangular Basis Vectors, Section 3.4, Eq. 5 to 7; temperature: Section 4.1.1.
    """

    def __init__(
        self,
        source: Source | None = None,
        temperature: float | Literal["auto"] = 0.07,
        *,
        d: int | None = None,
        n: int | None = None,
        learn_scale: bool = False,
        group: Group | None = None,
        replicated: bool = False,
        debug: bool = False,
    ) -> None:
        auto = isinstance(temperature, str) and temperature == AUTO
        divisor = 1.0 if auto else positive("temperature", temperature, USUAL)
        prototypes, share = hold_share(source, d, n, "ebv", group, replicated)
        if auto and share is not None:
            raise BadRequest("temperature is 'auto' with a group, whose ranks have a share of the rows; give a number")
        super().__init__(prototypes, temperature_of(prototypes) if auto else divisor, learn_scale, debug, share)

    @property
    def temperature(self) -> Tensor | float:
        """What divides the cosines: a tensor (1,) where it is learned."""
        return self._temperature if self.log_scale is None else (-self.log_scale).exp()

    def _losses(self, features: Tensor, wanted: Wanted) -> Losses:
        return self._entropies(self._scaled(directions(features, self.d)), wanted)

    def extra_repr(self) -> str:
        """Show the temperature where the module is printed."""
        return f"temperature={self._temperature}" + ("" if self.log_scale is None else ", learn_scale=True")


class EBVLoss(nn.Module):
    """Compute `CosineHead.loss` as a module of features (..., d) and targets; `head` is the CosineHead.

    - `source`, `temperature`: those of CosineHead;
    - `ignore_index`, `weight`, `label_smoothing`, `reduction`: those of `CosineHead.loss`.

    >>> import torch
    >>> from protogen.nn import EBVLoss
    >>> loss = EBVLoss(torch.eye(3), label_smoothing=0.1)
    >>> loss(torch.eye(3), torch.tensor([0, 1, 2])).shape
    torch.Size([])
    """

    weight: Tensor | None

    def __init__(
        self,
        source: Source | None = None,
        temperature: float = 0.07,
        *,
        ignore_index: int = IGNORED,
        weight: Tensor | None = None,
        label_smoothing: float = 0.0,
        reduction: str = "mean",
        debug: bool = False,
    ) -> None:
        super().__init__()
        check_one_of("reduction", reduction, REDUCTIONS)
        self.head = CosineHead(source, temperature, debug=flag("debug", debug))
        self.ignore_index = ignore_index
        self.register_buffer("weight", weight, persistent=False)
        self.label_smoothing = within("label_smoothing", label_smoothing, 0, 1)
        self.reduction = reduction

    def forward(self, features: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of features (..., d) with labels (...) or soft targets (..., n)."""
        return self.head.loss(
            features,
            targets,
            ignore_index=self.ignore_index,
            weight=self.weight,
            label_smoothing=self.label_smoothing,
            reduction=self.reduction,
        )

    def extra_repr(self) -> str:
        """Show the settings where the module is printed."""
        return f"label_smoothing={self.label_smoothing}, reduction={self.reduction!r}"


ChunkedCosineLoss = EBVLoss
