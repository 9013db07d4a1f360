"""What heads and losses ask of features, labels and settings, and the steps that they share."""

import math
from collections.abc import Collection
from numbers import Integral, Real

import torch
from torch import Tensor

from protogen.errors import BadRequest

from .fixed import FixedPrototypes, at_least_float32

REDUCTIONS = ("mean", "sum", "none")
IGNORED = -100  # the label that torch's losses leave out
INTEGERS = (
    *(torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
    *(torch.uint16, torch.uint32, torch.uint64),
)


def directions(features: Tensor, d: int) -> Tensor:
    """Return features (..., d) divided by their norms, in float32 or float64; a zero feature stays zero.

    Features may be of any length: where the dtype does not hold their squares, they are scaled before.
    """
    features = at_least_float32(features, d)
    most = torch.finfo(features.dtype).max ** 0.4  # the sum of a million squares of it is finite
    peaks = features.detach().abs().amax(-1, keepdim=True)
    # The direction does not depend on this factor, nor does its derivative. The bits of usual features stay.
    features = features / peaks.where((peaks > most) | ((peaks > 0) & (peaks < 1 / most)), 1.0)
    norms = torch.linalg.vector_norm(features, dim=-1, keepdim=True)
    # Dividing a zero feature by infinity makes its gradient 0; dividing by a small number would make it huge.
    divided: Tensor = features / norms.masked_fill(norms == 0, math.inf)
    return divided


def own_prototypes(prototypes: Tensor | FixedPrototypes, classes: Tensor) -> Tensor:
    """Return the prototype of each class (...), (..., d)."""
    classes = classes.long()
    return prototypes.vectors(classes) if isinstance(prototypes, FixedPrototypes) else prototypes.detach()[classes]


def check_prototypes(name: str, prototypes: object) -> None:
    """Raise BadRequest unless `prototypes` are FixedPrototypes, which the named function takes."""
    if not isinstance(prototypes, FixedPrototypes):
        raise BadRequest(
            f"{name} takes FixedPrototypes, got {type(prototypes).__name__}: wrap it first, with as_prototypes(...)"
        )


def is_readable(values: Tensor) -> bool:
    """Tell whether looking at the values waits for no device and is no part of a graph that torch records."""
    traced = torch.compiler.is_compiling() or torch._C._functorch.is_functorch_wrapped_tensor(values)
    return values.device.type == "cpu" and not traced


def as_classes(
    labels: Tensor, n: int, ignore_index: int | None = None, *, debug: bool = False
) -> tuple[Tensor, Tensor]:
    """Return labels (...) as int64 classes, 0 in the place of any that is none, and which are classes, (...).

    Raises BadRequest unless labels are of an integer type and, where they can be read or `debug` is True, from 0
    to n - 1 or `ignore_index`.
    """
    if labels.dtype not in INTEGERS:
        raise BadRequest(f"labels are {labels.dtype}; allowed are integers: convert them first, with .long()")
    labels = labels.long()
    known = (labels >= 0) & (labels < n)
    if debug or is_readable(labels):
        wrong = ~known if ignore_index is None else ~known & (labels != ignore_index)
        if wrong.any():
            raise BadRequest(f"labels hold {int(labels[wrong][0])}; allowed is 0 to {n - 1}: count the classes again")
    return labels.where(known, 0), known


def check_label_shape(labels: Tensor, features: Tensor) -> None:
    """Raise BadRequest unless there is one label a feature (..., d)."""
    allowed = tuple(features.shape[:-1])
    if tuple(labels.shape) == (*allowed, 1):
        raise BadRequest(
            f"labels have shape {tuple(labels.shape)}; allowed is one a feature, {allowed}: take the last axis away, "
            "with .squeeze(-1)"
        )
    if tuple(labels.shape) != allowed:
        raise BadRequest(f"labels have shape {tuple(labels.shape)}; allowed is one a feature, {allowed}")


def check_finite(features: Tensor) -> None:
    """Raise BadRequest where a feature is not finite. Waits for the device."""
    wrong = ~features.isfinite().all(-1)
    if wrong.any():
        raise BadRequest(
            f"{int(wrong.sum())} of {wrong.numel()} features are not finite; allowed are finite ones: "
            "look for an overflow or a division by zero before the head"
        )


def whole(name: str, value: object, least: int, most: int | None = None) -> int:
    """Return a whole number, also numpy's, as Python's, or raise BadRequest."""
    fits = isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= least
    # Only an Integral comes to `int`, which the type checker does not follow through `fits`; so of Real below.
    if not fits or (most is not None and int(value) > most):  # type: ignore[call-overload]
        upper = "on" if most is None else f"to {most}"
        raise BadRequest(f"{name} is {value!r}; allowed is a whole number from {least} {upper}")
    return int(value)  # type: ignore[call-overload, no-any-return]


def within(name: str, value: object, low: float, high: float, usual: str = "", *, below: bool = False) -> float:
    """Return a number from low to high, also numpy's, as Python's, or raise BadRequest; not `high` where `below`."""
    fits = isinstance(value, Real) and not isinstance(value, bool) and low <= float(value) <= high
    if not fits or (below and value == high):
        upper = f"below {high:g}" if below else f"{high:g}"
        raise BadRequest(f"{name} is {value!r}; allowed is a number from {low:g} to {upper}{usual}")
    return float(value)  # type: ignore[arg-type]


def positive(name: str, value: object, usual: str = "", *, or_zero: bool = False) -> float:
    """Return a positive and finite number, also numpy's, as Python's, or raise BadRequest."""
    fits = isinstance(value, Real) and not isinstance(value, bool) and 0 <= float(value) < math.inf
    if not fits or not (or_zero or value):
        allowed = "0 or a positive and finite number" if or_zero else "a positive and finite number"
        raise BadRequest(f"{name} is {value!r}; allowed is {allowed}{usual}")
    return float(value)  # type: ignore[arg-type]


def flag(name: str, value: object) -> bool:
    """Return True or False, or raise BadRequest."""
    if not isinstance(value, bool):
        raise BadRequest(f"{name} is {value!r}; allowed are True and False")
    return value


def check_one_of(name: str, value: object, allowed: Collection[str]) -> None:
    """Raise BadRequest unless `value` is one of those allowed."""
    if value not in allowed:
        raise BadRequest(f"{name} is {value!r}; allowed is {', '.join(map(repr, allowed))}")
