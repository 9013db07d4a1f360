"""How good features are to find others of the same class by."""

from collections.abc import Sequence

import torch
from torch import Tensor

from protogen.errors import BadRequest

from .checks import as_classes, check_label_shape, directions, whole
from .fixed import check_features

PART = 1 << 24  # cosines that are in memory at a time


@torch.no_grad()
def recall_at(features: Tensor, labels: Tensor, ks: Sequence[int] = (1, 2, 4, 8)) -> tuple[float, ...]:
    """Return for each k the share of features (m, d) with one of their class among the k nearest others.

    Nearest is by cosine, of all features but the one that asks; of equal cosines any may come first. Labels are (m,).
    A feature whose class has no other counts as a miss. The measure asks for no head: features of any will do.

    >>> import torch
    >>> from protogen.nn import recall_at
    >>> recall_at(torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [1.0, 0.5]]), torch.tensor([0, 0, 1, 1]), (1, 2))
    (0.75, 0.75)

    Raises BadRequest where there are fewer than two features, and on ks that are not 1 to m - 1.
    Source: The Fixed Sub-Center, Section 4.4, Table 3 (Recall@k).
    """
    if features.dim() != 2 or len(features) < 2:
        raise BadRequest(f"features are {tuple(features.shape)}; allowed is (m, d) with at least two")
    check_features(features, features.shape[1])
    check_label_shape(labels, features)
    as_classes(labels, torch.iinfo(torch.int64).max)
    most = max(whole("k", k, 1, len(features) - 1) for k in ks)
    ahead = directions(features, features.shape[1])
    first = []
    for places in torch.arange(len(ahead), device=ahead.device).split(max(1, PART // len(ahead))):
        cosines = (ahead[places] @ ahead.T).index_put_(
            (torch.arange(len(places), device=ahead.device), places), ahead.new_tensor(-torch.inf)
        )
        same = labels[cosines.topk(most).indices] == labels[places, None]
        # How many are passed before the first of the class.
        first.append(torch.where(same.any(1), same.int().argmax(1), most))
    passed = torch.cat(first)
    return tuple(float((passed < k).double().mean()) for k in ks)
