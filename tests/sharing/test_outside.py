"""Servers that nobody trusts: what they send is bounded, what is secret is said to nobody, nothing moves a terminal."""

import contextlib
import gzip
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from artifacts import names, published
from commands import Command, one_error

from protogen.errors import BadRequest, NotFound, ProtogenError, RemoteError
from protogen.files.header import read_header
from protogen.run import Run
from protogen.sharing import transport
from protogen.sharing.addresses import scrubbed
from protogen.sharing.remotes import Remote, fetch, find_header, remote_header
from protogen.sharing.sync import sync_pins
from protogen.store.pins import Pin
from protogen.store.store import Store

SECRET = "c0ffee-Secret/w+d=="
SIGNED = f"X-Amz-Signature={SECRET}&token={SECRET}"
MOST = 400_000_000  # bytes that a server without an end sends, if anybody takes them

Answer = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    """What the server's `answer` says, to each request."""

    server: "Server"

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        with contextlib.suppress(ConnectionError):
            self.server.answer(self)

    def begin(self, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def give(self, data: bytes) -> None:
        if self.command == "GET":
            self.wfile.write(data)
            self.server.sent += len(data)


class Server(ThreadingHTTPServer):
    """An HTTP server in a thread, which answers as a test says."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer, self.url = answer, f"http://127.0.0.1:{self.server_port}"
        self.asked: list[str] = []
        self.sent = 0

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # a client that has what it wants hangs up


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Answer], Server]]:
    monkeypatch.setattr(transport, "PAUSE_S", 0.01)
    monkeypatch.setattr(transport, "STALL_S", 5.0)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with contextlib.ExitStack() as stack:

        def begun(answer: Answer) -> Server:
            server = Server(answer)
            thread = threading.Thread(target=server.serve_forever, args=(0.01,))
            thread.start()
            stack.callback(thread.join)
            stack.callback(server.server_close)
            stack.callback(server.shutdown)
            return server

        yield begun


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    return published(tmp_path / "there")


def name_of(artifact: Path) -> str:
    return artifact.relative_to(artifact.parents[2]).as_posix()


def zeros(handler: Handler, pack: Callable[[bytes], bytes] = bytes) -> None:
    for _ in range(MOST // 1_000_000):
        handler.give(pack(bytes(1_000_000)))


def unlengthed(raw: bytes) -> Answer:
    def answer(handler: Handler) -> None:
        handler.begin()
        handler.give(raw)

    return answer


def packed(raw: bytes) -> Answer:
    def answer(handler: Handler) -> None:
        handler.begin(Content_Encoding="gzip")
        handler.give(gzip.compress(raw))

    return answer


def endless(raw: bytes) -> Answer:
    def answer(handler: Handler) -> None:
        handler.begin()
        handler.give(raw)
        zeros(handler)

    return answer


def bomb(raw: bytes) -> Answer:
    data = gzip.compress(raw + bytes(MOST // 10), 1)

    def answer(handler: Handler) -> None:
        handler.begin(Content_Encoding="gzip")
        handler.give(data)

    return answer


@pytest.mark.parametrize("answer", [unlengthed, packed], ids=["no length", "gzip"])
def test_a_server_that_says_no_length_is_pulled_from_and_shown(
    answer: Callable[[bytes], Answer], serve: Callable[[Answer], Server], artifact: Path, run: Command, store: Path
) -> None:
    server, name = serve(answer(artifact.read_bytes())), name_of(artifact)
    assert find_header(name, [Remote(server.url)]) == read_header(artifact)
    ran = run("pull", name, "--remote", server.url)
    assert (ran.code, ran.out, ran.err) == (0, f"{store / name}: pulled\n", "")
    assert (store / name).read_bytes() == artifact.read_bytes()
    assert run("show", f"{server.url}/{name}").code == 0


@pytest.mark.parametrize("answer", [endless, bomb], ids=["plain", "gzip"])
def test_a_download_stops_at_the_size_that_its_first_bytes_promise(
    answer: Callable[[bytes], Answer], serve: Callable[[Answer], Server], artifact: Path, tmp_path: Path
) -> None:
    server, size = serve(answer(artifact.read_bytes())), artifact.stat().st_size
    most: list[int] = []

    class Watched(type(tmp_path)):  # type: ignore[misc]  # a path of this system
        """A path that says, when it goes, how large its file had become."""

        def unlink(self, missing_ok: bool = False) -> None:
            most.append(self.stat().st_size)
            super().unlink(missing_ok)

    with pytest.raises(RemoteError, match=f"too long: it has {size + 1} bytes or more, its header promises {size}; "):
        fetch(name_of(artifact), None, Watched(tmp_path / "got"), [Remote(server.url)])
    assert len(most) == 2  # tried twice
    assert max(most) <= size
    assert server.sent < MOST / 4
    assert names(tmp_path) == names(artifact.parents[2].parent)


# ---- what is secret


@pytest.mark.parametrize("url", [f"me:{word}@127.0.0.1:1" for word in ("se/cret", "se?cret", "se#cret", "se@/cret")])
def test_a_password_that_no_address_can_hold_is_refused_unseen(url: str, run: Command) -> None:
    with pytest.raises(
        BadRequest, match=r"remote 'http://\.\.\.@127.0.0.1:1': has a password with / \? # or @"
    ) as error:
        Remote.of(f"http://{url}")
    assert "cret" not in str(error.value)
    for words in (("show", f"http://{url}/x"), ("pull", f"http://{url}/x"), ("sync", "--remote", f"http://{url}")):
        ran = run(*words)
        assert ran.code in (2, 3)
        assert "cret" not in ran.out + ran.err


def test_a_signature_stays_behind_the_path_and_is_not_shown(
    serve: Callable[[Answer], Server], artifact: Path, run: Command, store: Path
) -> None:
    server, name = serve(unlengthed(artifact.read_bytes())), name_of(artifact)
    ran = run("pull", name, "--remote", f"{server.url}/sets/?{SIGNED}")
    assert (ran.code, ran.err) == (0, "")
    assert {path.partition("?")[0] for path in server.asked} == {f"/sets/{name}"}
    assert all(SECRET in path for path in server.asked)
    ran = run("pull", f"{server.url}/{name}?{SIGNED}")
    assert (ran.code, ran.err) == (0, "")
    shown = run("show", f"{server.url}/{name}?{SIGNED}", "--json")
    assert shown.document["path"] == f"{server.url}/{name}"
    pin = Pin.of("mine", store / name, read_header(store / name))
    (store / name).unlink()
    (done,) = sync_pins(Store(store), [pin], [Remote.of(f"{server.url}?{SIGNED}")])
    assert done.url == f"{server.url}/{name}"
    for path in store.rglob("*"):
        assert path.is_dir() or SECRET.encode() not in path.read_bytes()


def refused(status: int, **headers: str) -> Answer:
    return lambda handler: handler.begin(status, **headers)


@pytest.mark.parametrize(
    "answer",
    [
        refused(500),
        refused(404),
        refused(403),
        refused(418),
        refused(302, Location=f"file:///etc/passwd?{SIGNED}"),
        refused(302, Location=f"ftp://me:{SECRET}@127.0.0.1/x?{SIGNED}"),
        refused(302, Location=f"http://me:{SECRET}@127.0.0.1:99999/x?{SIGNED}"),
        refused(302, Location=f"//me:{SECRET}@[bad/x?{SIGNED}"),
        refused(302, Location=f"/again?{SIGNED}"),
        unlengthed(f"<html> {SIGNED}".encode()),
    ],
)
def test_no_trouble_says_what_is_secret(
    answer: Answer, serve: Callable[[Answer], Server], artifact: Path, tmp_path: Path
) -> None:
    server, said = serve(answer), list[str]()
    url = f"{server.url.replace('//', f'//me:%43{SECRET[1:6]}@')}/sets?{SIGNED}"
    pin = Pin.of("mine", artifact, read_header(artifact))
    (done,) = sync_pins(Store(tmp_path / "here"), [pin], [Remote.of(url)], Run(say=said.append))
    assert isinstance(done.error, NotFound | RemoteError)
    with pytest.raises(ProtogenError) as header:
        remote_header(url)
    for text in (str(done.error), str(header.value), *said):
        assert SECRET not in text
        assert SECRET[1:6] not in text
        assert "passwd" not in text
        assert "\n" not in text


@pytest.mark.parametrize("location", ["file:///etc/hostname", "ftp://127.0.0.1/x", "data:,x"])
def test_redirects_keep_to_http(location: str, serve: Callable[[Answer], Server]) -> None:
    server = serve(refused(301, Location=location))
    with pytest.raises(RemoteError, match=rf"^{server.url}/x: "):
        remote_header(f"{server.url}/x")


def test_a_redirect_within_http_is_followed(serve: Callable[[Answer], Server], artifact: Path) -> None:
    there = serve(unlengthed(artifact.read_bytes()))
    server = serve(lambda handler: handler.begin(307, Location=there.url + handler.path))
    assert find_header(name_of(artifact), [Remote(server.url)]) == read_header(artifact)


def test_what_a_library_says_has_no_secret() -> None:
    url = "https://me:pass%2Fword@host/a?sig=abcdef&n=1"
    said = (
        "Cannot connect to https://me:pass%2Fword@host/a?sig=abcdef&n=1 as me, pass/word: "
        "HTTPSConnectionPool(host='host', port=443): Max retries exceeded with url: /a?sig=abcdef (status 1), "
        "then 'https://cdn.host/b?X-Amz-Credential=KEY&X-Amz-Signature=0123' said abcdef"
    )
    assert scrubbed(said, url) == (
        "Cannot connect to https://host/a as me, ...: "
        "HTTPSConnectionPool(host='host', port=443): Max retries exceeded with url: /a?... (status 1), "
        "then 'https://cdn.host/b' said ..."
    )


# ---- what moves a terminal


def test_control_characters_of_a_server_are_written_out(serve: Callable[[Answer], Server], run: Command) -> None:
    def answer(handler: Handler) -> None:
        handler.begin(302, Location="ftp://\x1b[31m\x9b/x")

    one_error(run("show", f"{serve(answer).url}/x"), 6)


def test_control_characters_of_names_are_written_out(run: Command, artifact: Path, store: Path) -> None:
    name, remote = name_of(artifact), Path("re\x1b[2J\u202emote")
    artifact.parents[2].rename(remote)
    place = Path("st\x1b[2J\u202eore")
    run("lock", "add", "mine", remote / name)
    outs = [
        run("pull", name, "--remote", remote, "--store", place),
        run("push", place / name, "--remote", "el\x1b]0;se"),
        run("sync", "--remote", remote, "--store", f"{place}2"),
        run("list", "--store", place),
        run("show", place / name),
        run("prune", "--store", place, "--max-size", "0GB"),
        run("show", "\x1b[31m"),
        run("\x1b[31m"),
        run("show", "--\x1b[31m"),
        run("push", "\x1b[31m", "--remote", "\x1b[31m"),
        run("lock", "add", "\x1b[31m", remote / name),
    ]
    for ran in outs:
        text = ran.out + ran.err
        assert text
        assert text.replace("\n", "").isprintable(), ran
    assert [ran.code for ran in outs[:6]] == [0] * 6
    lock = json.loads(Path("protogen.lock").read_text())
    lock["artifacts"]["mine"]["spec"]["params"] = {"\x1b[2J": "\x9b"}
    Path("protogen.lock").write_text(json.dumps(lock))
    ran = run("sync")
    assert ran.code == 5
    assert ran.err[:-1].isprintable()
