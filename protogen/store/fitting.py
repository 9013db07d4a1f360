"""Rows that fit the classes of some data: one pass over the data, then as for any other Spec."""

from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from protogen.checks import check_names
from protogen.errors import BadRequest
from protogen.methods.fit import Fit
from protogen.ranks.lead import led
from protogen.run import Run
from protogen.spec import Spec

from .access import ensure

if TYPE_CHECKING:
    from torch import Tensor

    from protogen.files.prototypes import Prototypes
    from protogen.fitting.statistics import ClassStatistics


def fit(
    features: "Tensor | ClassStatistics | str | Path",
    labels: "Tensor | str | Path | None" = None,
    *,
    d: int,
    alpha: float | None = None,
    n: int | None = None,
    narrow: int | None = None,
    seed: int = 0,
    run: Run | None = None,
    store: str | Path | None = None,
    force: bool = False,
    **params: Any,
) -> "Prototypes":
    """Load the codes of some classes in R^d, checked; make, measure and publish them first where the store has none.

    - `features` (samples, ...) and `labels` (samples,): tensors, or the paths of .npy or safetensors files. Or
      ClassStatistics that have taken in everything, of any batches on any devices and ranks, without labels.
    - `alpha`: the coherence that the codes are pushed apart to; left out, they stay as they are.
    - `n`: the number of classes; left out, as many as the largest label says.
    - `narrow`: of files, the width that features are first projected to at random, where n times their width is
      more than memory holds.
    - `run`: how to compute. Of its group, all ranks make the call, and share the pass over files, which each reads.
    - `params`: the other options of `protogen fit`, as `power` or `extends`.

    A class without a sample gets a free place. The facts `kept_mean` and `kept_least` are the cosines of the rows
    to the codes as the data had them. Raises BadRequest where the data or an option is not allowed, and as `ensure`.

    >>> import protogen, torch
    >>> features, labels = torch.eye(6), torch.tensor([0, 0, 1, 1, 2, 2])
    >>> protogen.fit(features, labels, d=2).tensor.shape
    torch.Size([3, 2])
    """
    run = Run.given(run)
    check_names("fit", params, [each.name for each in fields(Fit) if each.name not in ("statistics", "alpha")])
    how = run

    def made() -> "Prototypes":
        statistics = taken(features, labels, n, narrow, how.device)
        spec, held = request(statistics, d=d, alpha=alpha, seed=seed, run=how, **params)
        return ensure(spec, held, store=store, force=force)

    return led(run.group, made)


def taken(
    features: "Tensor | ClassStatistics | str | Path",
    labels: "Tensor | str | Path | None",
    n: int | None,
    narrow: int | None,
    device: str = "cpu",
    report: Callable[[float], None] | None = None,
) -> "ClassStatistics":
    """Take the statistics of data as `fit` is given it; `report` is told the share of files that is done.

    Raises BadRequest on what it is not."""
    from torch import Tensor

    from protogen.fitting.arrays import statistics_of
    from protogen.fitting.statistics import ClassStatistics

    if isinstance(features, ClassStatistics) and labels is None:
        if n not in (None, features.classes):
            raise BadRequest(f"n is {n}, the statistics are of {features.classes} classes; leave it out")
        return features
    if isinstance(features, Tensor) and isinstance(labels, Tensor):
        if narrow is not None:
            raise BadRequest(
                f"narrow is {narrow!r} with tensors, which lie in memory; it belongs to files: leave it out"
            )
        if features.dim() <= labels.dim():
            raise BadRequest(
                f"features have shape {tuple(features.shape)}, labels {tuple(labels.shape)}; allowed are features "
                "(samples, width) and labels (samples,)"
            )
        return ClassStatistics.of(features.flatten(labels.dim()), labels, n)
    if isinstance(features, str | Path) and isinstance(labels, str | Path):
        return statistics_of(Path(features), Path(labels), n, device=device, narrow=narrow, report=report)
    raise BadRequest(
        f"features and labels are {type(features).__name__} and {type(labels).__name__}; allowed are two tensors, two "
        "paths, or ClassStatistics alone"
    )


def request(
    statistics: "ClassStatistics", *, d: int, alpha: float | None, seed: int, run: Run, **params: Any
) -> tuple[Spec, Run]:
    """Return the Spec that names the statistics by their digest, and the run that holds them."""
    ((digest, tensors),) = statistics.held.items()
    asked = Fit(statistics=digest, alpha=alpha, **params)
    spec = asked.resolve(d, statistics.classes, seed)
    return spec, replace(run, held={**run.held, digest: tensors}, files=(*run.files, *asked.files()))
