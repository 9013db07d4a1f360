"""Python objects from one rank to the others: pickled, their large tensors sent beside as they are."""

import io
import pickle
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, distributed

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

LARGE = 2**16  # bytes of a tensor that is sent beside, without a copy in the pickle

Place = tuple[int, tuple[int, ...], torch.dtype]  # of a tensor that is sent beside: its number, shape and type


class _Packer(pickle.Pickler):
    """Pickle all but large tensors, which are listed."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self.beside: list[Tensor] = []

    def persistent_id(self, thing: Any) -> Place | None:
        if type(thing) is not Tensor or thing.nbytes < LARGE:
            return None
        self.beside.append(thing.detach())
        return len(self.beside) - 1, tuple(thing.shape), thing.dtype


class _Unpacker(pickle.Unpickler):
    """Read what `_Packer` wrote, with tensors without values in the place of those that follow."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self.beside: dict[int, Tensor] = {}

    def persistent_load(self, place: Place) -> Tensor:
        number, shape, dtype = place
        return self.beside.setdefault(number, torch.empty(shape, dtype=dtype, device="cpu"))


def send(thing: object, source: int, group: "ProcessGroup", where: torch.device) -> None:
    """Send a thing from this rank, `source` among all ranks, to the others of the group, by tensors on `where`."""
    file = io.BytesIO()
    packer = _Packer(file)
    packer.dump(thing)
    packed = torch.frombuffer(file.getbuffer(), dtype=torch.uint8).to(where)
    distributed.broadcast(torch.tensor([len(packed)], device=where), source, group)
    distributed.broadcast(packed, source, group)
    for tensor in packer.beside:
        distributed.broadcast(tensor.to(where).contiguous(), source, group)


def receive(source: int, group: "ProcessGroup", where: torch.device) -> Any:
    """Receive what rank `source` sends; its large tensors come on the CPU."""
    size = torch.zeros(1, dtype=torch.int64, device=where)
    distributed.broadcast(size, source, group)
    packed = torch.empty(int(size), dtype=torch.uint8, device=where)
    distributed.broadcast(packed, source, group)
    unpacker = _Unpacker(io.BytesIO(packed.cpu().numpy().tobytes()))
    thing = unpacker.load()
    for _, tensor in sorted(unpacker.beside.items()):
        arriving = tensor.to(where)
        distributed.broadcast(arriving, source, group)
        if arriving is not tensor:
            tensor.copy_(arriving)
    return thing
