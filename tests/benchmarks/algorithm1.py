"""The EBV paper's Algorithm 1 line by line: the reference that tests and benchmarks hold protogen to.

Two slips of the printed listing are mended: the maximum is taken over all slices, not the last
alone, and W is (N, d), its rows the vectors.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor


def algorithm1(
    W: Tensor, alpha: float, rate: float, slice: int, o_alpha: float = 1e-6
) -> Iterator[tuple[Tensor, float]]:
    """Yield the normalised W (N, d) and its largest |cos| at every turn of the loop, until it is reached."""
    N = W.shape[0]
    while True:
        # Normalize each row in W
        W = F.normalize(W).detach().requires_grad_()
        C_max = -1.0
        for i in range(-(-N // slice)):
            start = i * slice
            end = min(N, (i + 1) * slice)
            E = F.one_hot(torch.arange(start, end, device=W.device), N)
            C = (W[start:end] @ W.T).abs() - E
            loss = F.relu(C - alpha).sum()
            loss.backward()
            C_max = max(C_max, C.max().item())
        yield W.detach(), C_max
        if max(alpha, C_max) < alpha + o_alpha:
            return
        W = W - rate * W.grad  # Update W
