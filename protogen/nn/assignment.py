"""Which prototype stands for which class, decided anew during training."""

from collections.abc import Callable
from numbers import Integral
from typing import Any, Self

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional as F

from protogen.errors import BadRequest

from .checks import (
    IGNORED,
    as_classes,
    check_finite,
    check_label_shape,
    check_one_of,
    directions,
    own_prototypes,
    whole,
    within,
)
from .fixed import FixedPrototypes, check_features
from .head import Directions, FixedHead, Source, hold
from .places import Places, grown_places, kept_dtype
from .targets import Losses, Wanted, weighted_loss

torch.fx.wrap("directions")

MEANS_PER = ("batch", "sample")
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
    n, d = (prototypes.n, prototypes.d) if isinstance(prototypes, FixedPrototypes) else prototypes.shape

    def losses(wanted: Wanted) -> Losses:
        if wanted.classes is None:
            raise BadRequest("places are floating; allowed are integers: convert them first, with .long()")
        return _squares(features.reshape(-1, d), own_prototypes(prototypes, wanted.classes)), None

    return weighted_loss(losses, features, places, n, d, reduction=reduction, debug=debug)


def _squares(features: Tensor, own: Tensor) -> Tensor:
    z = directions(features, own.shape[-1])
    losses: Tensor = ((z * own.to(z.dtype)).sum(-1) - 1).square() / 2
    return losses


@torch.no_grad()
def update_means(
    means: Tensor, seen: Tensor, features: Tensor, labels: Tensor, momentum: float = 0.9, *, per: str = "batch"
) -> None:
    """Move the means (c, d) of the classes in a batch towards it, in place, and mark them with 1 in `seen` (c,).

        mean = momentum mean + (1 - momentum) average of the class's normalised features, normalised

    once a batch, however often a class occurs in it; the first batch with a class sets its mean. This is `per`
    "batch", our choice: a mean then moves as far whatever the batch. With "sample" it is as printed,

        mean = momentum mean + (1 - momentum) z_i

    for each sample z_i of the class in its order, the first of all setting the mean, and normalised at the end of
    the batch. Features that are zero or not finite have no direction and do not count, nor do those whose label is
    no class. Work and memory grow with the batch, not with c but for c integers.

    Raises BadRequest where `per` is not allowed.
    Source: Dynamic Label-to-Prototype Assignment, Section 3.2.3, below Eq. 8.
    """
    check_one_of("per", per, MEANS_PER)
    z = directions(features, means.shape[1]).reshape(-1, means.shape[1])
    labels = labels.reshape(-1).long()
    known = (labels >= 0) & (labels < len(means))
    labels = labels.where(known, 0)
    counted = (torch.linalg.vector_norm(z, dim=-1) > 0.5) & known  # a norm is 1, 0 or NaN
    # Each class adds up in the place of one of its samples: no tensor of c rows, no number that the host waits for.
    place = labels.new_zeros(len(means))
    place[labels] = torch.arange(len(labels), device=labels.device)
    place = place[labels]
    counts = z.new_zeros(len(z)).index_add_(0, place, counted.to(z.dtype))[place]
    old, before = means[labels].to(z.dtype), seen[labels] > 0
    if per == "batch":
        shares, kept = (1 - momentum) / counts, torch.full_like(counts, momentum)
        alone = 1 / counts
    else:
        later = _later(place, counted, len(z)).to(z.dtype)  # samples of the class that come after this one
        shares, kept = (1 - momentum) * momentum**later, momentum**counts
        alone = shares.where(later < counts - 1, momentum**later)
    shares = shares.where(before, alone)[:, None]
    sums = torch.zeros_like(z).index_add_(0, place, (shares * z).where(counted[:, None], 0))[place]
    moved = (kept[:, None] * old).where(before[:, None], 0) + sums
    present = counts > 0
    # Samples of one class write the same row.
    means[labels] = F.normalize(moved, dim=-1).where(present[:, None], old).to(means.dtype)
    seen[labels] = (before | present).to(seen.dtype)


def _later(place: Tensor, counted: Tensor, none: int) -> Tensor:
    """Return for each sample how many that count come after it with the same place, (b,)."""
    place = place.where(counted, none)
    order = place.argsort(stable=True)
    ordered = place[order]
    ends = torch.searchsorted(ordered, ordered, right=True)
    after = ends - 1 - torch.arange(len(place), device=place.device)
    return torch.empty_like(after).scatter_(0, order, after)


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


class AssignmentHead(FixedHead):
    """Classify by the nearest prototype under an assignment that follows the features; no parameters.

        head = AssignmentHead(d=512, n=1000)
        loss = head.loss(features, labels)
        head.update(features, labels)  # and each epoch head.reassign()

    - `source`, or `d` and `n`: the prototypes, as Head says; by sizes alone they are those of `protogen uniform`;
    - `classes`: the number of classes, left out as many as prototypes; there may be more of these;
    - `momentum`: that of the class means, the paper's alpha, for which it gives no number;
    - `means_per`: one step of the means a "batch", or a "sample" as printed, as `update_means` says;
    - `every`: reassign after so many updates, without a call: the paper's tau. Its tau' (Section 4.4.2) is meant to be
      the updates of an epoch, floor(samples / batch) / tau; printed is the inverse of that. The paper takes one;
    - `candidates`: how many of the nearest prototypes a class chooses from, left out all, as `assign` says;
    - `debug`: read features and targets on every device.

    `head(features)` are the cosines to each class's prototype. `head.loss` is the regression loss, Eq. 6, of the
    normalised feature to it. `head.update`, once a step, keeps the class means; `head.reassign()` gives each class
    the prototype that suits its mean, the same on all ranks: rank 0 solves, and sends it. `head.extend` grows it.

    `assignment` (c,) is the prototype of each class, at first its own number, and `class_of` (n,) the class of
    each prototype, -1 where it has none. Assignment, means, the classes seen and the number of updates are part
    of `state_dict`; they keep their types when the model is cast. Averages of the head, also those that average
    buffers, have an assignment that the head has had: that of the moment they stand at.

    >>> import torch
    >>> from protogen.nn import AssignmentHead
    >>> head = AssignmentHead(torch.eye(3))
    >>> head.update(torch.eye(3).flip(0), torch.tensor([0, 1, 2]))
    >>> head.reassign(), head.assignment
    (2, tensor([2, 1, 0]))

    Raises BadRequest where a setting is not allowed.
    Source: Dynamic Label-to-Prototype Assignment, Section 3.2, Eq. 6, 8 and 9, and Algorithm 1.
    """

    means: Tensor
    seen: Tensor

    def __init__(
        self,
        source: Source | None = None,
        classes: int | None = None,
        *,
        d: int | None = None,
        n: int | None = None,
        momentum: float = 0.9,
        means_per: str = "batch",
        every: int | None = None,
        candidates: int | None = None,
        debug: bool = False,
    ) -> None:
        super().__init__(hold(source, d, n, "uniform"), debug)
        classes = _classes(classes, self.prototypes.n)
        self.momentum = within("momentum", momentum, 0, 1, "; 0.9 is usual", below=True)
        check_one_of("means_per", means_per, MEANS_PER)
        self.means_per = means_per
        self.every = None if every is None else whole("every", every, 1)
        self.candidates = None if candidates is None else whole("candidates", candidates, 1)
        self.updates = 0
        self.places = Places(torch.arange(classes), self.prototypes.n)
        # In float32, as every loop that averages a model's buffers can average them.
        self.register_buffer("means", torch.zeros(classes, self.prototypes.d, dtype=torch.float32))
        self.register_buffer("seen", torch.zeros(classes, dtype=torch.float32))

    @property
    def n(self) -> int:
        """The number of classes."""
        return len(self.means)

    @property
    def assignment(self) -> Tensor:
        """The prototype of each class, (c,) int64, a tensor that is never written to."""
        places: Tensor = self.places()
        return places

    @property
    def class_of(self) -> Tensor:
        """The class of each prototype, (n,); -1 where it has none."""
        assignment = self.assignment
        classes = torch.arange(self.n, device=assignment.device)
        return classes.new_full((self.prototypes.n,), -1).scatter(0, assignment, classes)

    def forward(self, features: Tensor) -> Tensor:
        """Return the cosines (..., c) of features (..., d) to the prototype of each class."""
        cosines = self.prototypes.product(directions(features, self.prototypes.d))
        return cosines.index_select(-1, self.assignment)

    def vectors(self, labels: Tensor) -> Tensor:
        """Return the prototype of each label's class (...), (..., d)."""
        return self.prototypes.vectors(self.assignment[self._classes(labels)])

    def as_linear(self) -> nn.Sequential:
        """Return the normalisation, and behind it an nn.Linear without bias: the prototypes as assigned now.

        They are copies, and frozen.
        """
        linear = nn.Linear(self.d, self.n, bias=False, device="meta")
        rows = self.prototypes.vectors(self.assignment)
        linear.weight = nn.Parameter(rows.to(torch.promote_types(rows.dtype, torch.float32)), requires_grad=False)
        return nn.Sequential(Directions(self.d), linear)

    def _losses(self, features: Tensor, wanted: Wanted) -> Losses:
        own = spread = None
        if wanted.classes is not None:
            own = _squares(features, self.prototypes.vectors(self.assignment[wanted.classes]))
        if wanted.shares is not None:
            cosines = self(features)
            spread = (
                (cosines.to(torch.promote_types(features.dtype, torch.float32)) - 1).square() * wanted.shares
            ).sum(1) / 2
        return own, spread

    @torch.no_grad()
    def update(self, features: Tensor, labels: Tensor, *, ignore_index: int = IGNORED) -> None:
        """Take one step's features (..., d) and labels (...) of all ranks into the class means.

        By `update_means`. Call it on every rank, also with no samples. With
        several ranks all batches are sent to all, which costs what they hold, whatever the number of classes.
        """
        as_classes(labels, self.n, ignore_index, debug=self.debug)
        check_label_shape(labels, features)
        check_features(features, self.d)
        if self.debug:
            check_finite(features)
        labels = labels.long().reshape(-1)
        labels = labels.where(labels != ignore_index, -1)
        every_rank = _gather(features.reshape(-1, features.shape[-1]), labels)
        update_means(self.means, self.seen, *every_rank, self.momentum, per=self.means_per)
        self.updates += 1
        if self.every and self.updates % self.every == 0:
            self.reassign()

    @torch.no_grad()
    def reassign(self) -> int:
        """Give the classes seen the prototypes that suit their means, and return how many got another.

        Rank 0 solves, by `assign`, and sends the result: call it on every rank. Where rank 0 fails it raises there,
        and BadRequest on the others.
        """
        previous = self.assignment
        ranks = _ranks()
        failed: Exception | None = None
        found = torch.full_like(previous, -1)
        if ranks == 1 or distributed.get_rank() == 0:
            try:
                found = assign(self.means, self.prototypes, previous, seen=self.seen, candidates=self.candidates)
            except Exception as error:  # whatever it is: the other ranks wait, and must be told before it is raised
                if ranks == 1:
                    raise
                failed = error
        if ranks > 1:
            distributed.broadcast(found, 0)
        if failed:
            raise failed
        if len(found) and found[0] < 0:
            raise BadRequest("rank 0 found no assignment; its own error says why")
        self.places.move(found)
        return int((found != previous).sum())

    @torch.no_grad()
    def extend(self, source: Source, classes: int | None = None) -> None:
        """Grow to the prototypes of `source`, whose first are the present ones, as `protogen extend` makes them.

        Present classes keep their prototypes, means and all; each new one begins with the first that is free.
        `classes` is their number, left out as many as prototypes. Raises BadRequest where the first prototypes are
        others or `classes` is less than now.
        """
        grown = hold(source, None, None).to(self.means.device)
        held = self.prototypes
        if grown.d != held.d or grown.n < held.n or not torch.equal(grown.rows(0, held.n), held.rows(0, held.n)):
            raise BadRequest(
                f"the prototypes are ({grown.n}, {grown.d}), and the first {held.n} are not those of this head; "
                "allowed is a set that `protogen extend` has made of these"
            )
        classes = _classes(classes, grown.n, self.n)
        places = grown_places(self.assignment, classes, grown.n)
        self.prototypes = grown
        self._grow(classes)
        self.places = Places(places, grown.n)

    def _grow(self, classes: int) -> None:
        """Add classes that were never seen."""
        more = classes - self.n
        self.means = F.pad(self.means, (0, 0, 0, more))
        self.seen = F.pad(self.seen, (0, more))

    def get_extra_state(self) -> Tensor:
        """Return the number of updates, for `state_dict`."""
        return torch.tensor(self.updates)

    def set_extra_state(self, state: Tensor) -> None:
        """Take the number of updates from a `state_dict`."""
        self.updates = int(state)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Load the state of fewer classes too, and that of an older head."""
        if f"{prefix}assignment" in state_dict:
            state_dict[f"{prefix}places.value"] = state_dict.pop(f"{prefix}assignment")
        for name in ("means", "seen"):
            held, loaded = getattr(self, name), state_dict.get(f"{prefix}{name}")
            if loaded is not None and len(loaded) < self.n:
                more = held.new_zeros(self.n - len(loaded), *held.shape[1:])
                state_dict[f"{prefix}{name}"] = torch.cat([loaded.to(held), more])
        super()._load_from_state_dict(state_dict, prefix, *args)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Follow `fn` to another device, never to another type."""
        super()._apply(lambda tensor: kept_dtype(fn, tensor), recurse)
        return self

    def extra_repr(self) -> str:
        """Show the settings where the module is printed."""
        shown = f"classes={self.n}, momentum={self.momentum}, every={self.every}, candidates={self.candidates}"
        return shown + ("" if self.means_per == "batch" else f", means_per={self.means_per!r}")


def _classes(classes: int | None, prototypes: int, least: int = 1) -> int:
    if classes is None:
        return prototypes
    if not isinstance(classes, Integral) or isinstance(classes, bool) or not least <= classes <= prototypes:
        raise BadRequest(f"classes is {classes!r}; allowed is {least} to {prototypes}, the number of prototypes")
    return int(classes)


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
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import min_weight_full_bipartite_matching

    parts = [prototypes.topk(some, candidates) for some in means.split(PART)]
    cosines, nearest = (torch.cat(part) for part in zip(*parts, strict=True))
    own = (means * prototypes.vectors(current).float()).sum(-1, keepdim=True)
    # The present prototype stands once among the pairs: scipy would add the weights of two.
    allowed = (~taken[nearest]) & (nearest != current[:, None])
    pairs = torch.cat([allowed, torch.ones_like(own, dtype=torch.bool)], 1).cpu()
    columns = torch.cat([nearest, current[:, None]], 1).cpu()[pairs]
    costs = 2 - torch.cat([cosines.float(), own], 1).double().cpu()[pairs]  # a weight of 0 would be no pair
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
