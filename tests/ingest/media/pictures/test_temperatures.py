"""Units, no-data values and tables of temperatures, against the same scene as raw values."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, TiffImagePlugin

from bindsearch.errors import MediaError
from bindsearch.ingest.media.options import DecodeOptions
from bindsearch.ingest.media.pictures.temperatures import celsius, find_unit, looks_like_temperatures, without_missing
from bindsearch.ingest.media.pictures.thermal import read_thermal, stretch
from bindsearch.ingest.media.sidecar import Sidecar
from helpers import thermal_files

OPTIONS = DecodeOptions()
SCENE = 12 + 25 * thermal_files.scene(40, 50)
STORED = {
    "celsius": SCENE, "kelvin": SCENE + 273.15, "fahrenheit": SCENE * 1.8 + 32, "celsius/100": 100 * SCENE,
    "kelvin/100": 100 * (SCENE + 273.15), "kelvin/10": 10 * (SCENE + 273.15), "kelvin/64": 64 * (SCENE + 273.15),
}  # fmt: skip


@pytest.mark.parametrize("unit", STORED)
def test_a_said_unit_gives_degrees_and_the_same_picture(tmp_path: Path, unit: str) -> None:
    np.save(tmp_path / "a.npy", STORED[unit])
    picture, reading = read_thermal(tmp_path / "a.npy", Sidecar(temperature_unit=unit), OPTIONS)
    assert np.allclose(picture.values, stretch(SCENE), atol=1e-6)
    assert reading.facts["temperature_mean_c"] == pytest.approx(SCENE.mean(), abs=1e-6)
    assert not reading.notes


@pytest.mark.parametrize(
    ("values", "unit"),
    [
        (np.round(STORED["kelvin/100"]).astype(np.uint16), "kelvin/100"),
        (np.round(STORED["kelvin/10"]).astype(np.uint16), "kelvin/10"),
        (STORED["celsius"], "celsius"),
        (STORED["kelvin"], "kelvin"),
        (np.linspace(7000, 9000, 900).astype(np.uint16), None),  # counts of a 14-bit sensor
        (np.round(STORED["kelvin/64"]).astype(np.uint16), None),
        (thermal_files.scene(30, 30), None),  # shares
        (np.round(255 * thermal_files.scene(30, 30)), None),  # levels
    ],
)
def test_a_unit_is_found_only_where_the_numbers_are_clear(values: np.ndarray, unit: str | None) -> None:
    assert find_unit(values.astype(np.float64), are_integers=values.dtype.kind in "iu") == unit


def test_a_unit_that_the_numbers_contradict_is_noted(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", STORED["kelvin/100"])
    reading = read_thermal(tmp_path / "a.npy", Sidecar(temperature_unit="celsius"), OPTIONS)[1]
    assert not reading.facts
    assert "the median would be" in reading.notes[0]


@pytest.mark.parametrize("unit", ["rankine", "kelvin/0", "kelvin/x", "", "kelvin/" + "9" * 50])
def test_other_units_are_refused(unit: str) -> None:
    with pytest.raises(MediaError, match="expected celsius, kelvin, fahrenheit or a part"):
        celsius(np.zeros(1), unit)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([np.nan, np.inf, -9999.0, -32768.0, -3.4028235e38, 1e35, 777.0]),
    st.integers(0, 2**32 - 1),
    st.sampled_from([np.float32, np.float64]),
)
def test_no_data_changes_no_other_pixel(hole: float, seed: int, dtype: type) -> None:
    missing = np.random.default_rng(seed).random(SCENE.shape) < 0.4
    values, note = without_missing(np.where(missing, hole, SCENE).astype(dtype), (777.0,), None)
    assert np.array_equal(np.isnan(values), missing)
    expected = stretch(np.where(missing, np.nan, SCENE.astype(dtype)))
    assert np.allclose(stretch(values), expected, atol=1e-6)
    assert note.startswith(f"{missing.sum()} of {missing.size} pixels")


def test_zeros_far_from_all_others_are_no_data_and_zeros_among_others_are_data() -> None:
    kelvin = np.round(STORED["kelvin/100"]).astype(np.uint16)
    assert not np.isnan(without_missing(kelvin - kelvin.min(), (), None)[0]).any()
    kelvin[:5] = 0
    assert np.isnan(without_missing(kelvin, (), None)[0][:5]).all()
    assert not np.isnan(without_missing(SCENE - SCENE.min(), (), None)[0]).any()


@pytest.mark.parametrize("no_data", ["-10000", "-3.4028234663852886e+38", "nan", " 0", "x" * 200])
def test_gdal_nodata_of_a_tiff_is_missing(tmp_path: Path, no_data: str) -> None:
    """GDAL's GTiff driver writes the value as text into tag 42113."""
    values = SCENE.astype(np.float32)
    if not no_data.startswith("x"):
        values[:7] = float(no_data)
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[42113] = no_data
    Image.fromarray(values).save(tmp_path / "a.tif", tiffinfo=tags)
    picture, reading = read_thermal(tmp_path / "a.tif", Sidecar(), OPTIONS)
    if no_data.startswith("x"):
        assert np.allclose(picture.values, stretch(values))
        return
    assert not picture.values[:7].any()
    assert np.allclose(picture.values[7:], stretch(values[7:]), atol=1e-6)
    assert reading.facts["temperature_min_c"] == pytest.approx(values[7:].min(), abs=1e-4)


def text_of(values: np.ndarray, delimiter: str, comma: bool) -> str:
    rows = [delimiter.join(f"{number:.3f}" for number in row) for row in values]
    return "\n".join(rows).replace(".", ",") if comma else "\n".join(rows)


@pytest.mark.parametrize(
    ("delimiter", "comma"), [(",", False), (";", True), (";", False), ("\t", True), ("\t", False), (" ", False)]
)
def test_a_table_of_numbers_is_the_same_picture(tmp_path: Path, delimiter: str, comma: bool) -> None:
    (tmp_path / "a.csv").write_text(text_of(SCENE, delimiter, comma))
    picture, reading = read_thermal(tmp_path / "a.csv", Sidecar(), OPTIONS)
    assert np.allclose(picture.values, stretch(np.round(SCENE, 3)), atol=1e-6)
    assert reading.facts["temperature_max_c"] == pytest.approx(SCENE.max(), abs=1e-3)


def test_headers_of_programs_tell_the_unit_and_are_left_out(tmp_path: Path) -> None:
    """ResearchIR's export: file, parameters, then the numbers, each row with an empty cell at its beginning."""
    head = "File:,C:\\a.seq\n\nParameters:,Emissivity:,0.95\n,Distance:,1\n,Unit:,Fahrenheit\n\n"
    rows = "\n".join("," + row for row in text_of(SCENE * 1.8 + 32, ",", comma=False).splitlines())
    (tmp_path / "a.csv").write_text(head + rows + "\n")
    picture, reading = read_thermal(tmp_path / "a.csv", Sidecar(), OPTIONS)
    assert picture.values.shape == SCENE.shape
    assert reading.facts["temperature_mean_c"] == pytest.approx(SCENE.mean(), abs=1e-3)
    assert "without 4 other lines" in reading.notes[0]


def test_row_and_column_numbers_are_left_out(tmp_path: Path) -> None:
    rows = text_of(SCENE, ";", comma=True).splitlines()
    head = ";".join(["", *map(str, range(1, 51))])
    (tmp_path / "a.csv").write_text("\n".join([head, *(f"{i};{row}" for i, row in enumerate(rows, 1))]))
    picture = read_thermal(tmp_path / "a.csv", Sidecar(), OPTIONS)[0]
    assert np.allclose(picture.values, stretch(np.round(SCENE, 3)), atol=1e-6)


@pytest.mark.parametrize("text", ["path,label\na.jpg,cat\n", "", "1,2\n3,4\n", "hello"])
def test_other_tables_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(MediaError, match=r"not a table of temperatures|empty"):
        read_thermal(tmp_path / "a.csv", Sidecar(), OPTIONS)
    assert not looks_like_temperatures(text.encode())


def test_a_ragged_table_is_refused_with_its_line(tmp_path: Path) -> None:
    rows = text_of(SCENE, ",", comma=False).splitlines()
    (tmp_path / "a.csv").write_text("\n".join([*rows[:10], rows[10] + ",3.0", *rows[11:]]))
    with pytest.raises(MediaError, match="line 11 of the table has 51 cells: expected 50"):
        read_thermal(tmp_path / "a.csv", Sidecar(), OPTIONS)


def test_a_long_first_row_is_recognised_although_it_is_cut() -> None:
    assert looks_like_temperatures(text_of(SCENE, ";", comma=True).encode()[:200])
    named = ",".join(f"acc_{i}" for i in range(12)) + "\n" + ",".join(["1.5"] * 12) + "\n"
    assert not looks_like_temperatures(named.encode())
