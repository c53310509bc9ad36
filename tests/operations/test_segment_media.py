"""Media of segments that are not the whole of their file: motion and sound in videos, pages, captions, scales."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import bindsearch as bs
from bindsearch.ingest.media.options import DecodeOptions
from bindsearch.media import DepthMap, Motion, Passage, Picture, Sound, ThermalPicture
from bindsearch.operations.segment_media import LARGE, Place, read_media, read_segment
from bindsearch.types import Hit, Modality
from bindsearch.views.thumbnails import figure
from helpers.document_files import make_pdf
from helpers.gopro_video import add_track, motion_payloads
from helpers.media_files import motion, tone, write_depth, write_picture, write_sound, write_video
from helpers.stores import connect


def place_of(hit: Hit) -> Place:
    return Place(hit.path, hit.collection, hit.modality, hit.start_s, hit.end_s, hit.text)


def hits_of(store: bs.Store, folder: Path) -> dict[str, list[Hit]]:
    store.index(folder)
    found: dict[str, list[Hit]] = {}
    for modality in Modality:
        for hit in store.search("a", to=modality, k=50):
            found.setdefault(modality, []).append(hit)
    return found


def test_every_kind_of_segment_of_a_store_can_be_read(tmp_path: Path) -> None:
    folder = tmp_path / "media"
    folder.mkdir()
    samples = motion(6.0, 200.0)
    add_track(
        write_video(folder / "camera.mp4", 6.0, sound=tone(6.0, 48_000)),
        motion_payloads(samples[:, :3], samples[:, 3:], 6),
    )
    captioned = write_picture(folder / "c.png", np.arange(48 * 64 * 3, dtype=np.uint8).reshape(48, 64, 3))
    captioned.with_name("c.png.json").write_text(json.dumps({"captions": ["two cups"]}))
    if find_spec("pypdfium2") is not None:
        make_pdf(folder / "paper.pdf", ["first page", "second page"])
    with connect(tmp_path / "store", encoder="null") as store:
        found = hits_of(store, folder)
    kinds = {"imu": Motion, "audio": Sound, "text": Passage, "image": Picture}
    for modality, kind in kinds.items():
        assert found[modality]
        for hit in found[modality]:
            assert isinstance(read_media(place_of(hit)), kind)
            assert figure(place_of(hit), 320).width <= 320
    for hit in found["imu"]:
        moved = read_media(place_of(hit))
        assert isinstance(moved, Motion)
        length_s = (hit.end_s or 0) - (hit.start_s or 0)
        assert len(moved.samples) / moved.sample_rate_hz == pytest.approx(length_s, abs=0.1)


@pytest.mark.parametrize("length_s", [4.0, 10.0, 25.0])
def test_a_segment_is_one_span_whatever_its_length(length_s: float, tmp_path: Path) -> None:
    write_sound(tmp_path / "a.flac", np.concatenate([tone(1, frequency_hz=200 + 100 * n) for n in range(31)]))
    with connect(tmp_path / "store", encoder="null", segment_s={"audio": length_s}) as store:
        found = hits_of(store, tmp_path)
    for hit in found["audio"]:
        sound = read_media(place_of(hit))
        assert isinstance(sound, Sound)
        assert len(sound.samples) == round(((hit.end_s or 0) - (hit.start_s or 0)) * sound.sample_rate_hz)


def test_degrees_are_known_where_the_unit_is_said(tmp_path: Path) -> None:
    celsius = np.linspace(10, 40, 600).reshape(20, 30)
    path = tmp_path / "t.npy"
    np.save(path, celsius.astype(np.float32))
    place = Place(path, tmp_path, Modality.THERMAL)
    path.with_name("t.npy.json").write_text(json.dumps({"temperature_unit": "C", "rotate": 90}))
    found = read_segment(place, DecodeOptions(), LARGE)
    assert isinstance(found.media, ThermalPicture)
    assert found.degrees_c is not None
    assert found.degrees_c.shape == found.media.values.shape == (30, 20)
    assert (found.degrees_c.min(), found.degrees_c.max()) == pytest.approx((10, 40), abs=1e-4)
    with_scale = np.asarray(figure(place, 400), np.int64)
    np.save(path, (celsius * 1e6).astype(np.float32))
    path.with_name("t.npy.json").write_text(json.dumps({"rotate": 90}))
    assert read_segment(place, DecodeOptions(), LARGE).degrees_c is None
    assert not np.array_equal(with_scale, np.asarray(figure(place, 400)))


def test_relative_depth_has_no_metres(tmp_path: Path) -> None:
    depth = write_depth(tmp_path / "d.png", np.arange(600, dtype=np.uint16).reshape(20, 30) + 1000)
    place = Place(depth, tmp_path, Modality.DEPTH)
    found = read_segment(place, DecodeOptions(), LARGE)
    assert isinstance(found.media, DepthMap)
    assert not found.is_relative
    depth.with_name("d.png.json").write_text(json.dumps({"depth_unit": "inverse"}))
    assert read_segment(place, DecodeOptions(), LARGE).is_relative


def test_a_list_of_the_collection_applies(tmp_path: Path) -> None:
    (tmp_path / "scans").mkdir()
    depth = write_depth(tmp_path / "scans" / "d.png", np.full((20, 30), 250, np.uint16))
    (tmp_path / "metadata.jsonl").write_text(json.dumps({"file_name": "scans/d.png", "depth_unit": "cm"}) + "\n")
    found = read_media(Place(depth, tmp_path, Modality.DEPTH))
    assert isinstance(found, DepthMap)
    assert float(found.depth_m.max()) == pytest.approx(2.5)
