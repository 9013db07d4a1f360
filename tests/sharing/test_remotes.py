"""Remotes: real servers and their faults; nothing unsound arrives, nothing that is there is overwritten."""

import contextlib
import itertools
import os
import re
import resource
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import torch
from artifacts import MADE, flip, names
from commands import Command, Ran, one_error
from processes import FORK

from protogen.errors import BadRequest, DiskError, IntegrityError, NotFound, ProtogenError, RemoteError
from protogen.files import arriving
from protogen.files.header import read_header
from protogen.files.prototypes import Prototypes
from protogen.files.reading import read
from protogen.rows import InMemory
from protogen.sharing import transport
from protogen.sharing.remotes import Remote, fetch, find_header, push, remote_header, remotes
from protogen.sharing.transport import upload
from protogen.spec import Spec
from protogen.store.store import Store

pytestmark = pytest.mark.slow


def artifact(root: Path, n: int = 2, d: int = 2, seed: int = 0, alpha: float = 0.1) -> Path:
    """Publish n random unit vectors; the seed of the rows is no part of their Spec, so that it gives them no name."""
    rows = torch.randn(n, d, generator=torch.Generator().manual_seed(seed))
    spec = Spec.of("ebv", 1, d=d, n=n, seed=0, params={"alpha": alpha})
    return Store(root).publish(Prototypes(spec, InMemory(rows / rows.norm(dim=1, keepdim=True)), None, MADE))


class Handler(BaseHTTPRequestHandler):
    """Files with ranges over HTTP/1.1, and the faults that the server has in store for each GET."""

    protocol_version = "HTTP/1.1"
    server: "Server"

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.answer(None)

    def do_GET(self) -> None:
        self.answer(next(self.server.faults, None))

    def answer(self, fault: str | None) -> None:
        file = self.server.root / unquote(self.path).lstrip("/")
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        self.server.requests.append((self.command, asked[0] if asked else None))
        status = self.server.refusal or (500 if fault == "500" else None if file.is_file() else 404)
        if status:
            self.send_error(status)
            return
        data = file.read_bytes()
        if fault == "wrong":
            data = data[:-1] + bytes([data[-1] ^ 1])
        elif fault == "cut":
            data = data[:-1]
        whole, first, last = len(data), 0, len(data) - 1
        if asked:
            first, last = int(asked[1]), min(int(asked[2]), last)
            data = data[first : last + 1]
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("ETag", '"1"')
        self.send_header("Last-Modified", "Sat, 01 Jan 2000 00:00:00 GMT")
        if asked:
            self.send_header("Content-Range", f"bytes {first}-{last}/{whole}")
        self.end_headers()
        if self.command == "GET":
            broken = fault in ("truncated", "stall")
            data = data[: len(data) // 2] if broken else data
            self.wfile.write(data)
            self.server.sent += len(data)
            if fault == "stall":
                self.server.over.wait(20)
            self.close_connection = broken


class Server(ThreadingHTTPServer):
    """An HTTP server in a thread, what was asked of it, and what it does wrong."""

    def __init__(self, root: Path, handler: type[BaseHTTPRequestHandler] = Handler) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self.root, self.url = root, f"http://127.0.0.1:{self.server_port}"
        self.faults: Iterator[str | None] = iter(())
        self.refusal: int | None = None
        self.requests: list[tuple[str, str | None]] = []
        self.sent = 0
        self.over = threading.Event()

    @property
    def tries(self) -> int:
        return sum(command == "HEAD" for command, _ in self.requests)  # each begins with one

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # a client that has what it wants hangs up


@contextlib.contextmanager
def serving(server: Server) -> Iterator[Server]:
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        server.over.set()
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "PAUSE_S", 0.01)
    monkeypatch.setattr(transport, "STALL_S", 0.5)
    monkeypatch.setattr(arriving, "PIECE", 50_000)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("PROTOGEN_REMOTE", raising=False)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The root of a store with v1 and v2 of other requests for one size."""
    root = tmp_path / "home"
    assert [artifact(root, alpha=alpha).name[:3] for alpha in (0.1, 0.2)] == ["v1-", "v2-"]
    return root


@pytest.fixture
def web(home: Path) -> Iterator[Server]:
    with serving(Server(home)) as server:
        yield server


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def s3_server(name: str, root: Path) -> Iterator[str]:
    """Run an S3 server of its own process; the bucket `bucket` is a folder of the root."""
    (root / "bucket").mkdir()
    port = free_port()
    commands = {
        "rclone": ["serve", "s3", "--config=", "--addr", f"127.0.0.1:{port}", "--auth-key", "KEY,SECRET", str(root)],
        "localbucket": ["--port", str(port), str(root)],
    }
    program = Path(sys.executable).with_name(name)
    process = subprocess.Popen([program, *commands[name]], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(200):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.05)
        else:
            pytest.fail(f"{name} does not start")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def rclone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server that checks signatures, and ignores If-None-Match."""
    yield from s3_server("rclone", tmp_path_factory.mktemp("rclone"))


@pytest.fixture(scope="module")
def localbucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server that honours If-None-Match, and takes any signature."""
    yield from s3_server("localbucket", tmp_path_factory.mktemp("localbucket"))


@pytest.fixture
def s3(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Remote]:
    """Point the environment at a server, as users do, and give a folder of its bucket."""

    def use(server: str, secret: str = "SECRET") -> Remote:
        import s3fs

        s3fs.S3FileSystem.clear_instance_cache()
        settings = {
            "AWS_ENDPOINT_URL": server if "://" in server else request.getfixturevalue(server),
            "AWS_ACCESS_KEY_ID": "KEY",
            "AWS_SECRET_ACCESS_KEY": secret,
            "AWS_REGION": "us-east-1",
            "AWS_CONFIG_FILE": os.devnull,
        }
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        return Remote.of(f"s3://bucket/{tmp_path.name}/sets/")

    return use


def line(error: pytest.ExceptionInfo[ProtogenError]) -> str:
    """The message of an error, which is one line."""
    message = str(error.value)
    assert "\n" not in message
    return message


# ---- which remotes


def test_remotes_are_those_given_then_those_of_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    assert remotes() == ()
    monkeypatch.setenv("PROTOGEN_REMOTE", "/a/b, s3://c/d/  https://e\n")
    assert [place.url for place in remotes()] == ["/a/b", "s3://c/d", "https://e"]
    assert remotes(["file:///with spaces, and commas/"]) == (Remote("file:///with spaces, and commas"),)
    with pytest.raises(BadRequest, match="remote 'ftp://x'; allowed are a directory and a URL that begins with file"):
        remotes(["ftp://x"])


def test_asking_for_remotes_loads_no_library_of_theirs() -> None:
    asked = "import sys, protogen.sharing.remotes, protogen.cli"
    code = asked + "; print({'fsspec', 'aiohttp', 's3fs', 'torch'} & {*sys.modules})"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "set()\n"


def test_a_package_that_is_not_there_is_named_with_its_extra(
    home: Path, web: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(BadRequest, match=r"gs://b/x: .*; pip install 'protogen-codes\[gs\]'") as caught:
        remote_header("gs://b/x")
    assert "\n" not in str(caught.value)
    name = names(home)[-1]
    assert fetch(name, None, tmp_path / "got", remotes(["gs://b", web.url])).url == f"{web.url}/{name}"


# ---- there and back


@pytest.mark.parametrize("kind", ["directory", "file", "rclone", "localbucket"])
def test_what_is_pushed_is_fetched(kind: str, home: Path, tmp_path: Path, s3: Callable[..., Remote]) -> None:
    elsewhere = tmp_path / "else where ü"
    places = {"directory": str(elsewhere), "file": f"file://{elsewhere}"}
    remote = Remote.of(places[kind]) if kind in places else s3(kind)
    artifact(home, 300, 100)  # more than the header's part and several pieces
    for entry in Store(home).entries():
        name = entry.path.relative_to(home).as_posix()
        with pytest.raises(NotFound):
            remote_header(remote.file(name))
        assert push(entry.path, remote) is True
        assert push(entry.path, remote) is False
        assert fetch(name, entry.digest, tmp_path / "got", [remote]).url == f"{remote.url}/{name}"
        assert (tmp_path / "got").read_bytes() == entry.path.read_bytes()
        assert remote_header(remote.file(name)) == read_header(entry.path) == find_header(name, [remote])
    if kind in places:
        assert names(elsewhere) == [name for name in names(home) if ".claims" not in name]


def test_http_is_fetched_with_and_without_ranges(home: Path, web: Server, tmp_path: Path) -> None:
    big = artifact(home, 1100, 1000)  # 4.4 MB
    name = big.relative_to(home)

    class Plain(SimpleHTTPRequestHandler):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args, directory=str(home))

        def log_message(self, format: str, *args: object) -> None:
            pass

    with serving(Server(home, Plain)) as plain:
        for url in (web.url, plain.url):
            assert fetch(name, None, tmp_path / "got", [Remote(url)]).url == f"{url}/{name}"
            assert (tmp_path / "got").read_bytes() == big.read_bytes()
            assert remote_header(f"{url}/{name}") == read_header(big)


def test_passwords_are_used_and_not_shown(home: Path, web: Server, tmp_path: Path) -> None:
    web.refusal = 403
    remote = Remote.of(web.url.replace("//", "//me:secret@"))
    with pytest.raises(RemoteError) as caught:
        fetch(names(home)[-1], None, tmp_path / "got", [remote])
    assert web.url in line(caught)
    assert "secret" not in line(caught)


# ---- faults


@pytest.fixture(params=["http", "s3"])
def faulty(request: pytest.FixtureRequest, home: Path, web: Server, s3: Callable[..., Remote]) -> Remote:
    """The faulty server, by two protocols; of the second it knows no more than how to give a file."""
    web.root = home.parent
    if request.param == "http":
        return Remote(f"{web.url}/{home.name}")
    s3(web.url)
    return Remote(f"s3://{home.name}")


@pytest.mark.parametrize("fault", ["500", "truncated", "cut", "wrong", "stall"])
def test_a_fault_that_passes_is_tried_again(
    fault: str, faulty: Remote, home: Path, web: Server, tmp_path: Path
) -> None:
    name = names(home)[-1]
    web.faults = iter([fault])
    fetch(name, None, tmp_path / "got", [faulty])
    assert not list(web.faults)
    assert (tmp_path / "got").read_bytes() == (home / name).read_bytes()


@pytest.mark.parametrize(
    ("fault", "says", "tries"),
    [
        ("500", "status 500; tried 3 times", 3),
        ("truncated", "; tried 3 times", 3),
        ("stall", "imeout.*; tried 3 times", 3),
        ("cut", "the file is truncated", 2),
        ("wrong", "the bytes of its tensors do not give the digests", 2),
    ],
)
def test_a_fault_that_stays_is_said_and_leaves_nothing(
    fault: str, says: str, tries: int, faulty: Remote, home: Path, web: Server, tmp_path: Path
) -> None:
    web.faults = itertools.repeat(fault)
    name = names(home)[-1]
    began = time.monotonic()
    with pytest.raises(RemoteError, match=f"{name}: no remote gave it: {faulty.url}/{name}: .*{says}") as caught:
        fetch(name, None, tmp_path / "got", [faulty])
    assert "got" not in line(caught)
    assert time.monotonic() - began < 4
    assert web.tries == tries
    assert names(tmp_path) == [f"home/{name}" for name in names(home)]


@pytest.mark.parametrize(
    ("status", "kind", "says"),
    [
        (403, RemoteError, "permission denied"),
        (401, RemoteError, "permission denied"),
        (404, NotFound, "no remote has it, asked: "),
        (418, RemoteError, "status 418; look at the address"),
    ],
)
def test_a_refusal_is_not_tried_again(
    status: int, kind: type[ProtogenError], says: str, home: Path, web: Server, tmp_path: Path
) -> None:
    web.refusal = status
    with pytest.raises(kind, match=says) as caught:
        fetch(names(home)[-1], None, tmp_path / "got", [Remote(web.url)])
    line(caught)
    assert web.tries == 1
    assert not (tmp_path / "got").exists()


def test_the_next_remote_is_asked(home: Path, web: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    down, empty, changed = f"http://127.0.0.1:{free_port()}", tmp_path / "empty", tmp_path / "changed"
    shutil.copytree(home, changed)
    name = names(home)[-1]
    flip(changed / name)
    monkeypatch.setenv("PROTOGEN_REMOTE", f"{down} {empty},{changed} {web.url}")
    assert fetch(name, None, tmp_path / "got", remotes()).url == f"{web.url}/{name}"
    assert (tmp_path / "got").read_bytes() == (home / name).read_bytes()
    with pytest.raises(RemoteError) as caught:
        fetch(name, None, tmp_path / "got", remotes()[:3])
    assert re.search(f"{down}/.*connect.* -- {empty}/.*no such file.* -- {changed}/.*the bytes of its", line(caught))
    with pytest.raises(NotFound, match="asked: none"):
        fetch(name, None, tmp_path / "got", [])


def test_only_what_was_asked_for_is_taken(home: Path, web: Server, tmp_path: Path) -> None:
    first, second = (entry.path for entry in Store(home).entries())
    with pytest.raises(RemoteError, match=f"has content {read_header(first).digest}, asked for was 00"):
        fetch(first.relative_to(home), "00", tmp_path / "got", [Remote(web.url)])
    other = second.with_name(second.name.replace("v2", "v3"))
    shutil.copy(first, other)
    with pytest.raises(RemoteError, match=f"its Spec has {read_header(first).spec.key}; delete it there"):
        fetch(other.relative_to(home), None, tmp_path / "got", [Remote(web.url)])
    misplaced = home / "ebv/d2-n3" / first.name
    misplaced.parent.mkdir()
    shutil.copy(first, misplaced)
    with pytest.raises(RemoteError, match=f"holds what belongs into ebv/d2-n2/{first.name}; move it there"):
        fetch(misplaced.relative_to(home), None, tmp_path / "got", [Remote(web.url)])
    assert not (tmp_path / "got").exists()
    asked = len(web.requests)
    for name in (first, f"../home/{first.relative_to(home)}", "ebv/d2-n2/../x.safetensors", first.name):
        with pytest.raises(BadRequest, match="no artifact's path"):
            fetch(name, None, tmp_path / "got", [Remote(web.url)])
    assert len(web.requests) == asked


def test_a_full_disk_is_not_the_remotes_fault(home: Path, web: Server, tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        with pytest.raises(DiskError, match="got: File too large"):
            fetch(names(home)[-1], None, tmp_path / "got", [Remote(web.url)])
        with pytest.raises(DiskError, match="File too large"):
            push(home / names(home)[-1], Remote(str(tmp_path / "else")))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert web.tries == 1
    assert names(tmp_path) == [f"home/{name}" for name in names(home)]


def test_credentials_and_buckets_that_are_wrong_are_said(home: Path, tmp_path: Path, s3: Callable[..., Remote]) -> None:
    file = home / names(home)[-1]
    remote = s3("rclone", secret="other")
    with pytest.raises(RemoteError, match=f"{remote.url}/.*: permission denied; give credentials"):
        push(file, remote)
    s3("rclone")
    with pytest.raises(NotFound, match=r"s3://none/ebv/.*: no such file"):
        push(file, Remote.of("s3://none"))


# ---- the first under a name stays


@pytest.mark.parametrize("kind", ["directory", "rclone", "localbucket"])
def test_a_name_that_is_taken_stays_as_it_is(kind: str, tmp_path: Path, s3: Callable[..., Remote]) -> None:
    first, second = (artifact(tmp_path / str(seed), seed=seed) for seed in (1, 2))
    assert first.name == second.name
    remote = Remote.of(str(tmp_path / "else")) if kind == "directory" else s3(kind)
    push(first, remote)
    with pytest.raises(IntegrityError) as caught:
        push(second, remote)
    assert all(read_header(path).digest in line(caught) for path in (first, second))
    fetch(first.relative_to(tmp_path / "1"), read_header(first).digest, tmp_path / "got", [remote])


def test_an_upload_into_a_name_taken_meanwhile_changes_nothing(tmp_path: Path, s3: Callable[..., Remote]) -> None:
    first, second = (artifact(tmp_path / str(seed), seed=seed) for seed in (1, 2))
    for remote in (Remote.of(str(tmp_path / "else")), s3("localbucket")):
        url = remote.file("x.safetensors")
        assert upload(first, url) is True
        with contextlib.suppress(RemoteError):
            assert upload(second, url) is False
        assert remote_header(url) == read_header(first)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # Python 3.12 warns of the test's own way
@pytest.mark.parametrize("kind", ["directory", "localbucket"])
def test_of_two_at_once_one_is_first(kind: str, tmp_path: Path, s3: Callable[..., Remote]) -> None:
    remote = Remote.of(str(tmp_path / "else")) if kind == "directory" else s3(kind)
    sizes = range(2, 9)
    barrier, outcomes = FORK.Barrier(2), FORK.SimpleQueue()
    files = {(n, seed): artifact(tmp_path / str(seed), n=n, seed=seed) for n in sizes for seed in (1, 2)}

    def work(seed: int) -> None:
        for n in sizes:
            barrier.wait(20)
            try:
                outcomes.put((n, seed, push(files[n, seed], remote)))
            except IntegrityError:
                outcomes.put((n, seed, None))

    processes = [FORK.Process(target=work, args=(seed,)) for seed in (1, 2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
    assert [process.exitcode for process in processes] == [0, 0]
    seen = [outcomes.get() for _ in range(2 * len(sizes))]
    assert sorted((n, made) for n, _, made in seen if made) == [(n, True) for n in sizes]
    for n, seed, made in seen:
        assert made is not False  # it is the other's content that is there
        if made:
            name = files[n, seed].relative_to(tmp_path / str(seed))
            fetch(name, read_header(files[n, seed]).digest, tmp_path / "got", [remote])
    if kind == "directory":
        assert len(names(tmp_path / "else")) == len(sizes)


def test_what_cannot_be_pushed_is_refused(home: Path, web: Server, tmp_path: Path) -> None:
    file = home / names(home)[-1]
    with pytest.raises(BadRequest, match="http remotes are only read"):
        push(file, Remote(web.url))
    shutil.copy(file, tmp_path / "set.safetensors")
    with pytest.raises(BadRequest, match=r"no artifact's name; allowed is v<k>-<key>\.safetensors"):
        push(tmp_path / "set.safetensors", Remote(str(tmp_path / "else")))
    with pytest.raises(NotFound):
        push(file.with_name("v9-0123456789ab.safetensors"), Remote(str(tmp_path / "else")))
    flip(file)
    with pytest.raises(IntegrityError, match="the bytes of its tensors"):
        push(file, Remote(str(tmp_path / "else")))
    assert not (tmp_path / "else").exists()
    assert web.requests == []


# ---- commands


def test_show_reads_a_part_alone(home: Path, web: Server, run: Command) -> None:
    big = artifact(home, 1100, 1000)  # 4.4 MB
    name = big.relative_to(home).as_posix()
    ran = run("show", f"{web.url}/{name}", "--json")
    assert (ran.code, ran.err) == (0, "")
    here = run("show", big, "--json").document
    assert ran.document == {**here, "path": f"{web.url}/{name}"}
    assert here["version"] == 1
    assert web.sent <= 8 + (1 << 16)
    assert [asked is not None for command, asked in web.requests if command == "GET"] == [True]
    assert run("show", f"file://{big}", "--json").out == ran.out.replace(web.url, f"file://{home}")


def test_show_says_what_is_wrong_with_an_address(home: Path, web: Server, run: Command) -> None:
    name = names(home)[-1]
    whole = (home / name).stat().st_size
    for size, code, says in (
        (whole - 1, 5, "is truncated"),
        (4, 5, "cut short: 4 bytes"),
        (0, 5, "cut short: 0 bytes"),
    ):
        os.truncate(home / name, size)
        one_error(run("show", f"{web.url}/{name}"), code, f"{web.url}/{name}: ", says)
    one_error(run("show", f"{web.url}/none.safetensors"), 3)
    one_error(run("show", f"http://127.0.0.1:{free_port()}/{name}"), 6)
    one_error(run("show", f"ftp://x/{name}"), 2)


def test_pull_brings_versions_into_the_store_once(
    home: Path, web: Server, run: Command, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (entry.path.relative_to(home).as_posix() for entry in Store(home).entries())
    monkeypatch.setenv("PROTOGEN_REMOTE", f"none {web.url}")
    pulled = "".join(f"{store / name}: pulled\n" for name in (second, first))
    assert run("pull", second, f"{web.url}/{first}") == Ran(0, pulled, "")
    assert names(store) == names(home)
    for name in (first, second):
        assert torch.equal(read(store / name).tensor, read(home / name).tensor)
    web.sent = 0
    files = [{"path": str(store / first), "outcome": "there already"}]
    assert run("pull", first, "--json").document == {"files": files}
    assert web.sent <= (home / first).stat().st_size  # the header, which of so small a file is a part of all


def test_a_url_may_have_slashes_to_spare(home: Path, run: Command, store: Path) -> None:
    file = next(home.rglob("v1-*"))
    folder = file.relative_to(home).parent
    ran = run("pull", f"file://{home}//{folder}//{file.name}")
    assert (ran.code, ran.out) == (0, f"{store / folder / file.name}: pulled\n")


def test_an_empty_remote_is_refused(run: Command, home: Path) -> None:
    one_error(run("push", next(home.rglob("v1-*")), "--remote", ""), 2, "remote ''; allowed are a directory and a URL")


def test_pull_replaces_what_is_damaged(home: Path, run: Command, store: Path) -> None:
    name = names(home)[-1]
    run("pull", name, "--remote", home)
    file = store / name
    flip(file)
    ran = run("pull", name, "--remote", home)
    assert (ran.code, ran.out) == (0, f"{file}: pulled\n")
    assert ran.err.startswith("set aside as ")
    assert file.read_bytes() == (home / name).read_bytes()


def test_a_pull_that_fails_leaves_no_trace(home: Path, web: Server, run: Command, store: Path) -> None:
    name = names(home)[-1]
    web.faults = itertools.chain([None], itertools.repeat("wrong"))
    one_error(run("pull", name, "--remote", web.url), 6)
    assert not store.exists()
    one_error(run("pull", name), 2)
    one_error(run("pull", "none.safetensors", "--remote", web.url), 2)
    one_error(run("pull", name, "--remote", "none"), 3)
    assert not store.exists()


def test_push_uploads_to_the_first_remote(
    home: Path, run: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [entry.path for entry in Store(home).entries()]
    monkeypatch.setenv("PROTOGEN_REMOTE", f"{tmp_path / 'one'},{tmp_path / 'two'}")
    assert run("push", *files) == Ran(0, "".join(f"{file}: pushed\n" for file in files), "")
    assert run("push", files[0]) == Ran(0, f"{files[0]}: there already\n", "")
    assert names(tmp_path / "one") == [file.relative_to(home).as_posix() for file in files]
    assert not (tmp_path / "two").exists()
    one_error(run("push", files[0], "--remote", "http://127.0.0.1"), 2)
    os.truncate(files[0], 100)
    one_error(run("push", files[0]), 5)
