"""Log-sum-exps over very many prototypes, by chunks of them: without the logits in memory."""

import math
from typing import Any

import torch
from torch import Tensor

from protogen.errors import BadRequest

from .fixed import FixedPrototypes
from .frozen import FrozenPrototypes

# Logits that are in memory at a time: few enough for a cache, or enough to keep a GPU busy.
CPU_LOGITS, GPU_LOGITS = 1 << 20, 1 << 24
CHUNKS = 4  # of logits, above which a loss goes by chunks


def is_large(batch: int, n: int, device: torch.device) -> bool:
    """Tell whether the logits (batch, n) are so many that their loss should go by chunks."""
    # An exported graph is for batches of any size: it does not ask for this one's.
    return not torch.compiler.is_exporting() and batch * n > CHUNKS * _logits(device)


def others_logsumexp(
    features: Tensor,
    prototypes: Tensor | FixedPrototypes,
    classes: Tensor | None = None,
    *,
    per_class: int = 1,
    chunk: int | None = None,
) -> Tensor:
    """Return the log-sum-exp of the products of features (N, d) with all rows but those of their classes (N,): (N,).

        others[i] = log(sum over rows w_j not of class i of exp(features[i] @ w_j))

    Class c owns the rows c per_class to (c + 1) per_class - 1; where `classes` is None no row is left out, and
    where a class owns all rows the result is -inf. Features are float32 or float64, as are the results.

    One pass over the rows takes a running log-sum-exp and, while a chunk is at hand, its share of the gradient;
    a second pass is taken for a derivative of that gradient, also in forward mode. The gradient reaches
    `features` alone. Under autocast the products of the first pass run in autocast's type.
    """
    transformed = torch._C._are_functorch_transforms_active()
    wanted = transformed or (torch.is_grad_enabled() and features.requires_grad)
    others, _ = gradient_of_others(features, prototypes, classes, per_class=per_class, chunk=chunk, wanted=wanted)
    return others


def gradient_of_others(
    features: Tensor,
    prototypes: Tensor | FixedPrototypes,
    classes: Tensor | None = None,
    *,
    per_class: int = 1,
    chunk: int | None = None,
    wanted: bool,
) -> tuple[Tensor, Tensor]:
    """Return what `others_logsumexp` does, and its gradient (N, d), which is empty unless it is wanted."""
    n, d = (prototypes.n, prototypes.d) if isinstance(prototypes, FixedPrototypes) else prototypes.shape
    if isinstance(prototypes, FrozenPrototypes):
        prototypes = prototypes.constant("prototypes", features.device)
    elif isinstance(prototypes, Tensor):
        prototypes = prototypes.detach()
    if classes is None:
        classes = torch.full((features.shape[0],), -1, device=features.device)
    chunk = chunk or max(d, _logits(features.device) // max(1, features.shape[0]))
    chunk = -(-chunk // per_class) * per_class
    return _apply(features, classes, prototypes, n, chunk, per_class, wanted)


def _logits(device: torch.device) -> int:
    return CPU_LOGITS if device.type == "cpu" else GPU_LOGITS


def _apply(*arguments: Any) -> tuple[Tensor, Tensor]:
    # torch.compile traces no function with a jvp of its own.
    function = _Others if torch.compiler.is_compiling() else _ForwardOthers
    result: tuple[Tensor, Tensor] = function.apply(*arguments)
    return result


class _Others(torch.autograd.Function):
    """The log-sum-exp (N,) and its gradient (N, d), which is empty where none is wanted.

    The gradient is an output, so that a derivative of it comes back here.
    """

    @staticmethod
    def forward(
        features: Tensor,
        classes: Tensor,
        prototypes: Tensor | FixedPrototypes,
        n: int,
        chunk: int,
        per_class: int,
        wanted: bool,
    ) -> tuple[Tensor, Tensor]:
        # Sums of exp(logit - top) and of exp(logit - top) w, where top is the largest logit so far.
        top = features.new_full((features.shape[0], 1), -math.inf)
        total = torch.zeros_like(top)
        weighted = torch.zeros_like(features) if wanted else features.new_zeros(0)
        for start in range(0, n, chunk):
            stop = min(start + chunk, n)
            logits = _without(_product(features, prototypes, start, stop), classes, start, per_class)
            higher = torch.maximum(top, logits.amax(1, keepdim=True))
            above = higher.masked_fill(higher == -math.inf, 0)
            shrink, terms = (top - above).exp(), logits.sub_(above).exp_()
            total = total * shrink + terms.sum(1, keepdim=True)
            if wanted:
                weighted = weighted * shrink + _combine(terms, prototypes, start, stop)
            top = higher
        gradient = weighted / total.masked_fill(total == 0, 1) if wanted else weighted
        return (top + total.log()).squeeze(1), gradient

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        features, classes, prototypes, *ctx.settings = inputs
        ctx.set_materialize_grads(False)  # a gradient of zeros would cost a pass
        ctx.prototypes = None if isinstance(prototypes, Tensor) else prototypes
        kept = prototypes if isinstance(prototypes, Tensor) else classes
        ctx.save_for_backward(features, classes, kept, *output)
        ctx.save_for_forward(features, classes, kept, *output)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        of_others, of_gradient = gradients
        found = None if of_others is None else of_others[:, None] * ctx.saved_tensors[-1]
        if of_gradient is not None:
            curved = _curved(ctx, of_gradient)
            found = curved if found is None else found + curved
        return found, None, None, None, None, None, None


class _ForwardOthers(_Others):
    """The same for forward derivatives and for vmap."""

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> tuple[Tensor, Tensor]:
        gradient = ctx.saved_tensors[-1]
        if gradient.numel() == 0 and tangents[0].numel():
            features, classes, kept = ctx.saved_tensors[:3]
            _, gradient = _apply(features, classes, ctx.prototypes or kept, *ctx.settings[:-1], True)
            return (gradient * tangents[0]).sum(1), torch.zeros_like(ctx.saved_tensors[-1])
        return (gradient * tangents[0]).sum(1), _curved(ctx, tangents[0])

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *inputs: Any) -> tuple[tuple[Tensor, Tensor], tuple[int, int]]:
        if in_dims[2] is not None:
            raise BadRequest("prototypes are batched under vmap; allowed is one set for all: map over features alone")
        features, classes = (
            x.expand(info.batch_size, *x.shape) if dim is None else x.movedim(dim, 0)
            for x, dim in zip(inputs[:2], in_dims[:2], strict=True)
        )
        found = _apply(features.flatten(0, 1), classes.flatten(0, 1), *inputs[2:])
        others, gradient = (x.unflatten(0, features.shape[:2]) for x in found)
        return (others, gradient), (0, 0)


def _curved(ctx: Any, along: Tensor) -> Tensor:
    """Return the second derivative along vectors (N, d): sum of p (w @ along) w, less (sum of p w @ along) times mean.

    p is the softmax over the rows that are not left out, and the mean of the rows under it is the gradient.
    """
    features, classes, kept, others, gradient = ctx.saved_tensors
    prototypes = ctx.prototypes or kept
    n, chunk, per_class, _ = ctx.settings
    lowest = others.masked_fill(others == -math.inf, 0)[:, None]
    total, mean = torch.zeros_like(along), torch.zeros_like(lowest)
    for start in range(0, n, chunk):
        stop = min(start + chunk, n)
        logits = _without(_product(features, prototypes, start, stop), classes, start, per_class)
        shares = (logits - lowest).exp() * _product(along, prototypes, start, stop)
        total = total + _combine(shares, prototypes, start, stop)
        mean = mean + shares.sum(1, keepdim=True)
    curved: Tensor = total - mean * gradient
    return curved


def _without(logits: Tensor, classes: Tensor, start: int, per_class: int) -> Tensor:
    """Return logits (N, stop - start) that are -inf at the rows of their classes (N,)."""
    first = classes * per_class - start
    places = first[:, None] + torch.arange(per_class, device=first.device)
    here = (classes[:, None] >= 0) & (places >= 0) & (places < logits.shape[1])
    places = places.clamp(0, logits.shape[1] - 1)
    return logits.scatter_(1, places, logits.gather(1, places).masked_fill(here, -math.inf))


def _product(features: Tensor, prototypes: Tensor | FixedPrototypes, start: int, stop: int) -> Tensor:
    """Return the inner products (N, stop - start), a tensor of its own, in the features' type."""
    if isinstance(prototypes, FixedPrototypes):
        return prototypes.product(features, start, stop).to(features.dtype)
    # In this order the product of few features with many rows is the faster one on a CPU.
    return (prototypes[start:stop].to(features.dtype) @ features.T).T.to(features.dtype)


def _combine(weights: Tensor, prototypes: Tensor | FixedPrototypes, start: int, stop: int) -> Tensor:
    """Return the sums of the rows with weights (N, stop - start)."""
    if isinstance(prototypes, FixedPrototypes):
        return prototypes.combine(weights, start, stop).to(weights.dtype)
    return (weights @ prototypes[start:stop].to(weights.dtype)).to(weights.dtype)
