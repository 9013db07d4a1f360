"""Fast products with the rows of closed forms: Walsh-Hadamard, Fourier and packing transforms."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from protogen import catalog
from protogen.catalog.algebra.fields import field, prime_power
from protogen.catalog.algebra.hadamard import sylvester
from protogen.catalog.algebra.quadratic import QuadraticBases
from protogen.catalog.derived.labels import Labels
from protogen.catalog.derived.punctured import Punctured
from protogen.catalog.direct.kerdock_off_flat import FLATS, KerdockOffFlat
from protogen.catalog.direct.mub import ComplexMUB, TernaryMUB
from protogen.catalog.direct.packing import Packing
from protogen.catalog.direct.phases import HigherPhases

from .constants import Constants

# Inner products that are computed at a time: as many as a cache holds, or as keep a GPU busy.
CPU_CHUNK, GPU_CHUNK = 1 << 18, 1 << 24


class Transform(Constants, ABC):
    """The product of features with rows that come in blocks of equal size, and the transpose of it.

    Some blocks are a slice of their numbers. Block `last`, if rows go so far, is a basis of another kind; it
    comes alone.
    """

    own_d: int
    size: int
    last: int
    first = 0
    """The first block that the tables have."""
    by_block: ClassVar[str]
    """The table that has a row for each block."""

    def keep(self, start: int, stop: int) -> None:
        """Drop what the tables have for other rows than start to stop - 1."""
        first, end = start // self.size, -(-stop // self.size)
        table = self.constant(self.by_block)[first - self.first : end - self.first]
        self.hold(self.by_block, table.clone())
        self.first = first

    def _here(self, part: slice) -> slice:
        """The rows of the table by blocks that belong to a part of the blocks."""
        return slice(part.start - self.first, part.stop - self.first)

    @abstractmethod
    def products(self, features: Tensor, parts: Iterable[slice]) -> Iterator[Tensor]:
        """Yield the inner products of features (batch, own_d) with parts of the blocks, (batch, blocks, size)."""

    @abstractmethod
    def total(self, parts: Iterable[tuple[slice, Tensor]], zeros: Tensor) -> Tensor:
        """Return the sums of rows with weights (batch, blocks, size), given by parts; `zeros` is (batch, own_d)."""

    def product(self, features: Tensor, start: int, stop: int) -> Tensor:
        """Return the inner products of features (batch, own_d) with rows start to stop - 1."""
        product = features.new_empty(features.shape[0], stop - start)
        parts = self._parts(features, start, stop)
        for part, found in zip(parts, self.products(features, parts), strict=True):
            first = part.start * self.size
            low, high = max(start, first), min(stop, part.stop * self.size)
            product[:, low - start : high - start] = found.flatten(1)[:, low - first : high - first]
        return product

    def combine(self, weights: Tensor, start: int, stop: int) -> Tensor:
        """Return the sums of rows start to stop - 1 with weights (batch, stop - start)."""

        def whole(part: slice) -> Tensor:
            before, after = start - part.start * self.size, part.stop * self.size - stop
            # A negative padding cuts.
            blocks: Tensor = F.pad(weights, (before, after)).unflatten(1, (-1, self.size))
            return blocks

        parts = self._parts(weights, start, stop)
        return self.total(((part, whole(part)) for part in parts), weights.new_zeros(weights.shape[0], self.own_d))

    def _parts(self, x: Tensor, start: int, stop: int) -> list[slice]:
        # An exported graph is for batches of any size: it does not ask for this one's.
        batch = 1 if torch.compiler.is_exporting() else x.shape[0]
        if batch == 0:  # FFTs refuse it
            return []
        first, end = start // self.size, -(-stop // self.size)
        step = max(1, (CPU_CHUNK if x.device.type == "cpu" else GPU_CHUNK) // (batch * self.size))
        edges = {*range(first, end, step), end, *({self.last} if first < self.last < end else ())}
        return [slice(*pair) for pair in pairwise(sorted(edges))]

    def _hold(self, **tables: Tensor) -> None:
        for name, table in tables.items():
            # Indices too: torch's moving average of two equal floats is that float, of integers it may not be.
            self.hold(name, table.float())


class SignedBases(Transform):
    """Rows of a Sylvester matrix of order D, their coordinates signed for each basis: Walsh-Hadamard transforms.

    A form has some of the D coordinates, `kept`. Block `last` is the standard basis.
    """

    by_block: ClassVar[str] = "signs"

    def __init__(self, form: catalog.ClosedForm, n: int, order: int, kept: Sequence[int]) -> None:
        super().__init__()
        self.own_d, self.size, self.last = len(kept), order, form.own_n // order
        if isinstance(form, QuadraticBases):
            self.last = form.flat
        index = torch.tensor(kept, device="cpu")
        signs = torch.zeros(min(-(-n // order), self.last), order, dtype=torch.float32, device="cpu")
        signs[:, index] = _first_rows(form, order, len(signs))
        half = math.isqrt(order // 2).bit_length()
        left, right = sylvester(order.bit_length() - 1 - half).float(), sylvester(half).float()
        self._hold(signs=signs, kept=index, left=left, right=right)

    def products(self, features: Tensor, parts: Iterable[slice]) -> Iterator[Tensor]:
        kept = _index(self.constant("kept", features.device))
        z = features.new_zeros(features.shape[0], self.size).index_copy_(1, kept, features)
        signs = self.constant("signs", features.device)
        for part in parts:
            yield z[:, None] if part.start == self.last else self._transformed(z[:, None] * signs[self._here(part)])

    def total(self, parts: Iterable[tuple[slice, Tensor]], zeros: Tensor) -> Tensor:
        total, signs = zeros.new_zeros(zeros.shape[0], self.size), self.constant("signs", zeros.device)
        for part, weights in parts:
            standard = part.start == self.last
            total += weights[:, 0] if standard else (self._transformed(weights) * signs[self._here(part)]).sum(1)
        return total[:, _index(self.constant("kept", zeros.device))]

    def _transformed(self, x: Tensor) -> Tensor:
        """The product of x (..., D) with the Sylvester matrix, a Kronecker product."""
        left, right = (self.constant(name, x.device).to(x.dtype) for name in ("left", "right"))
        product: Tensor = left @ (x.unflatten(-1, (len(left), len(right))) @ right)
        return product.flatten(-2)


class PhasedBases(Transform):
    """Characters of F_q, their coordinates multiplied by phases for each basis: Fourier transforms.

    The real inner products of a feature, taken as a vector of C^q, with (Re v, Im v) and (-Im v, Re v) are
    the two parts of a complex one. The characters are those of F_p^h, q = p^h, at dual coordinates: digit i
    of x is Tr(e_i x). Block `last` is the standard basis. Of a ternary form one part is a row.
    """

    by_block: ClassVar[str] = "phases"

    def __init__(self, form: ComplexMUB | TernaryMUB | HigherPhases, n: int) -> None:
        super().__init__()
        self.own_d, q = form.own_d, form.own_d // 2
        self.paired = not isinstance(form, TernaryMUB)
        self.size = 2 * q if self.paired else q
        self.last = form.own_n // self.size - (not isinstance(form, HigherPhases))
        p, h = prime_power(q) or (q, 1)
        self.shape = (p,) * h
        elements, places = field(q), p ** torch.arange(h, device="cpu")
        dual = (elements.trace[elements.multiply(places, torch.arange(q, device="cpu")[:, None])] * places).sum(1)
        rows = _first_rows(form, self.size, min(-(-n // self.size), self.last))
        phases = torch.empty(len(rows), q, 2, dtype=torch.float32, device="cpu")
        phases[:, dual] = torch.stack((rows[:, :q], -rows[:, q:]), -1)
        self._hold(phases=phases, dual=dual)

    def products(self, features: Tensor, parts: Iterable[slice]) -> Iterator[Tensor]:
        x = torch.complex(*features.chunk(2, 1))
        z, phases = torch.empty_like(x).index_copy_(1, self._dual(x), x), self._phases(features)
        for part in parts:
            if part.start == self.last:
                yield torch.view_as_real(x).flatten(1)[:, None] if self.paired else x.imag[:, None]
            else:
                found = torch.fft.fftn(
                    (z[:, None] * phases[self._here(part)]).unflatten(-1, self.shape), dim=self._axes
                )
                yield torch.view_as_real(found).flatten(2) if self.paired else found.real.flatten(2)

    def total(self, parts: Iterable[tuple[slice, Tensor]], zeros: Tensor) -> Tensor:
        phases = self._phases(zeros)
        total = torch.zeros_like(torch.complex(*zeros.chunk(2, 1)))
        standard = torch.zeros_like(total)
        for part, weights in parts:
            z = torch.view_as_complex(weights.unflatten(-1, (-1, 2))) if self.paired else weights.to(total.dtype)
            if part.start == self.last:
                standard += z[:, 0] if self.paired else 1j * z[:, 0]
            else:
                found = torch.fft.ifftn(z.unflatten(-1, self.shape), dim=self._axes, norm="forward")
                total += (found.flatten(2) * phases[self._here(part)].conj()).sum(1)
        total = total[:, self._dual(total)] + standard
        return torch.cat((total.real, total.imag), 1)

    @property
    def _axes(self) -> tuple[int, ...]:
        return tuple(range(-len(self.shape), 0))

    def _phases(self, x: Tensor) -> Tensor:
        return torch.view_as_complex(self.constant("phases", x.device).to(x.dtype))

    def _dual(self, x: Tensor) -> Tensor:
        return _index(self.constant("dual", x.device))


class PackedPoints(Transform):
    """Rows of one small matrix on the coordinates of each point, which its lines name."""

    by_block: ClassVar[str] = "lines"

    def __init__(self, form: Packing, n: int) -> None:
        super().__init__()
        self.own_d, self.size, self.last = form.own_d, form.order, form.points
        lines = form.lines(torch.arange(-(-n // self.size), device="cpu"))
        self._hold(lines=lines, matrix=form.rows(0, self.size)[:, lines[0]])

    def products(self, features: Tensor, parts: Iterable[slice]) -> Iterator[Tensor]:
        columns, lines, matrix = features.T.contiguous(), *self._tables(features)
        for part in parts:
            yield (columns[lines[self._here(part)]].transpose(1, 2) @ matrix).transpose(0, 1)

    def total(self, parts: Iterable[tuple[slice, Tensor]], zeros: Tensor) -> Tensor:
        total, lines, matrix = zeros.T.contiguous(), *self._tables(zeros)
        for part, weights in parts:
            total.index_add_(0, lines[self._here(part)].flatten(), (matrix @ weights.permute(1, 2, 0)).flatten(0, 1))
        return total.T

    def _tables(self, x: Tensor) -> tuple[Tensor, Tensor]:
        lines, matrix = (self.constant(name, x.device) for name in ("lines", "matrix"))
        return _index(lines), matrix.T.to(x.dtype)


class LabelledBases(Transform):
    """Bases with a label each: what a feature has at the label is added to its products with the basis."""

    by_block: ClassVar[str] = "labels"

    def __init__(self, form: Labels, bases: Transform) -> None:
        super().__init__()
        self.bases, self.cut = bases, form.cut
        self.own_d, self.size, self.last = form.own_d, bases.size, bases.last
        own = form.form.own_d - form.cut
        firsts = _first_rows(form, self.size, form.count)
        self.share = math.sqrt(1 / (1 + form.form.cosine))
        self._hold(labels=firsts[:, own:])

    def keep(self, start: int, stop: int) -> None:
        super().keep(start, stop)
        self.bases.keep(start, stop)

    def products(self, features: Tensor, parts: Iterable[slice]) -> Iterator[Tensor]:
        table = self.constant("labels", features.device).to(features.dtype)
        own, labels = features.split((self.own_d - table.shape[1], table.shape[1]), 1)
        added = labels @ table.T
        parts = list(parts)
        found = self.bases.products(F.pad(own * self.share, (self.cut, 0)), parts)
        for part, products in zip(parts, found, strict=True):
            yield products + added[:, self._here(part), None]

    def total(self, parts: Iterable[tuple[slice, Tensor]], zeros: Tensor) -> Tensor:
        table = self.constant("labels", zeros.device).to(zeros.dtype)
        sums = zeros.new_zeros(zeros.shape[0], len(table))

        def summed() -> Iterator[tuple[slice, Tensor]]:
            for part, weights in parts:
                sums[:, self._here(part)] = weights.sum(2)
                yield part, weights

        own = self.bases.total(summed(), zeros.new_zeros(zeros.shape[0], self.bases.own_d))[:, self.cut :]
        return torch.cat((own * self.share, sums @ table), 1)


def transform_of(form: catalog.ClosedForm, n: int) -> Transform | None:
    """The fast product with the first n rows of a form, if there is one."""
    match form:
        case QuadraticBases():
            return SignedBases(form, n, form.own_d, range(form.own_d))
        case Punctured():
            return SignedBases(form, n, form.form.own_d, range(form.own_d))
        case KerdockOffFlat():
            flat = sum(1 << bit for bit in FLATS[form.k, form.r])
            return SignedBases(form, n, 4**form.k, [x for x in range(4**form.k) if x & ~flat])
        case ComplexMUB() | TernaryMUB() | HigherPhases():
            return PhasedBases(form, n)
        case Packing():
            return PackedPoints(form, n)
        case Labels():
            bases = transform_of(form.form, n)
            return LabelledBases(form, bases) if bases else None
    return None


def _first_rows(form: catalog.ClosedForm, size: int, blocks: int) -> Tensor:
    """The first row of each of the first blocks."""
    return torch.cat([form.rows(block * size, block * size + 1) for block in range(blocks)])


def _index(table: Tensor) -> Tensor:
    return table.round().long()
