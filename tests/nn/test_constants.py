"""Constants beside their buffers: who shares memory, who has some of its own, and what is kept."""

import copy
import io
from pathlib import Path

import pytest
import torch
from draws import unit_rows
from torch import nn
from torch._C import _data_address as address  # where a tensor lies; its data_ptr() would part what is shared

import protogen
from protogen.errors import BadRequest
from protogen.nn import CosineHead, FrozenPrototypes, SubcenterHead


def test_source_module_copy_and_buffer_share_until_one_is_written_to() -> None:
    rows = unit_rows(5, 3)
    kept, frozen = rows.clone(), FrozenPrototypes(rows)
    copied = copy.deepcopy(frozen)
    tensors = (rows, frozen.rows(0, 5), frozen.prototypes, copied.rows(0, 5), copied.prototypes)
    assert len({address(tensor) for tensor in tensors}) == 1
    copied.prototypes.mul_(0.5)
    rows.zero_()
    for module in (frozen, copied):
        assert torch.equal(module.rows(0, 5), kept)
        assert torch.equal(module.product(torch.eye(3)), kept.T)
    assert torch.equal(frozen.prototypes, kept)


def test_a_pickle_holds_the_rows_once() -> None:
    file = io.BytesIO()
    torch.save(FrozenPrototypes(unit_rows(500, 100)), file)
    assert 200_000 < len(file.getvalue()) < 220_000  # 500 x 100 x 4 bytes


@pytest.mark.parametrize("persistent", [True, False])
def test_rows_come_back_from_meta(persistent: bool) -> None:
    rows = unit_rows(5, 3)
    model = nn.Sequential(nn.Linear(4, 3), CosineHead(FrozenPrototypes(rows, persistent=persistent)))
    model.to("meta")
    assert all(tensor.is_meta for tensor in (*model.parameters(), *model.buffers()))
    model.to_empty(device="cpu")
    assert torch.equal(model[1].prototypes.prototypes, rows)
    assert torch.equal(model[1].prototypes.rows(0, 5), rows)


def test_a_file_that_has_changed_is_not_read(tmp_path: Path) -> None:
    def made(seed: int) -> Path:
        path = protogen.ensure("ebv", d=8, n=12, seed=seed, start="random", steps=2, store=tmp_path).path
        assert path
        return path.rename(tmp_path / f"{seed}.safetensors")

    one, other = made(0), made(1)
    with torch.device("meta"):
        frozen = FrozenPrototypes(one)
    other.replace(one)
    with pytest.raises(BadRequest, match=r"the model was built with .*: bring that file back"):
        frozen.product(torch.ones(1, 8))


def test_subcentres_of_a_file_and_of_its_tensor_are_the_same(tmp_path: Path) -> None:
    made = protogen.ensure("subcenters", d=8, n=5, store=tmp_path)
    heads = [SubcenterHead(source) for source in (made, made.path, made.tensor)]
    with torch.device("meta"):
        heads.append(SubcenterHead(made.path))
    assert len({head.prototypes.fingerprint.digest for head in heads}) == 1
    heads[2].load_state_dict(heads[0].state_dict())
