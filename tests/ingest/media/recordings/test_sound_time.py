"""Sound at its true time: a span of any container gives what the whole file has there; holes, joined recordings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from bindsearch.errors import MediaError
from bindsearch.ingest.media.recordings import sound_track
from bindsearch.ingest.media.recordings.audio import cut_sound, read_sound, read_sound_track
from bindsearch.ingest.media.recordings.av_container import recording_kind
from bindsearch.ingest.media.recordings.segmenting import span_edges
from bindsearch.ingest.media.recordings.sound_track import Block, SoundStream
from bindsearch.types import Span
from helpers.containers import WRITTEN, mux_sound, write_container, write_vbr_mp3
from helpers.media_files import tone, write_sound, write_video

SEGMENT_S = 2.0


def rising(seconds: float, rate_hz: int) -> NDArray[np.float32]:
    """Return a tone that rises from 300 Hz, loud and quiet, with noise: every second of it is another."""
    times_s = np.arange(round(seconds * rate_hz)) / rate_hz
    noise = np.random.default_rng(0).standard_normal(times_s.size)
    loudness = np.where(times_s % 3 < 1.5, 0.3, 0.003)  # so that a VBR codec has frames of many sizes
    return (loudness * (np.sin(2 * np.pi * (300 + 60 * times_s) * times_s) + 0.2 * noise)).astype(np.float32)


def pitch_hz(samples: NDArray[np.float32], rate_hz: int) -> float:
    return float(np.argmax(np.abs(np.fft.rfft(samples))) * rate_hz / len(samples))


def assert_spans_give_the_same(path: Path, least: float = 0.999) -> None:
    """Compare the spans of a whole recording with what is read for each alone."""
    whole = list(read_sound(path, SEGMENT_S))
    assert len(whole) > 2
    for part in whole:
        (again,) = read_sound(path, 600, Span(part.start_s, part.end_s))
        assert (again.start_s, again.end_s) == (pytest.approx(part.start_s), pytest.approx(part.end_s))
        assert np.corrcoef(again.sound.samples, part.sound.samples)[0, 1] > least


@pytest.mark.parametrize("extension", WRITTEN)
def test_a_span_far_inside_is_found_without_decoding_all(
    tmp_path: Path, extension: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same samples but for the noise that decoders of AAC and AC-3 make up for quiet sound."""
    monkeypatch.setattr(sound_track, "_LEAD_S", 1.0)
    path = write_container(tmp_path / f"a.{extension}", extension, rising(9, WRITTEN[extension][3]))
    assert_spans_give_the_same(path, least=0.98)


@pytest.mark.parametrize("extension", WRITTEN)
def test_a_span_of_any_container_is_what_the_whole_has_there(tmp_path: Path, extension: str) -> None:
    rate_hz = WRITTEN[extension][3]
    samples = rising(9, rate_hz)
    path = write_container(tmp_path / f"a.{extension}", extension, samples)
    assert_spans_give_the_same(path)
    read = np.concatenate([span.sound.samples for span in read_sound(path, SEGMENT_S)])
    assert read.size / rate_hz == pytest.approx(9, abs=0.15)
    middle = pitch_hz(read[4 * rate_hz : 5 * rate_hz], rate_hz)
    assert middle == pytest.approx(300 + 120 * 4.5, abs=70)


@pytest.mark.parametrize("counted", [False, True])
def test_mp3_of_a_varying_bit_rate(tmp_path: Path, counted: bool) -> None:
    assert_spans_give_the_same(write_vbr_mp3(tmp_path / "a.mp3", rising(20, 44_100), 44_100, counted=counted))


def remux(source: Path, target: Path, dropped: Callable[[float], bool]) -> Path:
    """Copy streams without the packets of sound at the times that `dropped` says."""
    with av.open(str(source)) as whole, av.open(str(target), "w") as container:
        copies = {stream.index: container.add_stream_from_template(stream) for stream in whole.streams}
        for packet in whole.demux():
            if packet.dts is None:
                continue
            assert packet.pts is not None
            if packet.stream.type == "audio" and dropped(float(packet.pts * packet.time_base)):
                continue
            packet.stream = copies[packet.stream.index]
            container.mux(packet)
    return target


@pytest.mark.parametrize("extension", ["mkv", "mp4", "mov", "ts", "m4a", "mka"])
def test_a_hole_is_silence_and_what_follows_is_at_its_time(tmp_path: Path, extension: str) -> None:
    sound = np.concatenate([tone(20, 48_000, 1000), tone(10, 48_000, 3000)])
    source = tmp_path / ("a.m4a" if extension in ("m4a", "mka") else "a.mkv")
    if source.suffix == ".m4a":
        write_sound(source, sound, 48_000)
    else:
        write_video(source, 30, fps=5, sound=sound)
    path = remux(source, tmp_path / f"b.{extension}", lambda time_s: 3 <= time_s < 17)
    notes: list[str] = []
    spans = list(read_sound(path, 5, note=notes.append))
    assert [round(span.start_s) for span in spans] == [0, 15, 20, 25]
    assert notes == ["1 hole in the sound, 14.0 s: silence there"]
    samples = spans[1].sound.samples
    assert not samples[: round(1.9 * 48_000)].any()
    assert pitch_hz(samples[round(2.5 * 48_000) :], 48_000) == pytest.approx(1000, abs=2)
    assert pitch_hz(spans[2].sound.samples[4_800:], 48_000) == pytest.approx(3000, abs=2)
    (part,) = read_sound(path, 10, Span(18.0, 19.5))
    assert np.allclose(part.sound.samples, samples[3 * 48_000 : round(4.5 * 48_000)], atol=1e-5)
    kind = recording_kind(path)
    assert list(read_sound_track(path, str(kind), 10, Span(5, 8))) == []


@given(
    st.lists(st.tuples(st.integers(0, 400), st.integers(1, 120)), min_size=1, max_size=12),
    st.integers(0, 50),
)
@settings(max_examples=200, deadline=None)
def test_spans_hold_every_sample_at_its_place(parts: list[tuple[int, int]], first: int) -> None:
    """Against a plain version: the whole recording as one array."""
    blocks: list[Block] = []
    place = first
    for hole, size in parts:
        place += hole
        blocks.append((place, np.arange(place + 1, place + size + 1, dtype=np.float32)))
        place += size
    whole = np.zeros(place, np.float32)
    for start, block in blocks:
        whole[start : start + block.size] = block
    spans = list(cut_sound(SoundStream(10, first, iter(blocks)), 5.0))
    covered = np.zeros(place + 100, bool)
    for span in spans:
        start, end = round(span.start_s * 10), round(span.end_s * 10)
        assert not covered[start:end].any()
        covered[start:end] = True
        expected = np.zeros(end - start, np.float32)
        expected[: max(0, len(whole) - start)] = whole[start:end]
        assert np.array_equal(span.sound.samples, expected)
        assert len(expected) < 50 + 10
    assert covered[: len(whole)][whole > 0].all()
    if all(hole == 0 for hole, _ in parts):
        edges = [(round(a * 10) + first, round(b * 10) + first) for a, b in span_edges((place - first) / 10, 5.0)]
        assert [(round(span.start_s * 10), round(span.end_s * 10)) for span in spans] == edges


def test_a_hole_of_hours_costs_nothing() -> None:
    blocks = [(0, np.ones(1000, np.float32)), (1 << 40, np.ones(1000, np.float32))]
    first, second = cut_sound(SoundStream(1000, 0, iter(blocks)), 10.0)
    assert (first.start_s, first.end_s) == (0, 10)
    assert second.start_s == (1 << 40) // 10_000 * 10
    assert second.sound.samples.sum() == 1000


def chained(path: Path, extension: str, parts: list[tuple[NDArray[np.float32], int]]) -> Path:
    content = b""
    for samples, rate_hz in parts:
        subtype = {"ogg": "VORBIS", "opus": "OPUS", "oga": None}[extension]
        if subtype is None:
            with av.open(str(path), "w", format="ogg") as container:
                stream = container.add_stream("flac", rate=rate_hz, layout="mono")
                assert isinstance(stream, av.AudioStream)
                stream.codec_context.format = "s16"
                mux_sound(container, stream, samples, rate_hz)
        else:
            soundfile.write(path, samples, rate_hz, format="OGG", subtype=subtype)
        content += path.read_bytes()
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("extension", ["ogg", "opus", "oga"])
def test_all_recordings_in_one_ogg_file_are_read(tmp_path: Path, extension: str) -> None:
    parts = [(tone(3, 48_000, hz), 48_000) for hz in (1000, 500, 2000)]
    path = chained(tmp_path / f"a.{extension}", extension, parts)
    spans = list(read_sound(path, 3))
    assert [span.end_s for span in spans] == pytest.approx([3, 6, 9], abs=0.05)
    for span, expected in zip(spans, (1000, 500, 2000), strict=True):
        assert pitch_hz(span.sound.samples[4_800:-4_800], 48_000) == pytest.approx(expected, abs=2)
    assert_spans_give_the_same(path)


@pytest.mark.parametrize("extension", ["ogg", "mp3"])
def test_another_sample_rate_in_a_file_is_resampled(tmp_path: Path, extension: str) -> None:
    if extension == "mp3":
        paths = [
            write_sound(tmp_path / f"{rate_hz}.mp3", tone(3, rate_hz, 1000), rate_hz) for rate_hz in (44_100, 22_050)
        ]
        path = tmp_path / "a.mp3"
        path.write_bytes(b"".join(part.read_bytes() for part in paths))
    else:
        path = chained(tmp_path / "a.ogg", "ogg", [(tone(3, rate_hz, 1000), rate_hz) for rate_hz in (44_100, 22_050)])
    notes: list[str] = []
    spans = list(read_sound(path, 3, note=notes.append))
    assert "the sample rate changes from 44100 to 22050 Hz: resampled" in notes
    assert {span.sound.sample_rate_hz for span in spans} == {44_100}
    assert spans[-1].end_s == pytest.approx(6, abs=0.15)
    for span in spans:
        assert pitch_hz(span.sound.samples[8_000:-8_000], 44_100) == pytest.approx(1000, abs=3)


def test_the_first_track_that_decodes_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("aac", rate=48_000, layout="mono") for _ in range(2)]
        for stream, hz in zip(streams, (1000, 500), strict=True):
            mux_sound(container, stream, tone(3, 48_000, hz), 48_000)
    notes: list[str] = []
    (span,) = read_sound(path, 10, note=notes.append)
    assert notes == ["only sound track 1 of 2 is indexed"]
    assert pitch_hz(span.sound.samples, 48_000) == pytest.approx(1000, abs=2)
    raw = path.read_bytes()
    path.write_bytes(raw.replace(b"A_AAC", b"A_XYZ", 1))
    (span,) = read_sound(path, 10, note=notes.append)
    assert notes[1:] == ["sound track 1 cannot be decoded (the codec is unknown)", "only sound track 2 of 2 is indexed"]
    assert pitch_hz(span.sound.samples, 48_000) == pytest.approx(500, abs=2)
    path.write_bytes(raw.replace(b"A_AAC", b"A_XYZ"))
    with pytest.raises(MediaError, match=r"^sound track 1 cannot be decoded \(the codec is unknown\); sound track 2"):
        list(read_sound(path, 10))
    notes.clear()
    assert list(read_sound_track(path, "matroska", 10, note=notes.append)) == []
    assert notes[0].startswith("the sound is not indexed: sound track 1 cannot be decoded")


@pytest.mark.parametrize("extension", ["wav", "flac", "m4a"])
def test_inverted_channels_do_not_cancel_each_other(tmp_path: Path, extension: str) -> None:
    sound = tone(2, 44_100, 700)
    path = tmp_path / f"a.{extension}"
    if extension == "m4a":
        soundfile.write(tmp_path / "b.wav", np.column_stack([sound, -sound]), 44_100)
        with av.open(str(tmp_path / "b.wav")) as source, av.open(str(path), "w", format="ipod") as target:
            stream = target.add_stream("alac", rate=44_100, layout="stereo")
            for frame in source.decode(audio=0):
                target.mux(stream.encode(frame))
            target.mux(stream.encode(None))
    else:
        soundfile.write(path, np.column_stack([sound, -sound]), 44_100)
    notes: list[str] = []
    (span,) = read_sound(path, 10, note=notes.append)
    assert notes == ["the channels are inverted and cancel each other: the first one is used"]
    assert np.allclose(span.sound.samples, sound, atol=1e-3)
