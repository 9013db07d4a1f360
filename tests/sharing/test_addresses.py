"""Addresses of remotes that are wrong, in one line: what was given, and what to do."""

from pathlib import Path

import pytest

from protogen.errors import BadRequest, DiskError, IntegrityError, NotFound, RemoteError
from protogen.files.header import REMEDY
from protogen.methods import resolve
from protogen.sharing.addresses import shown
from protogen.sharing.remotes import Remote, fetch, push, remote_header
from protogen.store.access import ensure_path


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    return ensure_path(resolve("ebv", d=4, n=4), store=tmp_path / "store")


@pytest.mark.parametrize("url", ["s3:///", "http://", "ftp://host/x"])
def test_one_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(BadRequest, match=f"remote '{url}'; allowed are a directory and a URL"):
        Remote.of(url)


@pytest.mark.slow
def test_one_that_no_url_parser_takes_is_an_error_in_one_line() -> None:
    with pytest.raises(RemoteError, match=r"^http://\[bad/x: "):
        remote_header("http://user:word@[bad/x")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("https://me:word@host/a/b", "https://host/a/b"),
        ("https://me@host:80/a", "https://host:80/a"),
        ("https://host/a@b", "https://host/a@b"),
        ("https://[::1]/a@b", "https://[::1]/a@b"),
        ("https://me:wo/rd@host/a", "https://...@host/a"),
        ("https://me:wo#rd@host/a", "https://...@host/a"),
        ("https://me:wo?rd@host/a", "https://...@host/a"),
        ("https://me:w@o/rd@host/a", "https://...@host/a"),
        ("https://host/a?X-Amz-Signature=01&b=2", "https://host/a"),
        ("https://host/a?token", "https://host/a"),
        ("https://host/a#token", "https://host/a"),
        ("s3://bucket/a?b@c", "s3://bucket/a?b@c"),
        ("s3://bucket/a?versionId=1&sig=2", "s3://bucket/a"),
        ("s3://KEY:se/cret@bucket/a", "s3://...@bucket/a"),
        ("/a/b@c?d=e", "/a/b@c?d=e"),
    ],
)
def test_who_asks_is_not_shown(url: str, said: str) -> None:
    assert shown(url) == said


def test_a_directory_that_is_a_file_has_nothing_and_takes_nothing(tmp_path: Path, artifact: Path) -> None:
    place = Remote.of(str(tmp_path / "file"))
    (tmp_path / "file").touch()
    name = artifact.relative_to(tmp_path / "store")
    with pytest.raises(NotFound, match="no remote has it"):
        fetch(name, None, tmp_path / "new", [place])
    with pytest.raises(DiskError, match="Not a directory"):
        push(artifact, place)


def test_what_is_damaged_at_a_remote_is_to_be_replaced_there(tmp_path: Path, artifact: Path) -> None:
    place = Remote.of(str(tmp_path / "store"))
    name = artifact.relative_to(tmp_path / "store")
    raw = bytearray(artifact.read_bytes())
    raw[100] ^= 1
    artifact.write_bytes(raw)
    with pytest.raises(IntegrityError, match=r"; delete it there and push it anew$") as header:
        remote_header(place.file(name))
    with pytest.raises(RemoteError, match="delete it there and push it anew") as whole:
        fetch(name, None, tmp_path / "new", [place])
    assert REMEDY not in f"{header.value} {whole.value}"
