from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from bindsearch.errors import MediaError
from bindsearch.ingest.media.options import DecodeOptions
from bindsearch.ingest.media.pictures.image import read_image
from bindsearch.ingest.media.pictures.thermal import read_thermal, stretch
from bindsearch.ingest.media.sidecar import Sidecar
from bindsearch.media import DecodeHints
from helpers import thermal_files


def decode(path: Path) -> np.ndarray:
    return read_thermal(path, Sidecar(), DecodeOptions())[0].values


def test_eight_bits_are_divided_by_255(tmp_path: Path) -> None:
    grey = np.array([[0, 51, 102], [153, 204, 255]], np.uint8)
    Image.fromarray(grey).save(tmp_path / "a.png")
    values = decode(tmp_path / "a.png")
    assert values.dtype == np.float32
    assert np.allclose(values, grey / 255)


def test_colour_counts_by_its_brightness(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 4, 3), (0, 255, 0), np.uint8)).save(tmp_path / "a.png")
    assert decode(tmp_path / "a.png")[0, 0] == pytest.approx(0.587, abs=0.01)


@pytest.mark.parametrize("extension", ["png", "tif", "npy"])
def test_sixteen_bits_and_arrays_are_stretched_between_percentiles(tmp_path: Path, extension: str) -> None:
    kelvin = np.arange(1000, dtype=np.uint16).reshape(20, 50) + 27_000
    path = tmp_path / f"a.{extension}"
    if extension == "npy":
        np.save(path, kelvin)
    else:
        Image.fromarray(kelvin).save(path)
    low, high = np.percentile(kelvin, (1, 99))
    assert np.allclose(decode(path), np.clip((kelvin - low) / (high - low), 0, 1), atol=1e-6)


def test_any_scale_of_an_array_gives_the_same_picture(tmp_path: Path) -> None:
    celsius = np.random.default_rng(0).normal(20, 5, (30, 40))
    assert np.allclose(stretch(celsius), stretch(celsius * 1.8 + 32), atol=1e-6)


def test_missing_values_are_left_out_and_become_zero() -> None:
    values = np.array([[np.nan, 1.0, 2.0], [np.inf, 3.0, 4.0]])
    out = stretch(values)
    assert np.isfinite(out).all()
    assert out[:, 0].tolist() == [0, 0]
    assert out[1, 2] == 1


def test_an_even_picture_is_zero_and_a_few_hot_pixels_still_show() -> None:
    assert not stretch(np.full((50, 50), 300.0)).any()
    hot = np.full((50, 50), 300.0)
    hot[3, 3] = 330
    assert stretch(hot)[3, 3] == 1
    assert stretch(hot).sum() == 1


def test_no_value_at_all_and_other_shapes_fail(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="no pixel of the thermal image"):
        stretch(np.full((4, 4), np.nan))
    np.save(tmp_path / "a.npy", np.ones((2, 4, 4)))
    with pytest.raises(MediaError, match=r"expected \(height, width\)"):
        decode(tmp_path / "a.npy")


GREY = np.round(255 * thermal_files.scene(60, 80)).astype(np.uint8)


def notes(path: Path, sidecar: Sidecar | None = None) -> tuple[str, ...]:
    return read_thermal(path, sidecar or Sidecar(), DecodeOptions())[1].notes


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(sorted(thermal_files.PALETTES)), st.integers(0, 10_000), st.booleans())
def test_false_colours_give_the_same_picture_as_grey(
    tmp_path_factory: pytest.TempPathFactory, palette: str, seed: int, said: bool
) -> None:
    grey = np.round(255 * thermal_files.scene(60, 80, seed)).astype(np.uint8)
    path = tmp_path_factory.mktemp("colours") / "a.png"
    Image.fromarray(thermal_files.coloured(grey, palette)).save(path)
    picture, reading = read_thermal(path, Sidecar(palette=palette if said else None), DecodeOptions())
    assert np.abs(picture.values - grey / 255).max() < 0.08  # a polynomial of a palette is not its table
    assert reading.notes[0].startswith(f"false colours of the palette {palette}")


@pytest.mark.parametrize("palette", thermal_files.PALETTES)
def test_false_colours_in_a_jpeg(tmp_path: Path, palette: str) -> None:
    grey = np.round(255 * thermal_files.scene(180, 240)).astype(np.uint8)
    Image.fromarray(thermal_files.coloured(grey, palette)).save(tmp_path / "a.jpg", quality=85)
    values = decode(tmp_path / "a.jpg")
    assert np.corrcoef(values.ravel(), grey.ravel())[0, 1] > 0.99
    assert "inverted" in notes(tmp_path / "a.jpg")[0]


def test_a_colour_picture_without_a_palette_is_noted(tmp_path: Path) -> None:
    photo = np.random.default_rng(0).integers(0, 255, (40, 40, 3)).astype(np.uint8)
    Image.fromarray(photo).save(tmp_path / "a.png")
    assert "read by its brightness" in notes(tmp_path / "a.png")[0]
    assert notes(tmp_path / "a.png", Sidecar(palette="grey")) == ()
    with pytest.raises(MediaError, match="palette is 'iron', but half of the pixels are more than"):
        notes(tmp_path / "a.png", Sidecar(palette="iron"))
    with pytest.raises(MediaError, match="palette is 'lava': expected one of grey, black-hot, iron"):
        notes(tmp_path / "a.png", Sidecar(palette="lava"))


def test_black_hot_is_inverted_and_a_palette_for_grey_is_refused(tmp_path: Path) -> None:
    Image.fromarray(GREY).save(tmp_path / "a.png")
    values = read_thermal(tmp_path / "a.png", Sidecar(palette="black-hot"), DecodeOptions())[0].values
    assert np.allclose(values, 1 - GREY / 255)
    with pytest.raises(MediaError, match="palette is 'iron', but the picture has no colours"):
        notes(tmp_path / "a.png", Sidecar(palette="iron"))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 8), st.sampled_from(["png", "jpg", "tif", "deep.tif"]), st.sampled_from([None, 0, 90, 180, 270]))
def test_any_orientation_gives_the_picture_that_images_have(
    tmp_path_factory: pytest.TempPathFactory, orientation: int, form: str, rotate: int | None
) -> None:
    path = tmp_path_factory.mktemp("turned") / f"a.{form}"
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = GREY.astype(np.uint16) << 8 if form == "deep.tif" else GREY
    Image.fromarray(stored).save(path, exif=exif)
    values = read_thermal(path, Sidecar(rotate=rotate), DecodeOptions())[0].values
    seen = read_image(path, DecodeHints(400, 1.0), DecodeOptions()).rgb[:, :, 0]
    expected = np.rot90(seen, -(rotate or 0) // 90)
    assert values.shape == expected.shape
    assert np.corrcoef(values.ravel(), expected.ravel())[0, 1] > 0.999


def test_transparent_pixels_and_declared_values_are_missing(tmp_path: Path) -> None:
    alpha = np.where(np.arange(80) < 30, 0, 255) * np.ones((60, 1))
    rgba = np.dstack([GREY, GREY, GREY, alpha.astype(np.uint8)])
    Image.fromarray(rgba).save(tmp_path / "a.png")
    values = decode(tmp_path / "a.png")
    assert not values[:, :30].any()
    assert np.allclose(values[:, 30:], GREY[:, 30:] / 255)
    Image.fromarray(GREY).save(tmp_path / "b.png")
    values = read_thermal(tmp_path / "b.png", Sidecar(invalid=(200.0,)), DecodeOptions())[0].values
    assert np.allclose(values, np.where(GREY == 200, 0, GREY / 255))


def test_a_fourth_channel_without_plateau_is_thermal_and_not_transparency(tmp_path: Path) -> None:
    """MFNet's pictures (Ha et al. 2017): PNGs of four channels, red, green, blue and thermal."""
    rgb = np.random.default_rng(1).integers(0, 255, (60, 80, 3)).astype(np.uint8)
    Image.fromarray(np.dstack([rgb, GREY])).save(tmp_path / "a.png")
    assert np.array_equal(read_image(tmp_path / "a.png", DecodeHints(400, 1.0), DecodeOptions()).rgb, rgb)
    assert np.allclose(decode(tmp_path / "a.png"), GREY / 255)
    assert "the fourth channel is read" in notes(tmp_path / "a.png")[0]


@pytest.mark.parametrize("field", [{"invalid": (0.0,)}, {"temperature_unit": "celsius"}])
def test_fields_without_effect_are_refused(tmp_path: Path, field: dict) -> None:  # type: ignore[type-arg]
    Image.fromarray(thermal_files.coloured(GREY, "jet")).save(tmp_path / "a.png")
    with pytest.raises(MediaError, match="is for stored values, but the picture is coloured"):
        notes(tmp_path / "a.png", Sidecar(**field))
