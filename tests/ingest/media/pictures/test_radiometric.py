"""Radiometric JPEGs in FLIR's layout (ExifTool, FLIR.pm) and DJI's (GDAL: ReadDJIMetadata; ExifTool, DJI.pm)."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from bindsearch.errors import MediaError
from bindsearch.ingest.media.options import DecodeOptions
from bindsearch.ingest.media.pictures.radiometric import Planck, is_radiometric, read_radiometric, temperatures
from bindsearch.ingest.media.pictures.thermal import read_thermal
from bindsearch.ingest.media.sidecar import Sidecar
from helpers import thermal_files

OPTIONS = DecodeOptions()
CELSIUS = 12 + 25 * thermal_files.scene(60, 80)
RAW: NDArray[np.uint16] = np.asarray(np.round(np.vectorize(thermal_files.flir_raw)(CELSIUS)), np.uint16)
RGB = thermal_files.coloured(np.round(255 * thermal_files.scene(60, 80)).astype(np.uint8), "spectrum")


def test_the_published_example_of_the_formula() -> None:
    """Thermimage's raw2temp gives 23.62 for a black body, and 24.00 with a window and emissivity 0.95."""
    raw = np.array([18109], np.uint16)
    assert temperatures(raw, Planck(21106.77, 0.012545258, 1501, 1, -7340))[0] == pytest.approx(23.6243, abs=1e-3)
    seen = Planck(21106.77, 0.012545258, 1501, 1, -7340, 0.95, 1.0, window_transmission=0.96)
    assert temperatures(raw, seen)[0] == pytest.approx(24.0, abs=0.02)


@pytest.mark.parametrize("form", ["png", "raw"])
def test_a_flir_jpeg_is_its_raw_data_and_has_degrees(tmp_path: Path, form: str) -> None:
    thermal_files.write_flir(tmp_path / "a.jpg", RAW, RGB, form=form)
    Image.fromarray(RAW).save(tmp_path / "raw.png")
    picture, reading = read_thermal(tmp_path / "a.jpg", Sidecar(), OPTIONS)
    assert np.array_equal(picture.values, read_thermal(tmp_path / "raw.png", Sidecar(), OPTIONS)[0].values)
    assert reading.facts["temperature_min_c"] == pytest.approx(CELSIUS.min(), abs=0.05)
    assert reading.facts["temperature_mean_c"] == pytest.approx(CELSIUS.mean(), abs=0.05)
    assert reading.facts["temperature_max_c"] == pytest.approx(CELSIUS.max(), abs=0.05)
    assert reading.notes == ("FLIR's radiometric values (80x60), emissivity 0.95, 2 m",)
    assert is_radiometric(tmp_path / "a.jpg", (tmp_path / "a.jpg").read_bytes()[:4096])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_values_inside_are_turned_as_the_picture_is(tmp_path: Path, orientation: int) -> None:
    stored = {
        1: RAW, 2: RAW[:, ::-1], 3: RAW[::-1, ::-1], 4: RAW[::-1], 5: RAW.T, 6: np.rot90(RAW), 7: RAW[::-1, ::-1].T,
        8: np.rot90(RAW, -1),
    }[orientation]  # fmt: skip
    thermal_files.write_flir(tmp_path / "a.jpg", stored, np.zeros((*stored.shape, 3), np.uint8), orientation)
    thermal_files.write_flir(tmp_path / "b.jpg", RAW, RGB)
    turned, upright = (read_thermal(tmp_path / name, Sidecar(), OPTIONS)[0].values for name in ("a.jpg", "b.jpg"))
    assert np.array_equal(turned, upright)


@pytest.mark.parametrize("quarter", [1, 3])
def test_values_of_a_sensor_that_was_held_sideways_are_laid_over_the_picture(tmp_path: Path, quarter: int) -> None:
    grey = np.round(255 * thermal_files.scene(60, 80)).astype(np.uint8)
    rgb = np.repeat(np.kron(grey, np.ones((4, 4), np.uint8))[:, :, None], 3, axis=2)
    thermal_files.write_flir(tmp_path / "a.jpg", np.rot90(RAW, quarter), rgb)
    thermal_files.write_flir(tmp_path / "b.jpg", RAW, RGB)
    picture, reading = read_thermal(tmp_path / "a.jpg", Sidecar(), OPTIONS)
    assert np.array_equal(picture.values, read_thermal(tmp_path / "b.jpg", Sidecar(), OPTIONS)[0].values)
    assert any("as its picture is" in note for note in reading.notes)


def test_without_constants_there_are_values_but_no_degrees(tmp_path: Path) -> None:
    data = thermal_files.fff({1: thermal_files.flir_record(RAW)})
    (tmp_path / "a.jpg").write_bytes(thermal_files.with_segments(thermal_files.jpeg_of(RGB), data))
    reading = read_thermal(tmp_path / "a.jpg", Sidecar(), OPTIONS)[1]
    assert not reading.facts
    assert "no degrees" in reading.notes[0]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"FFF\0", "without an FFF header"),
        (b"FFF\0".ljust(64, b"\0"), "unknown version"),
        (b"FFF\0".ljust(20, b"\0") + struct.pack(">III", 101, 64, 10**9).ljust(44, b"\0"), "damaged directory"),
        (thermal_files.fff({1: thermal_files.flir_record(RAW)})[:-9], "truncated FLIR record 1"),
        (thermal_files.fff({1: thermal_files.flir_record(RAW, "raw")[:-9]}), "have 9591 bytes: 80x60 pixels need 9600"),
        (thermal_files.fff({1: struct.pack("<HHH", 2, 65_000, 65_000).ljust(40, b"\0")}), "more than .* not decoded"),
    ],
)
def test_damaged_segments_are_refused_and_the_picture_is_read(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(thermal_files.with_segments(thermal_files.jpeg_of(RGB), data))
    with pytest.raises(MediaError, match=message):
        read_radiometric(path, (80, 60), OPTIONS)
    notes = read_thermal(path, Sidecar(), OPTIONS)[1].notes
    assert "cannot be read" in notes[0]
    assert "the picture is read instead" in notes[0]


def test_a_missing_segment_is_refused(tmp_path: Path) -> None:
    data = thermal_files.fff({1: thermal_files.flir_record(RAW, "raw")})
    whole = thermal_files.with_segments(thermal_files.jpeg_of(RGB), data, size=4000)
    (tmp_path / "a.jpg").write_bytes(whole[:2] + whole[2 + 4000 + 12 :])
    with pytest.raises(MediaError, match="2 of 3 FLIR segments exist"):
        read_radiometric(tmp_path / "a.jpg", (80, 60), OPTIONS)


def test_dji_values_are_read_without_degrees(tmp_path: Path) -> None:
    jpeg, raw = thermal_files.jpeg_of(RGB), RAW.astype("<u2").tobytes()
    parts = b"".join(b"\xff\xe3" + struct.pack(">H", len(part) + 2) + part for part in (raw[:5000], raw[5000:]))
    header = b"\xff\xe4" + struct.pack(">H", 66) + bytes.fromhex("aa551206").ljust(64, b"\0")
    (tmp_path / "a.jpg").write_bytes(jpeg[:2] + parts + header + jpeg[2:])
    Image.fromarray(RAW).save(tmp_path / "raw.png")
    picture, reading = read_thermal(tmp_path / "a.jpg", Sidecar(), OPTIONS)
    assert np.array_equal(picture.values, read_thermal(tmp_path / "raw.png", Sidecar(), OPTIONS)[0].values)
    assert "Thermal SDK" in reading.notes[0]
    assert not reading.facts


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_changed_segments_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Bytes of the header, the directory and the records' beginnings are changed, and the data cut."""
    form = data.draw(st.sampled_from(["png", "raw"]))
    whole = bytearray(thermal_files.fff({1: thermal_files.flir_record(RAW, form), 0x20: thermal_files.camera_record()}))
    for _ in range(data.draw(st.integers(0, 6))):
        place = data.draw(st.integers(0, 260) | st.integers(0, len(whole) - 1))
        whole[place] = data.draw(st.sampled_from([0, 1, 0x7F, 0x80, 0xFF]) | st.integers(0, 255))
    cut = data.draw(st.just(len(whole)) | st.integers(0, len(whole)))
    path = tmp_path_factory.mktemp("fuzz") / "a.jpg"
    path.write_bytes(thermal_files.with_segments(thermal_files.jpeg_of(RGB), bytes(whole[:cut]), size=9000))
    picture, reading = read_thermal(path, Sidecar(), DecodeOptions(max_pixels=100_000))
    assert np.isfinite(picture.values).all()
    assert all(np.isfinite(value) for value in reading.facts.values())
    assert all("\n" not in note for note in reading.notes)
