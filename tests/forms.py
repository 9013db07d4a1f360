"""What every closed form must keep, checked over all pairs of its vectors."""

import math
from itertools import pairwise

import torch

from protogen.catalog import POINTS, ClosedForm, from_label, label


def check(form: ClosedForm, attained: bool = True, tight: bool = False) -> None:
    """A form's own size, rank, unit rows and guarantee over all pairs, any range of rows, and its name.

    `attained`: the largest (|)cos(|) is what is guaranteed, not less. `tight`: X^T X = (n / d) I.
    """
    n, d = form.own_n, form.own_d
    rows = form.rows(0, n)
    assert rows.shape == (n, d)
    assert rows.dtype == torch.float32
    assert rows.is_contiguous()
    assert not torch.isnan(rows).any()
    exact = rows.double()
    assert (exact.norm(dim=1) - 1).abs().max() < 1e-6
    largest = -math.inf
    for first in range(0, n, 2048):
        gram = exact[first : first + 2048] @ exact.T
        gram[torch.arange(len(gram)), torch.arange(first, first + len(gram))] = -1 if points(form) else 0
        largest = max(largest, float(gram.max() if points(form) else gram.abs().max()))
    assert largest <= form.cosine + 1e-6, (label(form), largest)
    assert not attained or abs(largest - form.cosine) < 1e-6, (label(form), largest)
    frame = exact.T @ exact
    if tight:
        assert (frame - torch.eye(d).double() * (n / d)).abs().max() < 1e-5 * n / d, label(form)
    cuts = {0, 1, 2, 3, n // 3, n // 2, n // 2 + 1, n - d - 1, n - d, n - d + 1, n - 2, n - 1, n}
    for start, stop in pairwise(sorted(cuts & {*range(n + 1)})):
        part = form.rows(start, stop)
        assert torch.equal(part, rows[start:stop]), (label(form), start, stop)
        assert part.is_contiguous()
    assert from_label(label(form)) == form


def points(form: ClosedForm) -> bool:
    """Whether a form guarantees a largest cos, not a largest |cos|."""
    return type(form) in POINTS or form.family == "cube"
