"""Requests that are too large, too slow, too many or broken: refused or queued, and the server goes on."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest
import uvicorn

from bindsearch.server import run
from bindsearch.server.limits import MAX_JSON_BYTES, MAX_UPLOAD_BYTES
from helpers.server_process import ServerProcess, serving, stop

DOG = {"terms": [{"kind": "text", "source": "a dog"}]}


@pytest.fixture(autouse=True)
def goes_on(server: ServerProcess) -> Iterator[None]:
    """Check after each test that the server answers."""
    yield
    assert server.process.poll() is None
    assert server.post("/api/search", DOG).status == 200


def exchange(server: ServerProcess, sent: bytes, timeout_s: float = 20.0) -> bytes:
    """Send bytes, and return what comes until the server closes the connection."""
    received = b""
    with socket.create_connection(("127.0.0.1", server.port), timeout=timeout_s) as connection:
        try:
            connection.sendall(sent)
            while part := connection.recv(1 << 16):
                received += part
        except ConnectionError:
            pass
    return received


def head(server: ServerProcess, method: str, path: str, *lines: str) -> bytes:
    host = f"Host: 127.0.0.1:{server.port}"
    return "\r\n".join([f"{method} {path} HTTP/1.1", host, *lines, "", ""]).encode("latin-1")


JSON = "Content-Type: application/json"


@pytest.mark.parametrize(("path", "limit"), [("/api/search", MAX_JSON_BYTES), ("/api/uploads", MAX_UPLOAD_BYTES)])
def test_a_length_above_the_limit_is_refused_before_the_body(path: str, limit: int, server: ServerProcess) -> None:
    started = time.monotonic()
    reply = exchange(server, head(server, "POST", path, JSON, f"Content-Length: {limit + 1}"))
    assert reply.startswith(b"HTTP/1.1 413 ")
    assert f"larger than {limit >> 20} MB".encode() in reply
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(("path", "size"), [("/api/search", MAX_JSON_BYTES), ("/api/uploads", MAX_UPLOAD_BYTES)])
def test_a_body_without_length_is_refused_at_the_limit(path: str, size: int, server: ServerProcess) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(0, size + (2 << 20), 1 << 18):
            yield b"a" * (1 << 18)

    try:
        reply = server.request("POST", path, chunks(), {"Content-Type": "application/json"})
    except (BrokenPipeError, ConnectionResetError):  # refused before all was sent
        return
    assert reply.status == 413


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"3", b"null", b'"a"', b"[" * 200_000, b"\xff\xfe", b'{"terms": NaN}', b'{"terms": 1e999}'],
    ids=lambda body: body[:12],
)
def test_bodies_that_are_no_query_are_refused(body: bytes, server: ServerProcess) -> None:
    reply = server.post("/api/search", body)
    assert reply.status == 400
    assert "\n" not in reply.error


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({}, "the terms of the query are None: give a list"),
        ({"terms": []}, "the query is empty"),
        ({"terms": [3]}, "the term is 3: give a JSON object"),
        ({"terms": [{"kind": "image", "source": "/etc/passwd"}]}, "the kind of a term is 'image'"),
        ({"terms": [{"kind": None, "source": "/etc/passwd"}]}, "the kind of a term is None"),
        ({"terms": [{"kind": "like", "source": "/etc/passwd"}]}, "the item is '/etc/passwd': give its id"),
        ({"terms": [{"kind": "like", "source": "9" * 30}]}, "the item is '999"),
        ({"terms": [{"kind": "text", "source": "a", "modality": "audio"}]}, "a term of kind text has no modality"),
        ({"terms": [{"kind": "text", "source": "a", "weight": "1"}]}, "the weight of 'a' is '1'"),
        ({"terms": [{"kind": "text", "source": "a\ud800"}]}, "is not UTF-8"),
        ({"terms": [{"kind": "text", "source": "a" * 10_001}]}, "the texts have 10001 characters"),
        ({"terms": [{"kind": "text", "source": "a"}] * 33}, "the query has 33 terms: give at most 32"),
        ({**DOG, "k": 1001}, "k is 1001: ask for at most 1000 hits"),
        ({**DOG, "k": -1}, "k is -1"),
        ({**DOG, "colour": 1}, "a query has no 'colour'"),
        ({**DOG, "filter": {"folders": ["/etc"]}}, "the folder '/etc' is not indexed"),
        ({**DOG, "filter": {"folders": ["{media}/../../.."]}}, "is not indexed"),
        ({**DOG, "filter": {"folders": "a"}}, "folders is 'a': give a list of texts"),
        ({**DOG, "filter": {"collections": ["/etc"]}}, "there is no collection '/etc'"),
        ({**DOG, "filter": {"where": "read_text('/etc/passwd') = ''"}}, "read_text"),
        ({**DOG, "filter": {"where": 3}}, "where is 3: give a text"),
        ({**DOG, "filter": {"since": "soon"}}, "cannot parse time 'soon'"),
        ({**DOG, "filter": {"path": "/"}}, "a filter has no 'path'"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_wrong_queries_are_refused_in_one_line(
    query: dict[str, object], message: str, server: ServerProcess, world: Path
) -> None:
    sent = json.dumps(query).replace("{media}", str(world / "media")).encode()
    reply = server.post("/api/search", sent)
    assert reply.status == 400
    assert message in reply.error
    assert "\n" not in reply.error


def test_a_query_needs_its_content_type(server: ServerProcess) -> None:
    reply = server.request("POST", "/api/search", json.dumps(DOG).encode(), {"Content-Type": "text/plain"})
    assert (reply.status, reply.error[:12]) == (415, "the body is ")


def test_two_hundred_clients_are_answered_or_told_to_wait(server: ServerProcess) -> None:
    def ask(number: int) -> int:
        terms = [{"kind": "text", "source": f"dog number {number % 20}"}]
        reply = server.search(terms=terms)
        if reply.status == 503:
            assert reply.headers["retry-after"].isdecimal()
            assert "busy" in reply.error
        return reply.status

    with ThreadPoolExecutor(200) as pool:
        counts = Counter(pool.map(ask, range(200)))
    assert {*counts} <= {200, 503}
    assert counts[200] >= 60


def test_a_hundred_clients_that_send_nothing_keep_nobody_out(server: ServerProcess) -> None:
    with ExitStack() as stack:
        for _ in range(100):
            slow = stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            slow.sendall(b"GET / HTTP/1.1\r\nHost: ")
        assert server.post("/api/search", DOG).status == 200


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nHost: "])
def test_a_connection_without_a_request_is_closed(sent: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    async def wait() -> bytes:
        config = uvicorn.Config(lambda: None, http=run._Connection, lifespan="off", log_config=None)
        config.load()
        make = partial(run._Connection, config, uvicorn.server.ServerState(), {})
        async with await asyncio.get_running_loop().create_server(make, "127.0.0.1", 0) as listening:
            reader, writer = await asyncio.open_connection(*listening.sockets[0].getsockname())
            writer.write(sent)
            try:
                return await asyncio.wait_for(reader.read(), 5)
            except ConnectionError:
                return b""
            finally:
                writer.close()

    monkeypatch.setattr(run, "HEADER_S", 0.2)
    assert asyncio.run(wait()) == b""


def test_a_header_that_is_too_long_is_refused(server: ServerProcess) -> None:
    reply = exchange(server, head(server, "GET", "/", f"X-Long: {'a' * 100_000}"))
    assert reply.startswith((b"HTTP/1.1 431 ", b"HTTP/1.1 400 "))


@pytest.mark.parametrize("sent", [b"\0\0\0", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\x16\x03\x01\x02\0"])
def test_what_is_no_http_is_refused(sent: bytes, server: ServerProcess) -> None:
    reply = exchange(server, sent + b"\r\n\r\n")
    assert reply == b"" or reply.startswith(b"HTTP/1.1 4")


def test_clients_that_leave_do_no_harm(server: ServerProcess) -> None:
    body = json.dumps(DOG).encode()
    whole = head(server, "POST", "/api/search", JSON, f"Content-Length: {len(body)}") + body
    for sent in (whole, whole[:-5], head(server, "GET", "/api/items/1/media"), head(server, "GET", "/api/events")):
        for _ in range(70):
            with socket.create_connection(("127.0.0.1", server.port)) as connection:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # reset, not closed
                connection.sendall(sent)
        assert server.get("/api/items/1/media").status in (200, 503)
    deadline = time.monotonic() + 10
    while (status := server.get("/api/items/1/media").status) == 503 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert status == 200


def test_a_server_does_not_wait_for_a_thread_that_does_not_end(world: Path) -> None:
    program = (
        "import time, bindsearch.server.run as run; from bindsearch.cli.main import main; "
        "run.STOP_S = 1; run._search_a_text = lambda _: time.sleep(60); main()"
    )
    command = [sys.executable, "-c", program, "serve", "--store", str(world / "store"), "--port", "0", "--no-socket"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("serving ")
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=20)
        finally:
            process.kill()
    assert (process.returncode, errors) == (0, "press Ctrl-C to stop\n")


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM])
def test_a_server_stops_when_what_runs_has_ended(by: signal.Signals, world: Path) -> None:
    with serving(world / "store") as server:
        found: list[int] = []
        with socket.create_connection(("127.0.0.1", server.port)) as events:
            events.sendall(head(server, "GET", "/api/events"))
            assert events.recv(1000).startswith(b"HTTP/1.1 200")
            audio = server.upload(world / "queries" / "audio-2.wav", "a.wav").data["upload"]
            uploads = [*Path("/tmp").glob("bindsearch-uploads-*")]
            query = {"terms": [{"kind": "upload", "source": audio}]}
            thread = threading.Thread(target=lambda: found.append(server.post("/api/search", query).status))
            thread.start()
            time.sleep(0.2)
            code, errors = stop(server, by)
            thread.join()
        assert (code, found) == (0, [200])
        assert "Traceback" not in errors
        assert not [folder for folder in uploads if any(folder.glob(f"{audio}/*"))]
