"""The API: answers, uploads, items, files, pictures, columns, events."""

from __future__ import annotations

import json
import shlex
import shutil
import socket
import time
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import bindsearch as bs
from bindsearch.server.open_store import OpenStore, counts
from bindsearch.types import Modality
from bindsearch.views.answer_data import answer_data
from helpers.command import run_command
from helpers.server_process import Reply, ServerProcess, serving
from helpers.stores import connect

HOSTILE = [
    "<script>alert(1)<.png",
    "a\"b'c.png",
    "a\nb.png",
    "\u202egnp.exe.png",
    "\x1b[31mred.png",
    "x" * 251 + ".png",
]


def item_of(server: ServerProcess, name: str) -> dict[str, Any]:
    """Return the item with a name, found by the words of its name."""
    for item_id in range(1, 40):
        reply = server.get(f"/api/items/{item_id}")
        if reply.status == 200 and reply.data["name"] == name:
            return dict(reply.data)
    raise AssertionError(name)


def test_an_answer_is_that_of_the_store(server: ServerProcess, world: Path) -> None:
    query = {"terms": [{"kind": "text", "source": "a dog"}, {"kind": "like", "source": "2", "weight": -0.2}], "k": 30}
    found = server.search(**query).data
    with connect(world / "store") as store:
        expected = answer_data(store.answer(bs.make_query(bs.text("a dog") - 0.2 * bs.like(2), k=30)))
    hits = [{key: hit[key] for key in expected["hits"][0]} for hit in found["hits"]]
    assert json.loads(json.dumps(hits)) == json.loads(json.dumps(expected["hits"]))
    for hit in found["hits"]:
        assert hit["name"] == Path(hit["path"]).name
        assert server.get(hit["media"]).status == 200
    assert found["query"]["terms"][0] == {"modality": "text", "source": "a dog", "weight": 1.0}


def test_the_command_line_of_an_answer_finds_the_same(
    server: ServerProcess, world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(world / "queries")
    audio = server.upload(world / "queries" / "audio-2.wav", "audio-2.wav").data["upload"]
    terms: list[list[dict[str, Any]]] = [
        [{"kind": "text", "source": "a dog"}],
        [{"kind": "text", "source": '--json it\'s "odd"'}],
        [{"kind": "upload", "source": audio}],
        [{"kind": "upload", "source": audio, "weight": 0.5}, {"kind": "text", "source": "rain", "weight": -1}],
    ]
    filter = {"where": "size_bytes > 3", "folders": [str(world / "media")], "collections": ["media"], "since": "2020"}
    for number, one in enumerate(terms):
        more = {"to": ["image", "text"], "k": 5, "filter": filter, "ranking": "z"} if number % 2 else {}
        found = server.search(terms=one, **more).data
        program, *words = shlex.split(found["command"])
        assert program == "bindsearch"
        done = run_command([*words, "--json", "--no-server"])
        assert [hit["path"] for hit in json.loads(done.stdout)["hits"]] == [hit["path"] for hit in found["hits"]]


def test_other_weights_encode_nothing_again(server: ServerProcess, world: Path) -> None:
    upload = server.upload(world / "queries" / "video-2.mp4", "film.mp4").data
    assert upload["modality"] == "video"
    times = []
    for weight in (1.0, 0.5, -0.25):
        terms = [
            {"kind": "upload", "source": upload["upload"], "weight": weight},
            {"kind": "text", "source": "a dog", "weight": 1},
        ]
        found = server.search(terms=terms).data
        times.append(found["took_ms"])
        assert [term["weight"] for term in found["query"]["terms"]] == [weight, 1.0]
        assert found["query"]["terms"][0]["source"] == "film.mp4"
    assert max(times[1:]) < times[0] / 2


def test_messages_name_uploads_as_their_sender_does(server: ServerProcess, world: Path) -> None:
    upload = server.upload(world / "queries" / "imu-2.csv", "my <walk>.csv").data
    found = server.search(terms=[{"kind": "upload", "source": upload["upload"]}]).data
    assert found["notices"] == ["my <walk>.csv: rate from 'time_s'"]
    wrong = server.search(terms=[{"kind": "upload", "source": upload["upload"], "modality": "audio"}])
    assert wrong.status == 400
    assert wrong.error.startswith("query file my <walk>.csv cannot be used as audio: ")
    plan = server.post("/api/explain", {"terms": [{"kind": "upload", "source": upload["upload"]}]}).data
    assert "bindsearch-uploads" not in json.dumps(plan)
    assert 'imu:"my <walk>.csv"' in plan["text"]


@pytest.mark.parametrize(
    "name", [*HOSTILE, "../../../../etc/x.png", "/etc/x.png", ".bindsearch.toml", "", "..", "a\0b.png"]
)
def test_names_of_uploads_are_no_paths(name: str, server: ServerProcess, world: Path) -> None:
    reply = server.upload(world / "queries" / "image-2.png", name)
    assert (reply.status, reply.data["name"], reply.data["modality"]) == (200, name, "image")
    found = server.search(terms=[{"kind": "upload", "source": reply.data["upload"]}], k=1)
    assert found.data["query"]["terms"][0]["source"] == name
    assert not Path("/etc/x.png").exists()


def test_uploads_that_are_no_media_are_refused(server: ServerProcess) -> None:
    refused = server.upload(b"\0\1\2 nothing", "a <b>.bin")
    assert refused.status == 422
    assert refused.error.startswith("cannot detect the modality of 'a <b>.bin' (")
    empty = server.upload(b"", "a.png")
    assert (empty.status, empty.error) == (400, "the file is empty: choose another one")
    missing = server.search(terms=[{"kind": "upload", "source": "../../etc/passwd"}])
    assert (missing.status, missing.error[:24]) == (404, "there is no such upload,")


def test_an_item_has_its_columns_and_segments(server: ServerProcess, world: Path) -> None:
    video = item_of(server, "video-0.mp4")
    assert video["path"] == str(world / "media" / "video-0.mp4")
    assert video["collection"] == str(world / "media")
    assert video["modality"] == "video"
    assert video["columns"]["length_s"] == pytest.approx(2.0, abs=0.2)
    assert [segment["modality"] for segment in video["segments"]][:1] == ["video"]
    text = item_of(server, "two words.txt")
    assert text["segments"][0]["text"] == "a cat sleeps"


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/items/9999", 404),
        ("/api/items/-1", 404),
        (f"/api/items/{10**30}", 404),
        ("/api/items/1.5", 422),
        ("/api/items/../../etc/passwd", 404),
        ("/api/items/%2e%2e%2f%2e%2e%2fetc%2fpasswd/media", 404),
        ("/api/items/1/media/../../../etc/passwd", 404),
        ("/static/../app.py", 404),
        ("/static/%2e%2e/app.py", 404),
        ("/static/..%2f..%2fstore.py", 404),
        ("/static//etc/passwd", 404),
        ("/static/%00", 404),
        ("//etc/passwd", 404),
        ("/etc/passwd", 404),
        ("/api/items/1/thumbnail?modality=smell", 422),
        ("/api/items/1/thumbnail?start_s=soon", 422),
        ("/api/uploads/..%2f..%2fx/thumbnail", 404),
        ("/docs", 404),
    ],
)
def test_only_indexed_files_are_served_by_id(path: str, status: int, server: ServerProcess) -> None:
    reply = server.get(path)
    assert reply.status == status
    assert b"root:" not in reply.body
    assert "\n" not in reply.error


def test_a_file_is_sent_with_a_safe_type(server: ServerProcess, world: Path) -> None:
    page = server.get(item_of(server, "page.html")["media"])
    assert page.headers["content-type"] == "text/plain; charset=utf-8"
    assert page.headers["x-content-type-options"] == "nosniff"
    assert page.headers["content-security-policy"] == "default-src 'none'; sandbox"
    for name, kind in (("image-0.png", "image/png"), ("video-0.mp4", "video/mp4"), ("audio-0.wav", "audio/wav")):
        reply = server.get(item_of(server, name)["media"])
        assert reply.headers["content-type"] == kind
        assert reply.body == (world / "media" / name).read_bytes()
    spaced = server.get(item_of(server, "two words.txt")["media"])
    assert spaced.headers["content-disposition"] == "inline; filename*=UTF-8''two%20words.txt"


def test_ranges_of_a_file(server: ServerProcess, world: Path) -> None:
    path = item_of(server, "audio-0.wav")["media"]
    content = (world / "media" / "audio-0.wav").read_bytes()
    size = len(content)
    whole = server.get(path)
    tag = whole.headers["etag"]

    def ask(asked: str, **more: str) -> Reply:
        return server.get(path, {"Range": asked, **{name.replace("_", "-"): value for name, value in more.items()}})

    for asked, start, end in [("0-0", 0, 1), ("10-", 10, size), ("-5", size - 5, size), (f"5-{size * 9}", 5, size)]:
        part = ask(f"bytes={asked}")
        assert (part.status, part.body) == (206, content[start:end])
        assert part.headers["content-range"] == f"bytes {start}-{end - 1}/{size}"
    for asked in (f"{size}-", "-0", "9-3"):
        assert ask(f"bytes={asked}").status == 416
        assert ask(f"bytes={asked}").headers["content-range"] == f"bytes */{size}"
    for asked in ("bytes=0-1,5-6", "lines=0-1", "bytes=-", "bytes=a-b"):
        assert (ask(asked).status, len(ask(asked).body)) == (200, size)
    assert ask("bytes=0-1", If_Range=tag).status == 206
    assert ask("bytes=0-1", If_Range='"other"').status == 200
    assert server.get(path, {"If-None-Match": tag}).status == 304
    head = server.request("HEAD", path)
    assert (head.status, head.body, head.headers["content-length"]) == (200, b"", str(size))


def test_clients_that_leave_in_a_range_leave_no_open_file(server: ServerProcess) -> None:
    path = item_of(server, "video-0.mp4")["media"]
    lines = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nRange: bytes=0-\r\n\r\n".encode()
    for _ in range(100):
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(lines)
            connection.recv(10)
    assert server.get(path).status == 200
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and _open_media(server):
        time.sleep(0.1)
    assert _open_media(server) == []


def _open_media(server: ServerProcess) -> list[str]:
    folder = Path(f"/proc/{server.process.pid}/fd")
    if not folder.is_dir():
        return []
    names = [str(link.readlink()) for link in folder.iterdir() if link.is_symlink()]
    return [name for name in names if name.endswith(".mp4")]


@pytest.mark.parametrize("modality", list(Modality))
def test_every_kind_has_thumbnails_and_figures(modality: Modality, server: ServerProcess, world: Path) -> None:
    name = next(path.name for path in sorted((world / "media").iterdir()) if path.name.startswith(f"{modality}-"))
    item = item_of(server, name)
    for link, size in (("thumbnail", "side_px=96"), ("figure", "width_px=480")):
        reply = server.get(f"{item[link]}?{size}")
        assert (reply.status, reply.headers["content-type"]) == (200, "image/webp")
        with Image.open(BytesIO(reply.body)) as picture:
            assert max(picture.size) <= 480
        assert server.get(f"{item[link]}?{size}", {"If-None-Match": reply.headers["etag"]}).status == 304
        assert server.request("HEAD", f"{item[link]}?{size}").body == b""


def test_an_upload_has_a_thumbnail(server: ServerProcess, world: Path) -> None:
    upload = server.upload(world / "queries" / "audio-2.wav", "a.wav").data
    assert server.get(upload["thumbnail"]).headers["content-type"] == "image/webp"
    assert server.get("/api/uploads/none/thumbnail").status == 404


def test_status_and_columns(server: ServerProcess, world: Path) -> None:
    status = server.get("/api/status").data
    assert status["items"] == {**dict.fromkeys(map(str, Modality), 2), "text": 4}
    assert status["collections"] == [{"name": "media", "root": str(world / "media")}]
    assert status["is_indexing"] is False
    columns = {column["name"]: column for column in server.get("/api/columns").data["columns"]}
    assert columns["extension"]["values"][:2] == ["png", "txt"]
    assert (columns["width_px"]["type"], columns["width_px"]["max"]) == ("BIGINT", 320)
    assert columns["modified"]["min"] <= columns["modified"]["max"]


def test_the_map_has_a_point_a_segment(server: ServerProcess) -> None:
    data = server.get("/api/map").data
    assert len(data["x"]) == len(data["item_id"]) == sum(server.get("/api/status").data["segments"].values())
    assert {*data["modality"]} == {*map(str, Modality)}


def test_the_api_describes_itself(server: ServerProcess) -> None:
    described = server.get("/api/openapi.json").data
    assert {"/api/search", "/api/items/{item_id}/media", "/api/uploads", "/api/events"} <= {*described["paths"]}
    assert "cdn" not in json.dumps(described)


def test_every_answer_has_the_headers_of_safety(server: ServerProcess) -> None:
    for path in ("/", "/static/index.html", "/api/status", "/nothing", "/api/items/1/media"):
        headers = server.get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert headers["permissions-policy"].startswith("microphone=(self)")
        assert "server" not in headers
        assert "access-control-allow-origin" not in headers


@pytest.fixture
def own_world(world: Path, tmp_path: Path) -> Path:
    """Return a copy that a test may change."""
    media = tmp_path / "media"
    media.mkdir()
    for name in ("image-0.png", "text-0.txt", "audio-0.wav"):
        shutil.copy2(world / "media" / name, media / name)
    with connect(tmp_path / "store") as store:
        store.index(media)
    return tmp_path


def read_event(stream: Any, name: str) -> dict[str, Any]:
    """Return the data of the next event with a name."""
    for line in stream:
        if line == f"event: {name}\r\n" or line == f"event: {name}\n":
            return dict(json.loads(stream.readline().removeprefix("data: ")))
    raise AssertionError(name)


def test_what_another_process_writes_appears(own_world: Path) -> None:
    with serving(own_world / "store") as server:
        item = item_of(server, "image-0.png")
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
            connection.sendall(f"GET /api/events HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n\r\n".encode())
            stream = connection.makefile("r", encoding="utf-8", newline="")
            first = read_event(stream, "generation")
            assert first["items"] == {"text": 1, "image": 1, "audio": 1}
            (own_world / "media" / "new.txt").write_text("an elephant in a boat")
            (own_world / "media" / "image-0.png").unlink()
            with connect(own_world / "store") as store:
                store.index(own_world / "media")
            second = read_event(stream, "generation")
        assert second["generation"] > first["generation"]
        assert second["items"] == {"text": 2, "audio": 1}
        hits = server.search(terms=[{"kind": "text", "source": "an elephant in a boat"}]).data["hits"]
        assert hits[0]["name"] == "new.txt"
        assert server.get(f"/api/items/{item['item_id']}").status == 404
        assert server.get(item["media"]).status == 404


def test_a_store_that_is_put_back_has_no_numbers_of_the_later_one(own_world: Path) -> None:
    live, copy = own_world / "store", own_world / "copy"

    def add(*names: str) -> None:
        for name in names:
            (own_world / "media" / name).write_text(f"a text of {name}")
        with connect(live) as store:
            store.index(own_world / "media")

    shutil.copytree(live, copy)
    opened = OpenStore(live)
    try:
        add("one.txt")
        before = opened.value("counts", counts)
        shutil.rmtree(live)
        shutil.copytree(copy, live)
        add("two.txt", "three.txt")
        after = opened.value("counts", counts)
    finally:
        opened.close()
    assert before["generation"] == after["generation"]
    assert (before["items"]["text"], after["items"]["text"]) == (2, 4)


def test_a_file_that_has_changed_is_not_sent(own_world: Path) -> None:
    with serving(own_world / "store") as server:
        picture, text, sound = (item_of(server, name) for name in ("image-0.png", "text-0.txt", "audio-0.wav"))
        (own_world / "media" / "image-0.png").unlink()
        (own_world / "media" / "text-0.txt").unlink()
        (own_world / "media" / "text-0.txt").symlink_to("/etc/passwd")
        with (own_world / "media" / "audio-0.wav").open("ab") as file:
            file.write(b"more")
        assert server.get(picture["media"]).status == 410
        changed = server.get(text["media"])
        assert (changed.status, b"root:" in changed.body) == (409, False)
        assert "has changed since it was indexed" in changed.error
        assert server.get(sound["media"]).status == 409


def test_a_store_of_another_encoder_is_told_and_used(own_world: Path) -> None:
    with serving(own_world / "store") as server:
        assert server.search(terms=[{"kind": "text", "source": "a dog"}]).status == 200
        with connect(own_world / "store") as store:
            store.reindex("null")
        assert server.get("/api/status").data["encoder"] == "null"
        assert server.search(terms=[{"kind": "text", "source": "a dog"}]).status == 200
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
            connection.sendall(f"GET /api/events HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n\r\n".encode())
            told = read_event(connection.makefile("r", encoding="utf-8", newline=""), "store")
        assert (told["encoder"], told["replaced"]) == ("null", 1)


def test_hostile_names_of_indexed_files_are_text(world: Path, tmp_path: Path) -> None:
    media = tmp_path / "media"
    media.mkdir()
    for number, name in enumerate(HOSTILE):
        Image.new("RGB", (64, 64), (40 * number, 10, 200 - 30 * number)).resize((64, 64)).save(media / "made.png")
        with Image.open(media / "made.png") as made:
            made.putpixel((number, 3), (255, 255, 255))
            made.save(media / name)
        (media / "made.png").unlink()
    with connect(tmp_path / "store") as store:
        store.index(media)
    with serving(tmp_path / "store") as server:
        hits = server.search(terms=[{"kind": "text", "source": "red"}], k=20, copies=True).data["hits"]
        assert sorted(hit["name"] for hit in hits) == sorted(HOSTILE)
        for hit in hits:
            reply = server.get(hit["media"])
            assert (reply.status, reply.body) == (200, Path(hit["path"]).read_bytes())
            assert server.get(hit["thumbnail"]).status == 200
