"""Media of pairs: the cache, what cannot be used, aligned crops, and the time that many pairs take."""

from __future__ import annotations

import errno
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from bindsearch.binding.bind import BindOptions, bind
from bindsearch.binding.data import pair_media
from bindsearch.binding.data.loader import Drawing
from bindsearch.binding.data.pair_data import PairData, load_pair_data
from bindsearch.binding.data.pair_media import MediaCache, crop_media, draw_crop, duration_of, read_pair_media
from bindsearch.binding.data.pairs import Pair, PairTable, read_pairs
from bindsearch.binding.recipe import RunSettings, parse_settings
from bindsearch.encoders.registry import load_encoder
from bindsearch.errors import BindSearchError, MediaError, UsageError
from bindsearch.media import DecodeHints, Frames, Picture, Sound, ThermalPicture
from bindsearch.types import Modality, Span
from helpers.bound_world import DIM, THERMAL_SETTINGS, WorldEncoder, make_scenes, write_pairs, write_scenes
from helpers.media_files import tone, write_sound, write_video

HINTS = DecodeHints(32, 10.0)
OPTIONS = THERMAL_SETTINGS


def settings(*texts: str, modality: Modality = Modality.THERMAL) -> RunSettings:
    return parse_settings(modality, DIM, [*OPTIONS, *texts] if modality is Modality.THERMAL else texts)


def load(table: Path, folder: Path, run: RunSettings | None = None) -> PairData:
    world, chosen = WorldEncoder(), run or settings()
    pairs = read_pairs(table, Modality.THERMAL, world.modalities, 0.0)
    return load_pair_data(pairs, world, chosen, folder, lambda *_: None)


def test_what_cannot_be_used_is_counted_with_reasons(tmp_path: Path) -> None:
    write_scenes(tmp_path, make_scenes(4, 1), ["image", "thermal"])
    (tmp_path / "thermal/0001.png").write_bytes(b"\x89PNG\r\n\x1a\n no picture")
    (tmp_path / "image/0002.png").unlink()
    (tmp_path / "thermal/0003.png").unlink()
    (tmp_path / "thermal/0003.png").mkdir()
    data = load(write_pairs(tmp_path / "pairs.csv", "thermal", "image", 4), tmp_path / "work")
    assert len(data.pairs) == 1
    assert data.notes[0] == "3 of 4 pairs cannot be used"
    assert data.notes[1].startswith(f"{tmp_path}/thermal/0001.png: ")
    assert data.notes[2] == f"{tmp_path}/image/0002.png: No such file or directory"
    assert data.notes[3] == f"{tmp_path}/thermal/0003.png: not a regular file"
    (tmp_path / "thermal/0000.png").unlink()
    with pytest.raises(UsageError, match=r"no pair of the table can be used for training; the first: .*0000.png: No "):
        load(tmp_path / "pairs.csv", tmp_path / "work")


def test_texts_without_words_cannot_be_used(tmp_path: Path) -> None:
    write_scenes(tmp_path, make_scenes(2, 1), ["thermal"])
    (tmp_path / "pairs.csv").write_text("thermal,text\nthermal/0000.png,...\nthermal/0001.png,a dog\n")
    data = load(tmp_path / "pairs.csv", tmp_path / "work")
    assert data.notes == ("1 of 2 pairs cannot be used", "'...': no content: no words")


def test_damaged_entries_of_the_cache_are_decoded_again(tmp_path: Path) -> None:
    write_scenes(tmp_path, make_scenes(3, 1), ["image", "thermal"])
    table = write_pairs(tmp_path / "pairs.csv", "thermal", "image", 3)
    first = load(table, tmp_path / "work")
    rng = np.random.default_rng(0)
    files = [path for path in (tmp_path / "work").rglob("*") if path.is_file()]
    assert len(files) == 7
    for damage in range(12):
        for path in files:
            content = bytearray(path.read_bytes())
            if damage == 0:
                content = bytearray()
            elif damage < 4:
                del content[int(rng.integers(len(content))) :]
            else:  # a digest tells
                content[int(rng.integers(len(content)))] ^= 0xFF
            path.write_bytes(content)
        again = load(table, tmp_path / "work")
        np.testing.assert_array_equal(again.whole_vectors, first.whole_vectors)
        for row in range(3):
            expected, found = first.media(row), again.media(row)
            assert isinstance(expected, ThermalPicture)
            assert isinstance(found, ThermalPicture)
            np.testing.assert_array_equal(found.values, expected.values)


def test_threads_may_write_one_entry_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_scenes(tmp_path, make_scenes(1, 1), ["image"])
    path = tmp_path / "image/0000.png"
    monkeypatch.setattr(pair_media.KeptMedia, "get", lambda *_: None)
    for attempt in range(5):
        cache = MediaCache(tmp_path / f"cache-{attempt}", HINTS)
        key = cache.key(path, Modality.IMAGE, None)
        with ThreadPoolExecutor(8) as threads:
            media = list(threads.map(lambda _, c=cache, k=key: c.get(path, Modality.IMAGE, None, k), range(16)))
        assert len({one.rgb.tobytes() for one in media}) == 1
        assert [file.suffix for file in cache.folder.rglob("*") if file.is_file()] == [".safetensors"]


def test_full_disk_is_one_line_and_no_fault_of_a_pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_scenes(tmp_path, make_scenes(2, 1), ["image", "thermal"])
    table = write_pairs(tmp_path / "pairs.csv", "thermal", "image", 2)

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tempfile, "mkstemp", full)
    with pytest.raises(BindSearchError) as raised:
        bind(table, "thermal", "world", "t", settings=OPTIONS, options=BindOptions(work=tmp_path / "work"))
    assert str(raised.value) == (
        f"the files of the run cannot be written below {tmp_path}/work (No space left on device): make room or give "
        "another folder with --work, and run the same command again"
    )
    assert not [path for path in (tmp_path / "work/media").rglob("*") if path.is_file()]


def test_a_crop_is_the_same_part_of_all_files_of_a_group(tmp_path: Path) -> None:
    """Sound and video whose shades and loudness tell the time: a crop of both shows the same second."""

    def picture(time_s: float) -> np.ndarray:
        rgb = np.full((48, 64, 3), round(20 * time_s), np.uint8)
        rgb[:24] = 255
        return rgb

    write_video(tmp_path / "a.mp4", 10.0, picture=picture)
    rate = 16_000
    loud = np.floor(np.arange(8 * rate) / rate).astype(np.float32) / 10 + 0.05
    write_sound(tmp_path / "a.wav", tone(8.0) * loud / np.abs(tone(8.0)).max())
    for span, first_s, length_s in ((None, 0.0, 8.0), (Span(3.0, 7.0), 3.0, 4.0)):
        video = read_pair_media(tmp_path / "a.mp4", Modality.VIDEO, span, HINTS)
        sound = read_pair_media(tmp_path / "a.wav", Modality.AUDIO, span, HINTS)
        assert isinstance(video, Frames)
        duration_s = min(duration_of(video), duration_of(sound))
        assert duration_s == pytest.approx(length_s, abs=0.15)
        for number in range(8):
            crop = draw_crop(0, number, duration_s, Modality.AUDIO, settings(modality=Modality.AUDIO).augmentations, 5)
            assert isinstance(crop, Span)
            frames, part = crop_media(video, crop), crop_media(sound, crop)
            assert isinstance(frames, Frames)
            assert isinstance(part, Sound)
            assert len(part.samples) == pytest.approx(2 * part.sample_rate_hz, abs=2)
            shown_s = frames.rgb[:, 40].reshape(len(frames.rgb), -1).mean(axis=1) / 20
            assert shown_s.min() == pytest.approx(crop.start_s + first_s, abs=0.3)
            assert shown_s.max() == pytest.approx(crop.end_s + first_s, abs=0.3)
            heard = np.abs(part.samples[: part.sample_rate_hz // 10]).max() - 0.05
            assert heard * 10 == pytest.approx(np.floor(crop.start_s + first_s), abs=1.1)


def test_what_has_no_length_sets_no_limit() -> None:
    assert duration_of(Picture(np.zeros((2, 2, 3), np.uint8))) == np.inf
    assert duration_of(Frames(np.zeros((1, 2, 2, 3), np.uint8), np.array([7.0]))) == np.inf
    assert duration_of(Sound(np.zeros(8, np.float32), 4)) == 2.0


def test_crops_without_a_measurement_are_not_drawn(tmp_path: Path) -> None:
    """Depth that is known in one corner: crops elsewhere have nothing to embed."""
    from PIL import Image

    write_scenes(tmp_path, make_scenes(1, 1), ["image"])
    depth = np.zeros((64, 64), np.uint16)
    depth[:6, :6] = np.arange(36).reshape(6, 6) * 50 + 1000
    (tmp_path / "depth").mkdir()
    Image.fromarray(depth).save(tmp_path / "depth/0000.png")
    hub = load_encoder("null")
    table = read_pairs(write_pairs(tmp_path / "p.csv", "depth", "image", 1), Modality.DEPTH, hub.modalities, 0)
    run = parse_settings(Modality.DEPTH, hub.dim, ["network=vit-nano", "side_px=32", "patch_px=8", "crops=6"])
    data = load_pair_data(table, hub, run, tmp_path / "work", lambda *_: None)
    drawing = Drawing(data, hub, run, data.rows(validation=False))
    keys = {drawing.row(step, 0)[1] for step in range(20)}
    media = data.media(0)
    usable = {n for n in range(6) if getattr(crop_media(media, data.crop(0, n, run)), "valid").any()}  # noqa: B009
    assert keys <= usable
    assert 0 < len(usable) < 6


def test_many_pairs_take_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """20,000 pairs of a few files: what is done for each pair does not depend on how many there are."""
    count, texts = 20_000, 5_000
    media = ThermalPicture(np.random.default_rng(0).random((8, 8), dtype=np.float32))
    monkeypatch.setattr(MediaCache, "key", lambda _self, path, *_: f"{path.name}")
    monkeypatch.setattr(MediaCache, "get", lambda *_: media)
    monkeypatch.setattr("bindsearch.binding.data.pair_data.prepare", lambda *_: None)
    pairs = tuple(Pair(tmp_path / f"{n}", f"text {n % texts}", None, "", is_validation=False) for n in range(count))
    table = PairTable(tmp_path, Modality.TEXT, pairs, ())
    started_s = time.process_time()
    data = load_pair_data(table, WorldEncoder(), settings("crops=1"), tmp_path / "work", lambda *_: None)
    assert len(data.whole_vectors) == texts
    assert data.groups.max() == texts - 1
    assert time.process_time() - started_s < 20


def test_a_missing_file_later_on_is_named(tmp_path: Path) -> None:
    cache = MediaCache(tmp_path / "cache", HINTS)
    with pytest.raises(MediaError, match="No such file or directory"):
        cache.key(tmp_path / "none.png", Modality.IMAGE, None)
