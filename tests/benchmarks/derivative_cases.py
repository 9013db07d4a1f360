"""Cases of bench_frameworks.py: derivatives of every kind, and the formats that a model is exported to."""

from collections.abc import Callable
from contextlib import contextmanager
from typing import Any
from unittest import mock

import onnxruntime
import torch
from onnxruntime.capi.onnxruntime_pybind11_state import NotImplemented
from torch import Tensor, nn

from protogen.nn import Head, chunked

B = 6


def features_of(head: nn.Module, batch: int = B, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, head.d, generator=generator, dtype=torch.float64).to(dtype)


def labels_of(head: nn.Module) -> Tensor:
    return torch.arange(B) * 7 % head.n


def is_half(head: nn.Module) -> bool:
    return hasattr(head, "prototypes") and head.prototypes.rows(0, 1).dtype.itemsize < 4


def same(found: Tensor, expected: Tensor, head: nn.Module, tolerance: float = 1e-4) -> None:
    """Raise AssertionError unless two results are close, for rows of half precision as close as these are."""
    tolerance = 0.1 if is_half(head) else tolerance
    assert torch.allclose(found.double(), expected.double(), rtol=tolerance, atol=tolerance), "other numbers"
    assert found.abs().max() > 0, "nothing but zeros"


def along(head: Head, z: Tensor, v: Tensor) -> Tensor:
    """The second derivative of the loss along v, by two backward passes."""
    leaf = z.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(head.loss(leaf, labels_of(head)), leaf, create_graph=True)
    return torch.autograd.grad((gradient * v).sum(), leaf)[0]


@contextmanager
def by_chunks() -> Any:
    with mock.patch.object(chunked, "CPU_LOGITS", 2):
        yield


def second(trial: Any) -> None:
    head, step = trial.net().head, 1e-4
    z = features_of(head)
    v = z.flip(0)
    found = along(head, z, v)
    with by_chunks():
        same(along(head, z, v), found, head)
    if is_half(head):
        return  # a step is too small for its numbers
    ends = []
    for sign in (1, -1):
        leaf = (z + sign * step * v).requires_grad_()
        ends.append(torch.autograd.grad(head.loss(leaf, labels_of(head)), leaf)[0])
    same((ends[0] - ends[1]) / (2 * step), found, head, 1e-3)


def functional(trial: Any) -> None:
    head = trial.net().head
    z, y = features_of(head), labels_of(head)

    def loss(z: Tensor) -> Tensor:
        return head.loss(z, y)

    def each(z: Tensor, y: Tensor) -> Tensor:
        return head.loss(z[None], y[None])

    leaf = z.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(leaf), leaf)
    for context in (mock.patch.object(chunked, "CPU_LOGITS", chunked.CPU_LOGITS), by_chunks()):
        with context:
            same(torch.func.grad(loss)(z), gradient, head)
            same(torch.func.jvp(loss, (z,), (z.flip(0),))[1], (gradient * z.flip(0)).sum(), head)
            same(torch.func.jvp(torch.func.grad(loss), (z,), (z.flip(0),))[1], along(head, z, z.flip(0)), head)
            single = [torch.func.grad(each)(z[i], y[i]) for i in range(B)]
            same(torch.func.vmap(torch.func.grad(each))(z, y), torch.stack(single), head)


def compiled(trial: Any) -> None:
    head = trial.net().head
    z, y = features_of(head), labels_of(head)
    for context in (mock.patch.object(chunked, "CPU_LOGITS", chunked.CPU_LOGITS), by_chunks()):
        with context:
            torch._dynamo.reset()
            same(torch.compile(head, backend="aot_eager", fullgraph=True)(z), head(z), head)
            gradients = []
            for loss in (head.loss, torch.compile(head.loss, backend="aot_eager", fullgraph=True)):
                leaf = z.clone().requires_grad_()
                gradients.append(torch.autograd.grad(loss(leaf, y), leaf)[0])
            same(gradients[1], gradients[0], head)


def exported(trial: Any) -> None:
    head = trial.net().head
    batches = ({0: torch.export.Dim("batch")},)
    program = torch.export.export(head, (features_of(head, 3, torch.float32),), dynamic_shapes=batches)
    z = features_of(head, 11, torch.float32)
    same(program.module()(z), head(z), head)


def onnx(dynamo: bool) -> Callable[[Any], None]:
    def run(trial: Any) -> None:
        head, file = trial.net().head, str(trial.folder / "head.onnx")
        asked = (features_of(head, 3, torch.float32),)
        if dynamo:
            batches = ({0: torch.export.Dim("batch")},)
            torch.onnx.export(head, asked, file, dynamo=True, dynamic_shapes=batches, verbose=False)
        else:
            names = {"input_names": ["z"], "dynamic_axes": {"z": {0: "batch"}}}
            torch.onnx.export(head, asked, file, dynamo=False, **names)
        try:
            session = onnxruntime.InferenceSession(file)
        except NotImplemented as error:
            raise RuntimeError(str(error)) from error
        z = features_of(head, 11, torch.float32)
        (found,) = session.run(None, {session.get_inputs()[0].name: z.numpy()})
        same(torch.from_numpy(found), head(z).detach(), head)

    return run


def traced(trial: Any) -> None:
    head = trial.net().head
    z = features_of(head)
    same(torch.fx.symbolic_trace(head)(z), head(z), head)


DERIVATIVES: dict[str, Callable[[Any], None]] = {
    "second derivatives, whole and by chunks": second,
    "torch.func grad, vmap and jvp, whole and by chunks": functional,
    "torch.compile in one graph, whole and by chunks": compiled,
    "torch.export for any batch": exported,
    "ONNX, run by onnxruntime": onnx(dynamo=True),
    "ONNX by the old exporter": onnx(dynamo=False),
    "torch.fx": traced,
}
