"""Mutually unbiased bases of C^p as real lines: 2p(p+1) vectors in R^(2p), coherence 1/sqrt(p)."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

from ..errors import BadRequest

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class ComplexMUB:
    """The p + 1 mutually unbiased bases of C^p, p an odd prime (Wootters and Fields 1989).

    v_{a,b}(x) = p^(-1/2) exp(2 pi i (a x^2 + b x) / p) for a, b, x in F_p, and the standard basis
    as the last. Each complex v gives the two real rows (Re v, Im v) and (-Im v, Re v), whose inner
    products with those of u are the real and imaginary parts of <v, u>. Rows run basis by basis.
    """

    family: ClassVar[str] = "mub"
    exact: ClassVar[bool] = True
    p: int

    def __post_init__(self) -> None:
        if not _is_odd_prime(self.p):
            raise BadRequest(f"p is {self.p}; allowed is an odd prime")

    @classmethod
    def reach(cls, d: int, n: int) -> Self | None:
        """The largest p with 2p <= d, where its 2p(p+1) vectors are enough."""
        p = next((p for p in range(d // 2, 2, -1) if _is_odd_prime(p)), None)
        return cls(p) if p and n <= 2 * p * (p + 1) else None

    @property
    def own_d(self) -> int:
        return 2 * self.p

    @property
    def own_n(self) -> int:
        return 2 * self.p * (self.p + 1)

    @property
    def cosine(self) -> float:
        return 1 / math.sqrt(self.p)

    @property
    def held_bytes(self) -> int:
        return 0

    def rows(self, start: int, stop: int) -> "torch.Tensor":
        """Return rows start to stop - 1, (stop - start, 2p) float32, from float64 tables."""
        import torch

        p = self.p
        index = torch.arange(start // 2, (stop + 1) // 2)  # of complex vectors: two rows each
        a, b = (index // p)[:, None], (index % p)[:, None]
        x = torch.arange(p)
        turns = torch.arange(p, dtype=torch.float64) * (2 * math.pi / p)
        phase = (a * (x * x % p) + b * x) % p
        real = (turns.cos() / math.sqrt(p)).float()[phase]
        imaginary = (turns.sin() / math.sqrt(p)).float()[phase]
        standard = index >= p * p
        real[standard] = (b[standard] == x).float()
        imaginary[standard] = 0
        pairs = torch.stack((torch.cat((real, imaginary), 1), torch.cat((-imaginary, real), 1)), 1)
        return pairs.view(-1, 2 * p)[start % 2 :][: stop - start].contiguous()


def _is_odd_prime(p: int) -> bool:
    return p > 2 and all(p % q for q in range(2, math.isqrt(p) + 1))
