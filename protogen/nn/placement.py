"""Which class takes which prototype, chosen once from what the data says, before training."""

import hashlib

import torch
from torch import Tensor

from protogen.checks import check_whole
from protogen.errors import BadRequest

from .assigning import assign
from .checks import check_prototypes
from .fingerprint import Fingerprint
from .fixed import FixedPrototypes, near

LARGE, NEAREST = 5000, 64  # classes from which on so many prototypes nearest to each are looked at
TURNS = 30
GAIN = 1e-5  # a turn that raises the mean cosine by less is the last


@torch.no_grad()
def place(prototypes: FixedPrototypes, codes: Tensor, *, turns: int = TURNS, candidates: int | None = None) -> Tensor:
    """Return for each class the prototype that it takes, (classes,) int64: no two the same.

    `codes` (classes, d) are where the classes would lie by the data, as from `protogen.fitting.codes`; there may
    be fewer of them than prototypes. In turns each class takes a prototype for the largest sum of cosines to the
    codes (`assign`), and the codes are rotated onto what they took (orthogonal Procrustes, Schoenemann 1966).
    The rotation is thrown away: a network's last layer learns it, and the prototypes stay themselves. The sum
    rises with each turn, to a local best.

    With `candidates` k a class looks at the k prototypes nearest to its code alone; left out, at all up to
    LARGE classes, then at NEAREST. Where the codes have fewer coordinates than the prototypes, zeros are added.

    Raises BadRequest where there are more codes than prototypes, or more coordinates.

    >>> import torch
    >>> from protogen.nn import as_prototypes, place
    >>> place(as_prototypes(torch.eye(3)), torch.tensor([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]))
    tensor([2, 0])
    """
    check_prototypes("place", prototypes)
    check_whole("turns", turns, 1)
    if codes.dim() != 2 or not 1 <= len(codes) <= prototypes.n or codes.shape[1] > prototypes.d:
        raise BadRequest(
            f"codes have shape {tuple(codes.shape)}; allowed is up to {prototypes.n} codes of up to {prototypes.d} "
            "coordinates: one for each class"
        )
    if candidates is None and len(codes) >= LARGE:
        candidates = NEAREST
    wished = torch.zeros(len(codes), prototypes.d, device=codes.device, dtype=torch.float32)
    wished[:, : codes.shape[1]] = torch.nn.functional.normalize(codes.float(), dim=1)
    index = torch.arange(len(codes), device=codes.device)
    turned, best = wished, -1.0
    for _ in range(turns):
        index = assign(turned, prototypes, index, candidates=candidates)
        taken = prototypes.vectors(index).float()
        left, _, right = torch.linalg.svd(wished.double().T @ taken.double())
        turned = wished @ (left @ right).float()
        cosine = float((turned * taken).sum(1).mean())
        if cosine <= best + GAIN:
            break
        best = cosine
    return index


class PlacedPrototypes(FixedPrototypes):
    """Prototypes in the order of the classes: class c has prototype `index[c]` of those within.

    `prototypes` may be of any kind, structured ones too: their product is worked out whole, and the index is all
    that is added. `index` (classes,) is part of `state_dict`, and of the fingerprint.

    Raises BadRequest where the index names a prototype twice, or one that there is not.

    >>> import torch
    >>> from protogen.nn import PlacedPrototypes, as_prototypes
    >>> placed = PlacedPrototypes(as_prototypes(torch.eye(3)), torch.tensor([2, 0, 1]))
    >>> placed.rows(0, 1).tolist()
    [[0.0, 0.0, 1.0]]
    """

    index: Tensor

    def __init__(self, prototypes: FixedPrototypes, index: Tensor) -> None:
        super().__init__()
        check_prototypes("PlacedPrototypes", prototypes)
        index = index.detach().long()
        sound = index.dim() == 1 and 0 < len(index) == len(index.unique())
        if not sound or int(index.min()) < 0 or int(index.max()) >= prototypes.n:
            raise BadRequest(
                f"index has shape {tuple(index.shape)}; allowed is one prototype from 0 to {prototypes.n - 1} for each "
                "class, no two the same: take what `place` returns"
            )
        self.prototypes = prototypes
        self.hold("index", index.clone(), persistent=True)
        inner = prototypes.fingerprint
        if inner is None:
            self.identify(None)
        else:
            placed = hashlib.sha256(bytes.fromhex(inner.digest) + index.cpu().numpy().tobytes()).hexdigest()
            self.identify(Fingerprint(placed, f"placed {inner.name}", len(index)))

    @property
    def n(self) -> int:
        return len(self.index)

    @property
    def d(self) -> int:
        return self.prototypes.d

    def rows(self, start: int, stop: int) -> Tensor:
        return self.prototypes.vectors(self.constant("index")[start:stop])

    def vectors(self, classes: Tensor) -> Tensor:
        return self.prototypes.vectors(self.constant("index", classes.device)[classes])

    def firsts(self, n: int) -> list[Fingerprint]:
        return []  # of the index of fewer classes nothing is known

    def _agrees(self, saved: Fingerprint | None, rows: Tensor) -> bool:
        return rows.shape[1:] == (self.d,) and len(rows) <= self.n and near(self.rows, rows)

    @property
    def _block(self) -> int:
        return self.n  # the product within is of all prototypes in any case

    def _product(self, features: Tensor, start: int, stop: int) -> Tensor:
        return self.prototypes.product(features).index_select(-1, self.constant("index", features.device)[start:stop])

    def _combine(self, weights: Tensor, start: int, stop: int) -> Tensor:
        every = weights.new_zeros(*weights.shape[:-1], self.prototypes.n)
        return self.prototypes.combine(
            every.index_copy(-1, self.constant("index", weights.device)[start:stop], weights)
        )
