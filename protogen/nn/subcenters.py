"""Fixed sub-centres: several vectors a class, of which a feature need be near one."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from protogen.errors import BadRequest

from .checks import check_finite, check_one_of, flag, positive
from .chunked import is_large, others_logsumexp
from .entropy import of_logits
from .fixed import FixedPrototypes, at_least_float32
from .frozen import FrozenPrototypes
from .head import FixedHead, Source, taken
from .targets import Losses, Wanted, weighted_loss

OWN = ("probable", "nearest")


@torch.fx.wrap
def subcenter_logits(features: Tensor, subcenters: Tensor) -> Tensor:
    """Return the inner products of features (..., d) with sub-centres (n, s, d): (..., n, s).

    Their softmax over all n s is the P of Eq. 6. No normalisation, no bias; the gradient reaches `features`
    alone. float64 if the features are, else float32 or what autocast makes of it.

    Raises BadRequest where `features` has another width than d or is not of a floating type.
    Source: The Fixed Sub-Center, Section 3.1, Eq. 2, and Section 3.2, Eq. 6.

    >>> import torch
    >>> from protogen.nn import subcenter_logits
    >>> subcenter_logits(torch.ones(2, 3), torch.eye(3).expand(4, 3, 3)).shape
    torch.Size([2, 4, 3])
    """
    features = at_least_float32(features, subcenters.shape[-1])
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
    own: str = "probable",
    debug: bool = False,
) -> Tensor:
    """Return the F-SC loss of features (..., d) with labels (...) for fixed sub-centres (n, s, d), a scalar.

        P = softmax(subcenter_logits(features, subcenters)) over all n s
        loss = mean(-log(sum over k of P[label, k])) + beta * sum(|feature - w[label, k*]|^2) / 2

    k* is a sub-centre of the label, a choice that has no gradient (the first of equals). The paper calls it the
    corresponding one and does not say which that is: `own` "probable", our choice, is the most probable one, of the
    largest inner product; "nearest" the one of the smallest distance. With sub-centres of one length they are the
    same. The sum is
    over the batch, as printed: with `reduction="mean"` the weight of the second term does not grow with the
    batch. Losses are computed in float32 (float64 if the features are float64), from logits that under
    autocast have autocast's precision. The gradient reaches `features` alone.

    Raises BadRequest on features, labels and settings that are not allowed; labels outside 0 to n - 1 are seen
    on the CPU, with `debug` on every device, as are features that are not finite.
    Source: The Fixed Sub-Center, Section 3.1, Eq. 3, and Section 3.3, Eq. 7 and 8; beta: Section 4.2.

    >>> import torch
    >>> from protogen.nn import subcenter_loss
    >>> subcenter_loss(torch.eye(2), torch.eye(2).unsqueeze(1), torch.tensor([0, 1]), beta=0.0)
    tensor(0.3133)
    """
    beta = _check_settings(beta, reduction)
    check_one_of("own", own, OWN)
    n, _, d = subcenters.shape
    return weighted_loss(
        lambda wanted: _terms(features.reshape(-1, d), subcenters.detach(), wanted, beta, reduction, own),
        features,
        labels,
        n,
        d,
        debug=debug,
    )


def _terms(
    features: Tensor, subcenters: Tensor, wanted: Wanted, beta: float, compactness: str, choice: str = "probable"
) -> Losses:
    """Return Eq. 3 + beta Eq. 7 of features (N, d), at their classes and over shares.

    With `compactness` "sum" beta counts once for each feature, so that the mean over the batch has the sum.
    """
    n, s, d = subcenters.shape
    features = at_least_float32(features, d)
    factor = features.new_ones(()) * wanted.count * beta if compactness == "sum" else beta
    large = wanted.shares is None and is_large(features.shape[0], n * s, features.device)
    logits = None if large else subcenter_logits(features, subcenters)
    own, spread = (None, None) if logits is None else of_logits(_class_logits(logits), wanted)
    if wanted.classes is not None:
        centers = subcenters[wanted.classes].to(features.dtype)
        near = (features[:, None] * centers).sum(-1)
        if own is None:
            rows = subcenters.flatten(0, 1)
            own = -F.logsigmoid(near.logsumexp(1) - others_logsumexp(features, rows, wanted.classes, per_class=s))
        if choice == "nearest":
            near = near.detach() - centers.square().sum(-1) / 2  # larger where the distance is smaller
        place = near.argmax(1)[:, None, None].expand(-1, 1, d)
        own = own + factor * (features - centers.gather(1, place).squeeze(1)).square().sum(1) / 2
    if wanted.shares is not None:
        assert logits is not None
        assert spread is not None
        products = logits.to(features.dtype)
        lengths = subcenters.to(features.dtype).square().sum(-1).expand(*logits.shape)
        near = products.detach() if choice == "probable" else products.detach() - lengths / 2
        place = near.argmax(-1, keepdim=True)
        top, lengths = products.gather(-1, place).squeeze(-1), lengths.gather(-1, place)
        distances = features.square().sum(1, keepdim=True) - 2 * top + lengths.squeeze(-1)
        spread = spread + factor * (wanted.shares * distances).sum(1) / 2
    return own, spread


@torch.fx.wrap
def _class_logits(logits: Tensor) -> Tensor:
    """Return the log of each class's summed exponentials, in float32 at least."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32)).logsumexp(-1)


class SubcenterHead(FixedHead):
    """Classify by s fixed sub-centres a class; no parameters.

        head = SubcenterHead(d=512, n=1000)
        loss = head.loss(features, labels)
        values, classes = head.topk(features, 5)

    - `source`, or `d` and `n`: a float32 tensor (n, s, d), or the artifact of `protogen subcenters` as a record,
      as the path of its file, or by its sizes alone. FixedPrototypes are one sub-centre a class;
    - `beta`: the weight of the squared distance to one of them;
    - `own`: which of its class's sub-centres a feature is drawn to, the most "probable" or the "nearest", as
      `subcenter_loss` says;
    - `compactness`: "sum" adds the distances of a batch, as printed, "mean" averages them;
    - `persistent`: keep the sub-centres in `state_dict`, as FrozenPrototypes do;
    - `debug`: read features and targets on every device.

    `head(features)` are the logs of each class's summed exponentials: their softmax is the sum over a class of
    the P of Eq. 6, and the cross entropy of them Eq. 3. `head.loss` is Eq. 8 whole. Features are not normalised.

    >>> import torch
    >>> from protogen.nn import SubcenterHead
    >>> head = SubcenterHead(torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[-1.0, 0.0], [0.0, -1.0]]]))
    >>> head(torch.tensor([0.0, 3.0])).argmax()
    tensor(0)
    >>> head.loss(torch.tensor([[0.0, 9.0]]), torch.tensor([0])) < 0.01
    tensor(True)

    Raises BadRequest where the source is not (n, s, d), not float32 or not finite, and on settings that are
    not allowed.
    Source: The Fixed Sub-Center, Section 3, Eq. 2, 3 and 6 to 8; beta: Section 4.2.
    """

    def __init__(
        self,
        source: Source | None = None,
        beta: float = 1e-4,
        *,
        d: int | None = None,
        n: int | None = None,
        compactness: str = "sum",
        own: str = "probable",
        persistent: bool = False,
        debug: bool = False,
    ) -> None:
        beta = _check_settings(beta, compactness, "compactness")
        source = taken(source, d, n, "subcenters")
        if isinstance(source, FixedPrototypes) and not isinstance(source, _Subcenters):
            source = source.rows(0, source.n).float().unsqueeze(1)
        if not isinstance(source, _Subcenters):
            source = _Subcenters(source, persistent=flag("persistent", persistent))
        super().__init__(source, debug)
        if (d is not None and d != self.d) or (n is not None and n != self.n):
            raise BadRequest(
                f"the sub-centres are of d={self.d}, n={self.n}, asked for are d={d}, n={n}; leave them out"
            )
        check_one_of("own", own, OWN)
        self.beta = beta
        self.compactness, self.own = compactness, own

    def forward(self, features: Tensor) -> Tensor:
        """Return logits (..., n) for features (..., d), in float32 or float64."""
        if self.debug:
            check_finite(features)
        return _class_logits(subcenter_logits(features, self._rows(features)))

    def vectors(self, labels: Tensor) -> Tensor:
        """Return the sub-centres of each label's class (...), (..., s, d)."""
        return super().vectors(labels)

    def as_linear(self) -> nn.Sequential:
        """Return an nn.Linear of all sub-centres, without bias, and behind it the sum over those of a class.

        Its weight is a copy, and frozen. Nothing must precede it.
        """
        rows = self.prototypes.rows(0, self.n)
        linear = nn.Linear(self.d, rows.shape[0] * rows.shape[1], bias=False, device="meta")
        linear.weight = nn.Parameter(rows.flatten(0, 1).clone(), requires_grad=False)
        return nn.Sequential(linear, _Classes(rows.shape[1]))

    def _losses(self, features: Tensor, wanted: Wanted) -> Losses:
        return _terms(features, self._rows(features), wanted, self.beta, self.compactness, self.own)

    def _rows(self, features: Tensor) -> Tensor:
        return self.prototypes.constant("prototypes", features.device)

    def extra_repr(self) -> str:
        """Show the settings where the module is printed."""
        shown = f"beta={self.beta}, compactness={self.compactness!r}"
        return shown + ("" if self.own == "probable" else f", own={self.own!r}")


class _Classes(nn.Module):
    """Make logits (..., n) of the inner products (..., n s) with all sub-centres."""

    def __init__(self, s: int) -> None:
        super().__init__()
        self.s = s

    def forward(self, products: Tensor) -> Tensor:
        return _class_logits(products.unflatten(-1, (-1, self.s)))


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


def _check_settings(beta: float, reduction: str, name: str = "reduction") -> float:
    check_one_of(name, reduction, ("sum", "mean"))
    return positive("beta", beta, "; the paper's is 1e-4", or_zero=True)
