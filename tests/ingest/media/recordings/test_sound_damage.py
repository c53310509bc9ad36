"""Damaged and oddly sized sounds: one rule for all formats, by how much of the sound is there."""

from __future__ import annotations

import random
import re
import time
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from bindsearch.errors import MediaError
from bindsearch.ingest.media.decode import pieces
from bindsearch.ingest.media.recordings.audio import read_sound
from bindsearch.ingest.media.sidecar import Sidecar
from bindsearch.media import DecodeHints
from bindsearch.types import Modality
from helpers.containers import WRITTEN, write_container, write_vbr_mp3
from helpers.damaged_files import OPTIONS, damage, decode
from helpers.media_files import tone, write_sound

MISSING = re.compile(r"^damaged or truncated: ([\d.]+) of ([\d.]+) s of sound can be decoded, the rest is missing$")
LENGTH_S = 8.0


def noise(seconds: float, rate_hz: int) -> np.ndarray:
    return (0.2 * np.random.default_rng(0).standard_normal(round(seconds * rate_hz))).astype(np.float32)


def read(path: Path) -> tuple[np.ndarray, list[str], float]:
    notes: list[str] = []
    spans = list(read_sound(path, 3, note=notes.append))
    return np.concatenate([span.sound.samples for span in spans]), notes, spans[-1].end_s


STATED = ("wav", "w64", "aiff", "au", "flac", "tta", "wv", "mka", "adpcm.wav", "mp3.wav")
"""Kinds whose header says the length before the samples."""


@pytest.mark.parametrize("extension", STATED)
def test_most_of_a_cut_sound_is_used_with_a_note_and_less_is_refused(tmp_path: Path, extension: str) -> None:
    path = write_container(tmp_path / f"a.{extension}", extension, noise(LENGTH_S, WRITTEN[extension][3]))
    raw = path.read_bytes()
    path.write_bytes(raw[: round(0.7 * len(raw))])
    _, notes, end_s = read(path)
    (note,) = notes
    found = MISSING.match(note)
    assert found is not None
    assert [float(found[1]), float(found[2])] == pytest.approx([0.7 * LENGTH_S, LENGTH_S], abs=0.8)
    assert end_s == pytest.approx(0.7 * LENGTH_S, abs=0.8)
    path.write_bytes(raw[: round(0.3 * len(raw))])
    with pytest.raises(MediaError, match=r"^damaged or truncated: [23]\.\d of 8\.\d s of sound can be decoded$"):
        read(path)


def test_a_cut_caf_is_read_by_ffmpeg(tmp_path: Path) -> None:
    path = write_container(tmp_path / "a.caf", "caf", noise(LENGTH_S, 16_000))
    raw = path.read_bytes()
    path.write_bytes(raw[: round(0.7 * len(raw))])
    _, (note,), end_s = read(path)
    assert re.match(r"^damaged or truncated: \d+ of 2560\d\d bytes of sound can be decoded, the rest is missing$", note)
    assert end_s == pytest.approx(0.7 * LENGTH_S, abs=0.1)


@pytest.mark.parametrize("extension", ["wav", "aiff", "au", "w64", "caf", "flac"])
def test_two_missing_bytes_are_no_damage(tmp_path: Path, extension: str) -> None:
    path = write_container(tmp_path / f"a.{extension}", extension, noise(LENGTH_S, WRITTEN[extension][3]))
    path.write_bytes(path.read_bytes()[:-2])
    _, notes, end_s = read(path)
    assert end_s == pytest.approx(LENGTH_S, abs=0.1)
    assert len(notes) <= (extension == "flac")  # its last frame is lost


@pytest.mark.parametrize(
    "extension", ["flac", "ogg", "opus", "mp3", "m4a", "aac", "aiff", "wav", "mka", "ac3", "wma", "tta"]
)
def test_zeros_in_the_middle_cost_little(tmp_path: Path, extension: str) -> None:
    rate_hz = WRITTEN[extension][3]
    path = write_container(tmp_path / f"a.{extension}", extension, noise(LENGTH_S, rate_hz))
    whole, _, _ = read(path)
    raw = bytearray(path.read_bytes())
    middle = len(raw) // 2
    raw[middle : middle + 200] = bytes(200)
    path.write_bytes(raw)
    samples, _, end_s = read(path)
    assert end_s == pytest.approx(LENGTH_S, abs=0.3)
    early, late = slice(0, 2 * rate_hz), slice(round(6.5 * rate_hz), round(7.5 * rate_hz))
    assert np.corrcoef(whole[early], samples[early])[0, 1] > 0.99
    if extension not in ("mp3", "aac", "ac3", "tta"):  # without time stamps, a lost frame moves the rest by its length
        assert np.corrcoef(whole[late], samples[late])[0, 1] > 0.99


def test_a_flac_with_a_hole_says_how_much_is_missing(tmp_path: Path) -> None:
    path = write_container(tmp_path / "a.flac", "flac", noise(LENGTH_S, 44_100))
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2 : len(raw) // 2 + 200] = bytes(200)
    path.write_bytes(raw)
    _, (note,), _ = read(path)
    found = MISSING.match(note)
    assert found is not None
    assert 7.7 < float(found[1]) < 8
    assert float(found[2]) == 8


@pytest.mark.parametrize("riff", [None, 0, 0xFFFFFFFF])
@pytest.mark.parametrize("data", [0, 0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF000])
@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT", "PCM_U8"])
def test_a_wav_without_sizes_is_read_to_the_end(tmp_path: Path, riff: int | None, data: int, subtype: str) -> None:
    path = tmp_path / "a.wav"
    sound = noise(1.5, 16_000)
    soundfile.write(path, sound, 16_000, subtype=subtype)
    raw = bytearray(path.read_bytes())
    place = raw.index(b"data") + 4
    raw[place : place + 4] = data.to_bytes(4, "little")
    if riff is not None:
        raw[4:8] = riff.to_bytes(4, "little")
    path.write_bytes(raw)
    samples, notes, _ = read(path)
    assert abs(samples.size - sound.size) <= 16
    assert notes == []
    assert np.allclose(samples[: sound.size - 16], sound[: samples.size - 16][: sound.size - 16], atol=0.01)


@pytest.mark.parametrize("tail", [b"", b"LIST\4\0\0\0INFO"])
def test_a_wav_without_samples_fails(tmp_path: Path, tail: bytes) -> None:
    path = write_sound(tmp_path / "a.wav", tone(0))
    path.write_bytes(path.read_bytes() + tail)
    with pytest.raises(MediaError, match="no sound samples"):
        read(path)


@pytest.mark.parametrize("odd", [1, 3])
def test_a_wav_with_part_of_a_sample_at_its_end(tmp_path: Path, odd: int) -> None:
    path = write_sound(tmp_path / "a.wav", noise(1, 16_000))
    path.write_bytes(path.read_bytes()[:-odd])
    samples, notes, _ = read(path)
    assert 16_000 - 2 <= samples.size <= 16_000
    assert notes == []


def test_the_length_is_what_was_decoded(tmp_path: Path) -> None:
    """Of a VBR mp3 without a count of its frames, the header's length is an estimate."""
    quiet = np.zeros(20 * 44_100, np.float32)
    sound = np.concatenate([quiet, noise(6, 44_100)])
    path = write_vbr_mp3(tmp_path / "a.mp3", sound, 44_100, counted=False)
    with av.open(str(path)) as container:
        assert container.duration is not None
        assert container.duration > 35e6
    assert len(list(read_sound(path, 10, max_s=30))) == 3
    segments = list(
        pieces(
            path, Modality.AUDIO, wants=DecodeHints(24, 1.0), options=OPTIONS, sidecar=Sidecar(), count_tokens=len,
            max_tokens=64,
        )
    )  # fmt: skip
    assert segments[-1].reading.facts == {"length_s": pytest.approx(26.05, abs=0.03)}
    assert segments[-1].reading.notes == ()


@pytest.mark.parametrize("extension", WRITTEN)
def test_cuts_and_flipped_bits_give_sound_or_one_line(tmp_path: Path, extension: str) -> None:
    path = write_container(tmp_path / f"a.{extension}", extension, noise(2, WRITTEN[extension][3]))
    raw, rng = path.read_bytes(), random.Random(extension)
    for turn in range(10):
        broken = tmp_path / f"{turn}.{extension}"
        broken.write_bytes(damage(raw, rng))
        start = time.monotonic()
        decode(broken, Modality.AUDIO)
        decode(broken, Modality.VIDEO)
        assert time.monotonic() - start < 20
