"""The shortest vectors of E8 and of the Leech lattice, in whole numbers."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def e8() -> "Tensor":
    """The 240 roots of E8, of length sqrt(32), (240, 8) int8: (+-4, +-4, 0, ...) anywhere, and +-2, evenly signed."""
    import torch

    return torch.cat((_fours(8), 2 * _even_signs(8)))


def leech() -> "Tensor":
    """The 196560 shortest vectors of the Leech lattice, of length sqrt(32), (196560, 24) int8 (Leech 1967).

    (+-4, +-4, 0, ...) anywhere; +-2, evenly signed, at the places of an octad, a word of weight 8 of the
    Golay code; and 1, signed by a word, with one coordinate times -3.
    """
    import torch

    words = golay()
    octads = words[words.sum(1) == 8].nonzero()[:, 1].view(-1, 1, 8).expand(-1, 128, -1)
    twos = torch.zeros(*octads.shape[:2], 24, dtype=torch.int8, device="cpu")
    twos.scatter_(2, octads, 2 * _even_signs(8).expand(octads.shape))
    ones = (1 - 2 * words)[:, None] * (1 - 4 * torch.eye(24, dtype=torch.int8, device="cpu"))
    return torch.cat((_fours(24), twos.flatten(0, 1), ones.flatten(0, 1)))


def golay() -> "Tensor":
    """The words of the extended Golay code, (4096, 24) int8 (Golay 1949).

    They are spanned by the shifts of {0} and the non-residues mod 23, with no parity bit as they are
    even, and the word of ones.
    """
    import torch

    places = torch.arange(23, device="cpu")
    generators = torch.ones(12, 24, dtype=torch.int64, device="cpu")
    generators[:11, :23] = torch.isin((places - places[:11, None]) % 23, places[1:] ** 2 % 23, invert=True)
    generators[:11, 23] = 0
    return (_bits(12) @ generators % 2).to(torch.int8)


def _bits(count: int) -> "Tensor":
    import torch

    return torch.arange(1 << count, device="cpu")[:, None] >> torch.arange(count, device="cpu") & 1


def _even_signs(d: int) -> "Tensor":
    """1 and -1, an even number of times -1, at d places."""
    import torch

    bits = _bits(d)
    return (1 - 2 * bits[bits.sum(1) % 2 == 0]).to(torch.int8)


def _fours(d: int) -> "Tensor":
    """4 and -4 at two of d places."""
    import torch

    i, j = torch.combinations(torch.arange(d, device="cpu")).T
    unit = 4 * torch.eye(d, dtype=torch.int8, device="cpu")
    rows = torch.cat((unit[i] + unit[j], unit[i] - unit[j]))
    return torch.cat((rows, -rows))
