"""Thumbnails and figures of segments: decoded as for the index, of the right part of the file, bounded."""

from __future__ import annotations

import json
import tarfile
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bindsearch.errors import MediaError, UsageError
from bindsearch.media import DepthMap, Frames, Motion, Passage, Picture, Sound
from bindsearch.operations.segment_media import Place, read_media
from bindsearch.types import Modality
from bindsearch.views.thumbnails import figure, thumbnail
from helpers.media_files import (
    motion,
    tone,
    write_depth,
    write_every_modality,
    write_motion_csv,
    write_picture,
    write_sound,
    write_video,
)
from helpers.stores import connect


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("media")
    return {name: paths[0] for name, paths in write_every_modality(folder, copies=1).items()}


def pixels(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture.convert("RGB"), np.int64)


@pytest.mark.parametrize("modality", Modality)
def test_every_modality_has_a_thumbnail_and_a_figure(modality: Modality, media: dict[str, Path]) -> None:
    place = Place(media[modality], media[modality].parent, modality)
    small, large = thumbnail(place, 128), figure(place, 640)
    assert 48 <= max(small.size) <= 128
    assert large.width <= 640
    assert large.height <= 700
    assert len(np.unique(pixels(small))) > 6
    assert len(np.unique(pixels(large))) > 6


def test_the_span_of_a_recording_is_shown(tmp_path: Path) -> None:
    sound = write_sound(tmp_path / "a.wav", np.concatenate([tone(10, frequency_hz=200), tone(12, frequency_hz=3000)]))
    place = Place(sound, tmp_path, Modality.AUDIO, 10.0, 22.0)
    found = read_media(place)
    assert isinstance(found, Sound)
    assert found.samples.size == 12 * 16_000
    frequencies = np.fft.rfftfreq(found.samples.size, 1 / found.sample_rate_hz)
    assert frequencies[np.abs(np.fft.rfft(found.samples)).argmax()] == pytest.approx(3000, abs=1)
    steps = np.repeat(np.arange(12.0), 50)[:, None] * np.ones(6)
    table = write_motion_csv(tmp_path / "m.csv", motion(12.0) * 0 + [0, 0, 9.81, 0, 0, 0] + steps * 0.1)
    moved = read_media(Place(table, tmp_path, Modality.IMU, 5.0, 10.0))
    assert isinstance(moved, Motion)
    assert moved.samples.shape == (250, 6)
    assert moved.samples[:, 3].mean() == pytest.approx(np.radians(0.7), rel=0.01)  # taken to be degrees a second


def test_a_video_shows_the_middle_of_its_span(tmp_path: Path) -> None:
    def grey(_: object, time_s: float) -> np.ndarray:
        return np.full((48, 64, 3), 20 * int(time_s) + 10, np.uint8)

    path = write_video(tmp_path / "v.mp4", 12.0, picture=lambda time_s: grey(None, time_s))
    shown = pixels(thumbnail(Place(path, tmp_path, Modality.VIDEO, 4.0, 7.0), 64))
    assert shown.mean() == pytest.approx(20 * 5 + 10, abs=4)
    frames = read_media(Place(path, tmp_path, Modality.VIDEO, 4.0, 7.0))
    assert isinstance(frames, Frames)
    assert 4.0 <= frames.times_s.min() < frames.times_s.max() < 7.0


def test_pictures_are_upright_and_in_srgb(tmp_path: Path) -> None:
    rgb = np.zeros((40, 80, 3), np.uint8)
    rgb[:, :40] = (255, 0, 0)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(rgb).save(tmp_path / "turned.jpg", exif=exif, quality=95)
    shown = thumbnail(Place(tmp_path / "turned.jpg", tmp_path, Modality.IMAGE), 64)
    assert shown.size == (32, 64)
    assert pixels(shown)[5, 16, 0] > 240
    assert pixels(shown)[60, 16, 0] < 15
    cmyk = Image.new("CMYK", (32, 32), (0, 255, 255, 0))
    cmyk.save(tmp_path / "print.jpg")
    assert pixels(thumbnail(Place(tmp_path / "print.jpg", tmp_path, Modality.IMAGE), 32))[16, 16, 0] > 200


def test_facts_of_sidecars_and_folders_apply(tmp_path: Path) -> None:
    depth = write_depth(tmp_path / "d.png", np.full((20, 30), 250, np.uint16))
    (tmp_path / "d.png.json").write_text(json.dumps({"depth_unit": "cm"}))
    found = read_media(Place(depth, tmp_path, Modality.DEPTH))
    assert isinstance(found, DepthMap)
    assert float(found.depth_m.max()) == pytest.approx(2.5)
    write_depth(tmp_path / "e.png", np.full((20, 30), 250, np.uint16))
    (tmp_path / ".bindsearch.toml").write_text('[facts."e.png"]\ndepth_unit = "m"\n')
    found = read_media(Place(tmp_path / "e.png", tmp_path, Modality.DEPTH))
    assert isinstance(found, DepthMap)
    assert float(found.depth_m.max()) == pytest.approx(250.0)


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_members_of_archives(kind: str, tmp_path: Path) -> None:
    source = write_picture(tmp_path / "red.png", np.full((20, 20, 3), (200, 10, 10), np.uint8))
    other = write_picture(tmp_path / "blue.png", np.full((20, 20, 3), (10, 10, 200), np.uint8))
    root = tmp_path / "root"
    root.mkdir()
    archive = root / f"set.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(archive, "w") as packed:
            packed.write(other, "b/blue.png")
            packed.write(source, "a/red.png")
    else:
        with tarfile.open(archive, "w") as packed:
            packed.add(other, "b/blue.png")
            packed.add(source, "a/red.png")
    shown = pixels(thumbnail(Place(archive / "a/red.png", root, Modality.IMAGE), 16))
    assert shown[..., 0].min() > 190
    with pytest.raises(MediaError, match=r"^the archive set\.\w+ has no such member now$"):
        thumbnail(Place(archive / "a/green.png", root, Modality.IMAGE), 16)


def test_what_is_shown_is_what_hits_name(media: dict[str, Path], tmp_path: Path) -> None:
    folder = media["text"].parent
    with connect(tmp_path / "store") as store:
        store.index(folder, rules=["thermal=thermal-*.png"])
        hits = store.search("rain", k=50)
    kinds = {Modality.IMAGE: Picture, Modality.AUDIO: Sound, Modality.TEXT: Passage}
    for hit in hits:
        place = Place(hit.path, hit.collection, hit.modality, hit.start_s, hit.end_s, hit.text)
        found = read_media(place)
        assert isinstance(found, kinds.get(hit.modality, object))
        assert thumbnail(place, 64).size[0] <= 64
    assert {hit.modality for hit in hits} >= set(kinds)


def test_faults_are_one_line(media: dict[str, Path], tmp_path: Path) -> None:
    gone = Place(tmp_path / "gone\x1b.png", tmp_path, Modality.IMAGE)
    with pytest.raises(MediaError, match=r"^the file is gone: it was deleted or moved, or its disk is not mounted$"):
        thumbnail(gone, 64)
    damaged = tmp_path / "damaged.png"
    damaged.write_bytes(media["image"].read_bytes()[:100])
    for modality in Modality:
        place = Place(damaged, tmp_path, modality)
        with pytest.raises(MediaError) as caught:
            thumbnail(place, 64)
        assert "\n" not in str(caught.value)
        assert str(caught.value)
    late = Place(media["audio"], media["audio"].parent, Modality.AUDIO, 60.0, 70.0)
    with pytest.raises(MediaError, match=r"^the sound ends before 60 s$"):
        thumbnail(late, 64)
    with pytest.raises(MediaError, match=r"^not a regular file$"):
        thumbnail(Place(tmp_path, tmp_path, Modality.AUDIO), 64)
    for side in (8, 5000):
        with pytest.raises(UsageError, match=f"^side_px is {side}: give 16 to 1024 pixels$"):
            thumbnail(gone, side)
    with pytest.raises(UsageError, match=r"^width_px is 9000: give 320 to 2048 pixels$"):
        figure(gone, 9000)


def test_large_photos_are_decoded_at_a_reduced_scale(tmp_path: Path) -> None:
    ramp = np.linspace(0, 255, 4000, dtype=np.uint8)
    Image.fromarray(np.broadcast_to(ramp, (3000, 4000)).copy()).convert("RGB").save(tmp_path / "large.jpg")
    place = Place(tmp_path / "large.jpg", tmp_path, Modality.IMAGE)
    with Image.open(place.path) as picture:
        started = time.process_time()
        picture.load()
        whole_s = time.process_time() - started
    times_s = []
    for _ in range(3):
        started = time.process_time()
        thumbnail(place, 256)
        times_s.append(time.process_time() - started)
    assert min(times_s) < whole_s
