"""Prototypes by formula: their inner products with features by fast transforms, without the matrix."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .. import catalog
from ..catalog.family import ClosedForm, Padded
from ..catalog.fields import field
from ..catalog.kerdock_off_flat import FLATS, KerdockOffFlat
from ..catalog.labels import Labels
from ..catalog.mub import ComplexMUB, TernaryMUB
from ..catalog.packing import Packing
from ..catalog.phases import HigherPhases
from ..catalog.punctured import Punctured
from ..catalog.quadratic import QuadraticBases
from ..errors import BadRequest
from ..prototypes import Prototypes
from ..solution import InMemory
from .frozen import FixedPrototypes, FrozenPrototypes

# Numbers of the output that are computed at a time: what fits a cache, what fills a GPU.
CPU_CHUNK, GPU_CHUNK = 1 << 18, 1 << 24

Gradients = Iterable[tuple[slice, Tensor]]


class StructuredPrototypes(FixedPrototypes):
    """Hold the first n rows of a closed form in R^d as its formula; `product` is a fast transform.

    `form` is a closed form of the catalogue or its label, such as "kerdock(k=5)" or "mub(p=499)"; without
    n and d all of its rows in its own dimension. The rows are those of the file that has this form as its
    certificate: `rows` and `vectors` give the same bytes where the form is exact, and `product` is the
    product with them up to float32 rounding. Memory: a table of about n numbers, which no `state_dict`
    holds, and chunks; never (n, d).

    The transform runs in float32, or in float64 where the features are, under autocast as well. Orthonormal
    bases of signs (Kerdock, Delsarte-Goethals, with Gold's as one of them, and Z4-Kerdock sets, also punctured)
    take a fast Walsh-Hadamard transform, mutually unbiased bases of C^q and higher phases an FFT, packings such
    as nets a gather and a small Hadamard matrix, and labels are added to any bases.

    Raises BadRequest where the form is unknown or has no such transform, and where n or d do not fit it.
    """

    def __init__(self, form: ClosedForm | str, n: int | None = None, d: int | None = None) -> None:
        super().__init__()
        self.form = catalog.from_label(form) if isinstance(form, str) else form
        n, d = n or self.form.own_n, d or self.form.own_d
        if not 1 <= n <= self.form.own_n or d < self.form.own_d:
            raise BadRequest(
                f"n, d is {n}, {d}; allowed is n up to {self.form.own_n} and d from {self.form.own_d}; "
                f"the form is {catalog.label(self.form)}"
            )
        transform = _transform(self.form, n)
        if transform is None:
            raise BadRequest(
                f"form is {catalog.label(self.form)}; allowed is one with a fast product: hold the rows of "
                "another, with FrozenPrototypes(...)"
            )
        self.source = Padded(self.form, n, d)
        self.transform = transform

    @property
    def n(self) -> int:
        return self.source.n

    @property
    def d(self) -> int:
        return self.source.d

    @property
    def _block(self) -> int:
        return self.transform.size

    @property
    def device(self) -> torch.device:
        """Where the tables are."""
        return next(self.buffers()).device

    def rows(self, start: int, stop: int) -> Tensor:
        return self.source.rows(start, stop).to(self.device)

    def vectors(self, classes: Tensor) -> Tensor:
        distinct, place = classes.unique(return_inverse=True)
        rows = [self.source.rows(index, index + 1) for index in distinct.tolist()]
        return torch.cat([torch.empty(0, self.d), *rows]).to(self.device)[place]

    def _product(self, features: Tensor, start: int, stop: int) -> Tensor:
        own = features[..., : self.form.own_d].flatten(0, -2) if features.dim() > 1 else features[None, : self.form.own_d]
        product: Tensor = _Product.apply(own, self.transform, start, stop)
        return product.view(*features.shape[:-1], stop - start)

    def extra_repr(self) -> str:
        """Show the form, n and d where the module is printed."""
        return f"{catalog.label(self.form)}, n={self.n}, d={self.d}"


def as_prototypes(
    source: Tensor | Prototypes | ClosedForm | str | Path, n: int | None = None, d: int | None = None
) -> FixedPrototypes:
    """Return StructuredPrototypes where there is a fast product, else FrozenPrototypes.

    `source` is what FrozenPrototypes takes, or a closed form or its label with n and d. The certificate
    decides, the fact `closed_form` of a record or of a file, of which nothing but the header is read then.
    """
    if isinstance(source, Prototypes):
        named, n, d = source.facts.get("closed_form"), source.n, source.d
    elif isinstance(source, Path) or (isinstance(source, str) and not source.endswith(")")):
        from ..header import read_header

        header = read_header(source)
        named, n, d = header.meta["facts"].get("closed_form"), header.spec.n, header.spec.d
    ...


class Transform(nn.Module, ABC):
    """The product with the rows of a closed form, block by block of `size` rows, and its transpose.

    Blocks are slices of their numbers. Those from `flat` on are made another way, and come alone.
    """

    size: int
    flat: int

    @abstractmethod
    def products(self, features: Tensor, blocks: Sequence[slice]) -> Iterator[Tensor]:
        """Yield the inner products of features (batch, own_d) with some blocks, (batch, blocks, size)."""

    @abstractmethod
    def adjoint(self, zeros: Tensor, gradients: Gradients) -> Tensor:
        """Return the sum of rows that gradients (batch, blocks, size) weigh, in the shape of `zeros`, (batch, own_d)."""

    def chunks(self, batch: int, start: int, stop: int, at_once: int) -> list[slice]:
        """Cut the blocks that rows start to stop - 1 are in."""
        first, last = start // self.size, -(-stop // self.size)
        step = max(1, at_once // max(1, batch * self.size))
        edges = sorted({*range(first, last, step), last, *([self.flat] if first < self.flat < last else [])})
        return [slice(*pair) for pair in pairwise(edges)]
