"""Lines where n is between d and 2 d: a packing frame with its largest eigenvalue cut off."""

import math
from abc import abstractmethod
from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple, Self

from protogen.errors import BadRequest

from ..algebra import hadamard
from ..algebra.simplex import vertices
from ..family import ClosedForm, best

if TYPE_CHECKING:
    from torch import Tensor


class Kind(NamedTuple):
    """A packing that a cut can be made of: v points, c on a line, and the most lines that it can have on a point."""

    points: int
    size: int
    most: int


class Cut(ClosedForm):
    """The complement of a packing frame, each row m times: v R m lines in R^(v R m - L).

    The coherence is 1/(m (1 + l) - 1), where l = c R - r is one over the coherence of the complement itself.

    The packing has v points and L lines. Each line holds c points, each point is on t lines, and two
    points are on at most one common line. R, the field `order`, is a Hadamard order of at least t.

    1. Take r = R, or r = R - 1 where t < R. Give each point r - t coordinates of its own beside its t lines.
    2. Put R unit rows on each point: r columns of a Hadamard matrix of order R, over sqrt(r), one column
       on each of its lines and own coordinates. Call all rows X; their coherence is 1/r.
    3. The columns of X are orthogonal. That of a line has squared length c R / r, that of an own coordinate R / r.
       So X X^T has the largest eigenvalue w = c R / r, L times.
    4. Hence (w I - X X^T) / (w - 1) is positive semidefinite of rank v R - L. Its diagonal is 1, and the rest is at
       most 1 / (r (w - 1)) = 1 / (c R - r) from 0.
    5. Rows with this Gram matrix need no factorisation. A Hadamard column, over sqrt(R), on one point is a unit vector;
       these are an orthonormal basis. Each basis vector of an own coordinate is an eigenvector, and so is an unused
       one. The c basis vectors of a line have the line's column as their sum, which is cut off; what remains are
       the c vertices of a regular simplex in c - 1 coordinates.

    6. Take each of these rows z m = `copies` times, as sqrt(l u) z and sqrt(1 - l u) times a vertex of a regular
       simplex in m - 1 coordinates of its own, u = 1 / (m (1 + l) - 1). Copies of one row meet in
       l u - (1 - l u) / (m - 1) = -u, others in l u / l = u at most.

    A family is a frozen dataclass with the fields `order` and `copies`, which checks its other parameters first.
    Source: the Naimark complement of Steiner equiangular tight frames (Fickus, Mixon and Tremain 2012), here for
    packings whose largest eigenvalue alone is cut off.
    """

    order: int
    copies: int

    def __post_init__(self) -> None:
        if self.copies < 1 or self.size * self.order * self.copies < 3:
            raise BadRequest(f"copies is {self.copies}; allowed is a number from 1 on that gives a line three rows")
        if self.order < self.lines_on_point or not hadamard.exists(self.order):
            raise BadRequest(
                f"order is {self.order}; allowed is a Hadamard order, at least the number of lines on a point, "
                f"{self.lines_on_point}"
            )

    @classmethod
    def reach(cls, d: int, n: int) -> Self | None:
        return cls._least(d, n, n)

    @classmethod
    def with_room(cls, d: int, n: int) -> Self | None:
        """Return the best member in R^d that leaves a dimension free for each row that it has less than n, or None.

        It has n - d lines or more.
        """
        return cls._least(d, n, 1)

    @classmethod
    def _least(cls, d: int, n: int, rows: int) -> Self | None:
        """Return the member of lowest cosine in R^d with n - d lines and so many rows, or more, or None."""
        # The rows are at most twice the dimensions. A line has at most as many points as there are rows for each line.
        if n > 2 * d:
            return None
        lines = max(1, n - d)
        found: Self | None = None
        for kind in cls.kinds(lines, max(n, d + 1) // lines):
            # v R m (1 - 1/c) is at most d, and 1/cosine + 1 at most R m (c - 1) + 2 m and c R m; R is at least
            # c lines / v. So no later kind is better, or has a member.
            most = d * kind.size / kind.points
            if most + min(most, 2 * d / lines) < (1 / found.cosine + 1 - 1e-9 if found else 2):
                break
            found = best((found, *cls._of_kind(kind, d, lines, rows, 1 / found.cosine if found else 0)))
        return found

    @classmethod
    def _of_kind(cls, kind: Kind, d: int, lines: int, rows: int, above: float) -> Iterator[Self]:
        """Yield members of this kind with so many lines and rows, or more, in R^d: the best if 1/cosine is > `above`.

        Each number of rows on a point is tried, with as few lines as leave no more than d coordinates, and each
        Hadamard order R that divides it. R m rows have 1/cosine at most R m (c - 1) + 2 m, R at least the lines.
        """
        v, c = kind.points, kind.size
        high = min((d + v * kind.most // c) // v, d * c // (v * (c - 1)))
        for on_point in range(high, max(-(-rows // v), -(-3 // c)) - 1, -1):
            if on_point * (c - 1 + 2 / max(1, c * lines // v)) < above - 1e-9:
                break
            degree = cls.rounded(kind, max(1, -(-c * max(on_point * v - d, lines) // v)))
            if degree <= kind.most:
                for order in _orders_dividing(on_point):
                    if order >= degree:
                        form = cls.of(kind, degree, order, on_point // order)
                        above = max(above, 1 / form.cosine)
                        yield form

    @classmethod
    @abstractmethod
    def kinds(cls, lines: int, longest: int) -> Iterator[Kind]:
        """Yield the packings of at least so many lines, of at most `longest` points each, by rising points / size."""

    @classmethod
    @abstractmethod
    def rounded(cls, kind: Kind, degree: int) -> int:
        """Return the least number of lines on a point that a packing of this kind can have, from `degree` on."""

    @classmethod
    @abstractmethod
    def of(cls, kind: Kind, degree: int, order: int, copies: int) -> Self:
        """Return the member of this kind with `degree` lines on a point."""

    @property
    @abstractmethod
    def points(self) -> int:
        """The number of points, v."""

    @property
    @abstractmethod
    def size(self) -> int:
        """The number of points on a line, c."""

    @property
    @abstractmethod
    def lines_on_point(self) -> int:
        """The number of lines on a point, t."""

    @abstractmethod
    def incidence(self, points: "Tensor") -> "tuple[Tensor, Tensor]":
        """Return the lines on some points (k,) and the place of the point on each, below c: both (k, t), int64."""

    @property
    def r(self) -> int:
        """The number of coordinates that the packing frame has on a point."""
        return self.order - (self.lines_on_point < self.order)

    @property
    def own_n(self) -> int:
        return self.points * self.order * self.copies

    @property
    def own_d(self) -> int:
        return self.own_n - self.points * self.lines_on_point // self.size

    @property
    def _apart(self) -> int:
        """One over the coherence of the rows before they are copied."""
        return self.size * self.order - self.r

    @property
    def cosine(self) -> float:
        return 1 / (self.copies * (1 + self._apart) - 1)

    def rows(self, start: int, stop: int) -> "Tensor":
        """Return rows start to stop - 1, (stop - start, own_d) float32, from float64 tables.

        They run point by point, then row by row of the Hadamard matrix, then copy by copy. The coordinates are c - 1
        of each line, those of each point, then m - 1 for the copies of each row.
        """
        import torch

        first, m = start // self.copies, self.copies
        single = torch.arange(start, stop, device="cpu") // m - first
        share = self._apart * self.cosine
        rows = torch.empty(stop - start, self.own_d, dtype=torch.float32, device="cpu")
        cut = self._cut(first, -(-stop // m)) * math.sqrt(share)
        rows[:, : cut.shape[1]] = cut[single]
        rows[:, cut.shape[1] :] = vertices(self.own_n, self.own_n // m, start, stop) * math.sqrt(max(0.0, 1 - share))
        return rows

    def _cut(self, start: int, stop: int) -> "Tensor":
        """Return rows start to stop - 1 before they are copied, float64."""
        import torch

        v, c, t, order, r = self.points, self.size, self.lines_on_point, self.order, self.r
        largest = c * order / r
        first, index = start // order, torch.arange(start, stop, device="cpu")
        point, i = index // order, (index % order)[:, None]
        lines, places = (
            part[point - first] for part in self.incidence(torch.arange(first, -(-stop // order), device="cpu"))
        )
        signs = hadamard.entries(order, i, torch.arange(order, device="cpu")[None]).double() / math.sqrt(
            order * (largest - 1)
        )
        on_lines = v * t // c * (c - 1)
        rows = torch.zeros(stop - start, on_lines + v * (order - t), dtype=torch.float64, device="cpu")
        values = signs[:, :t, None] * (vertices(c, 1, 0, c) * math.sqrt(largest * (1 - 1 / c)))[places]
        columns = lines[:, :, None] * (c - 1) + torch.arange(c - 1, device="cpu")
        rows.scatter_(1, columns.flatten(1), values.flatten(1))
        own = torch.full((order - t,), math.sqrt(largest - order / r), dtype=torch.float64, device="cpu")
        own[r - t :] = math.sqrt(largest)  # the unused column, of eigenvalue 0
        columns = on_lines + point[:, None] * (order - t) + torch.arange(order - t, device="cpu")
        return rows.scatter_(1, columns, signs[:, t:] * own)


def least_points(lines: int, size: int) -> int:
    """Return the fewest points on which so many lines of `size` points can be, two points on one line at most."""
    return max(size, (1 + math.isqrt(4 * lines * size * (size - 1) - 3)) // 2)


@lru_cache(maxsize=2**14)
def _orders_dividing(rows: int) -> tuple[int, ...]:
    """The Hadamard orders that divide a number."""
    low = [i for i in range(1, math.isqrt(rows) + 1) if rows % i == 0]
    return tuple(order for order in sorted({*low, *(rows // i for i in low)}) if hadamard.exists(order))
