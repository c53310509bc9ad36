from __future__ import annotations

import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from bindsearch.errors import MediaError
from bindsearch.ingest.media.decode import DECODERS, LIBRARIES, DecodedSegment, describe, pieces
from bindsearch.ingest.media.options import DecodeOptions
from bindsearch.ingest.media.recordings.segmenting import check_span
from bindsearch.ingest.media.sidecar import Sidecar
from bindsearch.ingest.media.sidecar_file import read_sidecar
from bindsearch.media import MODALITY_OF, DecodeHints
from bindsearch.types import Modality, Span
from helpers import media_files
from helpers.media_files import tone


def count_words(text: str) -> int:
    return len(text.split()) + 2


def decode(
    path: Path, modality: Modality, span: Span | None = None, sidecar: Sidecar | None = None
) -> list[DecodedSegment]:
    return list(
        pieces(
            path,
            modality,
            wants=DecodeHints(24, 1.0),
            options=DecodeOptions(imu_rate_hz=50.0),
            sidecar=read_sidecar(path) if sidecar is None else sidecar,
            count_tokens=count_words,
            max_tokens=8,
            span=span,
        )
    )


@pytest.fixture
def one_of_each(tmp_path: Path) -> dict[Modality, Path]:
    """Write a file of every modality."""
    (tmp_path / "a.txt").write_text("One two three four. Five six seven eight.")
    np.save(tmp_path / "motion.npy", media_files.motion(12))
    return {
        Modality.TEXT: tmp_path / "a.txt",
        Modality.IMAGE: media_files.write_picture(tmp_path / "a.png", media_files.half_and_half(60, 40)),
        Modality.VIDEO: media_files.write_video(tmp_path / "a.mp4", 12, sound=tone(12, 48_000)),
        Modality.AUDIO: media_files.write_sound(tmp_path / "a.wav", tone(25)),
        Modality.DEPTH: media_files.write_depth(tmp_path / "d.png", np.full((4, 6), 900, np.uint16)),
        Modality.THERMAL: media_files.write_depth(tmp_path / "t.png", np.arange(24, dtype=np.uint16).reshape(4, 6)),
        Modality.IMU: tmp_path / "motion.npy",
    }


def test_every_modality_has_a_decoder() -> None:
    assert set(DECODERS) == set(LIBRARIES) == set(MODALITY_OF.values()) == set(Modality)


def test_every_modality_goes_through_one_path(one_of_each: dict[Modality, Path]) -> None:
    found = {modality: decode(path, modality) for modality, path in one_of_each.items()}
    for parts in found.values():
        assert all(MODALITY_OF[type(part.media)] is part.modality for part in parts)
    places = {
        m: [(p.modality.value, p.start_s, p.end_s and round(p.end_s)) for p in parts] for m, parts in found.items()
    }
    assert places == {
        Modality.TEXT: [("text", None, None)] * 2,
        Modality.IMAGE: [("image", None, None)],
        Modality.VIDEO: [("video", 0, 10), ("video", 10, 12), ("audio", 0, 10), ("audio", 10, 12)],
        Modality.AUDIO: [("audio", 0, 10), ("audio", 10, 20), ("audio", 20, 25)],
        Modality.DEPTH: [("depth", None, None)],
        Modality.THERMAL: [("thermal", None, None)],
        Modality.IMU: [("imu", 0, 5), ("imu", 5, 10), ("imu", 10, 12)],
    }
    assert [part.text for part in found[Modality.TEXT]] == ["One two three four.", "Five six seven eight."]
    assert all(part.text is None for m, parts in found.items() if m is not Modality.TEXT for part in parts)


def test_a_caption_gives_text_pieces_at_the_end(one_of_each: dict[Modality, Path]) -> None:
    for modality, path in one_of_each.items():
        last = decode(path, modality, sidecar=Sidecar(captions=("A red and blue thing.",)))[-1]
        assert (last.modality, last.text, last.start_s) == (Modality.TEXT, "A red and blue thing.", None)


def test_a_span_cuts_recordings_and_makes_no_sense_for_the_rest(one_of_each: dict[Modality, Path]) -> None:
    for modality, path in one_of_each.items():
        if modality in (Modality.VIDEO, Modality.AUDIO, Modality.IMU):
            parts = decode(path, modality, Span(3, 6), Sidecar(captions=("left out",)))
            assert {(part.start_s, part.end_s) for part in parts} == {(3, 6)}
        else:
            with pytest.raises(MediaError, match=f"a span of seconds is not possible for {modality}"):
                decode(path, modality, Span(3, 6))


def test_a_video_without_pictures_gives_its_sound(tmp_path: Path) -> None:
    path = media_files.write_sound(tmp_path / "a.m4a", tone(2))
    assert [part.modality for part in decode(path, Modality.VIDEO)] == [Modality.AUDIO]


def test_errors_do_not_name_the_file_and_are_one_line(tmp_path: Path) -> None:
    for modality in Modality:
        for name, raw in {
            "secret.bin": b"\0\1\2\3" * 100,
            "secret.nil": b"",
            "secret.cut": b"\x89PNG\r\n\x1a\n",
        }.items():
            (tmp_path / name).write_bytes(raw)
            with pytest.raises(MediaError) as caught:
                decode(tmp_path / name, modality)
            assert "\n" not in str(caught.value)
            assert "secret" not in str(caught.value)


def test_missing_files_folders_and_pipes_fail_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.wav")
    for modality in Modality:
        for path in (tmp_path / "gone", tmp_path, tmp_path / "pipe.wav"):
            with pytest.raises(MediaError, match=r"No such file|not a regular file"):
                decode(path, modality, sidecar=Sidecar())


def test_long_recordings_are_streamed(tmp_path: Path) -> None:
    path = media_files.write_sound(tmp_path / "a.flac", np.tile(tone(60), 10))
    tracemalloc.start()
    try:
        stream = pieces(
            path, Modality.AUDIO, wants=DecodeHints(24, 1.0), options=DecodeOptions(), sidecar=Sidecar(),
            count_tokens=count_words, max_tokens=8,
        )  # fmt: skip
        count = sum(1 for _ in stream)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 60
    assert peak < 10 * 16_000 * 4 * 15  # a few spans of 10 s, not sixty


def test_describe_reads_the_file_as_indexing_does(one_of_each: dict[Modality, Path], tmp_path: Path) -> None:
    notes = {m: describe(path, m, Sidecar(), DecodeOptions()) for m, path in one_of_each.items()}
    assert notes.pop(Modality.DEPTH) == "would fail: no content: the same depth everywhere"
    assert notes.pop(Modality.IMU).startswith("would fail: the sample rate is unknown: give sample_rate_hz")
    assert notes.pop(Modality.THERMAL) == "unit of temperature unknown (temperature_unit): no degrees"
    assert set(notes.values()) == {""}
    depth = media_files.write_depth(tmp_path / "e.png", np.arange(900, 924, dtype=np.uint16).reshape(4, 6))
    note = describe(depth, Modality.DEPTH, Sidecar(), DecodeOptions())
    assert note.startswith("median 0.911 m, depth in mm, the default of ")
    assert note.endswith("assumed: fx 5 px (0.81 x longer side), baseline 0.075 m")
    rated = describe(one_of_each[Modality.IMU], Modality.IMU, Sidecar(sample_rate_hz=50.0), DecodeOptions())
    assert rated.startswith("50 Hz")
    with_caption = describe(one_of_each[Modality.DEPTH], Modality.DEPTH, Sidecar(captions=("a wall",)), DecodeOptions())
    assert not with_caption.startswith("would fail")
    wrong = describe(one_of_each[Modality.TEXT], Modality.DEPTH, Sidecar(), DecodeOptions())
    assert wrong.startswith("would fail: ")
    for modality in (Modality.DEPTH, Modality.IMU):
        unreadable = tmp_path / "gone.bin"
        assert describe(unreadable, modality, Sidecar(), DecodeOptions()).startswith("would fail: ")


def test_real_data_decodes(shared_data: Path) -> None:
    for modality, pattern in (
        (Modality.DEPTH, "depth_rgbd_metric/depth/*.png"),
        (Modality.THERMAL, "thermal_roadscene/thermal/*1.jpg"),
        (Modality.VIDEO, "video_clips/clips/a*.mp4"),
        (Modality.AUDIO, "imagebind_trio/*.wav"),
    ):
        paths = sorted(shared_data.glob(pattern))
        assert paths
        for path in paths:
            assert decode(path, modality)[0].modality is modality


@pytest.mark.parametrize("span", [Span(3.0, 3.0), Span(4.0, 3.0), Span(-1.0, 3.0), Span(0.0, float("inf"))])
def test_a_span_starts_at_0_or_later_and_ends_after_its_start(span: Span) -> None:
    with pytest.raises(MediaError, match="expected a start of 0 or later and a later end"):
        check_span(span)
    check_span(Span(3.0, 3.1))
