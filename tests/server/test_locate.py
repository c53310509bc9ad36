"""Where a hit answers a query, over HTTP: places, pictures, refusals, bounds."""

from __future__ import annotations

import http.client
import json
import time
from base64 import b64decode
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bindsearch.server.limits import MAX_HEAT_CELLS
from bindsearch.types import Modality
from helpers.server_process import Reply, ServerProcess

QUERY = {"terms": [{"kind": "text", "source": "a dog"}], "k": 50}


def located(server: ServerProcess, hit: dict[str, Any], query: object = QUERY) -> Reply:
    asked = {key: hit[key] for key in ("item_id", "modality", "start_s")}
    return server.post("/api/locate", {"query": query, **asked})


def picture_of(url: str) -> Image.Image:
    return Image.open(BytesIO(b64decode(url.partition(";base64,")[2])))


def test_places_of_each_modality(server: ServerProcess) -> None:
    hits = {hit["modality"]: hit for hit in server.search(**QUERY).data["hits"]}
    assert hits.keys() == {modality.value for modality in Modality}
    for modality, hit in hits.items():
        reply = located(server, hit)
        if modality == "text":
            assert (reply.status, reply.error) == (400, "a text has no places: locate a picture or a recording")
            continue
        assert reply.status == 200, reply.body
        places = reply.data
        assert places["words"]
        assert len(places["places"]) == len(places["boxes"]) + len(places["spans"])
        assert all(", relevance " in words for words in places["places"])
        is_recording = modality in ("audio", "imu")
        assert (places["picture"] is None, places["heat"] is None) == (is_recording, is_recording)
        if is_recording:
            assert len(places["curve"]["times_s"]) == len(places["curve"]["relevance"]) > 0
            continue
        shown, heat = picture_of(places["picture"]), picture_of(places["heat"])
        assert (shown.format, heat.format, heat.mode) == ("WEBP", "PNG", "RGBA")
        assert max(heat.size) <= MAX_HEAT_CELLS
        assert max(shown.size) <= 960
        if modality in ("depth", "thermal"):
            assert np.ptp(np.asarray(shown.convert("RGB")).astype(int), axis=-1).max() <= 3, "grey below the heat map"


def test_an_upload_as_the_query(server: ServerProcess, world: Path) -> None:
    key = server.upload(world / "queries" / "audio-2.wav", "bark.wav").data["upload"]
    query = {"terms": [{"kind": "upload", "source": key}], "to": ["image"]}
    (hit, *_) = server.search(**query).data["hits"]
    reply = located(server, hit, query)
    assert reply.status == 200
    assert str(world) not in json.dumps(reply.data)


@pytest.mark.parametrize(
    ("change", "status", "message"),
    [
        ({"item_id": 10**9}, 404, "there is no item 1000000000, or not any more: search again"),
        ({"item_id": "1"}, 400, "item_id is '1': give the id of the item of a hit"),
        ({"item_id": True}, 400, "item_id is True: give the id of the item of a hit"),
        ({"item_id": -1}, 404, "there is no item -1"),
        ({"modality": "smell"}, 400, "unknown modality 'smell'"),
        ({"modality": None}, 400, "unknown modality None"),
        ({"start_s": "0"}, 400, "start_s is '0': give the seconds where the hit starts, or null"),
        ({"start_s": -1}, 400, "start_s is -1"),
        ({"query": None}, 400, "the query is None: give a JSON object"),
        ({"query": {"terms": []}}, 400, ""),
        ({"query": {"terms": [{"kind": "image", "source": "/etc/passwd"}]}}, 400, "the kind of a term is 'image'"),
    ],
)
def test_wrong_requests(change: dict[str, Any], status: int, message: str, server: ServerProcess) -> None:
    hit = server.search(**QUERY, to=["image"]).data["hits"][0]
    asked = {"query": QUERY, **{key: hit[key] for key in ("item_id", "modality", "start_s")}, **change}
    reply = server.post("/api/locate", asked)
    assert reply.status == status, reply.body
    assert message in reply.error
    assert "\n" not in reply.error


def test_no_object_and_no_query(server: ServerProcess) -> None:
    assert server.post("/api/locate", []).error == "the request is []: give a JSON object"
    assert "has no query" in server.post("/api/locate", {"item_id": 1, "modality": "image"}).error


def test_many_at_once_are_answered_or_refused(server: ServerProcess) -> None:
    hit = server.search(**QUERY, to=["image"]).data["hits"][0]
    with ThreadPoolExecutor(24) as pool:
        replies = [*pool.map(lambda _: located(server, hit), range(24))]
    assert {reply.status for reply in replies} <= {200, 503}
    assert sum(reply.status == 200 for reply in replies) >= 17
    assert all("busy" in reply.error for reply in replies if reply.status == 503)


def test_what_nobody_waits_for_is_given_up(server: ServerProcess) -> None:
    hit = server.search(**QUERY, to=["video"]).data["hits"][0]
    asked = {"query": QUERY, **{key: hit[key] for key in ("item_id", "modality", "start_s")}}
    started = time.monotonic()
    assert located(server, hit).status == 200
    once_s = time.monotonic() - started
    connections = [http.client.HTTPConnection("127.0.0.1", server.port, timeout=30) for _ in range(16)]
    for connection in connections:
        connection.request("POST", "/api/locate", json.dumps(asked), {"Content-Type": "application/json"})
    for connection in connections:
        connection.close()
    time.sleep(0.6)
    started = time.monotonic()
    assert located(server, hit).status == 200
    assert time.monotonic() - started < 8 * once_s + 2
