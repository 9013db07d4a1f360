"""Cross entropy on prototypes: with all logits in memory where they are few, by chunks of classes where not."""

import torch
from torch import Tensor
from torch.nn import functional as F

from protogen.errors import BadRequest

from .checks import IGNORED, own_prototypes
from .chunked import is_large, others_logsumexp
from .fixed import FixedPrototypes, at_least_float32
from .frozen import FrozenPrototypes
from .targets import Losses, Wanted, weighted_loss


def entropies(
    features: Tensor,
    prototypes: Tensor | FixedPrototypes,
    wanted: Wanted,
    own: Tensor | None = None,
    *,
    chunk: int | None = None,
) -> Losses:
    """Return -log softmax(features @ prototypes.T) of features (N, d), at their classes and over shares.

    `own` (N,) takes the place of the logits at the classes. With `chunk`, or where the logits (N, n) are many,
    never more than a chunk of classes is in memory.
    """
    n = prototypes.n if isinstance(prototypes, FixedPrototypes) else len(prototypes)
    # Rows of a formula are not looked up inside a graph or a transform, which the loss by chunks asks for.
    looked_up = not isinstance(prototypes, FixedPrototypes) or isinstance(prototypes, FrozenPrototypes)
    whole = not looked_up and (torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active())
    if chunk or (is_large(features.shape[0], n, features.device) and not whole):
        return _by_chunks(features, prototypes, wanted, own, chunk)
    if isinstance(prototypes, FixedPrototypes):
        logits = prototypes.product(features)
    else:
        logits = F.linear(features, prototypes.detach().to(features.dtype))
    if own is not None and wanted.classes is not None:
        logits = logits.to(own.dtype).scatter(1, wanted.classes[:, None], own[:, None])
    return of_logits(logits, wanted)


def of_logits(logits: Tensor, wanted: Wanted) -> Losses:
    """Return -log softmax of logits (N, n), in float32 at least, at the classes and over shares."""
    logs = logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(1)
    own = None if wanted.classes is None else -logs.gather(1, wanted.classes[:, None]).squeeze(1)
    return own, None if wanted.shares is None else -(logs * wanted.shares).sum(1)


def cross_entropy(
    features: Tensor,
    prototypes: Tensor | FixedPrototypes,
    targets: Tensor,
    temperature: float,
    *,
    chunk: int | None = None,
    ignore_index: int = IGNORED,
    weight: Tensor | None = None,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
    debug: bool = False,
) -> Tensor:
    """Return the `weighted_loss` of the logits features @ prototypes.T / temperature."""
    n, d = (prototypes.n, prototypes.d) if isinstance(prototypes, FixedPrototypes) else prototypes.shape
    if chunk is not None and chunk < 1:
        raise BadRequest(f"chunk is {chunk}; allowed is a number of classes from 1 on, or None")

    def losses(wanted: Wanted) -> Losses:
        rows = at_least_float32(features, d).reshape(-1, d) / temperature
        return entropies(rows, prototypes, wanted, chunk=chunk)

    return weighted_loss(
        losses,
        features,
        targets,
        n,
        d,
        ignore_index=ignore_index,
        weight=weight,
        label_smoothing=label_smoothing,
        reduction=reduction,
        debug=debug,
    )


def _by_chunks(
    features: Tensor,
    prototypes: Tensor | FixedPrototypes,
    wanted: Wanted,
    own: Tensor | None,
    chunk: int | None,
) -> Losses:
    others = others_logsumexp(features, prototypes, wanted.classes, chunk=chunk)
    losses = plain = None
    total = others
    if wanted.classes is not None:
        plain = (features * own_prototypes(prototypes, wanted.classes).to(features.dtype)).sum(1)
        own = plain if own is None else own
        losses = -F.logsigmoid(own - others)  # log(1 + exp(others - own))
        total = losses + own
    if wanted.shares is None:
        return losses, None
    shares = wanted.shares.expand(1, -1) if wanted.shares.dim() == 1 else wanted.shares
    if isinstance(prototypes, FixedPrototypes):
        means = prototypes.combine(shares)
    else:
        means = shares @ prototypes.detach().to(shares.dtype)
    shared = (features * means).sum(1)
    if wanted.classes is not None and own is not plain:
        assert plain is not None
        assert own is not None
        shared = shared + wanted.shares[wanted.classes] * (own - plain)
    return losses, total * shares.sum(1) - shared
