"""Places in the hits of answers and galleries: bounded, one notice a hit that cannot be located, no style inline."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import bindsearch as bs
from bindsearch.operations.locate.words import boxes_of_one_picture
from bindsearch.search.query_syntax import parse_query
from bindsearch.views.html import Html, element
from bindsearch.views.html_page import write_page
from bindsearch.views.located_figure import located_figure
from bindsearch.views.located_hits import HitLocating, locate_hits, place_of
from helpers.media_files import write_every_modality
from helpers.stores import connect

KEYS = {"method", "boxes", "spans", "peak", "curve", "notices"}


def located(**parts: Any) -> dict[str, Any]:
    nothing: dict[str, Any] = {"boxes": [], "spans": [], "peak": None, "curve": None, "notices": []}
    return {"method": "dense features of mini", **nothing, **parts}


def box(left: float, top: float, right: float, bottom: float, at_s: float | None = None) -> dict[str, Any]:
    return {"left": left, "top": top, "right": right, "bottom": bottom, "relevance": 0.97, "at_s": at_s}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with files of every modality, an archive, and pictures that are very wide, all indexed."""
    folder = tmp_path_factory.mktemp("located")
    media = folder / "media"
    write_every_modality(media, copies=1)
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (40, 10_000, 3), np.uint8)).save(media / "wide.png")
    for name in ("gone", "damaged", "changed"):
        Image.fromarray(rng.integers(0, 256, (60, 90, 3), np.uint8)).save(media / f"{name}.png")
    with zipfile.ZipFile(media / "album.zip", "w") as packed:
        packed.write(media / "gone.png", "inside.png")
    with connect(folder / "store", encoder="mini") as store:
        store.index(media, rules=["thermal=thermal-*.png"])
    return folder


def answered(folder: Path, text: str = "noise", **options: Any) -> dict[str, Any]:
    query = bs.make_query(bs.text(text), k=50, copies=True)
    with connect(folder / "store", encoder="mini") as store:
        return locate_hits(store, query, store.answer(query), HitLocating(**options))


def by_name(answer: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {Path(hit["path"]).name: hit for hit in answer["hits"]}


def test_every_medium_is_located_and_texts_are_not(world: Path) -> None:
    reports: list[tuple[int, int]] = []
    answer = answered(world, report=lambda done, total: reports.append((done, total)))
    assert {hit["modality"] for hit in answer["hits"]} == {modality.value for modality in bs.Modality}
    for hit in answer["hits"]:
        if hit["modality"] == "text":
            assert hit["located"] is None
            continue
        places = hit["located"]
        assert places.keys() == KEYS
        assert places["method"], hit
        assert (places["peak"] is None) == (hit["modality"] in ("audio", "imu"))
        assert (places["curve"] is not None) >= (hit["modality"] in ("audio", "imu"))
        for one in places["boxes"]:
            assert 0 <= one["left"] < one["right"] <= 1
            assert 0 <= one["top"] < one["bottom"] <= 1
    media = sum(hit["modality"] != "text" for hit in answer["hits"])
    assert reports == [(done, media) for done in range(media + 1)]
    assert answer["notices"] == []


def test_hits_beyond_the_most_are_counted(world: Path) -> None:
    answer = answered(world, most=2)
    assert sum(hit["located"] is not None for hit in answer["hits"]) == 2
    first = [hit for hit in answer["hits"] if hit["modality"] != "text"][:2]
    assert all(hit["located"] for hit in first)
    assert re.fullmatch(r"located: the best 2 hits; \d+ more were not", answer["notices"][-1])


def test_files_that_are_gone_damaged_or_changed(world: Path) -> None:
    media = world / "media"
    kept = {name: (media / name).read_bytes() for name in ("gone.png", "damaged.png", "changed.png")}
    (media / "gone.png").unlink()
    (media / "damaged.png").write_bytes(kept["damaged.png"][:100])
    Image.radial_gradient("L").save(media / "changed.png")
    try:
        hits = by_name(answered(world))
    finally:
        for name, content in kept.items():
            (media / name).write_bytes(content)
    gone, damaged = hits["gone.png"]["located"], hits["damaged.png"]["located"]
    for places, reason in ((gone, "the file is gone"), (damaged, "")):
        assert places["method"] is None
        (notice,) = places["notices"]
        assert reason in notice
        assert "\n" not in notice
    (change,) = hits["changed.png"]["located"]["notices"]
    assert "has changed since it was indexed: located in the file as it is now" in change
    assert hits["wide.png"]["located"]["notices"] == []
    assert hits["inside.png"]["located"]["method"], "a member of an archive is read from it"
    assert hits["wide.png"]["located"]["method"]


def test_vectors_without_media(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    paths = [str(tmp_path / "media" / name) for name in ("a.jpg", "b.jpg")]
    rows = {"path": paths, "vector": rng.standard_normal((2, 384)).astype(np.float32).tolist()}
    pq.write_table(pa.table(rows), tmp_path / "vectors.parquet")
    bs.import_vectors(tmp_path / "store", tmp_path / "vectors.parquet", modality="image", encoder="mini")
    with connect(tmp_path / "store") as store:
        query = bs.make_query(bs.text("a dog"))
        answer = locate_hits(store, query, store.answer(query))
    assert len(answer["hits"]) == 2
    assert all("the file is gone" in hit["located"]["notices"][0] for hit in answer["hits"])


def test_a_gallery_shows_places(world: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    query = bs.make_query(parse_query("noise"), k=50)
    with connect(world / "store", encoder="mini") as store:
        (answer,) = write_page(page, store, [query], title="Places", locating=HitLocating())
    content = page.read_text(encoding="utf-8")
    located_hits = [hit for hit in answer["hits"] if hit["located"]]
    assert content.count('<figure class="located">') == len(located_hits)
    assert content.count('class="curve"') >= sum(hit["modality"] in ("audio", "imu") for hit in located_hits)
    assert " style=" not in content


def test_boxes_are_drawn_where_they_are() -> None:
    places = located(boxes=[box(0.1, 0.2, 0.5, 0.25), box(0.5, 0.5, 1, 1)], notices=["<b> is assumed"])
    figure = located_figure(places, element("img", src="data:,", alt="a"))
    rects = re.findall(r'<rect x="([\d.]+)" y="([\d.]+)" width="([\d.]+)" height="([\d.]+)" class="([a-z ]+)">', figure)
    assert rects == [
        ("500.0", "500.0", "500.0", "500.0", "halo"),
        ("500.0", "500.0", "500.0", "500.0", "box"),
        ("100.0", "200.0", "400.0", "50.0", "halo"),
        ("100.0", "200.0", "400.0", "50.0", "box best"),
    ]
    assert "Upper left, 10-50% x 20-25%, relevance 0.97, and 1 more" in figure
    assert "&lt;b&gt; is assumed" in figure
    texts = re.findall(r'<text x="([\d.]+)%" y="([\d.]+)%" dx="4" dy="13">(\d)</text>', figure)
    assert texts == [("10.0", "20.0", "1"), ("50.0", "50.0", "2")]
    assert "<li>lower right, 50-100% x 50-100%, relevance 0.97</li></ol>" in figure
    alone = located_figure(located(boxes=[box(0.1, 0.2, 0.5, 0.25)]), element("img", src="data:,", alt="a"))
    assert "<ol>" not in alone
    assert "<text" not in alone


def test_a_curve_is_drawn_over_its_time() -> None:
    curve = {"times_s": [11.0, 12.0, 13.0], "relevance": [0.0, 1.0, 0.5], "start_s": 10.0, "end_s": 14.0}
    places = located(curve=curve, spans=[{"start_s": 11.5, "end_s": 12.5, "relevance": 1.0}])
    figure = located_figure(places, Html())
    assert 'points="0.0,120.0 150.0,120.0 300.0,0.0 450.0,60.0 600.0,60.0"' in figure
    assert '<rect x="225.0" y="0" width="150.0" height="120" class="span">' in figure
    assert "<span>10.0 s</span>" in figure
    assert "<span>14.0 s</span>" in figure
    one = located_figure(located(curve={"times_s": [0.2], "relevance": [0.4], "start_s": 0, "end_s": 0.4}), Html())
    assert 'points="0.0,72.0 300.0,72.0 600.0,72.0"' in one


def test_the_picture_of_a_video_is_the_frame_of_its_best_box() -> None:
    hit = {"path": "/m/a.mp4", "collection": "/m", "modality": "video", "start_s": 0.0, "end_s": 5.0, "text": None}
    places = located(boxes=[box(0, 0, 1, 1, 3.0), box(0, 0, 1, 1, 1.0)])
    place = place_of({**hit, "located": places})
    assert (place.start_s, place.end_s) == (3.0, pytest.approx(3.001, abs=1e-3))
    assert len(boxes_of_one_picture(places)) == 1
    assert place_of({**hit, "located": None}).end_s == 5.0
