"""The stream whose frames are the pictures: not a cover or thumbnail, whatever the order of the streams."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import numpy as np
import pytest

from bindsearch.ingest.media.file_tags import read_metadata
from bindsearch.ingest.media.options import DecodeOptions
from bindsearch.ingest.media.recordings.video.read import read_video
from bindsearch.media import DecodeHints
from bindsearch.types import Modality
from helpers.video_files import CORNERS, StreamPlan, are_near, corners, four_colours, write_streams

THUMBNAIL = StreamPlan("mjpeg", (32, 24), 1, "yuvj420p")
COVER = StreamPlan("mjpeg", (128, 96), 1, "yuvj420p", "attached_pic")
STILL = StreamPlan("mpeg4", (256, 192), 1)
MAIN = StreamPlan("mpeg4", (64, 48), 20, disposition="default")
SMALL = StreamPlan("mpeg4", (48, 32), 20)


def picture(index: int, plan: StreamPlan) -> np.ndarray:
    return four_colours(*plan.size) if plan is MAIN else np.full((plan.size[1], plan.size[0], 3), 255, np.uint8)


@pytest.mark.parametrize("extension", ["mp4", "mov", "mkv"])
@pytest.mark.parametrize("others", [(THUMBNAIL,), (THUMBNAIL, SMALL), (STILL,), (COVER, THUMBNAIL)])
def test_the_main_stream_is_found_in_any_order(tmp_path: Path, extension: str, others: tuple[StreamPlan, ...]) -> None:
    if extension == "mkv" and STILL in others:
        pytest.skip("Matroska does not state the number of frames")
    for number, plans in enumerate(permutations((MAIN, *others))):
        path = write_streams(tmp_path / f"{number}.{extension}", plans, picture)
        notes: list[str] = []
        (span,) = read_video(path, DecodeHints(24, 1.0), DecodeOptions(), note=notes.append)
        assert len(span.frames.rgb) == 2
        assert span.frames.rgb.shape[1:3] == (48, 64)
        assert are_near(corners(span.frames.rgb[-1]), CORNERS)
        found = read_metadata(path, Modality.VIDEO)
        assert (found.width_px, found.height_px) == (64, 48)
        place = plans.index(MAIN)
        assert notes == ([f"2 video streams: only number {place} (64x48) is used"] if SMALL in others else [])


@pytest.mark.parametrize("extension", ["mp4", "mov"])
@pytest.mark.parametrize("frames", [2, 20])
def test_images_are_a_preview_even_if_they_are_several_and_first(tmp_path: Path, extension: str, frames: int) -> None:
    preview = StreamPlan("mjpeg", (48, 32), frames, "yuvj420p")
    path = write_streams(tmp_path / f"a.{extension}", [preview, MAIN], picture)
    (span,) = read_video(path, DecodeHints(24, 1.0), DecodeOptions())
    assert are_near(corners(span.frames.rgb[-1]), CORNERS)


def test_the_default_stream_precedes_a_larger_one(tmp_path: Path) -> None:
    large = StreamPlan("mpeg4", (128, 96), 20)
    default = StreamPlan("mpeg4", (64, 48), 20, disposition="default")
    path = write_streams(tmp_path / "a.mkv", [large, default], options={"default_mode": "passthrough"})
    (span,) = read_video(path, DecodeHints(24, 1.0), DecodeOptions())
    assert span.frames.rgb.shape[1:3] == (48, 64)


def test_a_thumbnail_alone_is_a_picture(tmp_path: Path) -> None:
    path = write_streams(tmp_path / "a.mp4", [THUMBNAIL])
    (span,) = read_video(path, DecodeHints(24, 1.0), DecodeOptions())
    assert span.frames.rgb.shape == (1, 24, 32, 3)
