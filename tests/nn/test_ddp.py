"""Prototypes in DistributedDataParallel: what two processes send, and that theirs are the same."""

import copy
import gc
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from artifacts import published
from draws import unit_rows
from torch import Tensor, distributed, multiprocessing, nn
from torch.nn.parallel import DistributedDataParallel

from protogen.errors import BadRequest
from protogen.nn import CosineHead, FrozenPrototypes, StructuredPrototypes, ddp_ignore

NAMES = {"prototypes", "sha256", "origin"}


def deep_model(source: Tensor | Path) -> nn.Sequential:
    """Put the head two levels deep, behind a BatchNorm, whose buffers are to be sent."""
    return nn.Sequential(
        nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Sequential(nn.ReLU(), CosineHead(FrozenPrototypes(source)))
    )


def features(step: int) -> Tensor:
    return torch.randn(2, 4, generator=torch.Generator().manual_seed(step))


def bytes_sent(model: nn.Module) -> list[int]:
    """Wrap the model, train for three steps, and count what is broadcast: at construction, then in each step."""
    sent: list[int] = []
    broadcast = distributed._broadcast_coalesced

    def counted(group: Any, tensors: list[Tensor], *args: Any) -> None:
        sent.append(sum(tensor.nbytes for tensor in tensors))
        broadcast(group, tensors, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distributed, "_broadcast_coalesced", counted)
        wrapped = DistributedDataParallel(model)
        for step in range(3):
            wrapped(features(step)).square().sum().backward()
    return sent


def work(rank: int, meeting: Path, files: list[Path], names: list[str]) -> None:
    """What each of the two processes does."""
    distributed.init_process_group(
        "gloo", init_method=meeting.as_uri(), rank=rank, world_size=2, timeout=timedelta(seconds=60)
    )
    rows = unit_rows(500, 3)
    model = deep_model(rows.clone())
    construction, *steps = bytes_sent(deep_model(rows))
    without, *steps_without = bytes_sent(ddp_ignore(model))
    others = sum(buffer.nbytes for buffer in model[1].buffers())
    held = sum(buffer.nbytes for buffer in model[2][1].buffers())
    assert held > rows.nbytes
    assert steps == 3 * [others + held]
    assert steps_without == 3 * [others]
    assert construction - without == held

    # By another way than that count: what a rank alone changes stays changed, and reaches no product.
    buffer, before = model[2][1].prototypes.prototypes, model(features(0))
    buffer += rank
    after = DistributedDataParallel(model)(features(0))
    assert torch.equal(buffer, rows + rank)
    assert torch.equal(after, before)

    alone = [distributed.new_group([one]) for one in (0, 1)]
    ddp_ignore(deep_model(files[rank]), alone[rank])
    ddp_ignore(deep_model(files[0]))
    with pytest.raises(BadRequest) as refused:
        ddp_ignore(deep_model(files[rank]))
    assert str(refused.value) == (
        f"2.1.prototypes is {names[0]} on rank 0 and {names[1]} on rank 1: give every rank the same file"
    )
    with pytest.raises(BadRequest, match=r"2.1.prototypes is None on rank 0 and ebv/.* on rank 1"):
        ddp_ignore(deep_model(files[0]) if rank else nn.Linear(4, 3))
    distributed.barrier()  # neither ends while the other still listens to it


def second(_: int, *args: Any) -> None:
    """The work of the other process."""
    torch.set_num_threads(1)
    work(1, *args)
    gc.collect()  # a process group that is still held as the interpreter ends may abort it
    distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_send_no_prototypes_and_must_have_the_same(tmp_path: Path) -> None:
    files = [published(tmp_path), published(tmp_path, seed=1)]
    args = tmp_path / "meeting", files, [str(FrozenPrototypes(path).fingerprint) for path in files]
    other = multiprocessing.spawn(second, args, join=False)
    try:
        work(0, *args)
    finally:
        distributed.destroy_process_group()
        other.join()


@pytest.fixture
def gloo() -> Iterator[None]:
    """A process group of this process alone."""
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


@pytest.mark.usefixtures("gloo")
def test_other_buffers_are_left_to_torch() -> None:
    model = deep_model(unit_rows(5, 3))
    assert "2.1.prototypes.prototypes" in DistributedDataParallel(model).named_module_buffers
    wrapped = DistributedDataParallel(ddp_ignore(model))
    assert wrapped.named_module_buffers.keys() == {f"1.{name}" for name, _ in model[1].named_buffers()}
    with pytest.raises(BadRequest, match=r"the model is wrapped already; .* call ddp_ignore"):
        ddp_ignore(wrapped)


def ignored(model: nn.Module) -> set[str]:
    """What torch is told to leave out, without processes."""
    assert ddp_ignore(model) is model
    return set(model._ddp_params_and_buffers_to_ignore)


def test_every_name_of_a_frozen_buffer_is_found() -> None:
    model = deep_model(unit_rows(5, 3))
    teacher = copy.deepcopy(model[2])
    assert ignored(nn.ModuleList([teacher, model, model[2]])) == {
        f"{place}.prototypes.{name}" for place in ("0.1", "1.2.1", "2.1") for name in NAMES
    }
    assert ignored(model[2][1].prototypes) == NAMES
    other = nn.Linear(3, 5)
    other.register_buffer("shared", model[2][1].prototypes.prototypes)
    assert ignored(nn.ModuleDict({"a": other, "b": model[2][1]})) == {
        "a.shared",
        *(f"b.prototypes.{name}" for name in NAMES),
    }
    assert ignored(nn.Linear(3, 5)) == set()


def test_tables_of_structured_prototypes_are_found() -> None:
    model = nn.Sequential(nn.Linear(4, 10), CosineHead(StructuredPrototypes("mub(p=5)")))
    assert ignored(model) == {name for name, _ in model.named_buffers()}


def test_what_torch_was_told_before_stays() -> None:
    model = deep_model(unit_rows(5, 3))
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(model, ["1.running_mean"])
    assert ignored(model) == ignored(model) == {"1.running_mean", *(f"2.1.prototypes.{name}" for name in NAMES)}
