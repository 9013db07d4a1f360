"""Which prototype each class has, in a form that no average of models can break."""

import zlib
from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor, nn

from protogen.errors import BadRequest

REMEMBERED = 16  # assignments that an average of models may still stand at


class Places(nn.Module):
    """Hold a prototype for each class, no two the same: `places()` is (c,) int64.

    `value` (c,) and `turn` (1,), the number of the assignment, are float32 buffers, as every loop that averages
    a model's buffers can average them. Averages of different assignments are none; the average of their turns is
    nearest to one, and that one is given. Copies share the memory of the last assignments. In `state_dict` the
    places stand a second time, as bytes, which a checkpoint that is cast whole to half precision keeps.
    """

    value: Tensor
    turn: Tensor

    def __init__(self, places: Tensor, n: int) -> None:
        super().__init__()
        self.prototypes = n
        self.register_buffer("value", places.to(torch.float32))
        self.register_buffer("turn", torch.zeros(1, dtype=torch.float32))
        self._memory = _Memory()
        self._read: tuple[Tensor, Tensor, int, int, Tensor] | None = None

    def forward(self) -> Tensor:
        """Return the prototype of each class, (c,) int64, a tensor that is never written to.

        Raises BadRequest where the buffers were averaged with those of a head that is no copy of this one.
        """
        value, turn = self.value, self.turn
        if torch.compiler.is_compiling() or _is_wrapped(value):
            return value.round().long()
        read = self._read
        if read and read[0] is value and read[1] is turn and read[2:4] == (value._version, turn._version):
            return read[4]
        places = self._resolved()
        self._read = value, turn, value._version, turn._version, places
        return places

    @torch.no_grad()
    def move(self, places: Tensor) -> None:
        """Give the classes other prototypes, (c,)."""
        if not torch.equal(places, self()):
            self.turn.fill_(self._memory.keep(max(self._memory) + 1, places))
            self.value.copy_(places)

    def _resolved(self) -> Tensor:
        """Return the places that the buffers hold, or those of the turn that they are nearest to."""
        turn = self.turn.item()
        places = _valid(self.value, self.prototypes)
        if places is not None and abs(turn - round(turn)) < 1e-3:
            self._memory.keep(round(turn), places)
            return places
        if not self._memory or turn > max(self._memory) + 0.5:
            raise BadRequest(
                "the places of the classes were averaged with those of a head that is no copy of this one: make the "
                "average from a copy.deepcopy of the model, or load the places of one checkpoint"
            )
        return self._memory[min(self._memory, key=lambda kept: abs(kept - turn))].to(self.value.device)

    def get_extra_state(self) -> Tensor:
        """Return turn and places as bytes, with their checksum, for `state_dict`."""
        if _is_wrapped(self.value):
            return torch.empty(0, dtype=torch.uint8, device="cpu")
        turn = round(self.turn.item())
        raw = torch.cat([torch.tensor([turn], device="cpu"), self().cpu()]).int().numpy().tobytes()
        raw += zlib.crc32(raw).to_bytes(4, "little")
        return torch.tensor(list(raw), dtype=torch.uint8, device="cpu")

    def set_extra_state(self, state: Tensor) -> None:
        """Do nothing: the bytes were read with the buffers."""

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        *args: Any,
    ) -> None:
        """Take the places of as many classes as the checkpoint has; each further class gets the first that is free."""
        names = [f"{prefix}{name}" for name in ("value", "turn", "_extra_state")]
        value, turn, packed = (state_dict.get(name) for name in names)
        if value is not None and not value.is_meta and not self.value.is_meta:
            found = _unpacked(packed, self.prototypes) or (
                0 if turn is None else round(float(turn)),
                _valid(value, self.prototypes),
            )
            if found[1] is None:
                raise BadRequest(
                    f"{names[0]} holds no assignment of {len(value)} classes to {self.prototypes} prototypes: were "
                    "checkpoints averaged, or cast? Take the places of one of them"
                )
            places = grown_places(found[1], len(self.value), self.prototypes)
            number = self._memory.keep(found[0], places)
            state_dict[names[0]] = places.to(self.value.device, torch.float32)
            state_dict[names[1]] = torch.full((1,), float(number), dtype=torch.float32, device=self.value.device)
        super()._load_from_state_dict(state_dict, prefix, local_metadata, strict, missing_keys, *args)
        if names[2] in missing_keys:
            missing_keys.remove(names[2])

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Follow `fn` to another device, never to another type."""
        super()._apply(lambda tensor: kept_dtype(fn, tensor), recurse)
        return self


class _Memory(dict[int, Tensor]):
    """The last assignments by their turns, shared by all copies of a head."""

    def keep(self, turn: int, places: Tensor) -> int:
        """Remember places under a turn, another one where it has others, and return which."""
        places = places.cpu()
        if turn in self and not torch.equal(self[turn], places):
            turn = max(self) + 1
        self[turn] = places
        for old in sorted(self)[:-REMEMBERED]:
            if old != turn:
                del self[old]
        return turn

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self


def grown_places(places: Tensor, classes: int, prototypes: int) -> Tensor:
    """Return places (c,) for more classes: each new one has the first prototype that is free.

    Raises BadRequest where there are less classes than places.
    """
    if len(places) > classes:
        raise BadRequest(
            f"the checkpoint has {len(places)} classes, this head {classes}: make the head with as many, or more"
        )
    taken = torch.zeros(prototypes, dtype=torch.bool, device=places.device)
    taken[places] = True
    free = (~taken).nonzero().flatten()
    return torch.cat([places, free[: classes - len(places)]])


def kept_dtype(fn: Callable[[Tensor], Tensor], tensor: Tensor) -> Tensor:
    """Apply what moves or casts a tensor, and undo the cast."""
    applied = fn(tensor)
    return applied if applied.dtype == tensor.dtype else tensor.to(applied.device)


def _valid(value: Tensor, prototypes: int) -> Tensor | None:
    """Return `value` (c,) as int64 where it is places, which no two classes share; None where it is not."""
    places = value.double().round().long()
    near = (value.double() - places).abs() < 1e-3
    right = near.all() & (places >= 0).all() & (places < prototypes).all()
    return places if bool(right) and len(places.unique()) == len(places) else None


def _unpacked(packed: Tensor | None, prototypes: int) -> tuple[int, Tensor] | None:
    """Return turn and places of the bytes that `get_extra_state` wrote; None where they are not those."""
    if packed is None or packed.is_meta or packed.numel() < 8:
        return None
    numbers = packed.detach().double().cpu().round()
    if not ((numbers >= 0) & (numbers <= 255)).all():
        return None
    raw = bytes(numbers.int().tolist())
    if zlib.crc32(raw[:-4]).to_bytes(4, "little") != raw[-4:]:
        return None
    numbers = torch.frombuffer(bytearray(raw[:-4]), dtype=torch.int32).long()
    places = _valid(numbers[1:], prototypes)
    return None if places is None else (int(numbers[0]), places)


def _is_wrapped(value: Tensor) -> bool:
    """Tell whether a tensor has no values to look at."""
    return value.is_meta or type(value) is not Tensor or torch._C._functorch.is_functorch_wrapped_tensor(value)
