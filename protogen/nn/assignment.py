"""Which prototype stands for which class, decided anew during training."""

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional as F

from protogen.errors import BadRequest

from .checks import (
    REDUCTIONS,
    check_finite,
    check_labels,
    check_one_of,
    check_prototypes,
    directions,
    own_prototypes,
    reduced,
)
from .fixed import FixedPrototypes

PART = 1024  # classes whose nearest prototypes are searched together: the search is as fast as the bare product


def regression_loss(
    features: Tensor,
    prototypes: Tensor | FixedPrototypes,
    places: Tensor,
    *,
    reduction: str = "mean",
    debug: bool = False,
) -> Tensor:
    """Return 1/2 (z . w - 1)^2 of each normalised feature z and its own prototype w, averaged.

    `features` are (..., d), `places` (...) the rows of their prototypes. Its derivative in z is
    -(1 - z . w) w: Eq. 7 prints z . w for that last w, which is no vector. Computed in float32 (float64 if
    the features are float64), from one prototype a feature. The gradient reaches `features` alone.

    Raises BadRequest where features or places are not allowed; `debug` reads them on every device, and waits
    for it.
    Source: Dynamic Label-to-Prototype Assignment, Section 3.2.2, Eq. 6.
    """
    n = prototypes.n if isinstance(prototypes, FixedPrototypes) else len(prototypes)
    check_labels(places, features, n, debug=debug)
    if debug:
        check_finite(features)
    own = own_prototypes(prototypes, places)
    z = directions(features, own.shape[-1])
    return reduced(((z * own.to(z.dtype)).sum(-1) - 1).square() / 2, reduction)


@torch.no_grad()
def update_means(means: Tensor, seen: Tensor, features: Tensor, labels: Tensor, momentum: float = 0.9) -> None:
    """Move the means (c, d) of the classes in a batch towards it, in place, and mark them in `seen` (c,).

        mean = momentum mean + (1 - momentum) average of the class's normalised features, normalised

    once a batch, however often a class occurs in it; the first batch with a class sets its mean. Features
    that are zero or not finite have no direction and do not count. Work and memory grow with the batch, not
    with c but for c integers.
    Source: Dynamic Label-to-Prototype Assignment, Section 3.2.3, below Eq. 8.
    """
    z = directions(features, means.shape[1]).reshape(-1, means.shape[1])
    labels = labels.reshape(-1).long()
    counted = torch.linalg.vector_norm(z, dim=-1) > 0.5  # else 0 or NaN
    # Each class adds up in the place of one of its samples: no tensor of c rows, no number that the host waits for.
    place = labels.new_zeros(len(means))
    place[labels] = torch.arange(len(labels), device=labels.device)
    place = place[labels]
    sums = torch.zeros_like(z).index_add_(0, place, z.where(counted[:, None], 0))[place]
    counts = z.new_zeros(len(z)).index_add_(0, place, counted.to(z.dtype))[place]
    average, present = sums / counts[:, None], counts > 0
    old, known = means[labels].to(z.dtype), seen[labels]
    moved = (momentum * old + (1 - momentum) * average).where(known[:, None], average)
    # Samples of one class write the same row.
    means[labels] = F.normalize(moved, dim=-1).where(present[:, None], old).to(means.dtype)
    seen[labels] = known | present


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
    keep their prototype. Because the denominator of Eq. 8 runs over all prototypes, it is the same for every
    assignment, also where there are more prototypes than classes, and Eq. 9 is what is left.

    The Hungarian algorithm runs on one core of the host, with 20 bytes for each of c x n pairs: 0.1 to 0.2 s
    for 1,000 classes, 3 to 5 s for 5,000 and 16 to 20 s for 10,000. With `candidates` k a class can take one
    of its k nearest prototypes or keep its present one: the best of these assignments, which is never worse
    than the present one, with memory for c (k + 1) pairs. With k = 64 it was the best of all pairs, in 2 s for
    10,000 classes (tests/bench_assignment.py).
    Source: Dynamic Label-to-Prototype Assignment, Section 3.2.3, Eq. 9.
    """
    chosen = current.clone()
    moving = torch.ones_like(current, dtype=torch.bool) if seen is None else seen
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


class AssignmentHead(nn.Module):
    """Classify by the nearest prototype under an assignment that follows the features; no parameters.

    `head(features)` are the cosines (..., c) to each class's prototype, for predictions; `head.loss` is what
    to train with; `head.update`, once a step, keeps the class means; `head.reassign()`, once an epoch, or
    `every` k updates by itself, gives each class the prototype that suits the means. There may be more
    prototypes than classes. The assignment is the same on all ranks: rank 0 solves, and sends it.

    `assignment` (c,) is the prototype of each class, at first its own number, and `class_of` (n,) the class
    of each prototype, -1 where it has none. `candidates` makes `reassign` a partial one, as `assign` says.
    Assignment, means, the classes seen and the number of updates are part of `state_dict`.

    Raises BadRequest where a setting is not allowed.
    Source: Dynamic Label-to-Prototype Assignment, Section 3.2, Eq. 6, 8 and 9, and Algorithm 1.
    """

    assignment: Tensor
    means: Tensor
    seen: Tensor

    def __init__(
        self,
        prototypes: FixedPrototypes,
        classes: int | None = None,
        *,
        momentum: float = 0.9,
        every: int | None = None,
        candidates: int | None = None,
        reduction: str = "mean",
        debug: bool = False,
    ) -> None:
        super().__init__()
        check_prototypes("AssignmentHead", prototypes)
        classes = prototypes.n if classes is None else classes
        if not 1 <= classes <= prototypes.n:
            raise BadRequest(f"classes is {classes}; allowed is 1 to {prototypes.n}, the number of prototypes")
        if not 0 <= momentum < 1:
            raise BadRequest(f"momentum is {momentum}; allowed is 0 to below 1; 0.9 is usual")
        for name, number in (("every", every), ("candidates", candidates)):
            if number is not None and number < 1:
                raise BadRequest(f"{name} is {number}; allowed is None or a number from 1 on")
        check_one_of("reduction", reduction, REDUCTIONS)
        self.prototypes = prototypes
        self.momentum = momentum
        self.every = every
        self.candidates = candidates
        self.reduction = reduction
        self.debug = debug
        self.updates = 0
        self.register_buffer("assignment", torch.arange(classes))
        self.register_buffer("means", torch.zeros(classes, prototypes.d))
        self.register_buffer("seen", torch.zeros(classes, dtype=torch.bool))

    @property
    def classes(self) -> int:
        """The number of classes."""
        return len(self.assignment)

    @property
    def class_of(self) -> Tensor:
        """The class of each prototype, (n,); -1 where it has none."""
        classes = torch.arange(self.classes, device=self.assignment.device)
        return classes.new_full((self.prototypes.n,), -1).scatter(0, self.assignment, classes)

    def forward(self, features: Tensor) -> Tensor:
        """Return the cosines (..., c) of features (..., d) to the prototype of each class."""
        cosines = self.prototypes.product(directions(features, self.prototypes.d))
        # A copy, since the backward pass needs this assignment even where there is another by then.
        return cosines.index_select(-1, self.assignment.clone())

    def loss(self, features: Tensor, labels: Tensor) -> Tensor:
        """Return the `regression_loss` of features (..., d) to the prototypes of their labels (...)."""
        check_labels(labels, features, self.classes, debug=self.debug)
        places = self.assignment[labels.long()]
        return regression_loss(features, self.prototypes, places, reduction=self.reduction, debug=self.debug)

    @torch.no_grad()
    def update(self, features: Tensor, labels: Tensor) -> None:
        """Take one step's features (..., d) and labels (...) of all ranks into the class means.

        One momentum update a class, by `update_means`. Call it on every rank, also with no samples. With
        several ranks all batches are sent to all, which costs what they hold, whatever the number of classes.
        """
        check_labels(labels, features, self.classes, debug=self.debug)
        if self.debug:
            check_finite(features)
        every_rank = _gather(features.reshape(-1, features.shape[-1]), labels.reshape(-1))
        update_means(self.means, self.seen, *every_rank, self.momentum)
        self.updates += 1
        if self.every and self.updates % self.every == 0:
            self.reassign()

    @torch.no_grad()
    def reassign(self) -> int:
        """Give the classes seen the prototypes that suit their means, and return how many got another.

        Rank 0 solves, by `assign`, and sends the result: call it on every rank.
        """
        previous = self.assignment.clone()
        ranks = _ranks()
        if ranks == 1 or distributed.get_rank() == 0:
            found = assign(self.means, self.prototypes, previous, seen=self.seen, candidates=self.candidates)
            self.assignment.copy_(found)
        if ranks > 1:
            distributed.broadcast(self.assignment, 0)
        return int((self.assignment != previous).sum())

    def get_extra_state(self) -> Tensor:
        """Return the number of updates, for `state_dict`."""
        return torch.tensor(self.updates)

    def set_extra_state(self, state: Tensor) -> None:
        """Take the number of updates from a `state_dict`."""
        self.updates = int(state)

    def extra_repr(self) -> str:
        """Show the settings where the module is printed."""
        return f"classes={self.classes}, momentum={self.momentum}, every={self.every}, candidates={self.candidates}"


def _hungarian(means: Tensor, prototypes: FixedPrototypes, taken: Tensor) -> Tensor:
    """Return the best prototypes for `means` among those not taken, over all pairs."""
    from scipy.optimize import linear_sum_assignment

    scores = prototypes.product(means).cpu()
    free = (~taken).nonzero().flatten().cpu()
    if len(free) < prototypes.n:
        scores = scores[:, free]
    return free[torch.from_numpy(linear_sum_assignment(scores.numpy(), maximize=True)[1])]


def _sparse(means: Tensor, prototypes: FixedPrototypes, taken: Tensor, current: Tensor, candidates: int) -> Tensor:
    """Return the best prototypes for `means` among the candidates nearest to each and its present one."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import min_weight_full_bipartite_matching

    parts = [prototypes.topk(some, candidates) for some in means.split(PART)]
    cosines, nearest = (torch.cat(part) for part in zip(*parts, strict=True))
    own = (means * prototypes.vectors(current)).sum(-1, keepdim=True)
    # The present prototype stands once among the pairs: scipy would add the weights of two.
    allowed = (~taken[nearest]) & (nearest != current[:, None])
    pairs = torch.cat([allowed, torch.ones_like(own, dtype=torch.bool)], 1).cpu()
    columns = torch.cat([nearest, current[:, None]], 1).cpu()[pairs]
    costs = 2 - torch.cat([cosines, own], 1).double().cpu()[pairs]  # a weight of 0 would be no pair
    starts = F.pad(pairs.sum(1).cumsum(0), (1, 0))
    shape = (len(means), prototypes.n)
    graph = csr_array((costs.numpy(), columns.int().numpy(), starts.int().numpy()), shape=shape)
    rows, places = map(torch.from_numpy, min_weight_full_bipartite_matching(graph))
    return places.long()[rows.argsort()]


def _ranks() -> int:
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def _gather(features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return features (b, d) and labels (b,) of all ranks, filled up with zeros, which do not count."""
    ranks = _ranks()
    if ranks == 1:
        return features, labels
    sizes = [labels.new_zeros(1, dtype=torch.int64) for _ in range(ranks)]
    distributed.all_gather(sizes, sizes[0].new_tensor([len(labels)]))
    padding = max(int(size) for size in sizes) - len(labels)
    gathered = []
    for part in (F.pad(features, (0, 0, 0, padding)), F.pad(labels.long(), (0, padding))):
        parts = [torch.empty_like(part) for _ in range(ranks)]
        distributed.all_gather(parts, part)
        gathered.append(torch.cat(parts))
    return gathered[0], gathered[1]
