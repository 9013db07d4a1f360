"""What the demo asks of a head."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True)
class Contestant:
    """A head in training.

    - `module` holds its parameters and buffers.
    - `loss(features, labels)` is a scalar.
    - `logits(features)` are (..., n), for a prediction.
    - `vectors(features, labels)` are the vectors (..., d) of the labels' classes, the nearest one where a class has
      several.
    - `after_epoch()` is called when an epoch has ended, and returns how many classes have got another prototype then,
      None where none can.
    - `features(output)` turns a network's output into the features that all these take.
    - `temperature()` is that of the head now, None where it has none.
    """

    module: nn.Module
    loss: Callable[[Tensor, Tensor], Tensor]
    logits: Callable[[Tensor], Tensor]
    vectors: Callable[[Tensor, Tensor], Tensor]
    after_epoch: Callable[[], int | None] = lambda: None
    features: Callable[[Tensor], Tensor] = lambda z: z
    temperature: Callable[[], float | None] = lambda: None
