"""The minimal vectors of two lattices, E8 and Leech's, in whole numbers."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def e8() -> "Tensor":
    """The 240 roots of E8 with length sqrt(32), (240, 8) int8."""
    import torch

    return torch.cat((_pairs(8), 2 * _even(8)))


def leech() -> "Tensor":
    """The 196560 shortest vectors of the Leech lattice with length sqrt(32), (196560, 24) int8.

    They are 4 and -4 at two places; 2 and -2, an even number of times, at the eight of an octad; and 1, with
    -1 at the places of a word of the Golay code, one coordinate times -3 (Leech 1967, Conway 1969).
    """
    import torch

    words = golay()
    octads = words[words.sum(1) == 8].nonzero()[:, 1].view(-1, 1, 8).expand(-1, 128, -1)
    twos = torch.zeros(len(octads), 128, 24, dtype=torch.int8).scatter_(2, octads, 2 * _even(8).expand(len(octads), -1, -1))
    one_thrice = 1 - 4 * torch.eye(24, dtype=torch.int8)
    return torch.cat((_pairs(24), twos.view(-1, 24), ((1 - 2 * words)[:, None] * one_thrice).view(-1, 24)))


def golay() -> "Tensor":
    """The words of the extended Golay code, (4096, 24) int8: the quadratic residue code of 23 with a parity bit.

    It is spanned by the shifts of {0} and the non-residues mod 23, and the word of ones (Golay 1949).
    """
    import torch

    places = torch.arange(23)
    shifted = (places - places[:11, None]) % 23
    generators = torch.ones(12, 24, dtype=torch.int64)
    generators[:11, :23] = torch.isin(shifted, places[1:] ** 2 % 23, invert=True)
    generators[:11, 23] = generators[:11, :23].sum(1) % 2
    return ((_bits(12) @ generators) % 2).to(torch.int8)


def _bits(count: int) -> "Tensor":
    import torch

    return torch.arange(1 << count)[:, None] >> torch.arange(count) & 1


def _pairs(d: int) -> "Tensor":
    """4 or -4 at two of d places, 0 elsewhere."""
    import torch

    i, j = torch.combinations(torch.arange(d)).T
    fours = 4 * torch.eye(d, dtype=torch.int8)
    rows = torch.cat((fours[i] + fours[j], fours[i] - fours[j]))
    return torch.cat((rows, -rows))


def _even(d: int) -> "Tensor":
    """1 or -1 at d places, -1 an even number of times."""
    import torch

    bits = _bits(d)
    return (1 - 2 * bits[bits.sum(1) % 2 == 0]).to(torch.int8)
