"""What every head is: one way to make it, to call it, to train with it and to deploy it."""

from abc import ABC, abstractmethod
from numbers import Number
from pathlib import Path

import torch
from torch import Tensor, nn

from protogen.errors import BadRequest
from protogen.files.prototypes import Prototypes
from protogen.methods import resolve
from protogen.store.access import ensure_path

from .checks import IGNORED, REDUCTIONS, as_classes, check_one_of, directions, flag, whole, within
from .entropy import entropies
from .fixed import FixedPrototypes
from .frozen import FrozenPrototypes
from .sharded import Group, Share, losses_by_index, sharded_entropies, shared_out
from .sources import as_prototypes
from .targets import Losses, Wanted, weighted_loss

torch.fx.wrap("directions")

Source = FixedPrototypes | Prototypes | Tensor | str | Path


class Head(nn.Module, ABC):
    """Classify features (..., d) into n classes.

    Every head is made from `source`, which is a record, the path of a file, the label of a closed form, a tensor
    or FixedPrototypes, or from the sizes `d` and `n` alone: the set then comes from the store, or is made and
    stored there. Every head has

    - `head(features)`: logits (..., n), in training and in evaluation;
    - `head.loss(features, targets)`: what its paper trains with, with the arguments of a cross entropy;
    - `topk`, `vectors` and `as_linear`;
    - `n` and `d`, also as `out_features` and `in_features`.

    `debug` reads features and targets on every device, and waits for it.

    >>> import torch
    >>> from protogen.nn import CosineHead, Head
    >>> head = CosineHead(torch.eye(3))
    >>> isinstance(head, Head), head(torch.ones(2, 3)).shape, head.topk(torch.eye(3), 1)[1].tolist()
    (True, torch.Size([2, 3]), [[0], [1], [2]])
    """

    debug: bool

    @property
    @abstractmethod
    def n(self) -> int:
        """The number of classes."""

    @property
    @abstractmethod
    def d(self) -> int:
        """The dimension, which is the width of the features."""

    @abstractmethod
    def forward(self, features: Tensor) -> Tensor:
        """Return logits (..., n) for features (..., d)."""

    @abstractmethod
    def vectors(self, labels: Tensor) -> Tensor:
        """Return the vector of each label (...), (..., d)."""

    @abstractmethod
    def as_linear(self) -> nn.Sequential:
        """Return plain layers that give this head's logits: an nn.Linear, and what must precede or follow it."""

    @abstractmethod
    def _losses(self, features: Tensor, wanted: Wanted) -> Losses:
        """Return the losses of features (N, d), at their classes and over shares."""

    @property
    def in_features(self) -> int:
        """The dimension, as nn.Linear calls it."""
        return self.d

    @property
    def out_features(self) -> int:
        """The number of classes, as nn.Linear calls it."""
        return self.n

    def loss(
        self,
        features: Tensor,
        targets: Tensor,
        *,
        ignore_index: int = IGNORED,
        weight: Tensor | None = None,
        label_smoothing: float = 0.0,
        reduction: str = "mean",
    ) -> Tensor:
        """Return the loss of features (..., d), in float32, or in float64 where they are.

        - `targets` are labels (...) of any integer type, or soft targets (..., n), each row of sum 1: the loss
          under them is the sum of the losses at each class times its target;
        - `ignore_index` is the label that is left out;
        - `weight` (n,) is how much each class counts, in the mean too;
        - `label_smoothing` s makes (1 - s) target + s/n of each target;
        - `reduction` is "mean", "sum" or "none". The mean over ignored labels alone is 0.

        Raises BadRequest on what is not allowed. Labels that are no class and soft targets that are no
        distribution are seen on the CPU, and with `debug` everywhere; else they make the loss NaN.
        """
        return weighted_loss(
            lambda wanted: self._losses(features.reshape(-1, self.d), wanted),
            features,
            targets,
            self.n,
            self.d,
            ignore_index=ignore_index,
            weight=weight,
            label_smoothing=label_smoothing,
            reduction=reduction,
            debug=self.debug,
        )

    def topk(self, features: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Return the k largest logits of features (..., d), the largest first, and their classes, both (..., k)."""
        values, classes = self(features).topk(whole("k", k, 1, self.n))
        return values, classes

    def _classes(self, labels: Tensor) -> Tensor:
        return as_classes(labels, self.n, debug=self.debug)[0]


class FixedHead(Head):
    """A head on prototypes that training does not change."""

    def __init__(self, prototypes: FixedPrototypes, debug: bool) -> None:
        super().__init__()
        self.prototypes = prototypes
        self.debug = flag("debug", debug)

    @property
    def n(self) -> int:
        """The number of classes."""
        return self.prototypes.n

    @property
    def d(self) -> int:
        """The dimension, which is the width of the features."""
        return self.prototypes.d

    def vectors(self, labels: Tensor) -> Tensor:
        """Return the prototype of each label (...), (..., d)."""
        return self.prototypes.vectors(self._classes(labels))


class CosineScale(FixedHead):
    """A head whose logits are cosines over a temperature, which may be learned.

    A learned one is the parameter `log_scale`, (1,): the logarithm of what the cosines are multiplied with.
    """

    log_scale: nn.Parameter | None

    def __init__(
        self,
        prototypes: FixedPrototypes,
        temperature: float,
        learn_scale: bool,
        debug: bool,
        share: Share | None = None,
    ) -> None:
        super().__init__(prototypes, debug)
        self.share = share
        self._temperature = temperature
        learned = nn.Parameter(torch.empty(1)) if flag("learn_scale", learn_scale) else None
        self.register_parameter("log_scale", learned)
        self.reset_parameters()

    @property
    def n(self) -> int:
        """The number of classes."""
        return self.prototypes.n if self.share is None else self.share.n

    def vectors(self, labels: Tensor) -> Tensor:
        """Return the prototype of each label (...), (..., d)."""
        return super().vectors(labels) if self.share is None else self.share.vectors(self._classes(labels))

    def reset_parameters(self) -> None:
        """Set a learned scale to its beginning."""
        if self.log_scale is not None:
            nn.init.constant_(self.log_scale, -torch.tensor(self._temperature, device="cpu").log().item())

    @property
    def scale(self) -> Tensor | float:
        """What the cosines are multiplied with: a tensor (1,) where it is learned."""
        return 1 / self._temperature if self.log_scale is None else self.log_scale.exp()

    def forward(self, features: Tensor) -> Tensor:
        """Return logits (..., n) for features (..., d): the cosines times the scale."""
        self._check_whole("logits of all classes")
        return self.prototypes.product(self._scaled(directions(features, self.d)))

    def topk(self, features: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Return the k largest logits of features (..., d) and their classes, without all n logits in memory."""
        held = self.prototypes if self.share is None else self.share
        return held.topk(self._scaled(directions(features, self.d)), whole("k", k, 1, self.n))

    def as_linear(self) -> nn.Sequential:
        """Return the normalisation, and behind it an nn.Linear without bias: the prototypes times the scale.

        They are copies, and frozen.
        """
        self._check_whole("rows of all classes")
        linear = self.prototypes.as_linear()
        with torch.no_grad():
            rows = linear.weight.to(torch.promote_types(linear.weight.dtype, torch.float32))
            linear.weight = nn.Parameter(rows * self.scale, requires_grad=False)
        return nn.Sequential(Directions(self.d), linear)

    def loss_by_index(
        self,
        features: Tensor,
        classes: Tensor,
        shares: Tensor,
        *,
        weight: Tensor | None = None,
        label_smoothing: float = 0.0,
        reduction: str = "mean",
    ) -> Tensor:
        """Return the loss of features (..., d) with soft targets by index: some classes (..., m) and their shares.

        It is `loss` with soft targets that have the shares, each of sum 1 over m, at these classes, and 0 elsewhere, as
        mixup's: without a tensor of all classes. Label smoothing and `weight` (n,) are those of `loss`.
        """
        if classes.shape != shares.shape or classes.shape[:-1] != features.shape[:-1]:
            raise BadRequest(
                f"classes and shares have shapes {tuple(classes.shape)} and {tuple(shares.shape)}; allowed are some "
                f"for each feature, {(*features.shape[:-1], 'm')}"
            )
        check_one_of("reduction", reduction, REDUCTIONS)
        smoothing = within("label_smoothing", label_smoothing, 0, 1)
        flat = self._scaled(directions(features, self.d)).reshape(-1, self.d)
        places = self._classes(classes).reshape(len(flat), -1)
        counts = shares.reshape(len(flat), -1).to(flat.dtype)
        if weight is not None:
            counts = counts * weight.to(counts)[places]
        losses = (losses_by_index(self.share, self.prototypes, flat, places) * counts).sum(1)
        if smoothing:
            even = torch.full((self.n,), smoothing / self.n, dtype=flat.dtype, device=flat.device)
            even = even if weight is None else even * weight.to(even)
            _, spread = self._entropies(flat, Wanted(places[:, 0], even, len(flat)))
            assert spread is not None
            losses = losses * (1 - smoothing) + spread
        if reduction == "none":
            return losses.view(features.shape[:-1])
        return losses.sum() if reduction == "sum" else losses.sum() / max(1, len(flat))

    def _entropies(self, scaled: Tensor, wanted: Wanted, own: Tensor | None = None) -> Losses:
        """Return the cross entropies of scaled features (N, d), by all ranks where each has a share of the classes."""
        if self.share is None:
            return entropies(scaled, self.prototypes, wanted, own)
        return sharded_entropies(self.share, scaled, wanted, own)

    def _check_whole(self, what: str) -> None:
        """Raise BadRequest where no rank has all classes."""
        check_whole_head(self.share, what)

    def _scaled(self, values: Tensor) -> Tensor:
        # The (..., d) factor is scaled: the (..., n) product may be the largest tensor of the step.
        return values / self._temperature if self.log_scale is None else values * self.log_scale.exp()


class Directions(nn.Module):
    """Divide features (..., d) by their norms, as a head on cosines does."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.d = d

    def forward(self, features: Tensor) -> Tensor:
        """Return features (..., d) of length 1; a zero feature stays zero."""
        return directions(features, self.d)


def hold(source: Source | None, d: int | None, n: int | None, method: str = "ebv") -> FixedPrototypes:
    """Return the prototypes of a head: those of `source`, or of a method for sizes alone."""
    source = taken(source, d, n, method)
    return as_prototypes(source, n=None if n is None else int(n), d=None if d is None else int(d))


def hold_share(
    source: Source | None, d: int | None, n: int | None, method: str, group: Group | None, replicated: bool
) -> tuple[FixedPrototypes, Share | None]:
    """Return the prototypes of a head as `hold` does; with a group those of this rank's share of the classes."""
    if group is None:
        return hold(source, d, n, method), None
    source = taken(source, d, n, method)
    if not isinstance(source, str | Path) or str(source).endswith(")"):
        return shared_out(hold(source, d, n), group, flag("replicated", replicated))
    with torch.device("meta"):  # what the header says
        promised = hold(source, d, n)
    whole_file = isinstance(promised, FrozenPrototypes)
    return shared_out(source if whole_file else hold(source, d, n), group, flag("replicated", replicated))


def check_whole_head(share: Share | None, what: str) -> None:
    """Raise BadRequest where a head asks for what is of all classes, of which this rank has a share."""
    if share is not None:
        raise BadRequest(
            f"{what} are asked for, and this rank has {share.start} to {share.stop - 1} of {share.n}; use loss, topk "
            "and vectors, or make the head without a group"
        )


def taken(source: Source | None, d: int | None, n: int | None, method: str) -> Source:
    """Return `source`, or the path of a method's set where there are sizes alone; raise BadRequest without either."""
    if isinstance(source, Number):
        raise BadRequest(f"the source is {source!r}; allowed are prototypes: name sizes, as in d=128, n=1000")
    d, n = (value if value is None else whole(name, value, 1) for name, value in (("d", d), ("n", n)))
    if source is not None:
        return source
    if d is None or n is None:
        raise BadRequest(f"d, n is {d}, {n} without a source; allowed are both, as in d=128, n=1000")
    return ensure_path(resolve(method, d=d, n=n))
