"""What heads ask of prototypes that training never changes."""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_module_registration_hook

from protogen.errors import BadRequest
from protogen.rows import pieces

from .constants import Constants
from .fingerprint import Fingerprint

PART = 1 << 22  # inner products that `topk` has in memory at a time
ROUNDED = 2**-5  # how far a unit row may be off after casts to half precision and averages in it


class FixedPrototypes(Constants, ABC):
    """What a head asks of n prototypes in R^d that training never changes.

    What is multiplied with stays as it was built, whatever happens to the registered buffers: see Constants. The
    rows keep their type under `.half()` and its like, because the angles that were measured are those of float32.

    `state_dict` holds the fingerprint of the prototypes and, unless asked to, none of their rows: `sha256`, a
    tensor without values whose shape is the start of the digest, and `origin`, digest and name. Every loader
    thus refuses other prototypes as a tensor of another size. `load_state_dict` raises BadRequest with both names,
    and before any module has changed where the prototypes had been put into their modules from the inside out, as
    constructors do (a head that replaces another in a module that already lies within others is checked when
    that module's turn comes). These load:

    - the same fingerprint: what else the checkpoint holds of the prototypes may be rounded, cast or averaged, but
      rows that are far from those here are refused;
    - that of the first rows of these prototypes, such as `protogen extend` or `protogen ebv` with a larger n give;
    - rows without a fingerprint that are those here;
    - nothing of the prototypes, with a warning.

    Prototypes without values, of a tensor on "meta", take the checkpoint's fingerprint and rows.

    >>> import torch
    >>> from protogen.nn import FixedPrototypes, as_prototypes
    >>> held, formula = as_prototypes(torch.eye(3)), as_prototypes("mub(p=7)", n=100)
    >>> isinstance(held, FixedPrototypes), isinstance(formula, FixedPrototypes)
    (True, True)
    >>> held.product(torch.ones(1, 3)).shape, formula.product(torch.ones(1, 14)).shape
    (torch.Size([1, 3]), torch.Size([1, 100]))
    """

    fingerprint: Fingerprint | None = None
    also: tuple[Fingerprint, ...] = ()  # by which older checkpoints know the same rows

    @property
    @abstractmethod
    def n(self) -> int:
        """The number of prototypes, one a class."""

    @property
    @abstractmethod
    def d(self) -> int:
        """The dimension, which is the width of the features."""

    @abstractmethod
    def rows(self, start: int, stop: int) -> Tensor:
        """Return the prototypes of classes start to stop - 1, (stop - start, d), in the type they are held in."""

    @abstractmethod
    def vectors(self, classes: Tensor) -> Tensor:
        """Return the prototypes of some classes (...), (..., d), in the type they are held in."""

    @abstractmethod
    def _product(self, features: Tensor, start: int, stop: int) -> Tensor: ...

    @abstractmethod
    def _combine(self, weights: Tensor, start: int, stop: int) -> Tensor: ...

    @property
    def _block(self) -> int:
        """How many classes at least are computed together."""
        return 1

    def product(self, features: Tensor, start: int = 0, stop: int | None = None) -> Tensor:
        """Return the inner products of features (..., d) with the prototypes of classes start to stop - 1.

        (..., stop - start), float64 where the features are, else float32 or what autocast makes of it; in the
        prototypes' type where they are held in half precision. The gradient reaches `features` alone. Raises
        BadRequest where `features` has another width than d or is not of a floating type, and where the range
        is not within 0 to n.
        """
        stop = self._stop(start, stop)
        return self._product(at_least_float32(features, self.d), start, stop)

    def combine(self, weights: Tensor, start: int = 0, stop: int | None = None) -> Tensor:
        """Return the sums of the prototypes of classes start to stop - 1 with weights (..., stop - start): (..., d).

        The transpose of `product`, in the same types. Raises BadRequest where the range is not within 0 to n.
        """
        stop = self._stop(start, stop)
        return self._combine(weights.to(torch.promote_types(weights.dtype, torch.float32)), start, stop)

    def _stop(self, start: int, stop: int | None) -> int:
        """Return the end of a range of classes, or raise BadRequest."""
        stop = self.n if stop is None else stop
        if not 0 <= start <= stop <= self.n:
            raise BadRequest(f"classes are {start} to {stop}; allowed is a range within 0 to n; n is {self.n}")
        return stop

    def topk(self, features: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Return the k largest inner products of features (..., d), the largest first, and their classes.

        Both (..., k), as `product(features).topk(k)` does, computed by parts of the classes: never more than
        a part of (..., n) is in memory. Raises BadRequest as `product` does, and where k is not 1 to n.
        """
        if not 1 <= k <= self.n:
            raise BadRequest(f"k is {k}; allowed is 1 to n; n is {self.n}")
        check_features(features, self.d)
        step = max(1, PART // max(1, features[..., 0].numel()) // self._block) * self._block
        values: list[Tensor] = []
        classes: list[Tensor] = []
        for start in range(0, self.n, step):
            part = self.product(features, start, min(start + step, self.n))
            best = part.topk(min(k, part.shape[-1]))
            values, classes = [*values, best.values], [*classes, best.indices + start]
            best = torch.cat(values, -1).topk(min(k, start + step))
            values, classes = [best.values], [torch.cat(classes, -1).gather(-1, best.indices)]
        return values[0], classes[0]

    def as_linear(self) -> nn.Linear:
        """Return a frozen nn.Linear without bias that gives `product`, for tools that know no other layer.

        Its weight (n, d) is a copy.
        """
        linear = nn.Linear(self.d, self.n, bias=False, device="meta")
        linear.weight = nn.Parameter(self.rows(0, self.n).clone(), requires_grad=False)
        return linear

    def as_columns(self) -> nn.Parameter:
        """Return a frozen parameter (d, n), a copy, as the classifier losses of pytorch-metric-learning hold it.

            loss = losses.ArcFaceLoss(n, d); loss.W = prototypes.as_columns()

        So do NormalizedSoftmax, CosFace, LargeMarginSoftmax and SphereFace; the proxies of ProxyNCA and
        ProxyAnchor are (n, d): `loss.proxies = prototypes.as_linear().weight`.
        """
        return nn.Parameter(self.rows(0, self.n).T.clone(memory_format=torch.contiguous_format), requires_grad=False)

    def extra_repr(self) -> str:
        """Show n and d where the module is printed."""
        return f"n={self.n}, d={self.d}"

    def identify(self, fingerprint: Fingerprint | None) -> None:
        """Take a fingerprint, and hold what `state_dict` says of it."""
        self.fingerprint = fingerprint
        shape = fingerprint.shape() if fingerprint else (0,)
        packed = fingerprint.pack() if fingerprint else torch.zeros(128, dtype=torch.float32, device="cpu")
        self.hold("sha256", torch.empty(shape, dtype=torch.float32, device="cpu"), persistent=True)
        self.hold("origin", packed, persistent=True)
        # They begin where other modules do: on "meta" a loader fills every buffer that it finds there.
        for name in ("sha256", "origin"):
            buffer = self._buffers[name]
            assert buffer is not None, "just held"
            self._buffers[name] = buffer.to(torch.get_default_device())

    def check(self, state: Mapping[str, Any], prefix: str) -> None:
        """Raise BadRequest where a checkpoint has other prototypes than these under a prefix. Changes nothing."""
        saved, rows = _saved(state, prefix), state.get(f"{prefix}prototypes")
        if saved and self.fingerprint and not self._continues(saved, rows):
            raise BadRequest(
                f"the checkpoint was trained with {saved}, this model has {self.fingerprint}: "
                "build the model with the checkpoint's prototypes, or, to keep those that it has, drop the keys "
                f"that begin with {prefix!r}"
            )
        if rows is not None and not rows.is_meta and not self._agrees(saved, rows):
            whose = f"not those of its fingerprint, {saved}" if saved else f"others than {self.fingerprint}"
            raise BadRequest(
                f"the checkpoint's {prefix}prototypes are {whose}: take another checkpoint, or, to keep the rows that "
                f"this model has, drop the keys that begin with {prefix!r}"
            )

    def _continues(self, saved: Fingerprint, rows: Tensor | None) -> bool:
        """Whether these are a checkpoint's prototypes, or more that begin with them."""
        if self.fingerprint is None or any(known.matches(saved) for known in (self.fingerprint, *self.also)):
            return True
        n = saved.n if rows is None else len(rows)
        return n is not None and n < self.n and any(first.matches(saved) for first in self.firsts(n))

    @abstractmethod
    def firsts(self, n: int) -> list[Fingerprint]:
        """Return the fingerprints that the first n rows may have alone."""

    @abstractmethod
    def _agrees(self, saved: Fingerprint | None, rows: Tensor) -> bool:
        """Whether a checkpoint's rows are the first of these, but for rounding."""

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        *args: Any,
    ) -> None:
        """Compare the fingerprints, and load no constant."""
        self.check(state_dict, prefix)
        found = [name for name in ("sha256", "origin", "prototypes", "_extra_state") if prefix + name in state_dict]
        if not found and self.fingerprint:
            warnings.warn(
                f"the checkpoint holds nothing of {prefix.rstrip('.') or 'the prototypes'}: these stay "
                f"{self.fingerprint}",
                stacklevel=2,
            )
        loaded = {name: state_dict.pop(prefix + name) for name in found}
        if self.fingerprint is None:
            self._adopt(_saved({prefix + name: value for name, value in loaded.items()}, prefix), loaded)
        if local_metadata.get("assign_to_params_buffers") and loaded:
            self._follow(next(iter(loaded.values())).device)
        super()._load_from_state_dict(state_dict, prefix, local_metadata, strict, missing_keys, *args)
        ours = {prefix + name for name in self._constants}
        missing_keys[:] = [key for key in missing_keys if key not in ours]

    def _adopt(self, saved: Fingerprint | None, loaded: Mapping[str, Any]) -> None:
        """Take a checkpoint's fingerprint where there is none."""
        self.identify(saved)

    def _follow(self, device: torch.device) -> None:
        """Leave "meta" for the device that a checkpoint was assigned from."""
        for name in self._constants:
            buffer = self._buffers[name]
            if buffer is not None and buffer.is_meta and (self.is_known(name) or self._can_make(name)):
                self._placed(name, device)


def near(rows: Callable[[int, int], Tensor], theirs: Tensor) -> bool:
    """Whether a checkpoint's rows are the first of ours but for what half precision and averages in it round."""
    for start, stop in pieces(tuple(theirs.shape)):
        mine = rows(start, stop).float()
        apart = torch.linalg.vector_norm(mine - theirs[start:stop].to(mine.device, torch.float32), dim=-1)
        if not (apart <= ROUNDED * torch.linalg.vector_norm(mine, dim=-1)).all():
            return False
    return True


def _saved(state: Mapping[str, Any], prefix: str) -> Fingerprint | None:
    """Read the fingerprint that a checkpoint has under a prefix, also in the form of older checkpoints."""
    digest, packed = state.get(f"{prefix}sha256"), state.get(f"{prefix}origin", state.get(f"{prefix}_extra_state"))
    return Fingerprint.read(None if digest is None else tuple(digest.shape), packed)


@torch.fx.wrap
def at_least_float32(features: Tensor, d: int) -> Tensor:
    """Return features (..., d) in float32, in float64 where they are, or raise BadRequest."""
    check_features(features, d)
    return features.to(torch.promote_types(features.dtype, torch.float32))


def check_features(features: Tensor, d: int) -> None:
    """Raise BadRequest unless `features` are (..., d) and of a floating type."""
    if not isinstance(features, Tensor | torch.fx.Proxy):
        raise BadRequest(f"features are of type {type(features).__name__}; allowed is a tensor (..., {d})")
    shape = tuple(features.shape)
    if len(shape) == 4 and shape[1] == shape[-1] == d:
        raise BadRequest(
            f"features have shape {shape}, and the prototypes need (..., {d}): which axis is it? "
            "Give features.movedim(1, -1).flatten(0, -2) of an image's (B, d, H, W), else features.flatten(0, -2)"
        )
    if len(shape) > 2 and shape[1] == d != shape[-1]:
        raise BadRequest(
            f"features have shape {shape}, the prototypes need (..., {d}): put the axis last, with "
            "features.movedim(1, -1)"
        )
    if not shape or shape[-1] != d:
        raise BadRequest(
            f"features have shape {shape}, the prototypes need (..., {d}): "
            f"end the network in a layer of width {d}, or make prototypes with the width of the features"
        )
    if not features.is_floating_point():
        raise BadRequest(f"features must be floating, got {features.dtype}: convert them first, with .float()")


def _check_below(module: nn.Module, state: Mapping[str, Any], prefix: str, *_: Any) -> None:
    """Hold a checkpoint to all prototypes in a module before any of it is loaded."""
    for name, inner in module.named_modules(prefix=prefix.removesuffix(".")):
        if isinstance(inner, FixedPrototypes):
            inner.check(state, f"{name}." if name else "")


def _watch(module: nn.Module, _: str, inner: nn.Module | None) -> None:
    """Have a module that takes in prototypes, or a module with some, look at them first when it loads."""

    def watched(one: nn.Module) -> bool:
        hooks = getattr(one, "_load_state_dict_pre_hooks", {})
        return any(getattr(hook, "hook", None) is _check_below for hook in hooks.values())

    if inner is not None and (isinstance(inner, FixedPrototypes) or watched(inner)) and not watched(module):
        module.register_load_state_dict_pre_hook(_check_below)


# torch loads module by module, a backbone before its head: without this a head could refuse only when it is too late.
register_module_module_registration_hook(_watch)
