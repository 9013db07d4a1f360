"""Cross entropy on fixed prototypes, with labels or soft targets."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from protogen.errors import BadRequest

from .checks import REDUCTIONS, check_finite, check_labels, check_one_of
from .fixed import FixedPrototypes
from .heads import CosineHead, cosine_logits


def ebv_loss(
    features: Tensor,
    prototypes: Tensor | FixedPrototypes,
    targets: Tensor,
    temperature: float = 0.07,
    *,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
    debug: bool = False,
) -> Tensor:
    """Return the cross entropy of `cosine_logits` with labels (...) or soft targets (..., n).

        P = softmax(normalize(features) @ prototypes.T / temperature)
        loss = -sum over classes of target * log P

    A label is the target 1 at its class; soft targets are probabilities, such as mixup and cutmix make.
    `label_smoothing` s makes (1 - s) target + s/n of either. The paper prints the sum over the batch,
    `reduction="sum"`. The loss is computed in float32 (float64 if the features are float64), from logits
    that under autocast have autocast's precision. The gradient reaches `features` alone.

    Labels outside 0 to n - 1 raise BadRequest on the CPU; with `debug` on every device, as do features that
    are not finite and soft targets that are not probabilities. `debug` waits for the device.
    Source: Equiangular Basis Vectors, Section 3.4, Eq. 5 to 7; smoothing and mixup: Section 4.1.1, Setting A2.
    """
    _check_settings(label_smoothing, reduction)
    logits = cosine_logits(features, prototypes, temperature)
    if targets.is_floating_point():
        _check_soft(targets, logits.shape, debug)
    else:
        check_labels(targets, features, logits.shape[-1], debug=debug)
    if debug:
        check_finite(features)
    n = logits.shape[-1]
    rows = logits.to(torch.promote_types(logits.dtype, torch.float32)).reshape(-1, n)
    wanted = targets.reshape(-1, n).to(rows.dtype) if targets.is_floating_point() else targets.reshape(-1).long()
    losses = F.cross_entropy(rows, wanted, reduction=reduction, label_smoothing=label_smoothing)
    return losses.reshape(logits.shape[:-1]) if reduction == "none" else losses


class EBVLoss(nn.Module):
    """Compute `ebv_loss` on the prototypes held here; no parameters.

    Takes features (..., d) and labels (...) or soft targets (..., n). `head` is the CosineHead with the same
    prototypes and temperature, for predictions.

    Raises BadRequest as CosineHead does, and where `label_smoothing` or `reduction` are not allowed.
    Source: Equiangular Basis Vectors, Section 3.4, Eq. 5 to 7.
    """

    def __init__(
        self,
        prototypes: FixedPrototypes,
        temperature: float = 0.07,
        *,
        label_smoothing: float = 0.0,
        reduction: str = "mean",
        debug: bool = False,
    ) -> None:
        super().__init__()
        _check_settings(label_smoothing, reduction)
        self.head = CosineHead(prototypes, temperature)
        self.label_smoothing = label_smoothing
        self.reduction = reduction
        self.debug = debug

    def forward(self, features: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of features (..., d) with labels (...) or soft targets (..., n)."""
        return ebv_loss(
            features,
            self.head.prototypes,
            targets,
            self.head.temperature,
            label_smoothing=self.label_smoothing,
            reduction=self.reduction,
            debug=self.debug,
        )

    def extra_repr(self) -> str:
        """Show the settings where the module is printed."""
        return f"label_smoothing={self.label_smoothing}, reduction={self.reduction!r}"


def _check_settings(label_smoothing: float, reduction: str) -> None:
    """Raise BadRequest unless both are allowed."""
    check_one_of("reduction", reduction, REDUCTIONS)
    if not 0 <= label_smoothing <= 1:
        raise BadRequest(f"label_smoothing is {label_smoothing}; allowed is 0 to 1; the paper's is 0.1")


def _check_soft(targets: Tensor, shape: torch.Size, debug: bool) -> None:
    """Raise BadRequest unless soft targets have this shape and, where `debug` is True, are probabilities."""
    if targets.shape != shape:
        raise BadRequest(
            f"soft targets have shape {tuple(targets.shape)}; allowed is that of the logits, {tuple(shape)}"
        )
    # In bfloat16 a probability is good to 4e-3 of its value.
    if debug and not ((targets >= 0).all() and ((targets.double().sum(-1) - 1).abs() <= 1e-2).all()):
        raise BadRequest("soft targets are no probabilities; allowed is 0 and above, with sum 1 over the classes")
