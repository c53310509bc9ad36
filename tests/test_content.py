"""Files without content: no vectors, never hits, counted with a reason."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import bindsearch as bs
from bindsearch.errors import UsageError
from bindsearch.media import (
    DepthMap,
    Frames,
    Media,
    Motion,
    Passage,
    Picture,
    Sound,
    ThermalPicture,
    missing_content,
)
from helpers.command import Run
from helpers.media_files import tone, two_tone, write_picture, write_sound
from helpers.stores import connect

RNG = np.random.default_rng(0)
NOISE = RNG.standard_normal(1000).astype(np.float32)


def grey(shade: int, spread: int = 0) -> NDArray[np.uint8]:
    pixels = np.full((40, 50, 3), shade, np.uint8)
    pixels[17, 23] += np.uint8(spread)
    return pixels


def motion(rows: NDArray[np.floating]) -> Motion:
    return Motion(rows.astype(np.float32), 50.0)


REST = np.tile([0.0, 0.0, 9.81, 0.0, 0.0, 0.0], (100, 1))


@pytest.mark.parametrize(
    ("media", "reason"),
    [
        (Passage("--- ***"), "no words"),
        (Passage("\n"), "no words"),
        (Picture(grey(0)), "one colour"),
        (Picture(grey(100, 4)), "one colour"),
        (Frames(np.stack([grey(9)] * 3), np.arange(3.0)), "one colour"),
        (Sound(np.zeros(1000, np.float32), 16_000), "digital silence"),
        (Sound(np.full(1000, 0.25, np.float32), 16_000), "digital silence"),
        (Sound(np.float32(3e-5) * np.sign(NOISE), 16_000), "digital silence"),
        (DepthMap(np.full((4, 4), 2.0, np.float32), np.ones((4, 4), bool), 100.0, 0.1), "the same depth everywhere"),
        (ThermalPicture(np.full((4, 4), 0.5, np.float32)), "one temperature"),
        (motion(REST), "no signal"),
    ],
)
def test_what_has_no_content(media: Media, reason: str) -> None:
    assert missing_content(media) == reason


@pytest.mark.parametrize(
    "media",
    [
        Passage("7"),
        Passage("Ü"),
        Passage("犬"),
        Picture(grey(100, 5)),
        Frames(np.stack([grey(9), grey(200)]), np.arange(2.0)),  # two pictures, each of one colour
        Sound(np.float32(1e-3) * NOISE, 16_000),
        DepthMap(np.array([[1.0, 2.0]], np.float32), np.ones((1, 2), bool), 100.0, 0.1),
        ThermalPicture(np.array([[0.1, 0.2]], np.float32)),
        motion(REST + 1e-3 * RNG.standard_normal(REST.shape)),  # a sensor at rest has noise
    ],
)
def test_what_has_content(media: Media) -> None:
    assert missing_content(media) is None


@pytest.fixture
def media(tmp_path: Path) -> Path:
    folder = tmp_path / "media"
    folder.mkdir()
    (folder / "words.txt").write_text("rain drops on grass")
    (folder / "rule.txt").write_text("-----\n")
    write_picture(folder / "picture.png", two_tone(64, 90))
    Image.new("RGB", (300, 200), (20, 90, 20)).save(folder / "blank.jpg", quality=50)
    write_sound(folder / "tone.wav", tone(2.0))
    write_sound(folder / "silent.wav", np.zeros(32_000, np.float32))
    return folder


EMPTY = {"rule.txt", "blank.jpg", "silent.wav"}


def test_files_without_content_are_counted_and_never_found(media: Path, tmp_path: Path) -> None:
    with connect(tmp_path / "store", encoder="null") as store:
        report = store.index(media)
        assert (report.added, report.failures) == (3, [])
        assert {file.path.name: file.reason for file in report.without_content} == {
            "rule.txt": "no content: no words",
            "blank.jpg": "no content: one colour",
            "silent.wav": "no content: digital silence",
        }
        again = store.index(media)
        assert (again.unchanged, {file.path.name for file in again.without_content}) == (3, EMPTY)
        assert {hit.path.name for hit in store.search("rain", k=50)} == {"words.txt", "picture.png", "tone.wav"}
        assert not store.verify().findings


def test_a_folder_of_files_without_content_is_not_said_to_be_empty(tmp_path: Path) -> None:
    (tmp_path / "media").mkdir()
    (tmp_path / "media" / "rule.txt").write_text("---")
    with connect(tmp_path / "store", encoder="null") as store:
        report = store.index(tmp_path / "media")
    assert (len(report.without_content), report.notices) == (1, [])


def test_a_recording_keeps_the_spans_that_have_content(media: Path, tmp_path: Path) -> None:
    samples = np.concatenate([np.zeros(16_000 * 10, np.float32), tone(10.0), np.zeros(16_000 * 5, np.float32)])
    write_sound(media / "long.wav", samples)
    with connect(tmp_path / "store", encoder="null") as store:
        store.index(media / "long.wav")
        (hit,) = store.search("rain", k=50)
        assert (hit.start_s, hit.end_s) == (10.0, 20.0)
        assert sum(store.status().segments.values()) == 1


def test_a_file_that_gets_content_is_added_and_one_that_loses_it_removed(media: Path, tmp_path: Path) -> None:
    with connect(tmp_path / "store", encoder="null") as store:
        store.index(media)
        write_sound(media / "silent.wav", tone(3.0))
        write_sound(media / "tone.wav", np.zeros(8_000, np.float32))
        report = store.index(media)
        assert (report.added, len(report.without_content)) == (1, 3)
        names = {hit.path.name for hit in store.search("rain", k=50)}
        assert names == {"words.txt", "picture.png", "silent.wav"}


def test_a_query_without_content_is_refused(media: Path, tmp_path: Path) -> None:
    with connect(tmp_path / "store", encoder="null") as store:
        store.index(media)
        with pytest.raises(UsageError, match=r"silent\.wav cannot be used as audio: no content: digital silence"):
            store.search(bs.audio(media / "silent.wav"))


def test_the_command_counts_them_and_exits_with_0(media: Path, tmp_path: Path, bindsearch_command: Run) -> None:
    done = bindsearch_command(["index", media, "--encoder", "null", "--store", tmp_path / "store"])
    assert done.returncode == 0
    assert "files without content, which no query finds: " in done.stderr
    for count in ("1 no words", "1 one colour", "1 digital silence"):
        assert count in done.stderr
    done = bindsearch_command(["status", "--failed", "--store", tmp_path / "store"])
    assert "silent.wav: no content: digital silence" in done.stdout
