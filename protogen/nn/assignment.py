"""Which prototype stands for which class, decided anew during training."""

from collections.abc import Callable
from numbers import Integral
from typing import Any, Self

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional as F

from protogen.errors import BadRequest

from .assigning import assign, matched
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
from .head import Directions, FixedHead, Source, check_whole_head, hold, hold_share
from .places import Places, grown_places, kept_dtype
from .sharded import Group, Share
from .sharded_assignment import means_range, nearest_of_means, seen_of_all, shared_spread
from .targets import Losses, Wanted, weighted_loss

torch.fx.wrap("directions")

MEANS_PER = ("batch", "sample")


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

    >>> import torch
    >>> from protogen.nn import regression_loss
    >>> regression_loss(torch.tensor([[2.0, 0.0]]), torch.eye(2), torch.tensor([1]))
    tensor(0.5000)
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

    >>> import torch
    >>> from protogen.nn import update_means
    >>> means, seen = torch.zeros(2, 2), torch.zeros(2)
    >>> update_means(means, seen, torch.eye(2), torch.tensor([1, 1]), momentum=0.0)
    >>> means, seen
    (tensor([[0.0000, 0.0000],
            [0.7071, 0.7071]]), tensor([0., 1.]))
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
    - `group`, `replicated`: all ranks, each of which has its share of the prototypes and of the means, as CosineHead
      says; `update` and `reassign` are called by all of them too, and `candidates` are then needed;
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
        group: Group | None = None,
        replicated: bool = False,
        debug: bool = False,
    ) -> None:
        prototypes, self.share = hold_share(source, d, n, "uniform", group, replicated)
        super().__init__(prototypes, debug)
        if self.share is not None:
            _check_share(self.share, candidates)
        most = self.prototypes.n if self.share is None else self.share.n
        classes = _classes(classes, most)
        self.momentum = within("momentum", momentum, 0, 1, "; 0.9 is usual", below=True)
        check_one_of("means_per", means_per, MEANS_PER)
        self.means_per = means_per
        self.every = None if every is None else whole("every", every, 1)
        self.candidates = None if candidates is None else whole("candidates", candidates, 1)
        self.updates = 0
        self.places = Places(torch.arange(classes), most)
        start, stop = self._own()
        # In float32, as every loop that averages a model's buffers can average them.
        self.register_buffer("means", torch.zeros(stop - start, self.prototypes.d, dtype=torch.float32))
        self.register_buffer("seen", torch.zeros(stop - start, dtype=torch.float32))

    @property
    def n(self) -> int:
        """The number of classes."""
        return len(self.places.value)

    def _own(self) -> tuple[int, int]:
        """The classes whose means are here: all, or those of this rank."""
        return (0, self.n) if self.share is None else means_range(self.share, self.n)

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
        return classes.new_full((self.places.prototypes,), -1).scatter(0, assignment, classes)

    def forward(self, features: Tensor) -> Tensor:
        """Return the cosines (..., c) of features (..., d) to the prototype of each class."""
        check_whole_head(self.share, "cosines to all classes")
        cosines = self.prototypes.product(directions(features, self.prototypes.d))
        return cosines.index_select(-1, self.assignment)

    def topk(self, features: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Return the k largest cosines of features (..., d), the largest first, and their classes, both (..., k)."""
        if self.share is None:
            return super().topk(features, k)
        class_of = self.class_of
        values, places = self.share.topk(directions(features, self.d), whole("k", k, 1, self.n), class_of >= 0)
        return values, class_of[places]

    def vectors(self, labels: Tensor) -> Tensor:
        """Return the prototype of each label's class (...), (..., d)."""
        return self._vectors(self.assignment[self._classes(labels)])

    def _vectors(self, places: Tensor) -> Tensor:
        """Return prototypes (..., d) by their numbers (...), from the ranks that have them."""
        return self.prototypes.vectors(places) if self.share is None else self.share.vectors(places)

    def as_linear(self) -> nn.Sequential:
        """Return the normalisation, and behind it an nn.Linear without bias: the prototypes as assigned now.

        They are copies, and frozen.
        """
        check_whole_head(self.share, "rows of all classes")
        linear = nn.Linear(self.d, self.n, bias=False, device="meta")
        rows = self.prototypes.vectors(self.assignment)
        linear.weight = nn.Parameter(rows.to(torch.promote_types(rows.dtype, torch.float32)), requires_grad=False)
        return nn.Sequential(Directions(self.d), linear)

    def _losses(self, features: Tensor, wanted: Wanted) -> Losses:
        own = spread = None
        if wanted.classes is not None:
            own = _squares(features, self._vectors(self.assignment[wanted.classes]))
        if wanted.shares is not None and self.share is not None:
            spread = shared_spread(self.share, directions(features, self.d), wanted.shares, self.class_of)
        elif wanted.shares is not None:
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
        flat = features.reshape(-1, features.shape[-1])
        if self.share is None:
            every_rank = _gather(flat, labels)
        else:
            start, stop = self._own()
            every, classes = self.share.gather(flat), self.share.gather(labels + 1) - 1
            every_rank = every, (classes - start).where((classes >= start) & (classes < stop), -1)
        if len(self.means):
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
        solve = self._solver(previous)
        if ranks == 1 or distributed.get_rank() == 0:
            try:
                found = solve()
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

    def _solver(self, previous: Tensor) -> Callable[[], Tensor]:
        """Return what rank 0 does to find the next assignment; every rank makes this call."""
        if self.share is None:
            return lambda: assign(self.means, self.prototypes, previous, seen=self.seen, candidates=self.candidates)
        found = nearest_of_means(self.share, self.means, previous, self.candidates or 1)
        moving = seen_of_all(self.share, self.seen, self.n)

        def solve() -> Tensor:
            taken = torch.zeros(self.places.prototypes, dtype=torch.bool, device=previous.device)
            taken[previous[~moving]] = True
            chosen = previous.clone()
            if moving.any():
                cosines, nearest, own = (part[moving] for part in found)
                chosen[moving] = matched(cosines, nearest, own, taken, previous[moving]).to(previous)
            return chosen

        return solve

    @torch.no_grad()
    def extend(self, source: Source, classes: int | None = None) -> None:
        """Grow to the prototypes of `source`, whose first are the present ones, as `protogen extend` makes them.

        Present classes keep their prototypes, means and all; each new one begins with the first that is free.
        `classes` is their number, left out as many as prototypes. Raises BadRequest where the first prototypes are
        others or `classes` is less than now.
        """
        check_whole_head(self.share, "more prototypes")
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
            if loaded is not None and self.share is not None and len(loaded) == self.n:
                state_dict[f"{prefix}{name}"] = loaded[slice(*self._own())]
            elif loaded is not None and len(loaded) < len(held):
                more = held.new_zeros(len(held) - len(loaded), *held.shape[1:])
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


def _check_share(share: Share, candidates: int | None) -> None:
    """Raise BadRequest where ranks cannot share a head as they were asked to."""
    if share.world != _ranks():
        raise BadRequest(
            f"group has {share.world} of {_ranks()} ranks; allowed is one of all: the means are of all data"
        )
    if candidates is None:
        raise BadRequest("candidates is None with a group, whose ranks have no pairs of all; give a number, such as 64")


def _classes(classes: int | None, prototypes: int, least: int = 1) -> int:
    if classes is None:
        return prototypes
    if not isinstance(classes, Integral) or isinstance(classes, bool) or not least <= classes <= prototypes:
        raise BadRequest(f"classes is {classes!r}; allowed is {least} to {prototypes}, the number of prototypes")
    return int(classes)


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
