"""The prototypes that suit the means of classes: no two classes the same, by the Hungarian algorithm."""

import torch
from torch import Tensor
from torch.nn import functional as F

from .fixed import FixedPrototypes

PART = 1024  # classes whose nearest prototypes are searched together: the search is as fast as the bare product


@torch.no_grad()
def assign(
    means: Tensor,
    prototypes: FixedPrototypes,
    current: Tensor,
    *,
    seen: Tensor | None = None,
    candidates: int | None = None,
) -> Tensor:
    """Return for each class its prototype, (c,): no two the same, the sum of the means' cosines the largest.

    `means` are (c, d), `current` (c,) the present prototypes; c is at most n. Classes that are not `seen`
    keep their prototype. The paper has as many prototypes as classes: the denominator of Eq. 8, a sum over the
    prototypes of all classes, is then the same for every assignment, and Eq. 9 is what is left. With more prototypes
    the printed sum runs over those that are assigned and depends on the assignment. Eq. 9 is taken there too, which
    is our choice: it is Eq. 8 with a sum over all prototypes.

    The Hungarian algorithm runs on one core of the host, with 20 bytes for each of c x n pairs: 0.1 to 0.2 s
    for 1,000 classes, 3 to 5 s for 5,000 and 16 to 20 s for 10,000. With `candidates` k a class can take one
    of its k nearest prototypes or keep its present one: the best of these assignments, which is never worse
    than the present one, with memory for c (k + 1) pairs. With k = 64 it was the best of all pairs, in 2 s for
    10,000 classes (tests/benchmarks/bench_assignment.py).
    Source: Dynamic Label-to-Prototype Assignment, Section 3.2.3, Eq. 9.

    >>> import torch
    >>> from protogen.nn import as_prototypes, assign
    >>> means = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    >>> assign(means, as_prototypes(torch.eye(2)), torch.tensor([0, 1]))
    tensor([1, 0])
    """
    chosen = current.clone()
    moving = torch.ones_like(current, dtype=torch.bool) if seen is None else seen > 0
    taken = torch.zeros(prototypes.n, dtype=torch.bool, device=current.device)
    taken[current[~moving]] = True
    if moving.any():
        with torch.autocast(means.device.type, enabled=False):
            if candidates is None or candidates >= prototypes.n:
                places = _hungarian(means[moving].float(), prototypes, taken)
            else:
                places = _sparse(means[moving].float(), prototypes, taken, current[moving], candidates)
        chosen[moving] = places.to(current.device)
    return chosen


def _hungarian(means: Tensor, prototypes: FixedPrototypes, taken: Tensor) -> Tensor:
    """Return the best prototypes for `means` among those not taken, over all pairs."""
    from scipy.optimize import linear_sum_assignment

    scores = prototypes.product(means).float().cpu()  # numpy has no bfloat16
    free = (~taken).nonzero().flatten().cpu()
    if len(free) < prototypes.n:
        scores = scores[:, free]
    return free[torch.from_numpy(linear_sum_assignment(scores.numpy(), maximize=True)[1])]


def _sparse(means: Tensor, prototypes: FixedPrototypes, taken: Tensor, current: Tensor, candidates: int) -> Tensor:
    """Return the best prototypes for `means` among the candidates nearest to each and its present one."""
    parts = [prototypes.topk(some, candidates) for some in means.split(PART)]
    cosines, nearest = (torch.cat(part) for part in zip(*parts, strict=True))
    own = (means * prototypes.vectors(current).float()).sum(-1, keepdim=True)
    return matched(cosines, nearest, own, taken, current)


def matched(cosines: Tensor, nearest: Tensor, own: Tensor, taken: Tensor, current: Tensor) -> Tensor:
    """Return the best prototypes (c,) among the `nearest` (c, k) that are not taken (n,), and the current ones (c,).

    `cosines` (c, k) and `own` (c, 1) are what classes have with these.
    """
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import min_weight_full_bipartite_matching

    # The present prototype stands once among the pairs: scipy would add the weights of two.
    allowed = (~taken[nearest]) & (nearest != current[:, None])
    pairs = torch.cat([allowed, torch.ones_like(own, dtype=torch.bool)], 1).cpu()
    columns = torch.cat([nearest, current[:, None]], 1).cpu()[pairs]
    costs = 2 - torch.cat([cosines.float(), own], 1).double().cpu()[pairs]  # a weight of 0 would be no pair
    starts = F.pad(pairs.sum(1).cumsum(0), (1, 0))
    shape = (len(current), len(taken))
    graph = csr_array((costs.numpy(), columns.int().numpy(), starts.int().numpy()), shape=shape)
    rows, places = map(torch.from_numpy, min_weight_full_bipartite_matching(graph))
    return places.long()[rows.argsort()]
