from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bindsearch.errors import MediaError
from bindsearch.ingest.media.options import DecodeOptions
from bindsearch.ingest.media.recordings.video.read import VideoSpan, read_video
from bindsearch.ingest.media.recordings.video.read import sample as sampled
from bindsearch.media import DecodeHints
from bindsearch.types import Span
from helpers import media_files
from helpers.media_files import half_and_half, tone, write_video


def decode(path: Path, *, frames_per_s: float = 1.0, side: int = 24, span: Span | None = None) -> list[VideoSpan]:
    return list(read_video(path, DecodeHints(side, frames_per_s), DecodeOptions(), span))


@pytest.mark.parametrize(
    ("extension", "codec"),
    [("mp4", "libx264"), ("mov", "mpeg4"), ("mkv", "libx264"), ("webm", "libvpx-vp9"), ("avi", "mjpeg")],
)
def test_every_container_gives_frames_at_the_asked_density(tmp_path: Path, extension: str, codec: str) -> None:
    path = write_video(tmp_path / f"a.{extension}", 4, codec=codec)
    (span,) = decode(path, frames_per_s=2.0)
    assert span.frames.rgb.dtype == np.uint8
    assert span.frames.rgb.shape == (8, 48, 64, 3)
    assert np.allclose(span.frames.times_s, np.arange(8) / 2 + 0.3, atol=0.11)
    levels = span.frames.rgb.mean(axis=(1, 2, 3))
    assert np.allclose(levels, 10 * span.frames.times_s, atol=6)
    assert (span.start_s, span.end_s) == (0, pytest.approx(4, abs=0.1))


def test_spans_are_in_order_and_join_a_last_sliver(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", 20.5, fps=4, codec="libx264")
    spans = decode(path)
    assert [(span.start_s, span.end_s) for span in spans] == [(0, 10), (10, pytest.approx(20.5, abs=0.1))]
    assert [len(span.frames.times_s) for span in spans] == [10, 11]
    longer = decode(write_video(tmp_path / "b.mp4", 22, fps=4, codec="libx264"))
    assert [(span.start_s, round(span.end_s)) for span in longer] == [(0, 10), (10, 20), (20, 22)]


def test_a_video_shorter_than_the_sampling_step_gives_one_frame(tmp_path: Path) -> None:
    (span,) = decode(write_video(tmp_path / "a.mp4", 0.2))
    assert len(span.frames.times_s) == 1


def test_frames_come_reduced_but_not_below_twice_the_wanted_side(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", 1, size=(640, 360))
    assert decode(path, side=50)[0].frames.rgb.shape[1:3] == (100, 178)
    assert decode(path, side=500)[0].frames.rgb.shape[1:3] == (360, 640)


@pytest.mark.parametrize(("rotation", "corner"), [(90, "bottom"), (-90, "top")])
def test_rotation_metadata_is_applied(tmp_path: Path, rotation: int, corner: str) -> None:
    path = write_video(tmp_path / "a.mp4", 1, picture=lambda _: half_and_half(64, 48), rotation=rotation)
    rgb = decode(path)[0].frames.rgb[0]
    assert rgb.shape == (64, 48, 3)
    red = rgb[-4 if corner == "bottom" else 4, 24]  # the left side goes down when turned counter-clockwise
    assert red[0] > 200
    assert red[2] < 60


def test_a_span_gives_only_what_lies_inside(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", 20, fps=5, codec="libx264")
    (span,) = decode(path, span=Span(12, 15))
    assert (span.start_s, span.end_s) == (12, 15)
    assert ((span.frames.times_s >= 12) & (span.frames.times_s < 15)).all()
    assert np.allclose(span.frames.rgb.mean(axis=(1, 2, 3)), 10 * span.frames.times_s, atol=6)


def test_a_span_between_two_frames_gives_the_one_that_shows(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", 10, fps=2, codec="libx264")
    (span,) = decode(path, span=Span(4.1, 4.3))
    assert span.frames.rgb.mean() == pytest.approx(40, abs=6)


def test_a_span_behind_the_end_fails(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="ends before 9 s"):
        decode(write_video(tmp_path / "a.mp4", 2), span=Span(9, 10))


def test_a_leap_in_time_costs_neither_frames_nor_spans() -> None:
    stamps = [0.0, 0.5, 1e9, 1e9 + 0.5]
    frames = iter([*((time_s, object()) for time_s in stamps), (1e9 + 1, None)])
    assert [time_s for time_s, frame in sampled(frames, 1.0) if frame is not None] == [0.5, 1e9 + 0.5]


def test_a_file_with_sound_only_gives_no_pictures(tmp_path: Path) -> None:
    path = media_files.write_sound(tmp_path / "a.m4a", tone(1))
    assert decode(path) == []


def test_too_large_frames_are_refused(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", 0.5)
    with pytest.raises(MediaError, match="64x48 pixels: more than 1000"):
        list(read_video(path, DecodeHints(24, 1.0), DecodeOptions(max_pixels=1000)))


def test_a_playlist_is_not_followed(tmp_path: Path) -> None:
    write_video(tmp_path / "secret.mp4", 1)
    (tmp_path / "a.mp4").write_text("#EXTM3U\n#EXTINF:1,\nsecret.mp4\n#EXT-X-ENDLIST\n")
    with pytest.raises(MediaError, match="not a video: expected asf, avi"):
        decode(tmp_path / "a.mp4")
    (tmp_path / "b.mp4").write_text("ffconcat version 1.0\nfile secret.mp4\n")
    with pytest.raises(MediaError, match="not a video: expected asf, avi"):
        decode(tmp_path / "b.mp4")


def test_a_strange_name_is_no_address(tmp_path: Path) -> None:
    folder = tmp_path / "http:"
    folder.mkdir()
    path = write_video(tmp_path / "a.mp4", 1).rename(folder / "concat:x|y.mp4")
    assert len(decode(path)) == 1
