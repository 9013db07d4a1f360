"""The artifacts that a Spec is made from: `ensure` finds them in the store by their digests."""

from pathlib import Path

import pytest

from protogen import Run, ensure, resolve
from protogen.errors import NotFound
from protogen.spec import Spec


@pytest.fixture
def centers(tmp_path: Path) -> Path:
    path = ensure(resolve("simplex", n=4), store=tmp_path / "store").path
    assert path
    return path


def derived(centers: Path) -> Spec:
    return resolve("subcenters", d=3, n=4, per_class=2, centers=str(centers))


def test_are_found_in_the_store(centers: Path, tmp_path: Path) -> None:
    spec = derived(centers)
    (digest,) = spec.inputs.values()
    assert ensure(spec, store=tmp_path / "store").spec == spec
    assert ensure(resolve("simplex", n=4), store=tmp_path / "store").digest == digest


def test_are_those_of_the_run_where_the_store_has_them_not(centers: Path, tmp_path: Path) -> None:
    spec, other = derived(centers), tmp_path / "other"
    with pytest.raises(NotFound, match="which the store has not; bring that one into the store") as error:
        ensure(spec, store=other)
    assert "Run(files=(path,))" in error.value.remedy
    assert not other.exists()
    made = ensure(spec, Run(files=(centers,)), store=other)
    assert made.digest == ensure(spec, store=tmp_path / "store").digest


def test_of_a_set_that_is_there_are_not_needed(centers: Path, tmp_path: Path) -> None:
    made = ensure(derived(centers), store=tmp_path / "store")
    spec = made.spec
    centers.unlink()
    assert ensure(spec, store=tmp_path / "store").digest == made.digest
