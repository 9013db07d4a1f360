"""Tensors drawn by a seed: the same numbers in every test that asks for the same shape."""

import torch
from torch import Tensor
from torch.nn.functional import normalize


def draw(*shape: int, seed: int = 1) -> Tensor:
    """Draw normal numbers in float64."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def unit_rows(*shape: int, seed: int = 0) -> Tensor:
    """Draw unit vectors in float32, along the last dimension."""
    return normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def double_rows(*shape: int, seed: int = 0) -> Tensor:
    """Draw unit vectors in float64, along the last dimension."""
    return normalize(draw(*shape, seed=seed), dim=-1)
