"""Steiner triple systems: v points, any two in exactly one triple."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def exists(v: int) -> bool:
    """Whether `triples` has v points: v = 1 or 3 mod 6, from 3."""
    return v > 1 and v % 6 in (1, 3)


def triples(v: int) -> "tuple[Tensor, Tensor]":
    """Return the triples of a system on v points, (v(v-1)/6, 3), and what each was formed from, (v(v-1)/6, 3).

    1. The points are three copies of Z_m, m = v // 3; point x of copy c has the number 3 x + c. For
       v = 1 mod 6 there is one more, which is the last.
    2. Two elements x and y of Z_m have a product: half their sum for m odd; for m even half an even
       sum, and half of an odd sum, rounded down, plus m/2.
    3. x > y in copy c form a triple with their product in copy c + 1.
    4. The three copies of an x that is its own square form a triple.
    5. Another x in copy c forms one with its square in copy c + 1 and the last point.

    What a triple was formed from is (x, y, c), y = x and c = 0 in 4, y = x in 5.
    Sources: v = 3 mod 6 Bose 1939, On the construction of balanced incomplete block designs; v = 1 mod 6
    Skolem 1958, Some remarks on the triple systems of Steiner.
    """
    import torch

    m = v // 3
    copy = torch.arange(3, device="cpu")[:, None]
    y, x = torch.combinations(torch.arange(m, device="cpu")).T
    total = (x + y) % m
    product = total * (m + 1) // 2 % m if m % 2 else total // 2 + total % 2 * (m // 2)
    z = torch.arange(m if m % 2 else m // 2, device="cpu")
    blocks = [_table(3 * y + copy, 3 * x + copy, 3 * product + (copy + 1) % 3), _table(3 * z, 3 * z + 1, 3 * z + 2)]
    formed = [_table(x, y, copy), _table(z, z, 0 * z)]
    if m % 2 == 0:
        w = z + m // 2
        blocks.append(_table(torch.full_like(w, v - 1), 3 * w + copy, 3 * z + (copy + 1) % 3))
        formed.append(_table(w, w, copy))
    return torch.cat(blocks), torch.cat(formed)


def _table(*columns: "Tensor") -> "Tensor":
    """Lay columns that broadcast side by side, (entries, columns)."""
    import torch

    return torch.stack(torch.broadcast_tensors(*columns), -1).reshape(-1, len(columns))
