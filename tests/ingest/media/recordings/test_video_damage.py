"""Videos with parts that are missing, damaged or unknown: what decodes is used with a note, else one line says why."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from bindsearch.errors import MediaError
from bindsearch.ingest.media.decode import DecodedSegment
from bindsearch.ingest.media.file_tags import read_metadata
from bindsearch.types import Modality, measured_metadata
from helpers import media_files
from helpers.video_files import decode_video

CODECS = {
    "a.mp4": "libx264",
    "a.mov": "mjpeg",
    "a.mkv": "libx264",
    "a.webm": "libvpx-vp9",
    "a.avi": "mpeg4",
}
KINDS = {**CODECS, "a.ts": "libx264", "a.mpg": "mpeg2video", "a.flv": "flv", "a.wmv": "wmv2"}


def noise(time_s: float) -> NDArray[np.uint8]:
    """Return pixels that differ from frame to frame, so that the bytes of a file are spread evenly over its time."""
    return np.random.default_rng(int(1000 * time_s)).integers(0, 256, (48, 64, 3), np.uint8)


def write(path: Path, seconds: float = 8, *, sound: bool = False) -> Path:
    tone = media_files.tone(seconds, 48_000) if sound else None
    fps = 25 if path.suffix == ".mpg" else 10
    return media_files.write_video(path, seconds, codec=KINDS[path.name], fps=fps, picture=noise, sound=tone)


def with_index_first(path: Path) -> Path:
    """Rewrite an MP4 with its headers before its content, as files for the web."""
    import av

    target = path.with_name("fast" + path.suffix)
    with av.open(str(path)) as source, av.open(str(target), "w", options={"movflags": "faststart"}) as out:
        streams = {stream.index: out.add_stream_from_template(stream) for stream in source.streams}
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                out.mux(packet)
    return target


def rename_codec(path: Path, *codecs: bytes) -> Path:
    """Make sample entries of an MP4 unknown, as those of a phone's new codec."""
    raw = path.read_bytes()
    for codec in codecs:
        raw = raw.replace(codec, b"xx01").replace(b"esds" if codec == b"mp4a" else b"avcC", b"free")
    path.write_bytes(raw)
    return path


def test_a_video_keeps_its_pictures_without_a_sound_that_can_be_decoded(tmp_path: Path) -> None:
    path = rename_codec(write(tmp_path / "a.mp4", 3, sound=True), b"mp4a")
    found, reading = decode_video(path)
    assert [piece.modality for piece in found] == [Modality.VIDEO]
    (note,) = reading.notes
    assert re.fullmatch(r"the sound is not indexed: sound track 1 cannot be decoded \(.+\)", note)


def test_a_video_keeps_its_sound_without_pictures_that_can_be_decoded(tmp_path: Path) -> None:
    path = rename_codec(write(tmp_path / "a.mp4", 3, sound=True), b"avc1")
    found, reading = decode_video(path)
    assert {piece.modality for piece in found} == {Modality.AUDIO}
    assert reading.notes == ("the pictures cannot be decoded (the video codec is unknown): only the sound is indexed",)


def test_a_video_of_which_nothing_can_be_decoded_fails(tmp_path: Path) -> None:
    path = rename_codec(write(tmp_path / "a.mp4", 3, sound=True), b"avc1", b"mp4a")
    with pytest.raises(MediaError, match="codec is unknown"):
        decode_video(path)
    with pytest.raises(MediaError, match="the video codec is unknown"):
        decode_video(rename_codec(write(tmp_path / "a.mp4", 3), b"avc1"))


@pytest.mark.parametrize("name", CODECS)
@given(share=st.floats(0.25, 0.95))
@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_truncated_video_says_how_much_of_it_decodes(tmp_path: Path, name: str, share: float) -> None:
    path = write(tmp_path / name)
    if path.suffix in (".mp4", ".mov"):
        path = with_index_first(path)
    raw = path.read_bytes()
    path.write_bytes(raw[: int(share * len(raw))])
    try:
        found, reading = decode_video(path)
    except MediaError as error:
        refused = str(error)
    else:
        refused = ""
    if refused:
        assert share < 0.6
        assert re.fullmatch(r"damaged or truncated: \d\.\d of 8\.\d s of video can be decoded", refused)
        return
    assert share > 0.4
    (note,) = reading.notes
    words = re.fullmatch(
        r"damaged or truncated: (\d\.\d) of 8\.\d s of video can be decoded, the rest is missing", note
    )
    assert words is not None
    assert float(words[1]) == pytest.approx(8 * share, abs=1.0)
    length_s = measured_metadata(reading.facts).merge_over(read_metadata(path, Modality.VIDEO)).length_s
    assert length_s == pytest.approx(found[-1].end_s, abs=0.2)
    assert length_s == pytest.approx(8 * share, abs=1.0)


@pytest.mark.parametrize("name", KINDS)
@given(cut=st.floats(0, 1), places=st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=64)), max_size=4))
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_random_damage_is_noted_or_refused_in_one_line(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, name: str, cut: float, places: list[tuple[float, bytes]]
) -> None:
    whole = tmp_path / name
    if not whole.exists():
        write(whole, 2, sound=whole.suffix not in (".flv", ".wmv", ".mpg"))
    raw = bytearray(whole.read_bytes())
    for place, content in places:
        at = int(place * len(raw))
        raw[at : at + len(content)] = content[: len(raw) - at]
    path = tmp_path_factory.mktemp("damaged") / name
    path.write_bytes(raw[: int(cut * len(raw))])
    read_metadata(path, Modality.VIDEO)
    found: list[DecodedSegment] = []
    try:
        found, reading = decode_video(path)
    except MediaError as error:
        lines = str(error).splitlines()
    else:
        lines = [*reading.notes]
        assert found
    if not found:
        assert len(lines) == 1
        return
    assert all(note and "\n" not in note for note in reading.notes)
    assert all(
        piece.start_s is not None and piece.end_s is not None and 0 <= piece.start_s <= piece.end_s for piece in found
    )
