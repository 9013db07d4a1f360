"""Fixed sub-centres: several vectors a class, of which a feature need be near one."""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from protogen.errors import BadRequest
from protogen.files.prototypes import Prototypes

from .checks import check_finite, check_labels, check_one_of
from .fixed import check_features
from .frozen import FrozenPrototypes


def subcenter_logits(features: Tensor, subcenters: Tensor) -> Tensor:
    """Return the inner products of features (..., d) with sub-centres (n, s, d): (..., n, s).

    Their softmax over all n s is the P of Eq. 6. No normalisation, no bias; the gradient reaches `features`
    alone. float64 if the features are, else float32 or what autocast makes of it.

    Raises BadRequest where `features` has another width than d or is not of a floating type.
    Source: The Fixed Sub-Center, Section 3.1, Eq. 2, and Section 3.2, Eq. 6.
    """
    check_features(features, subcenters.shape[-1])
    features = features.to(torch.promote_types(features.dtype, torch.float32))
    rows = subcenters.detach().flatten(0, 1).to(features.dtype)
    logits: Tensor = F.linear(features, rows).unflatten(-1, subcenters.shape[:2])
    return logits


def subcenter_loss(
    features: Tensor,
    subcenters: Tensor,
    labels: Tensor,
    beta: float = 1e-4,
    *,
    reduction: str = "sum",
    debug: bool = False,
) -> Tensor:
    """Return the F-SC loss of features (..., d) with labels (...) for fixed sub-centres (n, s, d), a scalar.

        P = softmax(subcenter_logits(features, subcenters)) over all n s
        loss = mean(-log(sum over k of P[label, k])) + beta * sum(|feature - w[label, k*]|^2) / 2

    k* is the label's most probable sub-centre, a choice that has no gradient (the first of equals). The sum is
    over the batch, as printed: with `reduction="mean"` the weight of the second term does not grow with the
    batch. Losses are computed in float32 (float64 if the features are float64), from logits that under
    autocast have autocast's precision. The gradient reaches `features` alone.

    Raises BadRequest on features, labels and settings that are not allowed; labels outside 0 to n - 1 are seen
    on the CPU, with `debug` on every device, as are features that are not finite.
    Source: The Fixed Sub-Center, Section 3.1, Eq. 3, and Section 3.3, Eq. 7 and 8; beta: Section 4.2.
    """
    _check_settings(beta, reduction)
    logits = subcenter_logits(features, subcenters)
    check_labels(labels, features, len(subcenters), debug=debug)
    if debug:
        check_finite(features)
    n, s, d = subcenters.shape
    rows, labels = (
        logits.to(torch.promote_types(logits.dtype, torch.float32)).reshape(-1, n, s),
        labels.reshape(-1).long(),
    )
    place = labels[:, None, None].expand(-1, 1, s)
    own = rows.gather(1, place).squeeze(1)
    entropy = (rows.flatten(1).logsumexp(1) - own.logsumexp(1)).mean()
    nearest = subcenters.detach()[labels, own.argmax(1)]
    apart = features.reshape(-1, d).to(torch.promote_types(features.dtype, torch.float32)) - nearest
    distances = apart.square().sum(1) / 2
    return entropy + beta * (distances.sum() if reduction == "sum" else distances.mean())


class SubcenterHead(nn.Module):
    """Classify by s fixed sub-centres a class; no parameters.

    Called with features (..., d) it returns logits (..., n), the log of each class's summed exponentials:
    their softmax is the sum over a class of the P of Eq. 6, and the cross entropy of them Eq. 3.
    `loss(features, labels)` is Eq. 8 whole, as `subcenter_loss` has it with the settings held here.

    `source` is a float32 tensor (n, s, d), or the artifact of `protogen subcenters`: a record or the path of
    its file. `prototypes.prototypes` is the buffer (n, s, d), float32 whatever the model is cast to, shared by
    copies and kept out of `state_dict` by `persistent=False`, as FrozenPrototypes has it.

    Raises BadRequest where the source is not (n, s, d), not float32 or not finite, and on settings that are
    not allowed.
    Source: The Fixed Sub-Center, Section 3, Eq. 2, 3 and 6 to 8; beta: Section 4.2.
    """

    def __init__(
        self,
        source: Tensor | Prototypes | str | Path,
        beta: float = 1e-4,
        *,
        reduction: str = "sum",
        persistent: bool = False,
        debug: bool = False,
    ) -> None:
        super().__init__()
        _check_settings(beta, reduction)
        self.prototypes = _Subcenters(source, persistent=persistent)
        self.beta = beta
        self.reduction = reduction
        self.debug = debug

    def forward(self, features: Tensor) -> Tensor:
        """Return logits (..., n) for features (..., d), in float32 or float64."""
        if self.debug:
            check_finite(features)
        logits = subcenter_logits(features, self.prototypes.constant("prototypes", features.device))
        return logits.to(torch.promote_types(logits.dtype, torch.float32)).logsumexp(-1)

    def loss(self, features: Tensor, labels: Tensor) -> Tensor:
        """Return the F-SC loss of features (..., d) with labels (...)."""
        rows = self.prototypes.constant("prototypes", features.device)
        return subcenter_loss(features, rows, labels, self.beta, reduction=self.reduction, debug=self.debug)

    def extra_repr(self) -> str:
        """Show the settings where the module is printed."""
        return f"beta={self.beta}, reduction={self.reduction!r}"


class _Subcenters(FrozenPrototypes):
    """Hold sub-centres (n, s, d), of any norms, as FrozenPrototypes hold rows."""

    @property
    def s(self) -> int:
        """The number of sub-centres of a class."""
        return self.prototypes.shape[1]

    @staticmethod
    def checked(rows: Tensor) -> Tensor:
        """Return the sub-centres if they are (n, s, d), float32 and finite, or raise BadRequest."""
        if rows.dim() != 3 or rows.numel() == 0:
            raise BadRequest(
                f"sub-centres must be (n, s, d), got {tuple(rows.shape)}: make them with `protogen subcenters`, or "
                "give one vector a class to FrozenPrototypes"
            )
        if rows.dtype != torch.float32:
            raise BadRequest(f"sub-centres must be float32, got {rows.dtype}: convert first, with .float()")
        if not rows.is_meta and not rows.isfinite().all():
            raise BadRequest("sub-centres must be finite, got some that are not: generate them again")
        return rows

    def _product(self, features: Tensor, start: int, stop: int) -> Tensor:
        raise self._refusal

    def _combine(self, weights: Tensor, start: int, stop: int) -> Tensor:
        raise self._refusal

    def as_linear(self) -> nn.Linear:
        raise self._refusal

    def as_columns(self) -> nn.Parameter:
        raise self._refusal

    @property
    def _refusal(self) -> BadRequest:
        return BadRequest(
            f"each class has {self.s} sub-centres; allowed is one vector a class: classify by SubcenterHead"
        )

    def extra_repr(self) -> str:
        return f"n={self.n}, s={self.s}, d={self.d}"


def _check_settings(beta: float, reduction: str) -> None:
    if not 0 <= beta < float("inf"):
        raise BadRequest(f"beta is {beta}; allowed is 0 or a positive and finite number; the paper's is 1e-4")
    check_one_of("reduction", reduction, ("sum", "mean"))
