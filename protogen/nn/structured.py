"""Prototypes by formula or by symmetry: their products with features by fast transforms, without the matrix."""

import copy
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from protogen import catalog
from protogen.descent.turned import Orbits
from protogen.errors import BadRequest

from .fingerprint import Fingerprint
from .fixed import FixedPrototypes, near
from .transforms import PhasedBases, Transform, transform_of
from .turning import TurnedOrbits


class StructuredPrototypes(FixedPrototypes):
    """Hold the first n rows of a closed form in R^d, or of orbits, as a formula; `product` is a fast transform.

    `form` is a closed form of the catalogue or its label, such as "kerdock(k=5)"; without n and d it is all
    of its rows in its own dimension. They are the rows of a file with this certificate: `rows` and `vectors`
    give the same bytes where the form is exact, and `product` is the product with them but for rounding.
    In memory are tables of about n numbers, which no `state_dict` holds, and a part of the work at a time.
    They are computed under `torch.device("meta")` too. The fingerprint is that of the label and n and d, unless
    another is given, as `as_prototypes` gives that of a file.

    `form` may also be `Orbits` of a cyclic group, which have the d of their vectors: a vector of each orbit is held,
    and the fingerprint is that of the rows.

    Bases of signs (Kerdock, Delsarte-Goethals with Gold's, Z4-Kerdock, also punctured or off a flat) take a
    fast Walsh-Hadamard transform, mutually unbiased bases of C^q and higher phases an FFT, packings such as
    nets a gather and a Hadamard matrix of one point's order; labels are added to those of bases. Orbits take an
    FFT each. All of it is in float32, under autocast too, and in float64 for features in float64.

    Raises BadRequest where the form is unknown or has no fast product, and where n or d do not fit it.

    >>> import torch
    >>> from protogen.nn import StructuredPrototypes
    >>> prototypes = StructuredPrototypes("mub(p=7)", n=100)
    >>> prototypes.d, prototypes.product(torch.ones(2, 14)).shape
    (14, torch.Size([2, 100]))
    """

    sha256: Tensor
    first = 0  # the row that the table of signs begins with

    def __init__(
        self,
        form: catalog.ClosedForm | str | Orbits,
        n: int | None = None,
        d: int | None = None,
        *,
        signed: bool = False,
        fingerprint: Fingerprint | None = None,
    ) -> None:
        super().__init__()
        self.laid: catalog.Padded | Orbits
        if isinstance(form, Orbits):
            self.laid = _first_of(form, n, d, signed)
        else:
            self.laid = laid_out(catalog.from_label(form) if isinstance(form, str) else form, n, d, signed)
        self.identify(fingerprint or self._own_fingerprint(self.n))
        device = torch.get_default_device()
        with torch.device("cpu"):
            self.transform = _transform(self.laid)
        if signed:
            self.hold("signs", catalog.row_signs(0, self.n))
        if device.type != "meta":
            self.to(device)

    @property
    def n(self) -> int:
        return self.laid.n

    @property
    def d(self) -> int:
        return self.laid.shape[1]

    @property
    def _block(self) -> int:
        return self.transform.size

    def part(self, start: int, stop: int) -> "StructuredPrototypes":
        """Return the same prototypes with tables for products with rows start to stop - 1 alone."""
        part = copy.deepcopy(self)
        part.transform.keep(start, stop)
        if "signs" in part._constants:
            part.hold("signs", part.constant("signs")[start:stop].clone())
            part.first = start
        return part

    def rows(self, start: int, stop: int) -> Tensor:
        return self.laid.rows(start, stop).to(self.sha256.device)

    def vectors(self, classes: Tensor) -> Tensor:
        if torch.compiler.is_compiling() or torch._C._functorch.is_functorch_wrapped_tensor(classes):
            raise BadRequest(
                "the rows of a formula are looked up by number, which torch.compile and vmap have not: hold them, with "
                "FrozenPrototypes(prototypes.rows(0, n))"
            )
        if isinstance(self.laid, Orbits):
            return self.laid.at(classes.cpu()).to(classes.device)
        distinct, place = classes.unique(return_inverse=True)
        rows = [self.laid.rows(index, index + 1) for index in distinct.tolist()]
        return torch.cat([torch.empty(0, self.d, dtype=torch.float32, device="cpu"), *rows]).to(classes.device)[place]

    def _product(self, features: Tensor, start: int, stop: int) -> Tensor:
        if isinstance(features, torch.fx.Proxy):
            raise BadRequest("torch.fx records no fast transform: put as_linear() in the head's place first")
        if torch.onnx.is_in_onnx_export():
            self._check_exporter()
        own = features[..., : self.transform.own_d].reshape(-1, self.transform.own_d)
        product = self._turned(_apply(own, self.transform, start, stop), start, stop)
        return product.view(*features.shape[:-1], stop - start)

    def _combine(self, weights: Tensor, start: int, stop: int) -> Tensor:
        weights = self._turned(weights, start, stop)
        sums = _apply(weights.reshape(-1, stop - start), self.transform, start, stop, transposed=True)
        return F.pad(sums, (0, self.d - self.transform.own_d)).view(*weights.shape[:-1], self.d)

    def _turned(self, products: Tensor, start: int, stop: int) -> Tensor:
        """Multiply what belongs to rows start to stop - 1, (..., stop - start), with their signs, if they have some."""
        if "signs" not in self._constants:
            return products
        return products * self.constant("signs", products.device)[start - self.first : stop - self.first].to(
            products.dtype
        )

    def firsts(self, n: int) -> list[Fingerprint]:
        rows = Fingerprint.of_rows(replace(self.laid, n=n))
        return [rows] if isinstance(self.laid, Orbits) else [self._own_fingerprint(n), rows]

    def _own_fingerprint(self, n: int) -> Fingerprint:
        if isinstance(self.laid, Orbits):
            return Fingerprint.of_rows(replace(self.laid, n=n))
        label = catalog.label(self.laid.form)
        return Fingerprint.of_label(f"{label}, signed," if self.laid.signed else label, n, self.d)

    def _agrees(self, saved: Fingerprint | None, rows: Tensor) -> bool:
        return rows.shape[1:] == (self.d,) and len(rows) <= self.n and near(self.rows, rows)

    def _check_exporter(self) -> None:
        """Raise BadRequest where an export to ONNX would give other logits, or none."""
        if torch.jit.is_tracing():  # type: ignore[attr-defined]
            raise BadRequest(
                "the exporter records no fast transform: put as_linear() in the head's place first, or export with "
                "torch.onnx.export(..., dynamo=True)"
            )
        if any(isinstance(module, PhasedBases | TurnedOrbits) for module in self.transform.modules()):
            raise BadRequest("ONNX has no Fourier transform of any order: put as_linear() in the head's place first")

    def extra_repr(self) -> str:
        """Show the form or the group, n and d where the module is printed."""
        if isinstance(self.laid, Orbits):
            return f"orbits of cyclic({self.laid.turns.order}), {super().extra_repr()}"
        return f"{catalog.label(self.laid.form)}, {super().extra_repr()}"


def laid_out(form: catalog.ClosedForm, n: int | None, d: int | None, signed: bool = False) -> catalog.Padded:
    """Lay the first n rows of a form into R^d; all of its rows, and its own dimension, where these are None."""
    n, d = form.own_n if n is None else n, form.own_d if d is None else d
    if not 1 <= n <= form.own_n or d < form.own_d:
        raise BadRequest(
            f"n, d is {n}, {d}; allowed is n from 1 to {form.own_n} and d from {form.own_d}; "
            f"the form is {catalog.label(form)}"
        )
    return catalog.Padded(form, n, d, signed)


def _first_of(orbits: Orbits, n: int | None, d: int | None, signed: bool) -> Orbits:
    """Take the first n of orbits, or all of them. Raises BadRequest on what they have not."""
    n, own = orbits.n if n is None else n, orbits.shape[1]
    if not 1 <= n <= orbits.n or d not in (None, own) or signed:
        got = f"n, d is {n}, {d}" + ", signed" * signed
        raise BadRequest(f"{got}; allowed is n from 1 to {orbits.n} and d {own}; these are orbits")
    return replace(orbits, n=n)


def _transform(laid: catalog.Padded | Orbits) -> Transform:
    """Return the fast product with the rows. Raises BadRequest where there is none."""
    if isinstance(laid, Orbits):
        return TurnedOrbits(laid)
    transform = transform_of(laid.form, laid.n)
    if transform is None:
        raise BadRequest(
            f"form is {catalog.label(laid.form)}; allowed is one with a fast product: "
            "hold the rows of another, with FrozenPrototypes(...)"
        )
    return transform


def _apply(x: Tensor, transform: Transform, start: int, stop: int, transposed: bool = False) -> Tensor:
    # torch.compile traces no function with a jvp of its own.
    function = _Linear if torch.compiler.is_compiling() else _ForwardLinear
    product: Tensor = function.apply(x, transform, start, stop, transposed)
    return product


class _Linear(torch.autograd.Function):
    """The product with rows start to stop - 1, or its transpose: each is the derivative of the other."""

    @staticmethod
    def forward(x: Tensor, transform: Transform, start: int, stop: int, transposed: bool) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return (transform.combine if transposed else transform.product)(x, start, stop)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.parameters = inputs[1:]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        transform, start, stop, transposed = ctx.parameters
        return _apply(gradients[0], transform, start, stop, not transposed), None, None, None, None


class _ForwardLinear(_Linear):
    """The same for forward derivatives and for vmap."""

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        return _apply(tangents[0], *ctx.parameters)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int, ...], x: Tensor, *parameters: Any) -> tuple[Tensor, int]:
        batches = x.movedim(in_dims[0], 0)
        return _apply(batches.flatten(0, 1), *parameters).unflatten(0, batches.shape[:2]), 0
