"""Frames as players display them: the eight orientations in every container that can state them."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bindsearch.ingest.media.file_tags import read_metadata
from bindsearch.ingest.media.options import DecodeOptions
from bindsearch.ingest.media.recordings.containers import turned_tracks
from bindsearch.ingest.media.recordings.video.display import as_displayed, display_matrix
from bindsearch.ingest.media.recordings.video.read import read_video
from bindsearch.media import DecodeHints
from bindsearch.types import Modality
from helpers.video_files import CORNERS, StreamPlan, are_near, corners, write_streams

SIGNS = [(-1, -1), (-1, 1), (1, -1), (1, 1)]
MATRICES = [*((a, 0, 0, d) for a, d in SIGNS), *((0, b, c, 0) for b, c in SIGNS)]


def displayed(matrix: tuple[int, int, int, int]) -> list[tuple[int, ...]]:
    """Return the colours of the corners after the map (x, y) -> (a x + c y, b x + d y) of ISO 14496-12, 8.3.2."""
    a, b, c, d = matrix
    centred = {(-1, -1): CORNERS[0], (1, -1): CORNERS[1], (-1, 1): CORNERS[2], (1, 1): CORNERS[3]}
    moved = {(a * x + c * y, b * x + d * y): colour for (x, y), colour in centred.items()}
    return [moved[place] for place in ((-1, -1), (1, -1), (-1, 1), (1, 1))]


def patch_tkhd(path: Path, matrix: tuple[int, int, int, int]) -> None:
    """Set the matrix of the first track, as players' own files have it: with any translation."""
    raw = bytearray(path.read_bytes())
    start = raw.index(b"tkhd") + 4 + 40
    for place, value in zip((0, 4, 12, 16), matrix, strict=True):
        raw[start + place : start + place + 4] = struct.pack(">i", value * 65536)
    path.write_bytes(raw)


def check(path: Path, matrix: tuple[int, int, int, int]) -> None:
    (span,) = read_video(path, DecodeHints(24, 1.0), DecodeOptions())
    rgb = span.frames.rgb[0]
    assert are_near(corners(rgb), displayed(matrix))
    assert rgb.shape[:2] == ((48, 64) if matrix[0] else (64, 48))
    found = read_metadata(path, Modality.VIDEO)
    assert (found.height_px, found.width_px) == rgb.shape[:2]


@pytest.mark.parametrize("matrix", MATRICES)
@pytest.mark.parametrize("extension", ["mp4", "mov"])
def test_every_orientation_of_a_track_header(tmp_path: Path, extension: str, matrix: tuple[int, int, int, int]) -> None:
    path = write_streams(tmp_path / f"a.{extension}", [StreamPlan()])
    patch_tkhd(path, matrix)
    check(path, matrix)


@pytest.mark.parametrize("extension", ["mp4", "mov", "mkv"])
@pytest.mark.parametrize("hflip", [False, True])
@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_every_orientation_that_ffmpeg_writes(tmp_path: Path, extension: str, degrees: int, hflip: bool) -> None:
    path = write_streams(tmp_path / f"a.{extension}", [StreamPlan(turn=(degrees, hflip))])
    cos, sin = {0: (1, 0), 90: (0, 1), 180: (-1, 0), 270: (0, -1)}[degrees]
    sign = -1 if hflip else 1
    check(path, (sign * cos, -sin, sign * sin, cos))


@pytest.mark.parametrize("extension", ["mp4", "mkv"])
def test_the_size_is_that_of_the_main_stream(tmp_path: Path, extension: str) -> None:
    thumbnail = StreamPlan("mjpeg", (32, 24), 1, "yuvj420p", turn=(90, False))
    path = write_streams(tmp_path / f"a.{extension}", [thumbnail, StreamPlan(disposition="default")])
    check(path, (1, 0, 0, 1))


class FrameWithMatrix:
    def __init__(self, values: list[int]) -> None:
        self.side_data = {"DISPLAYMATRIX": np.array(values, np.int32).tobytes()}


@given(st.lists(st.integers(-(2**31), 2**31 - 1), min_size=0, max_size=9))
def test_any_matrix_gives_one_of_the_eight(values: list[int]) -> None:
    matrix = display_matrix(FrameWithMatrix(values))
    assert matrix in MATRICES
    rgb = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    assert sorted(as_displayed(rgb, matrix).ravel()) == sorted(rgb.ravel())


@given(st.binary(max_size=200), st.integers(0, 400))
def test_damaged_matroska_headers_turn_nothing_and_end(
    tmp_path_factory: pytest.TempPathFactory, raw: bytes, at: int
) -> None:
    folder = tmp_path_factory.mktemp("mkv")
    path = write_streams(folder / "a.mkv", [StreamPlan(turn=(90, False), frames=1)])
    content = path.read_bytes()
    path.write_bytes(content[:at] + raw + content[at + len(raw) :])
    assert turned_tracks(path) <= set(range(256))
