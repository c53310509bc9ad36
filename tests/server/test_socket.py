"""Commands that a server answers: the same answers, errors and notices as without one."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import bindsearch as bs
import bindsearch.shards.connect
from bindsearch.cli.ask import asking
from bindsearch.errors import BindSearchError
from bindsearch.search.query import LIKE, Query, Term, make_query
from bindsearch.search.query_syntax import parse_query
from bindsearch.server.command_socket import client as socket_client
from bindsearch.server.command_socket import protocol
from bindsearch.server.command_socket.protocol import VERSION, environment, identity_of, socket_path
from bindsearch.views.located_hits import HitLocating
from helpers.command import run_command
from helpers.server_process import ServerProcess, serving, stop
from helpers.stores import connect

QUERIES = {
    "text": make_query("a dog on the beach"),
    "word that is no file": make_query(Term(None, "dog")),
    "nothing stands out": make_query("qwxz plorf"),
    "picture": make_query(bs.image("image-2.png"), to="image,audio"),
    "sound by its path alone": make_query(Term(None, "./audio-2.wav"), k=3),
    "motion, with a notice": make_query(bs.imu("imu-2.csv")),
    "file above": make_query(Term(None, "../media/image-0.png"), copies=True),
    "own file too": make_query(Term(None, "../media/image-0.png"), include_query=True),
    "item by id": make_query(bs.like(1)),
    "item by path": make_query(bs.like("../media/video-1.mp4")),
    "sum": make_query(parse_query("0.7*text:'a dog' + 0.3*audio:audio-2.wav@0s-2s - 0.1*like:2"), k=30),
    "two texts": make_query(parse_query("text:'a dog' + text:rain")),
    "filter": make_query("rain", filter=bs.make_filter("size_bytes > 10", folders=["../media"], since="2020")),
    "folder without items": make_query("rain", filter=bs.make_filter(folders=["../nothing"])),
    "no hits": make_query("rain", filter=bs.make_filter("item_id < 0")),
    "words": make_query("dog", words="only"),
    "ranking": make_query("dog", ranking="cosine", diversity=0.3, min_match="likely"),
}
ERRORS = {
    "no such file": make_query(bs.image("nope.png")),
    "no such item": make_query(bs.like(999)),
    "no such path": make_query(bs.like("nope.png")),
    "wrong filter": make_query("dog", filter=bs.Filter(where="colour = 3")),
    "terms cancel": make_query(parse_query("text:dog - text:dog")),
    "not a sound": make_query(bs.audio("text-0.txt")),
}


@pytest.fixture
def client(server: ServerProcess, world: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make this process one of the same user and environment, in another working folder; the store."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(server.runtime))
    monkeypatch.chdir(world / "queries")
    return world / "store"


def answer(query: Query, store: Path, *, use_server: bool, locating: HitLocating | None = None) -> dict[str, Any]:
    with asking(store=str(store), device="auto", imu_rate_hz=None, use_server=use_server, locating=locating) as ask:
        found = ask(query)
    return {**found, "took_ms": 0}


def no_search(*_: object, **__: object) -> None:
    raise AssertionError("this process was to search")


@pytest.mark.parametrize("name", QUERIES)
def test_a_server_gives_the_same_answer(name: str, client: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = answer(QUERIES[name], client, use_server=False)
    with monkeypatch.context() as patch:
        patch.setattr(bindsearch.shards.connect, "connect", no_search)
        served = answer(QUERIES[name], client, use_server=True)
    assert served == alone
    assert json.dumps(served) == json.dumps(alone)


@pytest.mark.parametrize("name", ["text", "picture", "sum"])
def test_a_server_locates_the_same(name: str, client: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = answer(QUERIES[name], client, use_server=False, locating=HitLocating())
    with monkeypatch.context() as patch:
        patch.setattr(bindsearch.shards.connect, "connect", no_search)
        served = answer(QUERIES[name], client, use_server=True, locating=HitLocating())
    assert json.dumps(served) == json.dumps(alone)
    assert any(hit["located"] for hit in served["hits"])


@pytest.mark.parametrize("name", ERRORS)
def test_a_server_gives_the_same_error(name: str, client: Path) -> None:
    raised = []
    for use_server in (True, False):
        with pytest.raises(BindSearchError) as caught:
            answer(ERRORS[name], client, use_server=use_server)
        raised.append((type(caught.value), str(caught.value), caught.value.exit_code))
    assert raised[0] == raised[1]


def test_an_error_of_a_text_query_comes_from_the_server(client: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bindsearch.shards.connect, "connect", no_search)
    with pytest.raises(bs.UsageError, match="cancel each other"):
        answer(ERRORS["terms cancel"], client, use_server=True)


def test_little_is_imported_to_ask_a_server(client: Path) -> None:
    script = (
        "import sys\nfrom bindsearch.cli.ask import asking\nfrom bindsearch.search.query import make_query\n"
        "with asking(store=sys.argv[1], device='auto', imu_rate_hz=None) as ask:\n"
        "    print(len(ask(make_query('a dog'))['hits']))\n"
        "print(*{name.partition('.')[0] for name in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", script, str(client)], capture_output=True, text=True, check=True)
    hits, modules = done.stdout.splitlines()
    assert int(hits) > 0
    assert not {"torch", "numpy", "faiss", "duckdb", "pyarrow", "fastapi", "typer", "asyncio"} & {*modules.split()}


@pytest.mark.parametrize("device", ["cpu", "auto"])
def test_another_device_or_environment_is_searched_here(
    device: str, client: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if device == "auto":
        monkeypatch.setenv("BINDSEARCH_CACHE", str(client.parent / "cache"))
    monkeypatch.setattr(bindsearch.shards.connect, "connect", no_search)
    with asking(store=str(client), device=device, imu_rate_hz=None) as ask, pytest.raises(AssertionError):
        ask(make_query("a dog"))


@pytest.mark.parametrize("change", [{"version": "0.0.1/1"}, {"store": {"path": "/"}}, {"query": {"terms": 3}}, {}])
def test_requests_that_do_not_fit_are_refused(change: dict[str, Any], client: Path, server: ServerProcess) -> None:
    request = {
        "version": VERSION,
        "store": identity_of(client),
        "environment": environment(),
        "query": {"terms": [{"source": "a dog"}]},
        "imu_rate_hz": None,
        "locate": False,
    }
    (path,) = server.runtime.glob("bindsearch/*.sock")
    reply = socket_client._exchange(path, json.dumps(request | change).encode() + b"\n")
    expected = "error" if "query" in change else "refused" if change else "answer"
    assert [*reply] == (["error", "kind"] if expected == "error" else [expected])


def test_what_is_no_request_does_no_harm(client: Path, server: ServerProcess) -> None:
    (path,) = server.runtime.glob("bindsearch/*.sock")
    for sent in (b"{}\n", b"[1]\n", b"\xff\n", b"x" * (2 << 20), b"", b"[" * 100_000 + b"\n"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.connect(str(path))
            connection.settimeout(10)
            try:
                connection.sendall(sent)
                connection.shutdown(socket.SHUT_WR)
                reply = connection.recv(1000)
            except ConnectionError:
                reply = b""
        assert reply == b"" or "refused" in json.loads(reply)
    assert answer(QUERIES["text"], client, use_server=True)["hits"]


def test_only_this_user_can_connect(server: ServerProcess) -> None:
    folder = server.runtime / "bindsearch"
    (path,) = folder.glob("*.sock")
    assert folder.stat().st_mode & 0o777 == 0o700
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_folder_that_others_may_use_is_not_trusted(client: Path, server: ServerProcess) -> None:
    folder = server.runtime / "bindsearch"
    folder.chmod(0o755)
    try:
        assert socket_client.ask_server(client, QUERIES["text"], None) is None
    finally:
        folder.chmod(0o700)
    assert socket_client.ask_server(client, QUERIES["text"], None) is not None


def test_a_server_that_does_not_answer_is_left(
    world: Path, monkeypatch: pytest.MonkeyPatch, server: ServerProcess, tmp_path_factory: pytest.TempPathFactory
) -> None:
    monkeypatch.setattr(socket_client, "ANSWER_S", 0.2)
    folder = server.runtime / "other"
    folder.mkdir(mode=0o700)
    monkeypatch.setattr(protocol, "socket_folder", lambda: folder)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as silent:
        silent.bind(str(socket_path(folder, identity_of(world / "store"))))
        silent.listen()
        started = time.monotonic()
        assert socket_client.ask_server(world / "store", QUERIES["text"], None) is None
        assert time.monotonic() - started < 2

        def send_junk() -> None:
            connection, _ = silent.accept()
            with connection:
                connection.sendall(b"not JSON\n")

        silent.accept()[0].close()
        thread = threading.Thread(target=send_junk)
        thread.start()
        assert socket_client.ask_server(world / "store", QUERIES["text"], None) is None
        thread.join()


def test_sockets_are_removed_at_the_end_and_stale_ones_by_the_next_server(world: Path) -> None:
    with serving(world / "store") as first:
        (path,) = first.runtime.glob("bindsearch/*.sock")
        first.process.kill()
        first.process.wait()
        assert path.exists()  # killed: it is stale
        environment = {"XDG_RUNTIME_DIR": str(first.runtime)}
        stale = path.with_name("0123456789abcdef.sock")
        os.link(path, stale)
        with serving(world / "store", environment=environment) as second:
            assert [*first.runtime.glob("bindsearch/*.sock")] == [path]
            with serving(world / "store", environment=environment) as third:
                _, errors = stop(third)
                assert "note: commands do not use this server: another server answers them for this store" in errors
            assert path.exists()
            assert stop(second, signal.SIGTERM)[0] == 0
        assert not path.exists()


def test_a_link_that_is_changed_gives_no_answers_of_another_store(world: Path, tmp_path: Path) -> None:
    first, other, link = tmp_path / "first", tmp_path / "other", tmp_path / "link"
    shutil.copytree(world / "store", first)
    (tmp_path / "media").mkdir()
    (tmp_path / "media" / "only.txt").write_text("a dog runs")
    with connect(other) as store:
        store.index(tmp_path / "media")
    link.symlink_to(first)
    with serving(link) as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(server.runtime))
        query = QUERIES["two texts"]
        expected = answer(query, first, use_server=False)
        assert socket_client.ask_server(first, query, None) is not None
        link.unlink()
        link.symlink_to(other)
        assert server.search(terms=[{"kind": "text", "source": "dog"}]).data["searched"]["segments"] == 1
        assert socket_client.ask_server(first, query, None) is None
        assert answer(query, first, use_server=True) == expected
        link.unlink()
        assert socket_client.ask_server(first, query, None) is None


def test_without_a_socket_nothing_listens(world: Path) -> None:
    with serving(world / "store", ["--no-socket"]) as server:
        assert not [*server.runtime.rglob("*.sock")]
        assert server.get("/api/status").status == 200


def test_decimal_items_and_texts_are_sent_as_they_are() -> None:
    for term in (Term(LIKE, "17"), Term("text", "../a.png")):
        assert socket_client._absolute_term(term) is term


LINES = [
    "search dog --json",
    "search dog --jsonl",
    "search dog --csv",
    "search --audio audio-2.wav --to image,text --json",
    "search --imu imu-2.csv --json",
    "search ../media/image-0.png --paths",
    "search rain --under ../media --since 2020 -k 3",
    "search rain --where colour=3",
    "search rain --where item_id<0",
    "search --image nope.png",
    "search --like nope",
]


@pytest.mark.parametrize("line", LINES)
def test_a_command_prints_the_same(line: str, client: Path) -> None:
    words = [*line.split(), "--store", str(client)]
    served, alone = run_command(words), run_command([*words, "--no-server"])
    first, second = (re.sub(r'"took_ms": ?[0-9.]+', "", done.stdout) for done in (served, alone))
    assert first == second
    assert (served.stderr, served.returncode) == (alone.stderr, alone.returncode)
