"""Sounds and videos are told by their content: in every container, behind tags and zeros, under any name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import example, given
from hypothesis import strategies as st

from bindsearch.errors import MediaError
from bindsearch.ingest.inspect.classify import classify
from bindsearch.ingest.media.kinds import SOUNDS, VIDEOS
from bindsearch.ingest.media.recordings.audio import read_sound
from bindsearch.ingest.media.recordings.av_container import recording_kind
from bindsearch.ingest.media.sniff import sniff
from bindsearch.types import Modality
from helpers.containers import WRITTEN, write_container
from helpers.media_files import tone, write_picture, write_sound, write_video


def id3_tag(size: int, footer: bool = False) -> bytes:
    length = bytes(size >> 7 * place & 0x7F for place in (3, 2, 1, 0))
    return b"ID3\4\0" + (b"\x10" if footer else b"\0") + length + bytes(size) + bytes(10 if footer else 0)


def ape_tag(size: int) -> bytes:
    numbers = b"".join(number.to_bytes(4, "little") for number in (2000, size, 1, 0xA0000000))
    return b"APETAGEX" + numbers + bytes(8) + bytes(size)


def pitch_hz(path: Path) -> float:
    samples = np.concatenate([span.sound.samples for span in read_sound(path, 10)])
    (span,) = read_sound(path, 10)
    return float(np.argmax(np.abs(np.fft.rfft(samples))) * span.sound.sample_rate_hz / len(samples))


@pytest.mark.parametrize("extension", WRITTEN)
def test_every_container_is_told_by_its_content_and_read(tmp_path: Path, extension: str) -> None:
    rate_hz = WRITTEN[extension][3]
    path = write_container(tmp_path / f"a.{extension}", extension, tone(2, rate_hz))
    kind = recording_kind(path)
    assert kind in SOUNDS | VIDEOS
    named = classify(path, path.name, ())
    is_sound = kind in SOUNDS or extension.endswith(("mka", "weba", "wma"))
    assert named.modality is (Modality.AUDIO if is_sound else Modality.VIDEO)
    assert named.why == f"{kind} content"
    assert pitch_hz(path) == pytest.approx(440, abs=5)
    for other in ("a.unknown", "a"):
        assert classify(path.rename(tmp_path / other), other, ()).why == f"{kind} content"
        path = tmp_path / other


@pytest.mark.parametrize("extension", ["flac", "mp3", "aac", "wav", "ac3", "tta", "wv"])
@pytest.mark.parametrize(
    "before",
    [id3_tag(100), id3_tag(9_000), id3_tag(300, footer=True), id3_tag(50) * 2, id3_tag(40) + bytes(731)],
    ids=["tag", "longer than the head", "footer", "twice", "padding behind the tag"],
)
def test_a_tag_before_a_sound_is_skipped(tmp_path: Path, extension: str, before: bytes) -> None:
    rate_hz = WRITTEN[extension][3]
    path = write_container(tmp_path / f"a.{extension}", extension, tone(1.5, rate_hz))
    kind = recording_kind(path)
    path.write_bytes(before + path.read_bytes())
    assert recording_kind(path) == kind
    assert classify(path, path.name, ()).modality is Modality.AUDIO
    assert pitch_hz(path) == pytest.approx(440, abs=5)


@pytest.mark.parametrize("extension", ["flac", "mp3", "aac", "wav", "aiff", "ogg"])
@pytest.mark.parametrize("before", [bytes(731), bytes(100_000), ape_tag(60)], ids=["731", "100000", "ape"])
def test_zeros_and_ape_tags_before_a_sound_are_skipped(tmp_path: Path, extension: str, before: bytes) -> None:
    path = write_container(tmp_path / f"a.{extension}", extension, tone(1.5, WRITTEN[extension][3]))
    kind = recording_kind(path)
    path.write_bytes(before + path.read_bytes())
    assert recording_kind(path) == kind
    assert pitch_hz(path) == pytest.approx(440, abs=5)


def test_zeros_without_end_are_no_sound(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    with path.open("wb") as file:
        file.truncate(1 << 34)
    assert classify(path, path.name, ()).why == "not media: .bin"


@pytest.mark.parametrize("start", [b"BW64", b"RF64"])
def test_a_long_wav_is_read(tmp_path: Path, start: bytes) -> None:
    soundfile.write(tmp_path / "a.wav", tone(1.5), 16_000, format="RF64")
    (tmp_path / "a.wav").write_bytes(start + (tmp_path / "a.wav").read_bytes()[4:])
    assert pitch_hz(tmp_path / "a.wav") == pytest.approx(440, abs=1)


def test_a_wav_of_the_other_byte_order_is_read(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(1.5), 16_000, endian="BIG")
    assert (tmp_path / "a.wav").read_bytes()[:4] == b"RIFX"
    assert pitch_hz(tmp_path / "a.wav") == pytest.approx(440, abs=1)


@pytest.mark.parametrize("name", ["picture.jpg_large", "picture.mpo", "picture", "picture.jpg-1", "a.xyz"])
def test_a_picture_under_another_name_is_taken(tmp_path: Path, name: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (16, 16, 3), np.uint8)
    path = write_picture(tmp_path / "a.jpg", pixels).rename(tmp_path / name)
    assert classify(path, name, ()).why == "jpeg content"


@pytest.mark.parametrize("name", ["a.jpg.part", "a.mp4.crdownload", "a.jpg.bak", "GOPR1.THM", "GOPR1.LRV"])
def test_backups_unfinished_and_small_copies_are_left_out(tmp_path: Path, name: str) -> None:
    path = write_picture(tmp_path / "a.jpg", np.zeros((8, 8, 3), np.uint8)).rename(tmp_path / name)
    assert classify(path, name, ()).why == f"not media: {path.suffix.lower()}"


@pytest.mark.parametrize("name", ["a.ts", "a.py", "a.dts", "a.mod", "a.rs"])
def test_source_code_is_left_out(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("export const answer = 42; // GGGGGGGG\n" * 300)
    assert classify(tmp_path / name, name, ()).why == f"not media: {(tmp_path / name).suffix}"


def test_a_transport_stream_is_told_among_source_code(tmp_path: Path) -> None:
    path = write_container(tmp_path / "a.mts", "mts", tone(1, 48_000)).rename(tmp_path / "a.ts")
    assert classify(path, "a.ts", ()).why == "mpegts content"
    path.write_bytes(path.read_bytes()[100:])
    assert classify(path, "a.ts", ()).why == "mpegts content"


def test_a_name_that_promises_sound_lets_ffmpeg_decide(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "a.mp3", tone(1.5))
    path.write_bytes(b"some noise before" * 20 + path.read_bytes())
    assert sniff(path.read_bytes(), ".mp3") is None
    assert recording_kind(path) == "mp3"
    assert pitch_hz(path) == pytest.approx(440, abs=5)


@pytest.mark.parametrize(
    "text",
    [
        "#EXTM3U\n#EXTINF:1,\nsecret.mp4\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile secret.mp4\n",
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"></MPD>',
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=audio 5004 RTP/AVP 96\n",
        "[Script Info]\nScriptType: v4.00+\n",
    ],
)
@pytest.mark.parametrize("name", ["a.mp3", "a.wav", "a.mkv"])
def test_no_playlist_is_followed_by_the_probe(tmp_path: Path, text: str, name: str) -> None:
    write_video(tmp_path / "secret.mp4", 1, sound=tone(1, 48_000))
    (tmp_path / name).write_text(text)
    assert recording_kind(tmp_path / name) is None
    with pytest.raises(MediaError, match="not a sound: expected aac"):
        list(read_sound(tmp_path / name, 10))


@given(st.binary(max_size=300))
def test_any_bytes_have_a_kind_or_none(head: bytes) -> None:
    for extension in ("", ".mp3", ".wav", ".jpg"):
        assert isinstance(sniff(head, extension), str | None)


@example(b"\xff\xfb\x90\0", b"wide")
@given(st.sampled_from([b"\xff\xfb\x90\0", b"\xff\xf1\x50\x80", b"\x0bw\0\0\0\x40\0"]), st.binary(max_size=4096))
def test_a_single_header_of_a_frame_is_no_sound_unless_promised(frame: bytes, rest: bytes) -> None:
    rest = rest.replace(b"\xff", b"\0").replace(b"\x0b", b"\0")
    assert sniff(frame + rest) == sniff(bytes(len(frame)) + rest)  # what follows may name a kind of its own
