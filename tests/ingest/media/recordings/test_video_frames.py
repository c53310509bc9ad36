"""All frames of a video, at their times: sizes that change, lengths that headers state wrongly."""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bindsearch.ingest.media.file_tags import read_metadata
from bindsearch.ingest.media.options import DecodeOptions
from bindsearch.ingest.media.recordings.video.display import in_one_size
from bindsearch.ingest.media.recordings.video.read import VideoSpan, read_video
from bindsearch.media import NO_READING, DecodeHints, Reading
from bindsearch.types import Metadata, Modality, measured_metadata
from helpers import media_files
from helpers.video_files import CORNERS, StreamPlan, are_near, corners, decode_video, four_colours, write_streams


def reading_of(path: Path) -> tuple[Reading, Metadata]:
    """Return what decoding finds out about a video, and its metadata with that."""
    _, reading = decode_video(path)
    return reading, measured_metadata(reading.facts).merge_over(read_metadata(path, Modality.VIDEO))


def spans_of(path: Path, frames_per_s: float = 1.0) -> list[VideoSpan]:
    return list(read_video(path, DecodeHints(24, frames_per_s), DecodeOptions()))


def write_sizes(path: Path, parts: list[tuple[int, int, int]]) -> Path:
    """Write VP8 whose frame size changes: parts of (width, height, frames), as WebRTC recordings."""
    packets: list[tuple[bytes, bool]] = []
    for width, height, count in parts:
        plan = StreamPlan("libvpx", (width, height), count)
        plain = write_streams(path.with_name("part.webm"), [plan])
        with av.open(str(plain)) as source:
            packets += [(bytes(packet), packet.is_keyframe) for packet in source.demux(video=0) if packet.size]
    with av.open(str(path), "w") as target:
        stream: Any = target.add_stream("libvpx", rate=10)
        stream.width, stream.height, stream.pix_fmt = *parts[0][:2], "yuv420p"
        for index, (content, is_key) in enumerate(packets):
            packet = av.Packet(content)
            packet.pts = packet.dts = index * 100
            packet.time_base, packet.duration = Fraction(1, 1000), 100
            packet.is_keyframe, packet.stream = is_key, stream
            target.mux(packet)
    return path


def write_times(
    path: Path, times_s: list[float], *, start_s: float = 0.0, codec: str = "mpeg4", **options: Any
) -> Path:
    """Write frames of the four colours at given times."""
    with av.open(str(path), "w", **options) as container:
        stream: Any = container.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for time_s in times_s:
            frame = av.VideoFrame.from_ndarray(four_colours(64, 48), format="rgb24")
            frame.pts, frame.time_base = round(1000 * (start_s + time_s)), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@given(
    st.lists(
        st.tuples(st.sampled_from([32, 48, 96]), st.sampled_from([32, 64, 128]), st.integers(5, 20)),
        min_size=1,
        max_size=3,
    )
)
@settings(max_examples=10, deadline=None)
def test_every_frame_is_used_when_the_size_changes(
    tmp_path_factory: pytest.TempPathFactory, parts: list[tuple[int, int, int]]
) -> None:
    path = write_sizes(tmp_path_factory.mktemp("sizes") / "a.webm", parts)
    (span,) = spans_of(path, frames_per_s=10.0)
    assert len(span.frames.rgb) == sum(count for _, _, count in parts)
    assert np.allclose(span.frames.times_s, np.arange(len(span.frames.rgb)) / 10)
    largest = max(((width, height) for width, height, _ in parts), key=lambda size: size[0] * size[1])
    reading, found = reading_of(path)
    assert (found.width_px, found.height_px) == largest
    changes = len({part[:2] for part in parts}) > 1
    assert any("the frame size changes" in note for note in reading.notes) == changes


def test_a_smaller_frame_is_scaled_as_a_whole(tmp_path: Path) -> None:
    path = write_sizes(tmp_path / "a.webm", [(32, 32, 10), (128, 64, 10)])
    (span,) = spans_of(path)
    small, large = span.frames.rgb
    assert are_near(corners(large), CORNERS)
    assert are_near(corners(small[:, small.shape[1] // 4 : -small.shape[1] // 4]), CORNERS)
    assert small[:, :4].max() < 20


@given(st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=1, max_size=4))
def test_frames_of_any_sizes_come_in_one(sizes: list[tuple[int, int]]) -> None:
    frames = in_one_size([np.full((height, width, 3), 200, np.uint8) for width, height in sizes])
    assert len({frame.shape for frame in frames}) == 1
    assert all(frame.max() == 200 for frame in frames)


@given(st.floats(0, 100_000), st.integers(3, 30))
@settings(max_examples=10, deadline=None)
def test_the_length_of_a_matroska_that_starts_late(
    tmp_path_factory: pytest.TempPathFactory, start_s: float, frames: int
) -> None:
    path = write_times(tmp_path_factory.mktemp("late") / "a.mkv", [i / 10 for i in range(frames)], start_s=start_s)
    assert read_metadata(path, Modality.VIDEO).length_s == pytest.approx(frames / 10, abs=0.11)
    (span,) = spans_of(path)
    assert (span.start_s, span.end_s) == (0, pytest.approx(frames / 10, abs=0.11))


def test_a_length_in_the_header_that_is_wrong_is_measured(tmp_path: Path) -> None:
    path = media_files.write_video(tmp_path / "a.mkv", 3)
    raw = path.read_bytes()
    place = raw.index(b"\x44\x89\x88") + 3  # Duration, a float of 8 bytes in milliseconds
    path.write_bytes(raw[:place] + np.array(300_000, ">f8").tobytes() + raw[place + 8 :])
    assert read_metadata(path, Modality.VIDEO).length_s == pytest.approx(300)
    reading, found = reading_of(path)
    assert found.length_s == pytest.approx(3, abs=0.11)
    assert not reading.notes


def test_a_live_recording_without_a_length_is_measured(tmp_path: Path) -> None:
    content = io.BytesIO()
    plain = media_files.write_video(tmp_path / "a.webm", 3, codec="libvpx-vp9", sound=media_files.tone(5, 48_000))
    with av.open(str(plain)) as source, av.open(content, "w", format="webm", options={"live": "1"}) as target:
        streams = {stream.index: target.add_stream_from_template(stream) for stream in source.streams}
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                target.mux(packet)
    path = tmp_path / "live.webm"
    path.write_bytes(content.getvalue())
    assert read_metadata(path, Modality.VIDEO).length_s is None
    assert reading_of(path)[1].length_s == pytest.approx(5, abs=0.11)


@pytest.mark.parametrize("extension", ["mp4", "mkv"])
def test_the_last_span_of_a_sparse_video_ends_with_the_file(tmp_path: Path, extension: str) -> None:
    path = write_times(tmp_path / f"a.{extension}", [0, 35])
    spans = spans_of(path)
    assert [span.start_s for span in spans] == [0, 30]
    assert 35 < spans[-1].end_s <= max(36.0, read_metadata(path, Modality.VIDEO).length_s or 0)


def test_an_ordinary_video_measures_nothing(tmp_path: Path) -> None:
    for extension, codec in (
        ("mp4", "libx264"),
        ("mov", "mpeg4"),
        ("mkv", "libx264"),
        ("webm", "libvpx-vp9"),
        ("avi", "mpeg4"),
    ):
        for sound_s in (1, 3, 5):
            sound = media_files.tone(sound_s, 48_000)
            path = media_files.write_video(tmp_path / f"{sound_s}.{extension}", 3, codec=codec, sound=sound)
            assert reading_of(path)[0] == NO_READING
