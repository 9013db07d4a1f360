"""Prototypes under DistributedDataParallel: never sent, and the same on every rank."""

from typing import TypeVar

from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from protogen.errors import BadRequest

from .assignment import AssignmentHead
from .fingerprint import Fingerprint
from .fixed import FixedPrototypes

Model = TypeVar("Model", bound=nn.Module)


def ddp_ignore(model: Model, group: "distributed.ProcessGroup | None" = None) -> Model:
    """Keep the buffers of FixedPrototypes and AssignmentHeads in `model` out of what DistributedDataParallel sends.

        model = DistributedDataParallel(ddp_ignore(model))

    Neither the construction nor a forward sends the prototypes then, nor assignments and class means, which
    are the same on all ranks anyway; other buffers, such as the running
    statistics of BatchNorm, are sent as before. `model` must be the very module that is wrapped: torch reads
    from no other what to leave out. Where processes run, every rank of `group` must make this call: it compares
    the fingerprints once. Returns `model`; what torch was told before to leave out stays so.

    Raises BadRequest where the model is wrapped already and, on every rank, where the prototypes of one rank are
    not those of rank 0.

    >>> import torch
    >>> from protogen.nn import CosineHead, ddp_ignore
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 3), CosineHead(torch.eye(3)))
    >>> ddp_ignore(model) is model
    True
    """
    if isinstance(model, DistributedDataParallel):
        raise BadRequest("the model is wrapped already; allowed is one that is not: call ddp_ignore(model) first")
    fixed = {name: module for name, module in model.named_modules() if isinstance(module, FixedPrototypes)}
    heads = (module for module in model.modules() if isinstance(module, AssignmentHead))
    buffers = {id(buffer) for module in (*fixed.values(), *heads) for buffer in module.buffers()}
    # By every name: a shared buffer has several, and torch asks for one of them.
    names = [name for name, buffer in model.named_buffers(remove_duplicate=False) if id(buffer) in buffers]
    told = getattr(model, "_ddp_params_and_buffers_to_ignore", ())
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(model, [*told, *names])
    if distributed.is_available() and distributed.is_initialized():
        _compare({name: module.fingerprint for name, module in fixed.items()}, group)
    return model


def _compare(mine: dict[str, Fingerprint | None], group: "distributed.ProcessGroup | None") -> None:
    """Raise BadRequest where a rank has other prototypes than rank 0."""
    found: list[dict[str, Fingerprint | None]] = [{}] * distributed.get_world_size(group)
    distributed.all_gather_object(found, mine, group)
    for rank, theirs in enumerate(found):
        for name in sorted(found[0].keys() | theirs.keys()):
            ours, other = found[0].get(name), theirs.get(name)
            if ours != other:
                raise BadRequest(
                    f"{name or 'the model'} is {ours} on rank 0 and {other} on rank {rank}: "
                    "give every rank the same file"
                )
