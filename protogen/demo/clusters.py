"""Vectors around random means with random covariances: classes with no structure at all."""

import torch
from torch import Tensor

from protogen.errors import BadRequest

from .data import Task

WIDTH = 512
CLASSES = (2, 20_000)
SAMPLES = {"train": 12, "validation": 2, "test": 2}  # of each class
SPREAD = 0.5  # the deviation of each coordinate of the means; that of the noise is 1
STRETCHED, STRETCH = 8, 3.0  # directions in which a class spreads more, each with this deviation


def draw(classes: int) -> Task:
    """Draw samples of each class around its mean, with noise of a covariance of its own.

    1. The mean of a class has independent coordinates of deviation SPREAD.
    2. The covariance of its noise is I and a random matrix of rank STRETCHED.
    3. The numbers of samples of the three sets are in SAMPLES.

    Every call draws the same. Raises BadRequest.
    """
    low, high = CLASSES
    if not low <= classes <= high:
        raise BadRequest(f"classes is {classes}; allowed is {low} to {high}")
    generator = torch.Generator().manual_seed(0)
    parts: list[list[Tensor]] = [[] for _ in SAMPLES]
    for _ in range(classes):
        mean = SPREAD * torch.randn(WIDTH, generator=generator)
        directions = STRETCH / WIDTH**0.5 * torch.randn(STRETCHED, WIDTH, generator=generator)
        for part, count in zip(parts, SAMPLES.values(), strict=True):
            wide = torch.randn(count, STRETCHED, generator=generator) @ directions
            part.append(mean + wide + torch.randn(count, WIDTH, generator=generator))
    made = [
        (torch.cat(part), torch.arange(classes).repeat_interleave(count))
        for part, count in zip(parts, SAMPLES.values(), strict=True)
    ]
    return Task("clusters", classes, *made[0], *made[1], *made[2], width=0)
