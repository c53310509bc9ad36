from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from bindsearch.errors import MediaError
from bindsearch.ingest.media.recordings.audio import read_sound, read_sound_track
from bindsearch.types import Span
from helpers.media_files import tone, write_sound, write_video


def pitch_hz(samples: np.ndarray, rate_hz: int) -> float:
    return float(np.argmax(np.abs(np.fft.rfft(samples))) * rate_hz / len(samples))


@pytest.mark.parametrize("extension", ["wav", "flac", "ogg", "opus", "mp3", "m4a", "aac"])
def test_every_format_gives_mono_float_at_its_own_rate(tmp_path: Path, extension: str) -> None:
    rate_hz = 48_000 if extension == "opus" else 32_000
    path = write_sound(tmp_path / f"a.{extension}", tone(2, rate_hz), rate_hz)
    (span,) = read_sound(path, 10)
    assert span.sound.sample_rate_hz == rate_hz
    assert span.sound.samples.dtype == np.float32
    assert span.sound.samples.ndim == 1
    assert (span.start_s, span.end_s) == (0, pytest.approx(2, abs=0.15))
    assert pitch_hz(span.sound.samples, rate_hz) == pytest.approx(440, abs=3)
    assert np.sqrt((span.sound.samples[rate_hz // 2 : rate_hz] ** 2).mean()) == pytest.approx(0.354, abs=0.01)


def test_channels_are_mixed_down_by_their_mean(tmp_path: Path) -> None:
    stereo = np.column_stack([np.full(1000, 0.6), np.full(1000, -0.2)])
    soundfile.write(tmp_path / "a.wav", stereo, 8000, subtype="FLOAT")
    (span,) = read_sound(tmp_path / "a.wav", 10)
    assert np.allclose(span.sound.samples, 0.2)


@pytest.mark.parametrize(
    ("seconds", "edges"),
    [
        (4, [(0, 4)]),
        (10, [(0, 10)]),
        (10.9, [(0, 10.9)]),
        (11, [(0, 10), (10, 11)]),
        (20, [(0, 10), (10, 20)]),
        (25.5, [(0, 10), (10, 20), (20, 25.5)]),
        (30.5, [(0, 10), (10, 20), (20, 30.5)]),
        (0.2, [(0, 0.2)]),
    ],
)
def test_spans_join_a_last_sliver_to_the_one_before(
    tmp_path: Path, seconds: float, edges: list[tuple[float, float]]
) -> None:
    samples = np.linspace(-0.9, 0.9, round(seconds * 4000)).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", samples, 4000, subtype="FLOAT")
    spans = list(read_sound(tmp_path / "a.wav", 10))
    assert [(span.start_s, span.end_s) for span in spans] == [pytest.approx(edge) for edge in edges]
    assert np.array_equal(np.concatenate([span.sound.samples for span in spans]), samples)


@pytest.mark.parametrize("extension", ["wav", "flac", "mp3", "m4a"])
def test_a_span_gives_only_what_lies_inside(tmp_path: Path, extension: str) -> None:
    rising = np.concatenate([tone(1, 16_000, 200 + 100 * second) for second in range(12)])
    path = write_sound(tmp_path / f"a.{extension}", rising)
    (span,) = read_sound(path, 10, Span(5.0, 6.0))
    assert (span.start_s, span.end_s) == (pytest.approx(5, abs=0.1), pytest.approx(6, abs=0.1))
    assert pitch_hz(span.sound.samples, 16_000) == pytest.approx(700, abs=10)


def test_a_span_behind_the_end_or_backwards_fails(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "a.wav", tone(2))
    with pytest.raises(MediaError, match="ends before 5 s"):
        list(read_sound(path, 10, Span(5, 6)))
    with pytest.raises(MediaError, match="expected a start of 0 or later"):
        list(read_sound(path, 10, Span(2, 1)))


def test_decoding_is_lazy(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "a.wav", tone(60))
    spans = read_sound(path, 10)
    assert next(spans).end_s == 10
    spans.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_few_nan_and_infinite_samples_are_replaced_and_many_fail(tmp_path: Path, value: float) -> None:
    samples = tone(1)
    notes: list[str] = []
    samples[100:116] = value
    soundfile.write(tmp_path / "a.wav", samples, 16_000, subtype="FLOAT")
    (span,) = read_sound(tmp_path / "a.wav", 10, note=notes.append)
    assert np.array_equal(span.sound.samples, np.where(np.isfinite(samples), samples, 0))
    assert notes == ["16 of 16000 samples are NaN or infinite: replaced by 0"]
    samples[200] = value
    soundfile.write(tmp_path / "a.wav", samples, 16_000, subtype="FLOAT")
    with pytest.raises(MediaError, match="NaN or infinite samples: 17 of 16000"):
        list(read_sound(tmp_path / "a.wav", 10))


def test_no_samples_fail(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "a.wav", tone(0))
    with pytest.raises(MediaError, match="no sound samples"):
        list(read_sound(path, 10))


@pytest.mark.parametrize("extension", ["wav", "flac"])
def test_truncated_sounds_fail(tmp_path: Path, extension: str) -> None:
    path = write_sound(
        tmp_path / f"a.{extension}", np.random.default_rng(0).uniform(-0.5, 0.5, 50_000).astype(np.float32)
    )
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])
    with pytest.raises(MediaError, match=r"damaged or truncated: 1\.\d of 3\.1 s of sound can be decoded"):
        list(read_sound(path, 10))


def test_a_wav_whose_recorder_never_learned_its_length_is_read_to_the_end(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "a.wav", tone(1))
    raw = bytearray(path.read_bytes())
    place = raw.index(b"data") + 4
    raw[4:8] = raw[place : place + 4] = b"\xff\xff\xff\xff"
    path.write_bytes(raw)
    (span,) = read_sound(path, 10)
    assert span.end_s == pytest.approx(1)


def test_a_rate_of_no_recorder_fails(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(1), 10)
    with pytest.raises(MediaError, match="sample rate is 10 Hz"):
        list(read_sound(tmp_path / "a.wav", 10))


def test_another_content_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.mp3").write_text("no sound at all")
    with pytest.raises(MediaError, match="not a sound: expected aac, ac3"):
        list(read_sound(tmp_path / "a.mp3", 10))


def test_the_sound_track_of_a_video_is_read_and_silence_left_out(tmp_path: Path) -> None:
    sound = np.concatenate([tone(10, 48_000), np.zeros(480_000, np.float32), tone(5, 48_000)])
    path = write_video(tmp_path / "a.mkv", 25, sound=sound, fps=5)
    spans = list(read_sound_track(path, "matroska", 10))
    assert round(spans[0].start_s) == 0
    assert round(spans[-1].end_s) == 25
    assert pitch_hz(spans[0].sound.samples, 48_000) == pytest.approx(440, abs=3)


def test_a_video_without_sound_gives_no_sound(tmp_path: Path) -> None:
    assert list(read_sound_track(write_video(tmp_path / "a.mp4", 1), "mp4", 10)) == []
