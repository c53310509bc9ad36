"""GPMF tracks in mp4 files: channel orders, units, times, and damage that costs the video nothing."""

from __future__ import annotations

import contextlib
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from bindsearch.errors import MediaError
from bindsearch.ingest.media.decode import DecodedSegment, pieces
from bindsearch.ingest.media.options import DecodeOptions
from bindsearch.ingest.media.recordings.containers import read_sample_table
from bindsearch.ingest.media.recordings.gpmf import entries, numbers, read_motion_track
from bindsearch.ingest.media.sidecar import Sidecar
from bindsearch.media import DecodeHints, Motion
from bindsearch.types import Modality, Span
from helpers.gopro_video import add_track, klv, motion_payloads, payload, stream, text
from helpers.media_files import tone, write_video
from helpers.stores import connect

SECONDS = 12


def truth(rate_hz: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return acceleration with gravity on z and rotation, in x, y, z, smooth, float64 (n, 3) each."""
    times_s = np.arange(round(SECONDS * rate_hz)) / rate_hz
    acceleration = np.column_stack([np.sin(times_s), 2 * np.cos(times_s), 9.8 + np.sin(2 * times_s)])
    rotation = np.column_stack([0.5 * np.sin(times_s), np.cos(times_s), 0.25 * np.sin(3 * times_s)])
    return acceleration, rotation


def in_order(values: NDArray[np.float64], order: str) -> NDArray[np.float64]:
    """Return x, y, z as the channels of an order such as "YxZ"."""
    signs = [1.0 if letter.isupper() else -1.0 for letter in order]
    return values[:, ["XYZ".index(letter.upper()) for letter in order]] * signs


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = write_video(tmp_path_factory.mktemp("plain") / "a.mp4", SECONDS, fps=5, sound=tone(SECONDS, 48_000))
    return path.read_bytes()


def with_track(plain: bytes, folder: Path, payloads: list[bytes], payload_s: float = 1.0) -> Path:
    path = folder / "GX010001.MP4"
    path.write_bytes(plain)
    return add_track(path, payloads, payload_s=payload_s)


def decode(path: Path, span: Span | None = None) -> list[DecodedSegment]:
    options = DecodeOptions()
    given = {"wants": DecodeHints(24, 1.0), "options": options, "sidecar": Sidecar()}
    return list(pieces(path, Modality.VIDEO, **given, count_tokens=len, max_tokens=9, span=span))  # type: ignore[arg-type]


def motion_of(segments: list[DecodedSegment]) -> list[Motion]:
    return [segment.media for segment in segments if isinstance(segment.media, Motion)]


@pytest.mark.parametrize(
    ("order", "properties", "device", "note"),
    [
        ("ZXY", (text("STNM", "Accelerometer (up/down, right/left, forward/back)"),), "Camera", ""),
        ("YxZ", (text("ORIN", "YxZ"), text("ORIO", "ZXY")), "Camera", ""),
        ("xZy", (text("ORIN", "xZy"),), "Hero6 Black", ""),
        ("YxZ", (), "Hero6 Black", "channels in the order of Hero6 Black, Y,-X,Z"),
        ("yXZ", (), "Fusion", "channels in the order of Fusion, -Y,X,Z"),
        ("ZXY", (), "Camera", "order of channels unknown: read as Z,X,Y"),
        (
            "YxZ",
            (klv("MTRX", "f", 36, struct.pack(">9f", 0, 0, 1, 0, -1, 0, 1, 0, 0)), text("ORIO", "ZXY")),
            "Camera",
            "",
        ),
    ],
)
def test_channels_become_x_y_z(
    order: str, properties: tuple[bytes, ...], device: str, note: str, plain: bytes, tmp_path: Path
) -> None:
    acceleration, rotation = truth(200)
    stored = in_order(acceleration, order), in_order(rotation, order)
    path = with_track(plain, tmp_path, motion_payloads(*stored, SECONDS, *properties, device=device))
    segments = decode(path)
    kinds = [segment.modality for segment in segments]
    assert kinds == [Modality.VIDEO] * 2 + [Modality.AUDIO] * 2 + [Modality.IMU] * 3
    assert [(one.start_s, one.end_s) for one in segments[4:]] == [(0, 5), (5, 10), (10, pytest.approx(12))]
    samples = np.concatenate([motion.samples for motion in motion_of(segments)])
    assert motion_of(segments)[0].sample_rate_hz == pytest.approx(200, rel=1e-3)
    expected = np.hstack([acceleration, rotation])
    assert samples.shape == expected.shape
    assert samples == pytest.approx(expected, abs=2e-3)
    reading = segments[4].reading
    assert reading.facts["rate_hz"] == pytest.approx(200, rel=1e-3)
    assert any(note in line for line in reading.notes) if note else reading.notes == ()
    assert not any(one.reading.notes for one in segments[:4])


def test_a_faster_gyroscope_gives_its_rate(plain: bytes, tmp_path: Path) -> None:
    acceleration, rotation = truth(200)[0], truth(400)[1]
    payloads = motion_payloads(in_order(acceleration, "ZXY"), in_order(rotation, "ZXY"), SECONDS)
    motion = motion_of(decode(with_track(plain, tmp_path, payloads)))
    samples = np.concatenate([one.samples for one in motion])
    assert motion[0].sample_rate_hz == pytest.approx(400, rel=1e-3)
    expected = np.hstack([truth(400)[0], rotation])[: len(samples)]
    assert samples == pytest.approx(expected, abs=5e-3)


def test_time_stamps_of_payloads_take_precedence(plain: bytes, tmp_path: Path) -> None:
    stamps_us = [5_000_000 + 500_000 * number for number in range(SECONDS)]
    payloads = motion_payloads(*truth(100), SECONDS, stamps_us=stamps_us)
    motion = motion_of(decode(with_track(plain, tmp_path, payloads)))
    assert motion[0].sample_rate_hz == pytest.approx(200, rel=0.01)


def test_a_span_limits_the_motion(plain: bytes, tmp_path: Path) -> None:
    path = with_track(plain, tmp_path, motion_payloads(*truth(200), SECONDS))
    segments = decode(path, Span(3.0, 4.0))
    assert [(one.modality, one.start_s, one.end_s) for one in segments][-1] == (Modality.IMU, 3, 4)
    assert motion_of(segments)[0].samples.shape == (200, 6)


def test_units_that_are_said_are_converted_or_refused(plain: bytes, tmp_path: Path) -> None:
    acceleration, rotation = truth(200)
    for unit, factor in (("g", 9.80665), ("ft/s²", None)):
        payloads = [
            payload(stream("ACCL", part / (factor or 1), 3000, unit=unit), stream("GYRO", turn, 939))
            for part, turn in zip(np.split(in_order(acceleration, "ZXY"), 12), np.split(rotation, 12), strict=True)
        ]
        segments = decode(with_track(plain, tmp_path, payloads))
        if factor is None:
            assert not motion_of(segments)
            assert "unit 'ft/s2' of ACCL" in segments[0].reading.notes[0]
        else:
            samples = np.concatenate([one.samples for one in motion_of(segments)])
            assert samples[:, :3] == pytest.approx(acceleration, abs=0.01)


def test_damaged_payloads_are_left_out_and_counted(plain: bytes, tmp_path: Path) -> None:
    payloads = motion_payloads(*truth(200), SECONDS)
    payloads[5] = payloads[5][:40]
    segments = decode(with_track(plain, tmp_path, payloads))
    (first, *_) = [one for one in segments if one.modality is Modality.IMU]
    assert any("1 of 12 payloads of the motion track are damaged" in note for note in first.reading.notes)
    sizes = sum(len(motion.samples) for motion in motion_of(segments))
    assert 11 * 200 <= sizes <= 12 * 200


@pytest.mark.parametrize(
    "payloads",
    [
        [b"\xff" * 100] * 3,
        [payload(stream("ACCL", truth(10)[0], 418))] * 3,
        [payload(klv("STRM", "", 4, klv("SCAL", "s", 2, b"\0\0") + klv("ACCL", "s", 6, bytes(600))))],
        [payload(stream("ACCL", truth(10)[0], 418), stream("GYRO", truth(10)[1], 939), device="x"), b""],
        [payload(stream("ACCL", truth(10)[0][:1], 418), stream("GYRO", truth(10)[1][:1], 939))],
    ],
    ids=["noise", "no gyroscope", "scale 0", "short track", "one sample"],
)
def test_a_bad_track_costs_the_video_nothing(payloads: list[bytes], plain: bytes, tmp_path: Path) -> None:
    segments = decode(with_track(plain, tmp_path, payloads))
    assert [one.modality for one in segments if one.modality is not Modality.IMU] == ["video"] * 2 + ["audio"] * 2
    if not motion_of(segments):
        assert "the motion track (GPMF) is left out" in segments[0].reading.notes[0]


def test_cut_files_and_tables_cost_the_video_nothing(plain: bytes, tmp_path: Path) -> None:
    path = with_track(plain, tmp_path, motion_payloads(*truth(200), SECONDS))
    data = bytearray(path.read_bytes())
    path.write_bytes(data[:-10_000])
    (first, *_) = [one for one in decode(path) if one.modality is Modality.IMU]
    assert "damaged (the file is cut)" in first.reading.notes[0]
    for name in (b"stsz", b"stsc", b"stco", b"stts", b"mdhd"):
        changed = bytearray(data)
        place = changed.rindex(name) + 12
        changed[place : place + 8] = b"\xff" * 8
        path.write_bytes(changed)
        spans, reading = read_motion_track(path, DecodeOptions(), None)
        assert spans or reading.notes


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 3000), st.integers(0, 255))
def test_any_bytes_are_parsed_or_refused(noise: bytes, place: int, value: int) -> None:
    changed = bytearray(motion_payloads(*truth(20), 4)[0])
    changed[place % len(changed)] = value
    for content in (noise, bytes(changed), bytes(changed[:place])):
        with contextlib.suppress(MediaError):
            for entry in entries(content):
                for nested in entries(entry.content, 1) if not entry.kind else ():
                    assert numbers(nested).ndim == 2


@settings(max_examples=60, deadline=None)
@given(place=st.integers(0), values=st.binary(min_size=1, max_size=8))
def test_any_change_of_a_file_gives_motion_or_a_note(
    place: int, values: bytes, tmp_path_factory: pytest.TempPathFactory, plain: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.mp4"
    path.write_bytes(plain)
    before = len(plain)
    data = bytearray(add_track(path, motion_payloads(*truth(20), 4)).read_bytes())
    start = before - 2000 + place % (len(data) - before + 2000)
    data[start : start + len(values)] = values
    path.write_bytes(data)
    spans, reading = read_motion_track(path, DecodeOptions(), None)
    for span in spans:
        assert np.isfinite(span.motion.samples).all()
        assert span.end_s > span.start_s
    assert not (spans and reading.notes)


def test_sample_tables_of_other_tracks_are_not_read(plain: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(plain)
    assert read_sample_table(path, b"gpmd") is None
    assert read_motion_track(path, DecodeOptions(), None)[0] == []


def test_the_motion_of_a_video_is_indexed_with_it(plain: bytes, tmp_path: Path) -> None:
    media = tmp_path / "media"
    media.mkdir()
    with_track(plain, media, motion_payloads(*truth(200), SECONDS))
    with connect(tmp_path / "store", encoder="null") as store:
        report = store.index(media)
        assert (dict(report.items), report.failures) == ({Modality.VIDEO: 1}, [])
        assert report.segments >= 5
        shown = store.show(media / "GX010001.MP4")
        assert shown.counts[Modality.IMU] == 3
        assert shown.measured["rate_hz"] == pytest.approx(200, rel=1e-3)
