"""Who may ask a server: hosts, origins, tokens."""

from __future__ import annotations

import http.client
import importlib.util
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from bindsearch.errors import UsageError
from bindsearch.server.access import Access, choose_token
from bindsearch.server.limits import Refusal
from helpers.command import run_command
from helpers.server_process import ServerProcess, serving


@pytest.fixture(scope="module")
def open_server(world: Path) -> Iterator[ServerProcess]:
    """Return a server that other machines reach."""
    with serving(world / "store", ["--host", "0.0.0.0", "--no-socket"]) as running:
        yield running


@pytest.mark.parametrize("host", ["localhost:{port}", "127.0.0.1:{port}", "[::1]:{port}", "LOCALHOST:{port}"])
def test_own_names_are_served(host: str, server: ServerProcess) -> None:
    assert server.get("/api/status", {"Host": host.format(port=server.port)}).status == 200


@pytest.mark.parametrize(
    "host", ["evil.example:{port}", "evil.example", "127.0.0.1", "127.0.0.1:1", "", "localhost.evil.example:{port}"]
)
def test_other_names_are_refused(host: str, server: ServerProcess) -> None:
    """The name of another site may point at this machine (DNS rebinding)."""
    reply = server.get("/", {"Host": host.format(port=server.port)})
    assert reply.status == 421
    assert "Host header names another server" in reply.error


def test_two_host_headers_are_refused(server: ServerProcess) -> None:
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)) as connection:
        connection.putrequest("GET", "/")
        connection.putheader("Host", "evil.example")
        connection.endheaders()
        assert connection.getresponse().status == 400


OTHER_PAGES = [
    {"Origin": "http://evil.example"},
    {"Origin": "null"},
    {"Origin": "https://127.0.0.1:{port}"},
    {"Origin": "http://127.0.0.1:1"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"},
    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"},
]


@pytest.mark.parametrize("headers", OTHER_PAGES, ids=str)
@pytest.mark.parametrize("path", ["/", "/api/status", "/api/items/1/media", "/static/index.html"])
def test_requests_of_other_pages_are_refused(path: str, headers: dict[str, str], server: ServerProcess) -> None:
    sent = {name: value.format(port=server.port) for name, value in headers.items()}
    reply = server.get(path, sent)
    assert (reply.status, reply.error[:34]) == (403, "the request is from another page: ")
    if path == "/api/status":
        assert server.post("/api/search", {"terms": []}, sent).status == 403


@pytest.mark.parametrize("mode", ["navigate", "cors"])
def test_the_own_page_and_links_to_it_are_served(mode: str, server: ServerProcess) -> None:
    own = {"Origin": f"http://127.0.0.1:{server.port}", "Sec-Fetch-Site": "same-origin"}
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert server.get("/", link if mode == "navigate" else own).status == 200
    assert server.get("/api/status", own).status == 200
    assert server.get("/api/status", link).status == 403
    assert server.search(terms=[{"kind": "text", "source": "a dog"}]).status == 200


def test_an_address_of_other_machines_needs_the_token(open_server: ServerProcess) -> None:
    assert open_server.token is not None
    assert len(open_server.token) >= 40
    for headers in ({}, {"Authorization": "Bearer x"}, {"Authorization": "Bearer "}, {"Cookie": "bindsearch_token=x"}):
        for path in ("/", "/api/status", "/static/index.html", "/api/openapi.json", "/?token=wrong", "/?token="):
            reply = open_server.get(path, headers)
            assert reply.status == 401
            assert "token" in reply.error
            assert open_server.token not in reply.body.decode()
    bearer = {"Authorization": f"Bearer {open_server.token}"}
    assert open_server.get("/api/status", bearer).status == 200
    assert open_server.get(f"/api/status?token={open_server.token}").status == 200


def test_the_token_becomes_a_cookie(open_server: ServerProcess) -> None:
    first = open_server.get(f"/?token={open_server.token}&q=a%20dog")
    assert (first.status, first.headers["location"]) == (303, "/?q=a+dog")
    cookie, *attributes = first.headers["set-cookie"].split("; ")
    assert attributes == ["Path=/", "HttpOnly", "SameSite=Strict"]
    assert open_server.get("/", {"Cookie": cookie}).status == 200
    assert open_server.get("/", {"Cookie": cookie[:-1]}).status == 401
    assert open_server.get("/", {"Cookie": f"a=b; {cookie}; c"}).status == 200


def test_literal_addresses_are_served_and_names_are_not(open_server: ServerProcess) -> None:
    bearer = {"Authorization": f"Bearer {open_server.token}"}
    assert open_server.get("/", {**bearer, "Host": f"192.0.2.7:{open_server.port}"}).status == 200
    assert open_server.get("/", {**bearer, "Host": f"evil.example:{open_server.port}"}).status == 421


def test_a_file_of_the_token_is_made_and_used_again(world: Path, tmp_path: Path) -> None:
    file = tmp_path / "token"
    with serving(world / "store", ["--token-file", str(file), "--no-socket"]) as server:
        assert server.token == file.read_text().strip()
        assert server.get("/").status == 401
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert choose_token("127.0.0.1", file) == server.token


@pytest.mark.parametrize("content", ["short", "with spaces and more", "é" * 20, "x" * 5000])
def test_a_file_without_a_token_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(content)
    with pytest.raises(UsageError, match="--token-file"):
        choose_token("127.0.0.1", tmp_path / "token")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.3.2.1"])
def test_addresses_of_this_machine_need_no_token(host: str) -> None:
    assert choose_token(host, None) is None
    assert choose_token("0.0.0.0", None) != choose_token("0.0.0.0", None)


def test_a_server_of_a_name_answers_to_it() -> None:
    access = Access("media.local", 80, None)
    assert access.check("GET", "/", "", {"host": "media.local"}) is None
    assert access.check("GET", "/", "", {"host": "MEDIA.local:80"}) is None
    with pytest.raises(Refusal):
        access.check("GET", "/", "", {"host": "192.0.2.7"})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--host", "not an address"], "cannot listen on not an address port 8642"),
        (["--host", "192.0.2.1"], "cannot listen on 192.0.2.1 port 8642"),
        (["--store", "/nowhere"], "no store at /nowhere: create one with `bindsearch index FOLDER`"),
    ],
)
def test_a_server_that_cannot_start_says_why(options: list[str], message: str, world: Path) -> None:
    done = run_command(["serve", "--store", world / "store", *options])
    assert done.returncode in (2, 4)
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_port_in_use_is_named(server: ServerProcess, world: Path) -> None:
    done = run_command(["serve", "--store", world / "store", "--port", str(server.port)])
    assert done.returncode == 2
    assert f"cannot listen on 127.0.0.1 port {server.port} (Address already in use): give another" in done.stderr


def test_a_missing_extra_is_named(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "uvicorn" else object())
    done = run_command(["serve", "--store", world / "store"])
    assert done.returncode == 5
    assert done.stderr == ("bindsearch: the page and the API need the extra [serve]: pip install 'bindsearch[serve]'\n")
