from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bindsearch.errors import MediaError
from bindsearch.ingest.media.options import DecodeOptions
from bindsearch.ingest.media.pictures.thermal import read_thermal, stretch
from bindsearch.ingest.media.sidecar import Sidecar


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
