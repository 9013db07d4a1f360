"""Tensors of a module that stay as they are, whatever is done to its buffers."""

import copy
from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor, nn

from protogen.errors import BadRequest


class Constants(nn.Module):
    """Hold tensors that nothing changes, each beside a registered buffer of the same name.

    The buffer is what training code sees: it moves with the module and may be in `state_dict`. It shares the
    memory of the constant until somebody writes to it, and then it is the buffer that takes memory of its own
    (copy on write). Computations take the constant, by `constant(name)`. So averages in place, casts, broadcasts,
    `to_empty` and loaders that fill buffers reach what frameworks see and not what is computed with.

    A constant keeps its type under `.half()`, `.bfloat16()`, `.double()` and `.to(dtype)`, and keeps its values
    under `.to("meta")` and `.to_empty(...)`. `state_dict` hands out copies. Copies by `copy.deepcopy` share the
    memory of the constants.
    """

    def __init__(self) -> None:
        super().__init__()
        self._constants: tuple[str, ...] = ()

    def hold(self, name: str, tensor: Tensor, *, known: bool = True, persistent: bool = False) -> None:
        """Hold a constant and register its buffer; a constant whose values are not `known` is made when needed."""
        tensor = tensor.detach()
        setattr(self, _own(name), shared(tensor) if known else None)
        self.register_buffer(name, shared(tensor), persistent=persistent)
        self._constants = (*(held for held in self._constants if held != name), name)

    def is_known(self, name: str) -> bool:
        """Whether a constant's values are in memory."""
        return getattr(self, _own(name)) is not None

    def constant(self, name: str, device: torch.device | None = None) -> Tensor:
        """Return a constant on the device of its buffer, or on `device` while the buffer is on "meta".

        Whoever takes it must not write to it. Raises BadRequest where its values are not known.
        """
        own, buffer = getattr(self, _own(name)), self._buffers[name]
        if own is not None and buffer is not None and own.device == buffer.device:
            constant: Tensor = own
            return constant
        wanted = device if buffer is None or (buffer.is_meta and device is not None) else buffer.device
        if wanted is None or wanted.type == "meta":
            assert buffer is not None, "a constant has a buffer"
            return buffer
        if torch.compiler.is_compiling():
            raise BadRequest(f"{name} is not on {wanted} yet: call the model once before it is compiled")
        return self._placed(name, wanted)

    def values(self, name: str) -> Tensor:
        """Return a constant wherever its values are, or make them; the module stays where it is."""
        own: Tensor | None = getattr(self, _own(name))
        return self._made(name) if own is None else own

    def _made(self, name: str) -> Tensor:
        """Make a constant whose values were not known before. Raises BadRequest where nothing can."""
        raise BadRequest(f"{name} has no values; build the model with them")

    def _placed(self, name: str, device: torch.device) -> Tensor:
        """Put a constant and its buffer on a device with memory, and return it."""
        with torch.inference_mode(False), torch.no_grad():
            own = getattr(self, _own(name))
            placed: Tensor = (self._made(name) if own is None else own).to(device)
            setattr(self, _own(name), placed)
            self._buffers[name] = shared(placed)
        return placed

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        held = {name: self._buffers.pop(name) for name in self._constants}
        try:
            super()._apply(fn, recurse)
        finally:
            self._buffers.update(held)
        for name, buffer in held.items():
            assert buffer is not None, "a constant has a buffer"
            device = _destination(fn, buffer)
            if device.type == "meta":
                self._buffers[name] = torch.empty_like(buffer, device=device)
            elif self.is_known(name) or self._can_make(name):
                self._placed(name, device)
            else:
                self._buffers[name] = torch.empty_like(buffer, device=device)
        return self

    def _can_make(self, name: str) -> bool:
        return False

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        for name in self._constants:
            if prefix + name in destination and self.is_known(name):
                destination[prefix + name] = self.constant(name).clone()

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        for name in self._constants:
            own = getattr(self, _own(name))
            if own is not None:
                memo[id(own)] = own
                memo[id(self._buffers[name])] = self._fresh(name)
        copied = type(self).__new__(type(self))
        memo[id(self)] = copied
        copied.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return copied

    def __getstate__(self) -> dict[str, Any]:
        """Leave the buffers out of a pickle, which are the constants once more."""
        known = [name for name in self._constants if self.is_known(name)]
        buffers = {name: None if name in known else buffer for name, buffer in self._buffers.items()}
        # A pickle looks at memory as if to write there: a copy keeps constant and buffer from parting.
        owned = {_own(name): getattr(self, _own(name)).clone() for name in known}
        return {**self.__dict__, **owned, "_buffers": buffers}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for name in self._constants:
            if self.is_known(name):
                self._buffers[name] = self._fresh(name)

    def _fresh(self, name: str) -> Tensor:
        """Return a new buffer for a known constant, on "meta" where the present one is."""
        own: Tensor = getattr(self, _own(name))
        buffer = self._buffers[name]
        return torch.empty_like(own, device="meta") if buffer is not None and buffer.is_meta else shared(own)


def _destination(fn: Callable[[Tensor], Tensor], buffer: Tensor) -> torch.device:
    """Say where a function that may move, cast or empty takes a buffer; all else that it does is left out."""
    try:
        return fn(buffer.new_empty(0)).device
    except NotImplementedError:  # a move from "meta", where no values are
        return fn(torch.empty(0, dtype=buffer.dtype, device="cpu")).device


def shared(tensor: Tensor) -> Tensor:
    """Return a tensor with the same memory; a write to either of the two gives the written one memory of its own.

    Memory that torch did not allocate, such as numpy's, cannot be shared so: a copy is returned.
    """
    if tensor.is_meta:
        return torch.empty_like(tensor)
    try:
        return tensor._lazy_clone()
    except (AttributeError, RuntimeError):
        return tensor.clone()


def _own(name: str) -> str:
    """The attribute that holds a constant."""
    return f"_own_{name}"
