"""What commands do, in one Python call each: nothing is printed."""

from pathlib import Path

import pytest
from artifacts import flip

import protogen
from protogen.errors import BadRequest, Damaged, NotFound


@pytest.fixture(autouse=True)
def silent(store: Path, capfd: pytest.CaptureFixture[str]) -> object:
    yield
    assert capfd.readouterr() == ("", "")


def made(n: int = 4, store: str | None = None) -> Path:
    path = protogen.ensure(protogen.resolve("simplex", n=n), store=store).path
    assert path
    return path


def test_load_says_where_it_goes_on_to() -> None:
    path = made()
    protogen.pin("backbone", path)
    whole = protogen.load(path)
    assert protogen.load("simplex", n=4).digest == protogen.best("simplex", n=4).digest == whole.digest
    assert protogen.load("backbone").digest == protogen.pinned("backbone").digest == whole.digest
    with pytest.raises(BadRequest, match="unknown method 'backbone'"):
        protogen.best("backbone")
    with pytest.raises(BadRequest, match="'simplex'"):
        protogen.pinned("simplex")


def test_pins_are_added_listed_and_removed() -> None:
    pin = protogen.pin("backbone", made())
    assert protogen.pins() == {"backbone": pin}
    with pytest.raises(BadRequest, match=r"backbone is .* in protogen\.lock") as error:
        protogen.pin("backbone", made(5))
    assert error.value.remedy == "remove it first: `protogen lock remove backbone`"
    key = protogen.cache_key(protogen.pins())
    assert protogen.unpin("backbone") == pin
    assert protogen.pins() == {}
    assert protogen.cache_key({}) != key
    with pytest.raises(NotFound, match=r"backbone: not in protogen\.lock, which has no names"):
        protogen.unpin("backbone")


def test_a_file_goes_to_a_remote_and_comes_back() -> None:
    path = made()
    name = str(path.relative_to("store"))
    assert protogen.push(path, remotes=["remote"])
    assert not protogen.push(path, remotes=["remote"])
    path.unlink()
    assert protogen.pull(name, remotes=["remote"]) == path
    said: list[str] = []
    flip(path)
    assert protogen.pull(name, remotes=["remote"], say=said.append) == path
    assert [line.startswith("set aside as ") for line in said] == [True]
    assert protogen.verify(path).differences == ()


def test_a_project_has_what_its_lock_asks_for() -> None:
    path = made()
    pin = protogen.pin("backbone", path)
    path.unlink()
    (done,) = protogen.sync()
    assert (done.synced.pin, done.synced.how, done.lock_changed) == (pin, "generated", False)
    assert protogen.pinned("backbone").path == path


def test_an_equivalent_changes_the_lock() -> None:
    spec = protogen.resolve("ebv", d=4, n=6, start="random", steps=3)
    path = protogen.ensure(spec).path
    assert path
    pin = protogen.pin("drawn", path)
    flip(path)
    (failed,) = protogen.sync()
    assert isinstance(failed.synced.error, NotFound)
    assert failed.synced.error.remedy.startswith("--accept-equivalent generates one as good")
    (done,) = protogen.sync(accept_equivalent=True)
    assert done.synced.how == "generated"
    assert protogen.pins()["drawn"].digest == done.synced.pin.digest
    assert done.lock_changed == (done.synced.pin != pin)


def test_a_store_is_listed_verified_and_pruned() -> None:
    paths = [made(n) for n in (4, 5, 6)]
    assert [entry.path for entry in protogen.artifacts(method="simplex", d=4)] == [paths[1]]
    assert protogen.verify_store(full=True).is_sound
    flip(paths[0])
    found = protogen.verify_store()
    assert (found.files, list(found.damaged), found.is_sound) == (3, [paths[0]], False)
    with pytest.raises(Damaged):
        protogen.verify(paths[0])
    protogen.pin("kept", paths[1])
    gone = protogen.prune_store(keep=protogen.pins(), dry_run=True)
    assert sorted(each.path for each in gone) == [paths[0], paths[2]]
    assert sorted(each.path for each in protogen.prune_store(keep=protogen.pins())) == [paths[0], paths[2]]
    assert [entry.path for entry in protogen.artifacts()] == [paths[1]]


def test_a_set_is_extended_compared_and_measured() -> None:
    first = protogen.ensure(protogen.resolve("ebv", d=4, n=5, start="random", steps=3))
    assert first.path
    more = protogen.extend(first.path, 7, steps=2)
    assert more.path
    assert more.n == 7
    assert (more.tensor[:5] == first.tensor).all()
    assert not protogen.comparison(first.path, more.path).same
    rows, stats = protogen.measure_file(more.path)
    assert (rows.shape, stats.pairs) == ((7, 4), 21)


def test_what_is_known_is_asked_without_a_store() -> None:
    assert protogen.line_bounds(4, 6)[0].value > 0
    assert protogen.point_bounds(4, 5)[0].value == -0.25
    assert protogen.listing(4, 6, False)["n"] == 6
    assert protogen.search_capacity(3, 0.5).n == 6
