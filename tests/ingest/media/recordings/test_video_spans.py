"""A span of a video decodes to the frames that the whole video has there, in every container."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from bindsearch.ingest.media.file_tags import read_metadata
from bindsearch.ingest.media.options import DecodeOptions
from bindsearch.ingest.media.recordings.video.read import VideoSpan, read_video
from bindsearch.media import DecodeHints
from bindsearch.types import Modality, Span, measured_metadata

KINDS = {
    "a.mp4": ("mp4", "libx264"),
    "a.mov": ("mov", "mjpeg"),
    "a.mkv": ("matroska", "libx264"),
    "a.webm": ("webm", "libvpx-vp9"),
    "a.avi": ("avi", "mpeg4"),
    "b.avi": ("avi", "libx264"),
    "a.ts": ("mpegts", "libx264"),
    "a.mts": ("mpegts", "mpeg2video"),
    "a.m2ts": ("mpegts", "libx264"),
    "a.mpg": ("mpeg", "mpeg1video"),
    "a.vob": ("vob", "mpeg2video"),
    "a.wmv": ("asf", "wmv2"),
    "a.asf": ("asf", "msmpeg4"),
    "a.flv": ("flv", "flv"),
    "b.flv": ("flv", "libx264"),
    "a.ogv": ("ogg", "libvpx"),
    "a.3gp": ("3gp", "h263"),
    "a.3g2": ("3g2", "mpeg4"),
    "a.mjpeg": ("mjpeg", "mjpeg"),
    "a.mxf": ("mxf", "mpeg2video"),
}
"""Format and codec by name."""

WIDTH, HEIGHT = 176, 144


def moving(time_s: float) -> NDArray[np.uint8]:
    """Return a picture that tells its time: a bar that moves, on a ramp that brightens."""
    rgb = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    rgb[..., 0] = np.linspace(0, 200, WIDTH)
    rgb[..., 2] = int(20 * time_s) % 256
    rgb[:, int(16 * time_s) % WIDTH :][:, :12] = 255
    return rgb


def write_kind(path: Path, seconds: float, *, fps: int = 25, gop: int = 12, b_frames: int = 0) -> Path:
    container_format, codec = KINDS[path.name]
    muxer = {"mpegts_m2ts_mode": "1"} if path.suffix == ".m2ts" else {}
    with av.open(str(path), "w", format=container_format, options=muxer) as container:
        stream: Any = container.add_stream(codec, rate=fps)
        stream.width, stream.height = WIDTH, HEIGHT
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.bit_rate, stream.gop_size = 1_000_000, gop
        if codec in ("libx264", "mpeg2video"):
            stream.max_b_frames = b_frames
        if codec == "libx264":
            stream.options = {"preset": "ultrafast", "g": str(gop), "bf": str(b_frames)}
        for index in range(round(seconds * fps)):
            frame = av.VideoFrame.from_ndarray(moving(index / fps), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def decode(path: Path, span: Span | None = None, segment_s: float = 2.0) -> list[VideoSpan]:
    return list(read_video(path, DecodeHints(72, 2.0), DecodeOptions(video_segment_s=segment_s), span))


def check_spans(path: Path, segment_s: float) -> None:
    for whole in decode(path, segment_s=segment_s):
        (part,) = decode(path, Span(whole.start_s, whole.end_s), segment_s)
        assert np.allclose(part.frames.times_s, whole.frames.times_s, atol=1e-6)
        assert np.array_equal(part.frames.rgb, whole.frames.rgb)


@pytest.mark.parametrize("name", KINDS)
def test_every_container_gives_all_its_frames(tmp_path: Path, name: str) -> None:
    path = write_kind(tmp_path / name, 5)
    measured: dict[str, float] = {}
    spans = list(
        read_video(path, DecodeHints(72, 2.0), DecodeOptions(video_segment_s=2.0), measure=measured.__setitem__)
    )
    assert [span.start_s for span in spans] == [0, 2, 4]
    assert spans[-1].end_s == pytest.approx(5, abs=0.1)
    for span in spans:
        assert len(span.frames.rgb) in (2, 3, 4)
        for time_s, rgb in zip(span.frames.times_s, span.frames.rgb, strict=True):
            square = np.asarray(Image.fromarray(rgb).resize((WIDTH, HEIGHT)))  # the pixels of 3gp are not square
            assert np.abs(square.astype(int) - moving(time_s)).mean() < 12
    found = measured_metadata(measured).merge_over(read_metadata(path, Modality.VIDEO))
    assert (found.width_px, found.height_px) == (WIDTH, HEIGHT)
    assert found.length_s == pytest.approx(5, abs=0.11)


@pytest.mark.parametrize("name", KINDS)
@given(
    seconds=st.floats(1, 6),
    fps=st.sampled_from([25, 30]),
    gop=st.integers(1, 60),
    b_frames=st.integers(0, 2),
    segment_s=st.floats(0.4, 3),
)
@settings(max_examples=3, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_span_gives_what_the_whole_has_there(
    tmp_path: Path, name: str, seconds: float, fps: int, gop: int, b_frames: int, segment_s: float
) -> None:
    check_spans(write_kind(tmp_path / name, seconds, fps=fps, gop=gop, b_frames=b_frames), segment_s)


@pytest.mark.parametrize("name", ["a.ts", "a.mts", "a.mpg"])
def test_the_second_of_two_concatenated_recordings_follows_the_first(tmp_path: Path, name: str) -> None:
    path = write_kind(tmp_path / name, 3)
    path.write_bytes(2 * path.read_bytes())
    notes: list[str] = []
    measured: dict[str, float] = {}
    spans = list(
        read_video(path, DecodeHints(72, 2.0), DecodeOptions(), note=notes.append, measure=measured.__setitem__)
    )
    assert spans[-1].end_s == pytest.approx(6, abs=0.3)
    assert sum(len(span.frames.rgb) for span in spans) == pytest.approx(12, abs=1)
    assert measured.get("length_s", 3.0) == pytest.approx(6, abs=0.3)
    assert any("the time stamps jump back at 3" in note or "the time stamps jump back at 2.9" in note for note in notes)
    check_spans(path, 2.0)
