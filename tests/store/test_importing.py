"""Sets of other programs in a store: measured, found again, loaded, locked, synced; where they come from."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from artifacts import flip
from commands import Command, done, make, one_error
from draws import double_rows, unit_rows
from safetensors.torch import save_file

import protogen
from protogen.errors import BadRequest, NotFound
from protogen.files.foreign import open_matrix
from protogen.files.header import read_header
from protogen.methods.imported import unit_rows as rows_of
from protogen.nn import CosineHead, FrozenPrototypes

ROWS = unit_rows(9, 4)


@pytest.fixture
def theirs(store: Path) -> Path:
    """A file of another program, outside the store."""
    folder = Path("theirs")
    folder.mkdir()
    path = folder / "published.safetensors"
    save_file({"weight": ROWS, "bias": torch.ones(9)}, path)
    return path


def test_it_is_measured_and_kept_bit_for_bit(theirs: Path, store: Path) -> None:
    kept = protogen.import_file(theirs)
    assert kept.path is not None
    assert kept.path.is_relative_to(store / "import" / "d4-n9")
    assert torch.equal(kept.tensor, ROWS)
    assert kept.stats is not None
    measured = protogen.measure_file(theirs)[1]
    assert kept.stats.coherence.value == pytest.approx(measured.coherence.value, abs=1e-7)
    assert (kept.stats.pairs, kept.stats.coherence.i) == (36, measured.coherence.i)
    assert protogen.verify(kept.path, full=True).differences == ()
    assert kept.spec.options["tensor"] == "weight"
    assert kept.spec.inputs.keys() == {"source"}
    assert kept.facts.more == {"imported_from": "published.safetensors"}
    assert (kept.provenance.status, kept.provenance.reproducible) == ("imported", "statistical")
    assert b"theirs" not in kept.path.read_bytes()


def test_the_same_bytes_are_the_same_request(theirs: Path) -> None:
    kept = protogen.import_file(theirs)
    moved = theirs.rename("other.safetensors")
    again = protogen.import_file(moved, "weight")
    assert (again.path, again.facts) == (kept.path, kept.facts)
    assert len(protogen.artifacts()) == 1
    assert protogen.import_file(moved, transpose=True, normalize=True).spec.key != kept.spec.key
    save_file({"weight": ROWS.flip(0)}, moved)
    assert protogen.import_file(moved).spec.key != kept.spec.key


def test_it_is_listed_loaded_trained_on_and_extended(theirs: Path) -> None:
    kept = protogen.import_file(theirs)
    assert kept.path
    (entry,) = protogen.artifacts(method="import")
    assert (entry.path, entry.error) == (kept.path, None)
    assert protogen.best("import", d=4).digest == kept.digest
    head = CosineHead(FrozenPrototypes(protogen.load(kept.path)), temperature=1.0)
    assert torch.allclose(head(ROWS[:3]), ROWS[:3] @ ROWS.T, atol=1e-6)
    more = protogen.extend(kept.path, 11, steps=2)
    assert torch.equal(more.tensor[:9], ROWS)
    with pytest.raises(NotFound, match="protogen import"):
        protogen.best("import", d=5)


def test_it_is_locked_and_synced_and_never_made_up(theirs: Path, store: Path) -> None:
    path = protogen.import_file(theirs).path
    assert path
    protogen.pin("theirs", path)
    protogen.push(path, remotes=["remote"])
    path.unlink()
    (failed,) = protogen.sync(accept_equivalent=True)
    assert isinstance(failed.synced.error, BadRequest)
    assert "protogen import" in str(failed.synced.error)
    (fetched,) = protogen.sync(remotes=["remote"])
    assert (fetched.synced.how, fetched.synced.error) == ("fetched", None)
    assert torch.equal(protogen.pinned("theirs").tensor, ROWS)
    with pytest.raises(BadRequest, match="protogen import"):
        protogen.generate(protogen.load(path).spec)


def test_a_damaged_one_is_set_aside_and_brought_again(theirs: Path) -> None:
    path = protogen.import_file(theirs).path
    assert path
    flip(path)
    said: list[str] = []
    assert torch.equal(protogen.import_file(theirs, run=protogen.Run(say=said.append)).tensor, ROWS)
    assert [line.startswith("set aside as") for line in said] == [True]


def test_lengths(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    rows = double_rows(6, 5)
    np.save(path, (rows.float() * (1 + 5e-5)).numpy())
    assert torch.allclose(rows_of(open_matrix(path)).double(), rows, atol=2e-7)  # what a float32 sum may leave
    for dtype, allowed in ((torch.bfloat16, True), (torch.float16, True), (torch.float32, False)):
        saved = tmp_path / f"{dtype}.safetensors"
        save_file({"w": (rows * 1.0015).to(dtype)}, saved)
        if allowed:
            assert (rows_of(open_matrix(saved)).double().norm(dim=1) - 1).abs().max() < 1e-6
        else:
            with pytest.raises(BadRequest, match=r"vector \d has norm 1\.0015; allowed is 1 within 0\.0001.*--norm"):
                rows_of(open_matrix(saved))
        assert torch.allclose(rows_of(open_matrix(saved), True).double(), rows, atol=1e-2)
    turned = tmp_path / "turned.npy"
    np.save(turned, rows.T.numpy())
    with pytest.raises(BadRequest, match="the columns are measured with --transpose"):
        rows_of(open_matrix(turned))
    assert torch.equal(rows_of(open_matrix(turned, None, True)), rows.float())
    np.save(path, np.zeros((3, 3)))
    with pytest.raises(BadRequest, match=r"row 0 has norm 0\.0"):
        rows_of(open_matrix(path), True)


def test_the_command(run: Command, theirs: Path, store: Path) -> None:
    ran = run("import", theirs, "--json")
    assert (ran.code, ran.err) == (0, "")
    assert ran.document["facts"]["imported_from"] == "published.safetensors"
    path = make(run, "import", theirs)
    assert str(path) == ran.document["path"]
    shown = done(run("show", path))
    source = read_header(path).spec.inputs["source"]
    assert f"imported    from published.safetensors, sha256 {source[:12]}" in shown
    assert json.loads(done(run("list", "--json")))["artifacts"][0]["method"] == "import"
    assert str(path) in done(run("verify", path))
    assert "1 removed" not in done(run("prune"))
    pickled = Path("a.pkl")
    pickled.write_bytes(b"\x80\x04.")
    one_error(run("import", pickled), 2, "is a pickle")
    one_error(run("import", "none.npy"), 3, "none.npy")
    one_error(run("import", theirs, "--tensor", "bias"), 2, "'bias' is no matrix")
    assert len(list(store.rglob("*.safetensors"))) == 1
