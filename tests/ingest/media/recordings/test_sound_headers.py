"""Sounds with unusual starts and ends: tags, zeros, sizes that were never written, recordings behind each other."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from bindsearch.ingest.media.decode import pieces
from bindsearch.ingest.media.recordings.audio import read_sound
from bindsearch.ingest.media.recordings.containers import is_chained, recording_edges
from bindsearch.ingest.media.recordings.sound_file import _Overlaid
from bindsearch.ingest.media.sidecar import Sidecar
from bindsearch.media import DecodeHints, Reading, merge_readings
from bindsearch.types import Modality
from helpers.containers import WRITTEN, write_container
from helpers.damaged_files import OPTIONS
from helpers.media_files import tone, write_sound

RATE_HZ = 44_100
PCM = (tone(1.5, RATE_HZ, 1000) * 32767).astype("<i2").tobytes()
ID3 = b"ID3\x04\0\0\0\0\0\x64" + bytes(100)
APE = b"APETAGEX" + struct.pack("<IIII", 2000, 100, 1, 0xA0000000) + bytes(108)
LYRICS = b"LYRICSBEGIN" + b"a" * 500 + b"000500LYRICS200" + b"TAG" + bytes(125)
APE_END = APE + b"APETAGEX" + struct.pack("<IIII", 2000, 132, 1, 0x80000000) + bytes(8)


def heard(path: Path) -> tuple[float, float, list[str]]:
    """Return length in seconds, the loudest frequency in Hz, and the notes."""
    notes: list[str] = []
    spans = list(read_sound(path, 10, note=notes.append))
    return spans[-1].end_s, peak_hz(spans[0].sound.samples, spans[0].sound.sample_rate_hz), notes


def peak_hz(samples: NDArray[np.float32], rate_hz: int) -> float:
    cut = samples[: rate_hz // 2]
    return float(np.argmax(np.abs(np.fft.rfft(cut))[1:]) + 1) * rate_hz / len(cut)


@pytest.mark.parametrize("extension", ["flac", "mp3", "aac", "wav", "ogg", "opus", "ac3", "wv", "tta", "aiff", "amr"])
@pytest.mark.parametrize("prefix", [b"\0", bytes(731), ID3, ID3 + bytes(700), bytes(9) + ID3, ID3 * 2, APE])
def test_tags_and_zeros_before_a_sound_cost_nothing(tmp_path: Path, extension: str, prefix: bytes) -> None:
    path = write_container(tmp_path / f"a.{extension}", extension, tone(1.5, WRITTEN[extension][3], 1000))
    path.write_bytes(prefix + path.read_bytes())
    assert heard(path) == (pytest.approx(1.5, abs=0.15), pytest.approx(1000, abs=20), [])


@pytest.mark.parametrize("extension", ["flac", "mp3", "aac", "wav", "ogg", "opus", "ac3"])
@pytest.mark.parametrize("suffix", [b"TAG" + bytes(125), bytes(3000), LYRICS, APE_END])
def test_tags_and_zeros_behind_a_sound_are_no_damage(tmp_path: Path, extension: str, suffix: bytes) -> None:
    path = write_container(tmp_path / f"a.{extension}", extension, tone(1.5, WRITTEN[extension][3], 1000))
    path.write_bytes(path.read_bytes() + suffix)
    assert heard(path) == (pytest.approx(1.5, abs=0.15), pytest.approx(1000, abs=20), [])


def long_wav(first: bytes, data_size: int) -> bytes:
    """Return a wav with sizes of 64 bits (EBU Tech 3306, ITU-R BS.2088)."""
    riff_size = min(data_size and data_size + 72, (1 << 64) - 1)
    sizes = b"ds64" + struct.pack("<IQQQI", 28, riff_size, data_size, data_size // 2, 0)
    fields = b"fmt " + struct.pack("<IHHIIHH", 16, 1, 1, RATE_HZ, 2 * RATE_HZ, 2, 16)
    return first + b"\xff" * 4 + b"WAVE" + sizes + fields + b"data" + b"\xff" * 4 + PCM


def big_endian_wav(data_size: int) -> bytes:
    fields = struct.pack(">IHHIIHH", 16, 1, 1, RATE_HZ, 2 * RATE_HZ, 2, 16)
    samples = np.frombuffer(PCM, "<i2").astype(">i2").tobytes()
    return (
        struct.pack(">4sI8s", b"RIFX", data_size, b"WAVEfmt ")
        + fields
        + struct.pack(">4sI", b"data", data_size)
        + samples
    )


def au(data_size: int) -> bytes:
    samples = np.frombuffer(PCM, "<i2").astype(">i2").tobytes()
    return struct.pack(">4sIIIII", b".snd", 24, data_size, 3, RATE_HZ, 1) + samples


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.wav", long_wav(b"RF64", len(PCM))),
        ("a.wav", long_wav(b"RF64", 0)),
        ("a.wav", long_wav(b"BW64", len(PCM))),
        ("a.wav", long_wav(b"BW64", 0)),
        ("a.wav", long_wav(b"BW64", 0xFFFFFFFFFFFFFFFF)),
        ("a.wav", big_endian_wav(len(PCM))),
        ("a.wav", big_endian_wav(0)),
        ("a.wav", big_endian_wav(0xFFFFFFFF)),
        ("a.au", au(0)),
        ("a.au", au(0xFFFFFFFF)),
    ],
)
def test_sizes_that_were_never_written_mean_up_to_the_end(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    assert heard(path) == (pytest.approx(1.5, abs=1e-4), pytest.approx(1000, abs=5), [])


@given(
    st.binary(min_size=1, max_size=60),
    st.dictionaries(st.integers(0, 50), st.binary(max_size=9), max_size=3),
    st.data(),
)
@settings(max_examples=100, deadline=None)
def test_overlaid_bytes_are_read_wherever_reading_begins(
    tmp_path_factory: pytest.TempPathFactory, raw: bytes, others: dict[int, bytes], data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "raw"
    path.write_bytes(raw)
    expected = bytearray(raw)
    for place, other in others.items():
        expected[place : place + len(other)] = other[: max(0, len(raw) - place)]
    expected = expected[: len(raw)]
    with path.open("rb") as file:
        overlaid = _Overlaid(file, others)
        for _ in range(3):
            start, size = data.draw(st.integers(0, len(raw))), data.draw(st.integers(0, 70))
            overlaid.seek(start)
            assert overlaid.read(size) == bytes(expected[start : start + size])


def noisy(hz: float, seconds: float = 8.0) -> NDArray[np.float32]:
    noise = 0.05 * np.random.default_rng(0).standard_normal(round(seconds * RATE_HZ))
    return (tone(seconds, RATE_HZ, hz) + noise).astype(np.float32)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes]:
    folder = tmp_path_factory.mktemp("recordings")
    paths = [write_sound(folder / f"{hz}.ogg", noisy(hz), RATE_HZ) for hz in (1000, 500)]
    return paths[0].read_bytes(), paths[1].read_bytes()


@pytest.mark.parametrize("cut", [0, 3000, 20_000, 50_000])
def test_a_recording_behind_one_that_is_cut_off_is_read(
    tmp_path: Path, recordings: tuple[bytes, bytes], cut: int
) -> None:
    first, second = recordings
    path = tmp_path / "a.ogg"
    path.write_bytes(first[: len(first) - cut] + second)
    assert recording_edges(path) == [0, len(first) - cut, path.stat().st_size]
    assert is_chained(path)
    spans = list(read_sound(path, 1))
    assert spans[-1].end_s == pytest.approx(16 - 8 * cut / len(first), abs=1)
    assert peak_hz(spans[-2].sound.samples, RATE_HZ) == pytest.approx(500, abs=20)


@pytest.mark.parametrize("kept", [3, 10, 26, 27, 28, 1000])
def test_the_beginning_of_another_recording_costs_nothing(
    tmp_path: Path, recordings: tuple[bytes, bytes], kept: int
) -> None:
    first, second = recordings
    path = tmp_path / "a.ogg"
    path.write_bytes(first + second[:kept])
    assert heard(path)[:2] == (pytest.approx(8, abs=0.1), pytest.approx(1000, abs=20))


@pytest.mark.parametrize("extension", ["wav", "flac", "ogg", "mp3", "m4a", "aac"])
def test_the_length_of_several_spans_is_that_of_all(tmp_path: Path, extension: str) -> None:
    rate_hz = WRITTEN[extension][3]
    path = write_container(tmp_path / f"a.{extension}", extension, tone(35, rate_hz, 1000))
    reading = Reading()
    for segment in pieces(
        path, Modality.AUDIO, wants=DecodeHints(24, 1.0), options=OPTIONS, sidecar=Sidecar(), count_tokens=len,
        max_tokens=64,
    ):  # fmt: skip
        reading = merge_readings(reading, segment.reading)
    assert reading.notes == ()
    assert reading.facts["length_s"] == pytest.approx(35, abs=0.1)


def test_mp3s_behind_each_other_are_no_damage(tmp_path: Path) -> None:
    """The first one's count of frames is not that of all, and FFmpeg's guess by the bit rate is wrong."""
    quiet, loud = np.zeros(6 * RATE_HZ, np.float32), noisy(1000, 4)
    for name, samples in (("a", np.concatenate([loud, quiet])), ("b", np.concatenate([quiet, loud]))):
        soundfile.write(tmp_path / f"{name}.mp3", samples, RATE_HZ, bitrate_mode="VARIABLE", compression_level=0.1)
    path = tmp_path / "both.mp3"
    path.write_bytes((tmp_path / "a.mp3").read_bytes() + (tmp_path / "b.mp3").read_bytes())
    assert heard(path) == (pytest.approx(20, abs=0.3), pytest.approx(1000, abs=20), [])
